"""A stop button that is made before there is anything to stop."""

from __future__ import annotations

import threading
import weakref
from sys import is_finalizing
from typing import Any


class CancelToken:
    """A stop button for calls that have not returned yet; give it as ``cancel=`` to any number.

    ``cancel()`` may come from any thread, a signal handler or a finalizer, and in every phase of
    a call; the calls end with ``StreamCancelled``. A cancelled token stays so.
    """

    def __init__(self) -> None:
        self._streams: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel()`` has been called."""
        return self._cancelled

    def cancel(self) -> None:
        """Stop every call that was given this token, now and later."""
        self._cancelled = True
        if is_finalizing():  # nothing runs any more, and who holds the lock keeps it
            return
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.cancel()

    def _attach(self, stream: Any) -> None:
        with self._lock:
            self._streams.add(stream)
            cancelled = self._cancelled
        if cancelled:
            stream.cancel()

    def _detach(self, stream: Any) -> None:
        if not is_finalizing():
            with self._lock:
                self._streams.discard(stream)
