"""The rows of any input of ``map``: those of a pandas or polars DataFrame are dicts.

pandas and polars are not imported: their DataFrames are told by their methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import InvalidRequestError
from .cells import plain_value
from .rows import check_columns
from .templates import Template, first_twice


def rows_of(inputs: Any, template: Template | None) -> Iterable[Any]:
    """Return the inputs one by one; a DataFrame's are dicts of its columns, in plain Python.

    Raises ``InvalidRequestError`` for what has no rows, and for a DataFrame without the columns
    that are asked.
    """
    if hasattr(inputs, "columns"):
        for method in ("itertuples", "iter_rows"):
            if callable(getattr(inputs, method, None)):
                return _frame_rows(inputs, method, template)
    if isinstance(inputs, Mapping):
        raise InvalidRequestError("inputs must be rows, such as a list, not one dict")
    if isinstance(inputs, (str, bytes)) or not isinstance(inputs, Iterable):
        raise InvalidRequestError(
            "inputs must be an iterable of prompts, such as a list; batch.read(path) reads a file"
        )
    return inputs


def _frame_rows(frame: Any, method: str, template: Template | None) -> Iterator[dict[str, Any]]:
    names = [str(name) for name in frame.columns]
    if (twice := first_twice(names)) is not None:
        raise InvalidRequestError(f"the DataFrame has two columns {twice!r}: rename one")
    check_columns(names, template, "the DataFrame")
    if method == "itertuples":
        return _dicts(names, frame.itertuples(index=False, name=None))
    return _dicts(names, frame.iter_rows())


def _dicts(names: list[str], rows: Iterable[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for cells in rows:
        yield dict(zip(names, map(plain_value, cells), strict=True))
