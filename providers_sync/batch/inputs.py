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
from typing import Any, TextIO

from ..errors import InvalidRequestError


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
    try:
        newline = "" if reader is _csv else None
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            yield from reader(file, os.fspath(path))
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{path} is not UTF-8 text: {error.reason}") from error
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error


def _text(file: TextIO, path: str) -> Iterator[str]:
    for line in file:
        if line.strip():
            yield line.rstrip("\n")


def _csv(file: TextIO, path: str) -> Iterator[dict[str, str]]:
    # The standard limit of 128 KiB a cell is shorter than a prompt may be; it can only be global.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.DictReader(file)
    try:
        if "prompt" not in (reader.fieldnames or ()):
            raise InvalidRequestError(
                f"{path} has no column 'prompt'; it has {', '.join(reader.fieldnames or ['none'])}"
            )
        yield from reader
    except csv.Error as error:
        raise InvalidRequestError(f"line {reader.line_num} of {path}: {error}") from error


def _json(file: TextIO, path: str) -> Iterator[Any]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidRequestError(
                    f"line {number} of {path} is not JSON (one value a line is wanted): {error}"
                ) from error
