"""What a file of recordings holds: each with its number, and as a line of a table."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from ..printable import short_line
from ..recording import Exchange, RecordingError
from ..recording.file import RecordingFile

SHOWN_LENGTH = 40
WIDE = 200
"""Columns of an output that is not a terminal."""
_DEEPEST = 4
"""A turn holds content, which holds parts, which hold text."""
_TURNS = ("messages", "contents", "input", "conversation", "prompt")
"""The keys of the protocols for what is asked."""
_TITLES = (
    *("no", "recorded", "status", "how", "pieces", "seconds", "bytes"),
    *("model at host", "question"),
)
_RIGHT = {"no", "status", "pieces", "seconds", "bytes"}


def recordings_of(path: str) -> list[Exchange]:
    """Return the exchanges of a file by their time, without those that later ones replace.

    Raises ``RecordingError`` for a file that cannot be read, or has none.
    """
    file = RecordingFile(path)
    file.load()
    found = {exchange.id: exchange for exchange in file.all()}
    if not found:
        reason = "has no recordings" if os.path.exists(path) else "does not exist"
        raise RecordingError(f"{path} {reason}: `providers-sync record {path} QUESTION` adds one")
    return sorted(found.values(), key=lambda exchange: exchange.recorded_at)


def table(exchanges: Iterable[Exchange], columns: int = WIDE) -> Iterator[str]:
    """Yield the lines of a table; what comes from the file is made visible.

    If ``columns`` are too few for all, each recording has a second line.
    """
    rows = [_TITLES, *(_row(number, each) for number, each in enumerate(exchanges, 1))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    is_narrow = sum(widths) + 2 * len(widths) > columns
    for row in rows:
        cells = [
            value.rjust(width) if title in _RIGHT else value.ljust(width)
            for title, value, width in zip(_TITLES, row, widths, strict=True)
        ]
        if is_narrow:
            yield "  ".join(cells[:-2]).rstrip()
            yield f"    {row[-2]}: {row[-1]}"
        else:
            yield "  ".join(cells).rstrip()


def _row(number: int, exchange: Exchange) -> tuple[str, ...]:
    host = urlsplit(exchange.request.url).netloc
    values = (
        number,
        _local_time(exchange),
        "-" if exchange.status is None else exchange.status,
        exchange.how,
        len(exchange.pieces),
        f"{exchange.seconds:.2f}",
        len(exchange.body),
        f"{model_of(exchange)} at {host}" if model_of(exchange) else host,
        question_of(exchange),
    )
    return tuple(short_line(str(value), SHOWN_LENGTH) for value in values)


def _local_time(exchange: Exchange) -> str:
    at = exchange.recorded_at
    with contextlib.suppress(OverflowError, ValueError, OSError):  # a year that has no local time
        at = at.astimezone()
    return at.strftime("%Y-%m-%d %H:%M")


def model_of(exchange: Exchange) -> str:
    """Return the model that was asked for, or ``""`` where the request does not name it."""
    body = exchange.request.body
    name = body.get("model") if isinstance(body, dict) else None
    if isinstance(name, dict):
        name = name.get("id")
    if isinstance(name, str):
        return name
    found = re.search(r"/models/([^/:?]+):", exchange.request.url)
    return found[1] if found else ""


def question_of(exchange: Exchange) -> str:
    """Return the text of the user's last message, or ``""``."""
    body = exchange.request.body
    if not isinstance(body, dict):
        return ""
    for key in _TURNS:
        turns = _history(body) if key == "conversation" else body.get(key)
        if isinstance(turns, list):
            asked = [each for each in turns if _is_users(each)] or turns
            turns = asked[-1:]
        if text := " ".join(_texts(turns)):
            return text
    return ""


def _history(body: dict[str, Any]) -> Any:
    """Return the turns of Vitalentum's conversation, which is JSON in a string."""
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        return json.loads(body["conversation"])["history"]
    return None


def _is_users(turn: Any) -> bool:
    if not isinstance(turn, dict):
        return False
    return turn.get("role", turn.get("speaker", "user")) in ("user", "human")


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < _DEEPEST:
        if isinstance(value, dict):
            value = [value[key] for key in ("content", "parts", "text") if key in value]
        for each in value if isinstance(value, list) else ():
            yield from _texts(each, depth + 1)
