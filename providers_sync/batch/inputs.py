"""Read the rows of a file of prompts: text, CSV, JSON lines, or OpenAI's batch input.

The suffix decides: ``.csv``; ``.jsonl``, ``.ndjson`` or ``.json``; anything else is text.
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
"""Limit of a line: a device may never end one. OpenAI's complete batch files have up to 200 MB."""


def read(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield a file's rows as inputs of ``map``; it must be UTF-8, a byte order mark is allowed.

    - text: one prompt per line; blank lines are skipped
    - ``.csv``: a dict per row; the header must have ``prompt`` and may have ``custom_id``
    - ``.jsonl``: one JSON value per line: a prompt, a list of messages, a dict with ``prompt`` or
      ``messages``, or a line of OpenAI's batch input (``custom_id``, ``method``, ``url``, ``body``)

    Raises ``InvalidRequestError`` naming the line that cannot be read.
    """
    suffix = Path(path).suffix.lower()
    parse = {".csv": _csv, ".jsonl": _json, ".ndjson": _json, ".json": _json}.get(suffix, _text)
    newline = "" if parse is _csv else None
    try:
        file = open(path, encoding="utf-8-sig", errors="surrogateescape", newline=newline)  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: not a valid path
        raise _unreadable(path, error) from error
    with file:
        try:
            yield from parse(file, os.fspath(path))
        except OSError as error:
            raise _unreadable(path, error) from error


def _unreadable(path: object, error: Exception) -> InvalidRequestError:
    return InvalidRequestError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}")


def _lines(file: TextIO, path: str) -> Iterator[str]:
    """Yield the lines; raise where one is not UTF-8 text."""
    number = 1
    while line := file.readline(LINE_CHARACTERS):
        if len(line) == LINE_CHARACTERS:
            raise InvalidRequestError(f"line {number} of {path} is too long: is it a text file?")
        if "\0" in line:
            raise InvalidRequestError(
                f"line {number} of {path} has a NUL character: is it UTF-16? It must be UTF-8"
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
    # A prompt may exceed the default limit of 128 KiB per cell; the limit is global to the module.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.DictReader(_lines(file, path))
    try:
        names = reader.fieldnames or ["none"]
        if "prompt" not in names:
            found = ", ".join(name[:40] for name in names[:10])
            raise InvalidRequestError(f"{path} has no column 'prompt'; it has {found}")
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
                    f"line {number} of {path} is not JSON (one value per line): {error}"
                ) from error


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_decode = json.JSONDecoder(parse_constant=_reject_constant).decode
