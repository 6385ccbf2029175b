"""The answer of the typed benchmark: JSON records, sent in pieces of four characters."""

from __future__ import annotations

import json
from typing import Any

PIECE = 4
"""Characters per event: about one token."""


def records(size: int) -> list[dict[str, Any]]:
    """Return records whose JSON text is ``size`` characters long, or up to one record more."""
    made: list[dict[str, Any]] = []
    length = len('{"items": []}')
    while length < size:
        made.append(record(len(made)))
        length += len(json.dumps(made[-1])) + len(", ")
    return made


def record(number: int) -> dict[str, Any]:
    """Return one record."""
    return {
        "name": f"Person {number}",
        "amount": number * 7919 % 100_000 / 100,
        "tags": [f"tag{number % 7}", f"group{number % 31}"],
        "note": f'Line {number % 13} of the "order",\nsent in part {number % 5}.',
    }


def json_text(made: list[dict[str, Any]]) -> str:
    """Return the JSON text of an answer."""
    return json.dumps({"items": made})


def pieces(size: int) -> list[str]:
    """Return the texts of the events of an answer of ``size`` characters."""
    text = json_text(records(size))
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
