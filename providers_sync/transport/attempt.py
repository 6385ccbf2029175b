"""The state of one request attempt: its socket, its connect deadline and how to stop it."""

from __future__ import annotations

import _socket
import contextlib
import copy
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

import urllib3.util.connection

from ..clock import monotonic
from ..config import SOCKET_WAIT_S
from .resolver import forget, look_up


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
        silence_s: float | None = None,
    ) -> None:
        self.stopped = False
        self.is_connected = False
        """Whether a connection is established; until then, a timeout is a connect timeout."""
        self.read_s = None if read_s is None else min(read_s, SOCKET_WAIT_S)
        """Upper limit for one blocked read; the stream enforces the actual timeouts."""
        waits = [each for each in (self.read_s, silence_s) if each is not None]
        self.silence_s = min(*waits, SOCKET_WAIT_S) if waits else None
        """The same for a connection of the caller's own session. It is the longest silence that the
        timeouts allow, because nothing else may be able to end such a read."""
        self.sent_headers: Mapping[str, str] = {}
        """What the caller's own session has sent, if known."""
        self._ends_at = None if read_s is None else monotonic() + read_s
        self.sent = on_sent
        self._on_connected = on_connected
        self.read_to_end = False
        """Whether the response was read to its proven end, so that the connection can be reused."""
        self._deadline = None if connect_s is None else monotonic() + connect_s
        self._duplicates: list[_socket.socket] = []
        """Of its connection's socket; while it connects, one for each address being tried."""
        # Reentrant: a finalizer or a signal handler may stop the attempt in the thread that holds
        # the lock.
        self._lock = threading.Condition(threading.RLock())

    def stop(self) -> None:
        """Interrupt whatever the attempt is waiting for. Safe in any thread; does not block."""
        self.stopped = True
        with self._lock:
            for duplicate in self._duplicates:
                with contextlib.suppress(OSError):
                    duplicate.shutdown(socket.SHUT_RDWR)
            self._lock.notify_all()

    def raise_if_stopped(self) -> None:
        """Raise ``AttemptStopped`` if the attempt was stopped."""
        if self.stopped:
            raise AttemptStopped

    def is_over(self) -> bool:
        """Return whether the total timeout has expired, or will within moments."""
        return self._ends_at is not None and monotonic() > self._ends_at - 0.01

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

    def is_tracking(self) -> bool:
        """Return whether ``stop`` reaches the connection's socket."""
        return bool(self._duplicates)

    def track_socket(self, sock: Any) -> None:
        """Keep a duplicate of ``sock``, through which ``stop`` can shut it down.

        It replaces the duplicates of other sockets. Raises ``AttemptStopped`` if stopped.
        """
        with self._lock:
            self.release_socket()
            self.track_another_socket(sock)

    def track_another_socket(self, sock: Any) -> None:
        """Do what ``track_socket`` does, and keep the duplicates of the other sockets too."""
        with self._lock:
            if (duplicate := _duplicate(sock)) is not None:
                self._duplicates.append(duplicate)
        self.raise_if_stopped()

    def release_socket(self) -> None:
        """Close the duplicates, before the connection is used for another attempt."""
        with self._lock:
            while self._duplicates:
                self._duplicates.pop().close()

    def abandon(self) -> None:
        """Close the duplicates in a forked child, without the lock, which may be held there."""
        while self._duplicates:
            self._duplicates.pop().close()

    def connect_time_left(self, shares: int = 1) -> float | None:
        """Return the seconds left for connecting, divided by ``shares`` (addresses left to try)."""
        if self._deadline is None:
            return None
        remaining = self._deadline - monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        return min(remaining / shares, SOCKET_WAIT_S)

    def resolve(self, host: str, port: int) -> list[Any]:
        """Return the addresses of ``host``, at least one.

        Raises ``AttemptStopped`` if stopped, ``TimeoutError`` at the connect deadline,
        ``ProviderError`` if no thread can be started, and what ``socket.getaddrinfo`` raises.
        """
        family = urllib3.util.connection.allowed_gai_family()
        with contextlib.suppress(socket.gaierror, UnicodeError):
            if found := socket.getaddrinfo(
                host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            ):
                return found
        results: list[Any] = []

        def on_result(result: Any) -> None:
            with self._lock:
                results.append(result)
                self._lock.notify_all()

        query = (host, port, family)
        look_up(query, on_result)
        try:
            self.wait_for(lambda: bool(results), self.connect_time_left())
        finally:
            forget(query, on_result)
        if not results:
            raise TimeoutError(f"the name {host} was not resolved in time")
        if isinstance(results[0], BaseException):
            raise _copy_of(results[0])
        if not results[0]:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return cast("list[Any]", results[0])


def _duplicate(sock: Any) -> _socket.socket | None:
    """Return a duplicate of the TCP socket, ``None`` for what a test tool has in its place.

    Not ``sock.dup()``, which a TLS socket refuses, and not ``socket.socket``, which test tools
    replace.
    """
    if not is_real(sock):
        sock = getattr(sock, "__dict__", {}).get("socket")  # TLS inside TLS wraps it
        if not is_real(sock):
            return None
    descriptor = socket.dup(sock.fileno())
    try:
        return _socket.socket(fileno=descriptor)
    except OSError:  # not a socket: a file of httpretty's
        socket.close(descriptor)
        return None


def is_real(sock: Any) -> bool:
    """Return whether it is a socket with a file descriptor, which that of a test tool may lack."""
    if isinstance(sock, _socket.socket):
        return True
    # gevent's class is not derived from it; a test tool may have put a function there.
    if isinstance(socket.socket, type) and isinstance(sock, socket.socket):
        with contextlib.suppress(Exception):
            return bool(sock.fileno() >= 0)
    return False


def _copy_of(error: BaseException) -> BaseException:
    """Return a copy to raise: other calls raise the same error, each with its own traceback."""
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001 (an exception of a test tool may not allow it)
        return error
    copied.__cause__ = error.__cause__
    return copied


# The attempt a thread is working on. Thread-local: requests and urllib3 cannot pass it down.
current = threading.local()


def current_attempt() -> RequestAttempt | None:
    """Return the attempt that this thread is working on, if any."""
    return getattr(current, "attempt", None)
