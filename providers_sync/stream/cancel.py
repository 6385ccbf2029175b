"""``CancelToken``: cancels any number of calls, even while they are still connecting."""

from __future__ import annotations

import threading
import weakref
from sys import is_finalizing
from typing import Any


class CancelToken:
    """Cancels any number of calls, even before they return; pass it to each as ``cancel=``.

    ``cancel()`` may be called from any thread, a signal handler or a finalizer, and in any phase of
    a call; the calls end with ``StreamCancelled``. A cancelled token stays cancelled.
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
        """Stop every call that has this token, running or yet to start."""
        self._cancelled = True
        if is_finalizing():  # no other thread runs any more, so a held lock is never released
            return
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.cancel()


def attach(token: CancelToken, stream: Any) -> None:
    """Let ``token`` cancel ``stream``, at once if the token is already cancelled."""
    with token._lock:
        token._streams.add(stream)
        cancelled = token._cancelled
    if cancelled:
        stream.cancel()


def detach(token: CancelToken, stream: Any) -> None:
    """Remove a stream that has ended from ``token``."""
    if not is_finalizing():
        with token._lock:
            token._streams.discard(stream)
