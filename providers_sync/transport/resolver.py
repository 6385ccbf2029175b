"""Host name lookups: at most one thread per host, shared by all calls that wait for it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from ..threads import start_thread

Query = tuple[str, int, socket.AddressFamily]
"""Host name, port and address family."""
Callback = Callable[[Any], None]
_lookups: dict[str, dict[Query, list[Callback]]] = {}
"""For each host that has a thread: its queries, and the callbacks that wait for each of them."""
_lookups_lock = threading.Lock()


def look_up(query: Query, callback: Callback) -> None:
    """Call ``callback`` with the addresses of a name, or with the error, once they are known.

    There is one thread per host: a lookup that gets no answer cannot be interrupted, so otherwise
    every attempt and every port would leave another thread behind. It makes the queries for its
    host in turn.
    """
    host = _key(query)
    with _lookups_lock:
        has_thread = host in _lookups
        _lookups.setdefault(host, {}).setdefault(query, []).append(callback)
    if not has_thread:
        _start_thread(host)


def forget(query: Query, callback: Callback) -> None:
    """Do not call ``callback`` any more; a query that nothing waits for is not made."""
    with _lookups_lock, contextlib.suppress(KeyError, ValueError):
        _lookups[_key(query)][query].remove(callback)


def _key(query: Query) -> str:
    return query[0].lower().rstrip(".")


def _start_thread(host: str) -> None:
    thread = threading.Thread(target=_work_through, args=(host,), name="providers-sync-resolver")
    try:
        start_thread(thread)
    except BaseException as error:  # Ctrl-C, too, must not leave the host without a thread
        with _lookups_lock:
            queries = _lookups.pop(host, {})
        for callbacks in queries.values():
            _answer(callbacks, error)
        if not isinstance(error, Exception):
            raise


def _work_through(host: str) -> None:
    while (query := _next_query(host)) is not None:
        result = _resolve(query)
        with _lookups_lock:
            callbacks = _lookups.get(host, {}).pop(query, [])
        _answer(callbacks, result)


def _next_query(host: str) -> Query | None:
    """Return the next query that a call waits for; forget the host if there is none."""
    with _lookups_lock:
        for query, callbacks in _lookups.get(host, {}).items():
            if callbacks:
                return query
        _lookups.pop(host, None)
        return None


def _resolve(query: Query) -> Any:
    host, port, family = query
    try:
        return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except BaseException as error:  # noqa: BLE001 (waiting calls must get any error)
        return error


def _answer(callbacks: list[Callback], result: Any) -> None:
    for callback in callbacks:
        callback(result)


def _forget_lookups() -> None:
    """Reset the state in a forked child, where the parent's lookup threads do not exist."""
    global _lookups_lock
    _lookups_lock = threading.Lock()
    _lookups.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lookups)
