"""Which exchanges are still to be written: a timeout ends a call before its worker has ended."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable

from ..clock import monotonic

LONGEST_S = 2.0
"""How long the end of a worker is waited for that has been told to stop."""

_changed = threading.Condition()
_unwritten: dict[object, tuple[str, Callable[[], bool]]] = {}
"""The recorders, each with its file, and with whether its call has ended."""


def begin(recorder: object, path: str, has_ended: Callable[[], bool]) -> None:
    """Note that ``recorder`` will write to a file."""
    with _changed:
        _unwritten[recorder] = os.path.realpath(path), has_ended


def end(recorder: object) -> None:
    """Note that it has written, or will not."""
    with _changed:
        _unwritten.pop(recorder, None)
        _changed.notify_all()


def wait(path: str | None = None) -> None:
    """Wait until what has ended is written, to one file or to all."""
    until = monotonic() + LONGEST_S
    where = None if path is None else os.path.realpath(path)
    with _changed:
        while (
            any(where in (None, name) and has_ended() for name, has_ended in _unwritten.values())
            and (remaining := until - monotonic()) > 0
        ):
            _changed.wait(remaining)


def _after_fork() -> None:
    global _changed
    _changed = threading.Condition()
    _unwritten.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(wait)
