"""``AsyncTypedRun``: a ``TypedRun`` for an event loop."""

from __future__ import annotations

from typing import TypeVar

from .runs import AsyncRun
from .typed import AsyncTypedStream

T_co = TypeVar("T_co", covariant=True)


class AsyncTypedRun(AsyncTypedStream[T_co], AsyncRun):
    """An answer with tools whose last round is JSON (``into=``), for an event loop."""
