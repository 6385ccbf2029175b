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

from ..config import IDLE_THREAD_S, IDLE_WORKERS
from ..threads import start_thread

_idle: list[_Worker] = []
"""The idle workers, the most recent last. Single list operations need no lock."""


def run(work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(*arguments)`` in a daemon thread. It must not raise.

    Raises ``ProviderError`` if no thread can be started.
    """
    try:
        worker = None if is_finalizing() else _idle.pop()  # at the exit they run no more
    except IndexError:
        worker = None
    if worker is not None:
        worker.work = work, arguments
        worker.wakeup_lock.release()
    else:
        worker = _Worker()
        worker.work = work, arguments
        start_thread(threading.Thread(target=worker.run, name="providers-sync-request"))


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
            if len(_idle) >= IDLE_WORKERS:
                return
            _idle.append(self)
            if not self.wakeup_lock.acquire(timeout=IDLE_THREAD_S):
                try:
                    _idle.remove(self)
                except ValueError:  # taken just now: the lock is about to be released
                    self.wakeup_lock.acquire()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # the threads are the parent's
