"""Turns what a function returns into the text that the model reads."""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import datetime
import enum
import inspect
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

NOTHING = "The function ran and returned nothing."
"""For ``None``: a bare ``null`` reads like a failure or a missing answer, and is called again."""
MAX_DEPTH = 50
"""Levels of lists and objects; deeper ones are shown as text."""
_LISTS = (
    *(list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Set),
    *(collections.abc.MappingView, collections.abc.Iterator),
)


def result_text(result: Any, name: str) -> str:
    """Return what the tool ``name`` has returned as text: a string as it is, all else as JSON.

    >>> result_text({"day": datetime.date(2026, 11, 28), "tags": {"sunny"}}, "weather")
    '{"day": "2026-11-28", "tags": ["sunny"]}'

    Raises ``TypeError`` for a coroutine: the function is async.
    """
    if inspect.isawaitable(result) or hasattr(result, "__aiter__"):
        if inspect.iscoroutine(result):
            result.close()  # else Python warns that nobody has awaited it
        raise TypeError(
            f"the tool {name!r} returned a {type(result).__name__}, so its function is async: pass "
            "one that returns the value itself, for example with asyncio.run()"
        )
    if result is None:
        return NOTHING
    plain = _JsonForm().of(result, 0)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    # A lone surrogate, such as in a file name, has no UTF-8 form, and servers refuse it.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _JsonForm:
    """Turns objects into values that JSON has."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def of(self, value: Any, depth: int) -> Any:
        if isinstance(value, enum.Enum):
            return self.of(value.value, depth)
        if isinstance(value, (bool, int, type(None))):
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, float):  # JSON has no NaN
            return float(value) if math.isfinite(value) else str(value)
        if depth > MAX_DEPTH or id(value) in self._open:
            return "…"
        self._open.add(id(value))
        try:
            return self._inside(value, depth + 1)
        finally:
            self._open.discard(id(value))

    def _inside(self, value: Any, depth: int) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return _bytes_text(bytes(value))
        if isinstance(value, (datetime.date, datetime.time)):  # a datetime is a date
            return value.isoformat()
        if isinstance(value, BaseException):
            return f"{type(value).__name__}: {value}"
        if isinstance(value, type):
            return str(value)
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            return self._object({name: getattr(value, name) for name in names}, depth)
        if callable(dump := getattr(value, "model_dump", None)):  # a pydantic model
            return self.of(dump(), depth)
        if isinstance(value, tuple) and callable(named := getattr(value, "_asdict", None)):
            return self._object(named(), depth)
        if isinstance(value, Mapping):
            return self._object(value, depth)
        if callable(listed := getattr(value, "tolist", None)):  # NumPy
            return self.of(listed(), depth)
        if isinstance(value, (set, frozenset)):
            return self._list(_sorted(value), depth)
        is_list = isinstance(value, _LISTS)
        return self._list(value, depth) if is_list else str(value)

    def _object(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        return {self._key(key, depth): self.of(each, depth) for key, each in value.items()}

    def _key(self, key: Any, depth: int) -> str:
        plain = self.of(key, depth)
        return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)

    def _list(self, value: Iterable[Any], depth: int) -> list[Any]:
        return [self.of(each, depth) for each in value]


def _sorted(value: Iterable[Any]) -> list[Any]:
    """Return the items of a set in an order that does not change from run to run."""
    try:
        return sorted(value)
    except TypeError:
        return sorted(value, key=repr)


def _bytes_text(data: bytes) -> str:
    """Return bytes as the text that they are, or else as base64."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(data).decode("ascii")
