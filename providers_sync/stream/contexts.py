"""Runs an iterator in a context of its own, so that what its code sets stays there."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


def in_context(context: Context, iterator: Iterator[T]) -> Iterator[T]:
    """Yield what ``iterator`` yields; its code runs in ``context``, also when it is closed."""
    try:
        while (item := context.run(next, iterator, _END)) is not _END:
            yield item
    finally:
        if isinstance(iterator, Generator):
            context.run(iterator.close)
