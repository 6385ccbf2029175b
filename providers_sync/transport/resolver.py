"""Names and their addresses: one thread a name looks it up, however many calls wait for it."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

Name = tuple[str, int, socket.AddressFamily]
_lookups: dict[Name, list[Callable[[Any], None]]] = {}
"""Who waits for each name that is being looked up; the lock makes each change one step."""
_lookups_lock = threading.Lock()


def look_up(name: Name, take: Callable[[Any], None]) -> None:
    """Let ``take`` have the addresses of a name, or the error, once they are there.

    One thread a name: nothing ends a look-up that gets no answer, and every attempt would leave one
    more of them behind.
    """
    with _lookups_lock:
        if name in _lookups:
            _lookups[name].append(take)
            return
        _lookups[name] = [take]
    try:
        threading.Thread(
            target=_resolve, args=(name,), name="providers-sync-resolver", daemon=True
        ).start()
    except RuntimeError:  # no thread can be started
        with _lookups_lock:
            waiting = _lookups.pop(name)
        for other in waiting:
            other(OSError(errno.EAGAIN, "no thread can be started to look the name up"))


def _resolve(name: Name) -> None:
    host, port, family = name
    answer: Any
    try:
        answer = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except Exception as error:  # noqa: BLE001 (who waits must hear of it, whatever it is)
        answer = error
    with _lookups_lock:
        waiting = _lookups.pop(name, [])
    for take in waiting:
        take(answer)


def _forget_lookups() -> None:
    """In a forked child: the threads are the parent's."""
    global _lookups_lock
    _lookups_lock = threading.Lock()
    _lookups.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lookups)
