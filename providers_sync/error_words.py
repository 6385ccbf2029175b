"""The words of a server's error in JSON, which vendors put in many places.

``{"error": {"message": …}}`` and variants of it; errors within errors, as objects or as JSON text;
OpenRouter's ``metadata.raw`` and Groq's ``failed_generation`` beside the message.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator
from typing import Any

from .server_json import load_json

MESSAGE_KEYS = (
    *("message", "Message", "error_message", "error_msg", "error_description"),
    *("status_msg", "msg", "detail"),
)
_NESTING = 4
"""How deep messages are looked for in errors that contain errors."""
_JSON_CHARACTERS = 64 * 1024
"""Maximum length of JSON text within an error; parsing more takes too much memory."""


def as_text(value: object) -> str:
    """Return a string unchanged, and a bounded ``repr`` of any other value, which may be huge."""
    return value if isinstance(value, str) else reprlib.repr(value)


def errors_within(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an error object and the ones that it contains, from the outside in."""
    for _ in range(_NESTING):
        yield value
        inner = next((v for key in ("error", "errors", "base_resp") if (v := value.get(key))), None)
        data = value.get("data")
        if not inner and isinstance(data, dict):
            inner = data.get("error")
        inner = inner or next((v for key in MESSAGE_KEYS if (v := value.get(key))), None)
        if isinstance(inner, str) and _is_json(inner):
            try:
                inner = load_json(inner)
            except ValueError:
                return
        if isinstance(inner, list) and inner:
            inner = inner[0]
        if not isinstance(inner, dict):
            return
        value = inner


def server_message(chain: list[dict[str, Any]]) -> str:
    """Return the innermost message, and what vendors put beside it."""
    message = ""
    for error in reversed(chain):
        found = (error.get(key) for key in (*MESSAGE_KEYS, "error"))
        message = next((as_text(each) for each in found if each), "")
        if message:
            break
    for error in chain:
        metadata = error.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None
        for more in (raw, error.get("failed_generation")):
            if more and as_text(more) not in message:
                message += f": {as_text(more)}"
    return message


def body_message(body: str) -> str:
    """Return the message in an error's body, wherever it is; all of a body that has none."""
    try:
        value = load_json(body)
    except ValueError:
        text = " ".join(body.split())
        return "" if text.startswith("<") else text[:300]
    error = value[0] if isinstance(value, list) and value else value
    text = server_message(list(errors_within(error))) if isinstance(error, dict) else ""
    text = (text or (value if isinstance(value, str) else json.dumps(value)))[:2000]
    return text.encode("utf-8", "replace").decode()  # replaces lone surrogates by "?"


def first_value(chain: list[dict[str, Any]], keys: tuple[str, ...]) -> Any:
    """Return the innermost value under one of the keys."""
    values = (error.get(key) for error in reversed(chain) for key in keys)
    return next((value for value in values if value is not None), None)


def _is_json(text: str) -> bool:
    return len(text) <= _JSON_CHARACTERS and text.lstrip()[:1] in ("{", "[")
