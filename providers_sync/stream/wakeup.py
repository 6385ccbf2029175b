"""How the threads of one call wake each other: the base class of ``Channel``."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from ..config import MAIN_THREAD_WAIT_S, THREAD_WAIT_S


class Wakeup:
    """The lock of a call, and its waits: of workers, of callers, and of event loops."""

    def __init__(self) -> None:
        self.make_locks()

    def make_locks(self) -> None:
        """Make new locks; in a forked child the old ones may be held forever."""
        # Reentrant: a signal handler may cancel in the very thread that holds the lock. Callers
        # wait for a lock of their own and never for a condition, whose Python code Ctrl-C may
        # interrupt halfway.
        self.lock = threading.RLock()
        self._caller_lock = threading.Lock()
        self._caller_lock.acquire()
        self._changed: threading.Condition | None = None
        """What a worker waits for."""
        self._wake: Callable[[], None] | None = None
        """Called once, at the next change, for a caller that must not block."""
        self.has_news = False
        """Whether nobody has been woken since the last delta or the headers."""

    def notify(self) -> None:
        """Wake every waiting thread."""
        with self.lock:
            self.has_news = False
            if self._changed is not None:
                self._changed.notify_all()
            if self._caller_lock.locked():  # else the next caller that waits returns at once
                with contextlib.suppress(RuntimeError):  # a signal handler has just released it
                    self._caller_lock.release()
            if self._wake is not None:
                wake, self._wake = self._wake, None
                wake()

    def _worker_wait(self, seconds: float | None = None) -> None:
        """Wait for ``notify`` in a worker, under the lock."""
        self._changed = self._changed or threading.Condition(self.lock)
        self._changed.wait(seconds)

    def _caller_wait(self, seconds: float) -> None:
        """Wait for ``notify`` in a caller's thread, without the lock.

        In slices: an exception that is thrown into a thread is raised between two of them.
        """
        is_main = threading.current_thread() is threading.main_thread()
        slice_s = MAIN_THREAD_WAIT_S if is_main else THREAD_WAIT_S
        self._caller_lock.acquire(True, min(seconds, slice_s))
