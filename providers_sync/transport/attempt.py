"""The state of one request attempt: its socket, its connect deadline and how to stop it."""

from __future__ import annotations

import contextlib
import copy
import socket
import threading
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Any, cast

import urllib3.util.connection

from ..clock import monotonic
from ..config import SOCKET_WAIT_S
from .resolver import look_up


class AttemptStopped(Exception):
    """Raised when the attempt was stopped by ``RequestAttempt.stop``; never reaches the user."""


class RequestAttempt:
    """One request attempt: its socket, its connect deadline and how to stop it."""

    def __init__(
        self,
        connect_s: float | None = None,
        read_s: float | None = None,
        on_connected: Callable[[], None] = lambda: None,
        on_sent: Callable[[], None] = lambda: None,
    ) -> None:
        self.stopped = False
        self.is_connected = False
        """Whether a connection is established; until then, a timeout is a connect timeout."""
        self.read_s = None if read_s is None else min(read_s, SOCKET_WAIT_S)
        """Upper limit for one blocked read; the stream enforces the actual timeouts."""
        self.sent = on_sent
        self._on_connected = on_connected
        self.socket: socket.socket | None = None
        """The connection's own socket, for the thread that reads the response."""
        self.response: HTTPResponse | None = None
        """http.client's response, once its headers have been read."""
        self.read_to_end = False
        """Whether the response was read to its proven end, so that the connection can be reused."""
        self._deadline = None if connect_s is None else monotonic() + connect_s
        self._duplicate: socket.socket | None = None
        # Reentrant: a finalizer or a signal handler may stop the attempt in the thread that holds
        # the lock.
        self._lock = threading.Condition(threading.RLock())

    def stop(self) -> None:
        """Interrupt whatever the attempt is waiting for. Safe in any thread; does not block."""
        self.stopped = True
        with self._lock:
            if self._duplicate is not None:
                with contextlib.suppress(OSError):
                    self._duplicate.shutdown(socket.SHUT_RDWR)
            self._lock.notify_all()

    def raise_if_stopped(self) -> None:
        """Raise ``AttemptStopped`` if the attempt was stopped."""
        if self.stopped:
            raise AttemptStopped

    def wait_for(self, condition: Callable[[], bool], wait_s: float | None) -> None:
        """Wait up to ``wait_s`` seconds for ``condition()``; raises ``AttemptStopped``."""
        until = None if wait_s is None else monotonic() + wait_s
        with self._lock:  # not Condition.wait_for(), which reads a clock that may stand still
            while not (condition() or self.stopped):
                remaining_s = None if until is None else until - monotonic()
                if remaining_s is not None and remaining_s <= 0:
                    break
                self._lock.wait(remaining_s)
        self.raise_if_stopped()

    def connected(self) -> None:
        """Record that the connection is established and the request is about to be sent."""
        self.is_connected = True
        self._on_connected()

    def track_socket(self, sock: socket.socket) -> None:
        """Keep a duplicate of ``sock``, through which ``stop`` can shut it down."""
        with self._lock:
            self.release_socket()
            # Not sock.dup(): a TLS socket refuses it, and this must be the underlying TCP socket.
            self._duplicate = socket.socket(fileno=socket.dup(sock.fileno()))
        self.raise_if_stopped()

    def release_socket(self) -> None:
        """Close the duplicate, before the connection is used for another attempt."""
        with self._lock:
            duplicate, self._duplicate = self._duplicate, None
            if duplicate is not None:
                duplicate.close()

    def connect_time_left(self, shares: int = 1) -> float | None:
        """Return the seconds left for connecting, divided by ``shares`` (addresses left to try)."""
        if self._deadline is None:
            return None
        remaining = self._deadline - monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        return min(remaining / shares, SOCKET_WAIT_S)

    def resolve(self, host: str, port: int) -> list[Any]:
        """Return the addresses of ``host``.

        Raises ``AttemptStopped`` if stopped, ``TimeoutError`` at the connect deadline, and what
        ``socket.getaddrinfo`` raises.
        """
        family = urllib3.util.connection.allowed_gai_family()
        with contextlib.suppress(socket.gaierror, UnicodeError):
            return socket.getaddrinfo(
                host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        results: list[Any] = []

        def on_result(result: Any) -> None:
            with self._lock:
                results.append(result)
                self._lock.notify_all()

        look_up((host, port, family), on_result)
        self.wait_for(lambda: bool(results), self.connect_time_left())
        if not results:
            raise TimeoutError(f"the name {host} was not resolved in time")
        if isinstance(results[0], Exception):
            raise copy.copy(results[0])  # other calls raise the same error
        return cast("list[Any]", results[0])


# The attempt a thread is working on. Thread-local: requests and urllib3 cannot pass it down.
current = threading.local()


def current_attempt() -> RequestAttempt | None:
    """Return the attempt that this thread is working on, if any."""
    return getattr(current, "attempt", None)
