"""Parsing JSON that a server sent: too many values or too many levels are refused before it."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any

JSON_VALUES = 2_000_000
"""Per text, counted by commas and brackets, including those in strings. Large legitimate ones carry
images, which contain none. Bounds memory: a value of two bytes takes a hundred."""
JSON_LEVELS = 200
"""Per text; legitimate ones have 20. Parsing takes some stack for each level, and the garbage
collector may run in between: finalizers would fail that have too little stack left."""
SMALL_JSON = 2 * JSON_LEVELS
"""Characters of a text that is within both limits; or broken off at twice as many levels."""
_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
_MATCHES = 4 * JSON_VALUES
"""Valid JSON has at most two brackets and two strings per value: parsing stops before the next."""


def load_json(text: str) -> Any:
    """Return the value of a JSON text; raise ``ValueError`` if it is invalid or beyond a limit."""
    check_json(text)
    return json.loads(text)


def load_object(text: str) -> dict[str, Any] | None:
    """Return an object that can be sent again as JSON; ``None`` if the text is anything else.

    >>> load_object('{"a": 1}'), load_object('{"a": NaN}'), load_object("[]")
    ({'a': 1}, None, None)
    """
    try:
        value = load_json(text)
        json.dumps(value, allow_nan=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def check_json(text: str) -> None:
    """Raise ``ValueError`` for too many values or levels, counted without parsing.

    >>> check_json("[" * 401)
    Traceback (most recent call last):
        ...
    ValueError: the JSON has more than 200 levels
    """
    if len(text) <= SMALL_JSON:
        return
    opened = text.count("[") + text.count("{")
    if len(text) > JSON_VALUES and opened + text.count(",") > JSON_VALUES:
        raise ValueError(f"the JSON has more than {JSON_VALUES} values")
    if opened > JSON_LEVELS and _is_too_deep(text):
        raise ValueError(f"the JSON has more than {JSON_LEVELS} levels")


def _is_too_deep(text: str) -> bool:
    level = 0
    for match in islice(_BRACKETS.finditer(text), _MATCHES):
        first = text[match.start()]
        if first in "[{":
            level += 1
            if level > JSON_LEVELS:
                return True
        elif first != '"':
            level -= 1
    return False
