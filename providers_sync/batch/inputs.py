"""A file of prompts → its rows' values, one at a time: text, CSV, JSON lines, OpenAI's batch input.

The name's end decides: ``.csv``; ``.jsonl``, ``.ndjson`` or ``.json``; anything else is text.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from ..errors import InvalidRequestError

LINE_CHARACTERS = 256 * 1024 * 1024
"""More than the whole file that OpenAI's batch API takes (200 MB); a device has no line end."""


def read(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield what ``map`` takes, row by row; the file is UTF-8, with or without a byte order mark.

    - text: a prompt a line; blank lines are passed over
    - ``.csv``: dicts of a file with a header and a column ``prompt``; ``custom_id`` may be another
    - ``.jsonl``: a JSON value a line: a prompt, a list of messages, a dict with ``prompt`` or
      ``messages``, or a line of OpenAI's batch input (``custom_id``, ``method``, ``url``, ``body``)

    Raises ``InvalidRequestError`` naming the line that cannot be read.
    """
    kind = Path(path).suffix.lower()
    reader = {".csv": _csv, ".jsonl": _json, ".ndjson": _json, ".json": _json}.get(kind, _text)
    newline = "" if reader is _csv else None
    try:
        file = open(path, encoding="utf-8-sig", errors="surrogateescape", newline=newline)  # noqa: SIM115
    except (OSError, ValueError) as error:  # a ValueError: a path that no file can have
        raise _unreadable(path, error) from error
    with file:
        try:
            yield from reader(file, os.fspath(path))
        except OSError as error:
            raise _unreadable(path, error) from error


def _unreadable(path: object, error: Exception) -> InvalidRequestError:
    return InvalidRequestError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}")


def _lines(file: TextIO, path: str) -> Iterator[str]:
    """Yield the lines, each of which must be text in UTF-8."""
    number = 1
    while line := file.readline(LINE_CHARACTERS):
        if len(line) == LINE_CHARACTERS:
            raise InvalidRequestError(f"line {number} of {path} has no end: is it text?")
        if "\0" in line:
            raise InvalidRequestError(
                f"line {number} of {path} has a NUL character: is it UTF-16? UTF-8 is wanted"
            )
        try:
            line.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"line {number} of {path} is not UTF-8 text") from error
        yield line
        number += 1


def _text(file: TextIO, path: str) -> Iterator[str]:
    for line in _lines(file, path):
        if line.strip():
            yield line.rstrip("\n")


def _csv(file: TextIO, path: str) -> Iterator[dict[str, str]]:
    # The standard limit of 128 KiB a cell is shorter than a prompt may be; it can only be global.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.DictReader(_lines(file, path))
    try:
        names = reader.fieldnames or ["none"]
        if "prompt" not in names:
            has = ", ".join(name[:40] for name in names[:10])
            raise InvalidRequestError(f"{path} has no column 'prompt'; it has {has}")
        yield from reader
    except csv.Error as error:
        raise InvalidRequestError(f"line {reader.line_num} of {path}: {error}") from error


def _json(file: TextIO, path: str) -> Iterator[Any]:
    for number, line in enumerate(_lines(file, path), 1):
        if line.strip():
            try:
                yield _decode(line)
            except (ValueError, RecursionError) as error:
                raise InvalidRequestError(
                    f"line {number} of {path} is not JSON (one value a line is wanted): {error}"
                ) from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_decode = json.JSONDecoder(parse_constant=_no_number).decode
