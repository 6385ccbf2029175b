"""How the threads of a call wake each other: a lock, a condition, a wake-up lock, a callback."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..config import MAIN_THREAD_WAIT_S, THREAD_WAIT_S


class Wakeup:
    """A condition for the worker thread, a wake-up lock for callers, a callback for event loops."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may cancel in the very thread that holds the lock. The caller
        # waits for the wake-up lock and never for the condition, whose Python code Ctrl-C may
        # interrupt halfway.
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.wake: Callable[[], None] | None = None
        """Called once, at the next change, for a caller that must not block."""
        self._wakeup_lock = threading.Lock()
        self._wakeup_lock.acquire()

    def notify(self) -> None:
        """Wake every waiting thread; under the lock."""
        self.changed.notify_all()
        self.wake_caller()
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    def wake_caller(self) -> None:
        """Wake a waiting caller, or the next one that waits; under the lock."""
        if self._wakeup_lock.locked():
            self._wakeup_lock.release()

    def wait(self, seconds: float) -> None:
        """Wait to be woken, at most ``seconds``; without the lock."""
        is_main = threading.current_thread() is threading.main_thread()
        slice_s = MAIN_THREAD_WAIT_S if is_main else THREAD_WAIT_S
        self._wakeup_lock.acquire(True, min(seconds, slice_s))
