"""Host name lookups: one thread per name, shared by all calls that wait for it."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

Query = tuple[str, int, socket.AddressFamily]
"""Host name, port and address family."""
_lookups: dict[Query, list[Callable[[Any], None]]] = {}
"""The callbacks that wait for each lookup in progress; guarded by ``_lookups_lock``."""
_lookups_lock = threading.Lock()


def look_up(query: Query, callback: Callable[[Any], None]) -> None:
    """Call ``callback`` with the addresses of a name, or with the error, once they are known.

    There is one thread per name: a lookup that gets no answer cannot be interrupted, so otherwise
    every attempt would leave another thread behind.
    """
    with _lookups_lock:
        if query in _lookups:
            _lookups[query].append(callback)
            return
        _lookups[query] = [callback]
    try:
        threading.Thread(
            target=_resolve, args=(query,), name="providers-sync-resolver", daemon=True
        ).start()
    except RuntimeError:  # no thread can be started
        with _lookups_lock:
            callbacks = _lookups.pop(query)
        for pending in callbacks:
            pending(OSError(errno.EAGAIN, "no thread can be started to look the name up"))


def _resolve(query: Query) -> None:
    host, port, family = query
    result: Any
    try:
        result = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except Exception as error:  # noqa: BLE001 (waiting calls must get any error)
        result = error
    with _lookups_lock:
        callbacks = _lookups.pop(query, [])
    for callback in callbacks:
        callback(result)


def _forget_lookups() -> None:
    """Reset the state in a forked child, where the parent's lookup threads do not exist."""
    global _lookups_lock
    _lookups_lock = threading.Lock()
    _lookups.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lookups)
