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


def attach(token: CancelToken, stream: Any) -> None:
    """Let ``token`` cancel ``stream``; at once if it is cancelled already."""
    with token._lock:
        token._streams.add(stream)
        cancelled = token._cancelled
    if cancelled:
        stream.cancel()


def detach(token: CancelToken, stream: Any) -> None:
    """Forget a stream that has ended."""
    if not is_finalizing():
        with token._lock:
            token._streams.discard(stream)
