"""``CancelToken``: cancels any number of calls, even while they are still connecting."""

from __future__ import annotations

import weakref
from sys import is_finalizing
from typing import Any, NoReturn


class CancelToken:
    """Cancels any number of calls, even before they return; pass it to each as ``cancel=``.

    ``cancel()`` may be called from any thread, a signal handler or a finalizer, and in any phase of
    a call; the calls end with ``StreamCancelled``. A cancelled token stays cancelled. In a forked
    child it cancels the calls of the child; those of the parent go on.
    """

    def __init__(self) -> None:
        # No lock: a finalizer may close a stream while this thread holds one, and a fork may leave
        # it held. Single operations on a dictionary are atomic. Weak references, by ``id``.
        self._streams: dict[int, weakref.ref[Any]] = {}
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel()`` has been called."""
        return self._cancelled

    def cancel(self) -> None:
        """Stop every call that has this token, running or yet to start."""
        self._cancelled = True  # first: a call that is added from now on stops itself
        if is_finalizing():  # no other thread runs any more
            return
        for reference in list(self._streams.values()):
            stream = reference()
            if stream is not None:
                stream.cancel()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CancelToken cannot be copied or pickled: it works in its own process")


def attach(token: CancelToken, stream: Any) -> None:
    """Let ``token`` cancel ``stream``, at once if the token is already cancelled."""
    token._streams[id(stream)] = weakref.ref(stream)  # first: else ``cancel()`` may miss it
    if token._cancelled:
        stream.cancel()


def detach(token: CancelToken, stream: Any) -> None:
    """Remove a stream that has ended from ``token``."""
    token._streams.pop(id(stream), None)
