"""``providers-sync batch --table FILE``: the results of a batch as CSV, TSV or Parquet."""

from __future__ import annotations

import contextlib
import csv
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InvalidRequestError, ProviderError
from .records import COLUMNS, to_records
from .results import Result

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PARQUET = ".parquet"
_MAX_INT = 2**63 - 1
_MAX_WHOLE_FLOAT = 2**53
"""Not every larger integer is a float."""


class ResultTable:
    """The file of a table, readable by its owner only if it is new.

    Raises ``InvalidRequestError`` now for what cannot be written later: an unknown suffix, a
    missing folder or package, and one of the files in ``others``.
    """

    def __init__(self, path: str, others: Iterable[str]) -> None:
        self._path = path
        self._suffix = Path(path).suffix.lower()
        if self._suffix not in (*_DELIMITERS, _PARQUET):
            raise InvalidRequestError(f"a table must be a .csv, .tsv or .parquet file, not {path}")
        if any(os.path.realpath(path) == os.path.realpath(other) for other in others):
            raise InvalidRequestError(f"{path} is already the input or the ledger of this batch")
        folder = os.path.dirname(os.path.realpath(path))  # of its target, if it is a link
        if not os.access(folder, os.W_OK) or os.path.isdir(path):
            raise InvalidRequestError(f"cannot write {path}: does its folder exist?")
        if os.path.exists(path) and not (os.access(path, os.W_OK) and os.path.isfile(path)):
            raise InvalidRequestError(f"cannot write {path}: it is read-only or not a file")
        if self._suffix == _PARQUET:
            try:
                import pandas  # noqa: F401
                import pyarrow  # noqa: F401 (pandas needs it for Parquet)
            except ImportError as error:
                raise InvalidRequestError(
                    f"{path} needs pandas and pyarrow: pip install pandas pyarrow"
                ) from error

    def write(self, results: Iterable[Result]) -> None:
        """Write the records in the order of the input, replacing an older table only at the end.

        Raises ``ProviderError`` if it cannot be written.
        """
        records = to_records(sorted(results, key=lambda result: result.number))
        path = os.path.realpath(self._path)
        temporary = None
        try:
            fd, temporary = tempfile.mkstemp(".new", ".", os.path.dirname(path))
            with open(fd, "wb") as file:
                if self._suffix == _PARQUET:
                    _write_parquet(records, file)
                else:
                    _write_lines(records, file, _DELIMITERS[self._suffix])
            if os.path.exists(path):
                os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
            os.replace(temporary, path)
            temporary = None
        except OSError as error:
            raise ProviderError(
                f"cannot write the table {self._path}: {error.strerror or error}; the answers are "
                "in the ledger: run the same command again to write it"
            ) from error
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)


def _write_lines(records: list[dict[str, Any]], file: BinaryIO, delimiter: str) -> None:
    names = list(records[0]) if records else [*COLUMNS, "text"]
    # With this line end, csv quotes a cell that has any part of it; the lines have a plain one.
    writer = csv.DictWriter(_Lines(file), names, delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(records)


class _Lines:
    """Writes the lines of ``csv`` with a plain line feed at their ends."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(f"{line.removesuffix(chr(13) + chr(10))}\n".encode("utf-8", "replace"))


def _write_parquet(records: list[dict[str, Any]], file: BinaryIO) -> None:
    import pandas

    columns = {
        _text(name): _typed([record[name] for record in records])
        for name in (records[0] if records else [*COLUMNS, "text"])
    }
    frame = pandas.DataFrame(
        {name: pandas.array(cells, dtype=dtype) for name, (cells, dtype) in columns.items()}
    )
    frame.to_parquet(file, index=False)


def _typed(cells: list[Any]) -> tuple[list[Any], str]:
    """Return the cells of a column, and their type in pandas: text if they are of several types."""
    kinds = {type(cell) for cell in cells if cell is not None}
    largest = max((abs(cell) for cell in cells if type(cell) is int), default=0)
    if kinds == {bool}:
        return cells, "boolean"
    if kinds == {int} and largest <= _MAX_INT:
        return cells, "Int64"
    if kinds and kinds <= {int, float} and largest <= _MAX_WHOLE_FLOAT:
        return cells, "Float64"
    return [None if cell is None else _text(cell) for cell in cells], "string"


def _text(cell: Any) -> str:
    """Return a cell as text that Parquet can hold: a lone surrogate becomes ``?``."""
    return str(cell).encode("utf-8", "replace").decode()
