"""``providers-sync batch --table FILE``: the results of a batch as CSV, TSV or Parquet."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import InvalidRequestError
from .records import COLUMNS, to_records
from .results import Result

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PARQUET = ".parquet"
_MAX_INT = 2**63 - 1


class ResultTable:
    """The file of a table, readable by its owner only if it is new.

    Raises ``InvalidRequestError`` now for what cannot be written later: an unknown suffix, a
    missing folder or package, and one of the files in ``others``.
    """

    def __init__(self, path: str, others: Iterable[str]) -> None:
        self._path = path
        self._suffix = Path(path).suffix.lower()
        if self._suffix not in (*_DELIMITERS, _PARQUET):
            raise InvalidRequestError(f"a table is .csv, .tsv or .parquet, not {path}")
        if any(os.path.realpath(path) == os.path.realpath(other) for other in others):
            raise InvalidRequestError(f"{path} is already the input or the ledger of this batch")
        folder = os.path.dirname(os.path.abspath(path))
        if not os.access(folder, os.W_OK) or os.path.isdir(path):
            raise InvalidRequestError(f"cannot write {path}: is there such a folder?")
        if self._suffix == _PARQUET:
            try:
                import pandas  # noqa: F401
                import pyarrow  # noqa: F401 (pandas needs it for Parquet)
            except ImportError as error:
                raise InvalidRequestError(
                    f"{path} needs pandas and pyarrow: pip install pandas pyarrow"
                ) from error

    def write(self, results: Iterable[Result]) -> None:
        """Write the records of the results, replacing an older table. Raises ``OSError``."""
        records = to_records(results)
        if self._suffix == _PARQUET:
            self._write_parquet(records)
            return
        names = list(records[0]) if records else [*COLUMNS, "text"]
        with open(
            self._path, "w", encoding="utf-8", errors="replace", newline="", opener=_open_private
        ) as file:
            delimiter = _DELIMITERS[self._suffix]
            writer = csv.DictWriter(file, names, delimiter=delimiter, lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)

    def _write_parquet(self, records: list[dict[str, Any]]) -> None:
        import pandas

        columns = {
            _text(name): _typed([record[name] for record in records])
            for name in (records[0] if records else [*COLUMNS, "text"])
        }
        frame = pandas.DataFrame(
            {name: pandas.array(cells, dtype=dtype) for name, (cells, dtype) in columns.items()}
        )
        with open(self._path, "wb", opener=_open_private) as file:
            frame.to_parquet(file, index=False)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _typed(cells: list[Any]) -> tuple[list[Any], str]:
    """Return the cells of a column, and their type in pandas: text if they are of several types."""
    kinds = {type(cell) for cell in cells if cell is not None}
    is_small = all(abs(cell) <= _MAX_INT for cell in cells if type(cell) is int)
    if kinds == {bool}:
        return cells, "boolean"
    if kinds == {int} and is_small:
        return cells, "Int64"
    if kinds and kinds <= {int, float} and is_small:
        return cells, "Float64"
    return [None if cell is None else _text(cell) for cell in cells], "string"


def _text(cell: Any) -> str:
    """Return a cell as text that Parquet can hold: a lone surrogate becomes ``?``."""
    return str(cell).encode("utf-8", "replace").decode()
