"""Daemon worker threads, kept for a moment after their work so that the next stream can reuse them.

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
"""The idle workers, the most recent last. Single list operations need no lock."""


def run(work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(*arguments)`` in a daemon thread. It must not raise.

    Raises ``RuntimeError`` while the interpreter shuts down: no thread can start then, and up to
    Python 3.11 starting one would wait forever.
    """
    if is_finalizing():
        raise RuntimeError("the interpreter is shutting down: no stream can start any more")
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
        worker.work = work, arguments
        threading.Thread(target=worker.run, name="providers-sync-stream", daemon=True).start()
    else:
        worker.work = work, arguments
        worker.wakeup_lock.release()


class _Worker:
    """One thread, and the lock that wakes it when there is work."""

    def __init__(self) -> None:
        self.wakeup_lock = threading.Lock()
        self.wakeup_lock.acquire()
        self.work: tuple[Callable[..., None], tuple[Any, ...]] | None = None

    def run(self) -> None:
        """Run work until none has come for ``IDLE_THREAD_S`` seconds."""
        while self.work is not None:
            work, arguments = self.work
            work(*arguments)
            del work, arguments  # an idle thread must keep no stream alive
            self.work = None
            _idle.append(self)
            if not self.wakeup_lock.acquire(timeout=IDLE_THREAD_S):
                try:
                    _idle.remove(self)
                except ValueError:  # taken just now: the lock is about to be released
                    self.wakeup_lock.acquire()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # the threads are the parent's
