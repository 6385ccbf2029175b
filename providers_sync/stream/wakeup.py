"""How the thread and the reader wake each other; and whoever waits without a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..config import MAIN_THREAD_WAIT_S


class Wakeup:
    """A lock, a condition for the thread, a bell for the reader, a callable for an event loop."""

    def __init__(self) -> None:
        # Reentrant: a finalizer may cancel in the very thread that holds the lock. The reader waits
        # for the bell and never for the condition, whose Python code Ctrl-C may leave half done.
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.wake: Callable[[], None] | None = None
        """Called once, at the next change, for a reader that must not block."""
        self._bell = threading.Lock()
        self._bell.acquire()

    def notify(self) -> None:
        """Wake everybody; under the lock."""
        self.changed.notify_all()
        self.wake_reader()
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    def wake_reader(self) -> None:
        """Wake a reader, or the next that waits; under the lock."""
        if self._bell.locked():
            self._bell.release()

    def wait(self, seconds: float) -> None:
        """Wait for the bell, at most so long; without the lock."""
        is_main = threading.current_thread() is threading.main_thread()
        self._bell.acquire(
            True, min(seconds, MAIN_THREAD_WAIT_S if is_main else threading.TIMEOUT_MAX)
        )
