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

        cleaned = [
            {_text(name): _text(cell) if isinstance(cell, str) else cell for name, cell in each}
            for each in map(dict.items, records)
        ]
        frame = pandas.DataFrame(cleaned, dtype="object").convert_dtypes()
        for name in frame.columns:
            if frame[name].dtype in ("object", "string"):  # of several types, or all empty
                frame[name] = frame[name].map(_text, na_action="ignore").astype("string")
        with open(self._path, "wb", opener=_open_private) as file:
            frame.to_parquet(file, index=False)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _text(cell: Any) -> str:
    """Return a cell as text that Parquet can hold: a lone surrogate becomes ``?``."""
    return str(cell).encode("utf-8", "replace").decode()
