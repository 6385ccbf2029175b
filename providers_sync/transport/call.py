"""One attempt's line to the server: its socket, its time for connecting, its stop button."""

from __future__ import annotations

import contextlib
import copy
import socket
import threading
import time
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Any, cast

import urllib3.util.connection

from ..config import SOCKET_WAIT_S
from .resolver import look_up


class CallStopped(Exception):
    """The call was stopped from our side; never leaves the package."""


class Call:
    """One attempt's line to the server: its socket, its clock for connecting, its stop button."""

    def __init__(
        self,
        connect_s: float | None = None,
        read_s: float | None = None,
        on_connected: Callable[[], None] = lambda: None,
        on_sent: Callable[[], None] = lambda: None,
    ) -> None:
        self.stopped = False
        self.is_connected = False
        """Whether a connection stands; until then a timeout is the connect clock's."""
        self.read_s = None if read_s is None else min(read_s, SOCKET_WAIT_S)
        """A backstop for one blocked read; the clocks proper are kept by the reader."""
        self.sent = on_sent
        self._on_connected = on_connected
        self.socket: socket.socket | None = None
        """The connection's own socket, for the thread that reads."""
        self.response: HTTPResponse | None = None
        """http.client's response, once its headers are read."""
        self.read_to_end = False
        """Whether the answer was read to its proven end, so that the connection may be reused."""
        self._deadline = None if connect_s is None else time.monotonic() + connect_s
        self._duplicate: socket.socket | None = None
        # Reentrant: a finalizer or a signal handler may stop the call in the thread that holds it.
        self._lock = threading.Condition(threading.RLock())

    def stop(self) -> None:
        """End whatever the call waits for, from any thread, without waiting itself."""
        self.stopped = True
        with self._lock:
            if self._duplicate is not None:
                with contextlib.suppress(OSError):
                    self._duplicate.shutdown(socket.SHUT_RDWR)
            self._lock.notify_all()

    def raise_if_stopped(self) -> None:
        """Raise ``CallStopped`` if the call was stopped."""
        if self.stopped:
            raise CallStopped

    def wait_for(self, happened: Callable[[], bool], wait_s: float | None) -> None:
        """Wait until ``happened()`` or for ``wait_s`` seconds; raise ``CallStopped`` if stopped."""
        with self._lock:
            self._lock.wait_for(lambda: happened() or self.stopped, wait_s)
        self.raise_if_stopped()

    def connected(self) -> None:
        """Note that the connection stands and the request goes out."""
        self.is_connected = True
        self._on_connected()

    def track_socket(self, sock: socket.socket) -> None:
        """Take a duplicate of ``sock`` to stop it by."""
        with self._lock:
            self.release_socket()
            # Not sock.dup(): a TLS socket refuses it, and this must be the TCP socket beneath.
            self._duplicate = socket.socket(fileno=socket.dup(sock.fileno()))
        self.raise_if_stopped()

    def release_socket(self) -> None:
        """Let the socket go, before it serves somebody else."""
        with self._lock:
            duplicate, self._duplicate = self._duplicate, None
            if duplicate is not None:
                duplicate.close()

    def connect_time_left(self, shares: int = 1) -> float | None:
        """Return the seconds left for connecting, divided fairly among the addresses to try."""
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return min(left / shares, SOCKET_WAIT_S)

    def resolve(self, host: str, port: int) -> list[Any]:
        """Return the addresses of ``host``, giving up when stopped or out of time."""
        family = urllib3.util.connection.allowed_gai_family()
        with contextlib.suppress(socket.gaierror, UnicodeError):
            return socket.getaddrinfo(
                host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        found: list[Any] = []

        def take(answer: Any) -> None:
            with self._lock:
                found.append(answer)
                self._lock.notify_all()

        look_up((host, port, family), take)
        self.wait_for(lambda: bool(found), self.connect_time_left())
        if not found:
            raise TimeoutError(f"the name {host} was not resolved in time")
        if isinstance(found[0], Exception):
            raise copy.copy(found[0])  # others raise it too
        return cast("list[Any]", found[0])


# The call a thread is working on: the way past requests and urllib3, which pass nothing through.
current = threading.local()


def current_call() -> Call | None:
    """Return the call this thread is working on."""
    return getattr(current, "call", None)
