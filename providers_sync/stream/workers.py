"""Daemon threads that stay a moment after their work, for the next stream.

A new thread costs a request as much again as its own work (a cold core, a fresh stack and arena);
one that has just ended a stream is warm. After ``IDLE_THREAD_S`` without work it ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from sys import is_finalizing
from typing import Any

from ..config import IDLE_THREAD_S

_idle: list[_Worker] = []
"""Those who wait, the last one on top. Single list operations need no lock."""


def run(work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(*arguments)`` in a daemon thread. It must not raise.

    Raises ``RuntimeError`` where none can run: up to Python 3.11 it would be waited for in vain.
    """
    if is_finalizing():
        raise RuntimeError("the interpreter is at its end: no stream can begin any more")
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
        worker.work = work, arguments
        threading.Thread(target=worker.run, name="providers-sync-stream", daemon=True).start()
    else:
        worker.work = work, arguments
        worker.bell.release()


class _Worker:
    """One thread, and the bell that calls it to work."""

    def __init__(self) -> None:
        self.bell = threading.Lock()
        self.bell.acquire()
        self.work: tuple[Callable[..., None], tuple[Any, ...]] | None = None

    def run(self) -> None:
        """Work until nobody has rung for ``IDLE_THREAD_S`` seconds."""
        while self.work is not None:
            work, arguments = self.work
            work(*arguments)
            del work, arguments  # an idle thread must keep no stream alive
            self.work = None
            _idle.append(self)
            if not self.bell.acquire(timeout=IDLE_THREAD_S):
                try:
                    _idle.remove(self)
                except ValueError:  # taken in this very moment: the bell is about to ring
                    self.bell.acquire()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # the threads are the parent's
