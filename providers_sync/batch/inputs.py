"""Read the rows of a file of prompts: text, CSV, TSV, JSON, or OpenAI's batch input.

The suffix decides: ``.csv``, ``.tsv``; ``.jsonl``, ``.ndjson``, ``.json``; anything else is text.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, TextIO

from ..errors import InvalidRequestError
from .rows import is_message
from .templates import first_twice

LINE_CHARACTERS = 256 * 1024 * 1024
"""Limit of a line: a device may never end one. OpenAI's complete batch files have up to 200 MB."""


def read(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield a file's rows as inputs of ``map``.

    - text: one prompt per line; blank lines are skipped
    - ``.csv``, ``.tsv``: a dict per row; the first line names the columns, such as ``prompt`` and
      ``custom_id``
    - ``.jsonl``, ``.ndjson``: one JSON value per line: a prompt, a list of messages, a dict with
      ``prompt`` or ``messages``, or a line of OpenAI's batch input (``custom_id``, ``method``,
      ``url``, ``body``)
    - ``.json``: the same, or an array of such values, which is read into memory

    Args:
        path: The file; it must be UTF-8, a byte order mark is allowed.

    Raises:
        InvalidRequestError: It names the line that cannot be read.
    """
    suffix = Path(path).suffix.lower()
    parse = _PARSERS.get(suffix, _text)
    newline = "" if suffix in (".csv", ".tsv") else None
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


def _csv(file: TextIO, path: str, delimiter: str = ",") -> Iterator[dict[str, str]]:
    # A prompt may exceed the default limit of 128 KiB per cell; the limit is global to the module.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader: csv.DictReader[str] = csv.DictReader(
        _lines(file, path), delimiter=delimiter, strict=True
    )
    start = 1
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
        _check_header(reader.fieldnames, path)
        start = reader.line_num + 1
        for row in reader:
            start = reader.line_num + 1
            if any(row.pop(None, ())):  # cells without a column
                raise InvalidRequestError(
                    f"the row that ends on line {reader.line_num} of {path} has more cells than "
                    f"the {len(row)} columns: put text that contains a {_MARKS[delimiter]} "
                    "in double quotes"
                )
            yield row
    except csv.Error as error:
        raise InvalidRequestError(
            f"the row that begins on line {start} of {path} cannot be read ({error}): a cell that "
            "begins with a double quote must end with one; write a double quote inside it twice"
        ) from error


_MARKS = {",": "comma", "\t": "tab"}


def _check_header(names: Iterable[str], path: str) -> None:
    found = list(names)
    if not found:
        raise InvalidRequestError(f"{path} is empty: its first line must name the columns")
    if (twice := first_twice(filter(None, found))) is not None:
        raise InvalidRequestError(f"{path} has two columns {twice[:40]!r}: rename one")


def _json_file(file: TextIO, path: str) -> Iterator[Any]:
    """Yield the values of an array, or of the lines if the file has more than one value."""
    lines, start = _lines(file, path), []
    for line in lines:
        start.append(line)
        if line.strip():
            break
    if not start or not start[-1].lstrip().startswith("["):
        yield from _json_lines(chain(start, lines), path)
        return
    text = _whole(chain(start, lines), path)
    try:
        values = _decode(text)
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") != "Extra data":
            raise InvalidRequestError(f"{path} is not a JSON array: {error}") from error
        values = _json_lines(io.StringIO(text), path)
    else:
        if len(values) > 1 and all(isinstance(each, dict) and is_message(each) for each in values):
            raise InvalidRequestError(
                f"{path} is one list of messages, but a .json file is a list of rows: put each "
                "conversation in its own brackets, and write a prompt as text"
            )
    yield from values


def _whole(lines: Iterable[str], path: str) -> str:
    read, size = [], 0
    for line in lines:
        read.append(line)
        size += len(line)
        if size > LINE_CHARACTERS:
            raise InvalidRequestError(
                f"{path} is too large for one JSON array: use a .jsonl file, with one value per "
                "line"
            )
    return "".join(read)


def _json(file: TextIO, path: str) -> Iterator[Any]:
    return _json_lines(_lines(file, path), path)


def _json_lines(lines: Iterable[str], path: str) -> Iterator[Any]:
    for number, line in enumerate(lines, 1):
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
_PARSERS: dict[str, Callable[[TextIO, str], Iterator[Any]]] = {
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json_file,
}
