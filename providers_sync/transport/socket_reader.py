"""``SocketReader``: reads what follows a response's headers from its socket, past http.client."""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Any

import requests

from ..config import READ_BYTES
from .attempt import is_real
from .tls_errors import forget_tls_errors

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket that does not wait raises if nothing has arrived."""


def find_http(response: requests.Response) -> HTTPResponse | None:
    """Return http.client's response if its body is unread and comes from a connection's socket.

    Mocks have no such socket: not even that of vcrpy, which reads a real one while it records.
    """
    http = getattr(getattr(response, "raw", None), "_original_response", None)
    return http if isinstance(http, HTTPResponse) and _socket_of(http) is not None else None


def _socket_of(http: HTTPResponse) -> Any:
    return getattr(getattr(http.fp, "raw", None), "_sock", None)


class SocketReader:
    """Reads http.client's buffer and then the socket, which another request may use next."""

    is_decoded = False

    def __init__(self, http: HTTPResponse) -> None:
        self._http = http
        self._file: Any = http.fp
        self.socket = sock = _socket_of(http)
        self.is_plain = is_real(sock)
        """Whether a selector can wait for it, and ``receive`` does not wait: not TLS inside TLS."""
        self.stays_open = not http.will_close
        self._is_tls = not self.is_plain or isinstance(sock, ssl.SSLSocket)
        self._timeout_s = sock.gettimeout()
        self._suppresses = getattr(sock, "suppress_ragged_eofs", None)
        if self._suppresses:  # as in ``connection.py``
            sock.suppress_ragged_eofs = False
        self._waits = False
        self.at_hand = True
        """Whether something may be read although the socket is silent."""
        self.receive: Callable[[], bytes] = self._receive_buffer
        """Returns what one read brings, ``b""`` at the end.

        Raises what the socket raises: one of ``WOULD_BLOCK`` if nothing has arrived."""

    def _receive_buffer(self) -> bytes:
        """Empty http.client's buffer, which later reads bypass; if it is empty, read once."""
        waits = self._waits or not self.is_plain
        if not waits:
            self.socket.setblocking(False)
        # peek() returns all of it, 128 KiB from Python 3.14 on. If it is empty, peek() reads once;
        # if that brings nothing, it does not tell whether the connection has ended.
        buffered = self._file.peek(1)
        self.at_hand = False
        receive = functools.partial(self.socket.recv, READ_BYTES)
        self.receive = self._receive_tls if self._is_tls and not waits else receive
        if not buffered and not waits:
            raise BlockingIOError
        data: bytes = self._file.read1(len(buffered)) if buffered else b""
        return data

    def _receive_tls(self) -> bytes:
        """Read all records that have arrived; one read returns one of them, often one event."""
        data: bytes = self.socket.recv(READ_BYTES)
        self.at_hand = True
        try:
            while len(data) < READ_BYTES and (more := self.socket.recv(READ_BYTES)):
                data += more
        except WOULD_BLOCK:
            self.at_hand = False
        except OSError:
            forget_tls_errors()  # the next read raises it again
        return data

    def settimeout(self, seconds: float) -> None:
        """Let the next ``receive`` wait, at most ``seconds``; it raises ``TimeoutError`` then."""
        self._waits = True
        self.socket.settimeout(seconds)

    def is_drained(self) -> bool:
        """Return whether nothing has arrived after what was read."""
        if not self.at_hand and not self._is_tls:
            return True  # urllib3 checks a plain socket before its next use, but not inside TLS
        try:
            self.socket.settimeout(0)
            return not self._file.peek(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            forget_tls_errors()
            return False

    def release(self) -> None:
        """Give the connection back, with its socket as it was."""
        self._http.close()
        with contextlib.suppress(OSError):
            if self.is_plain:
                self.socket.setblocking(True)  # eventlet's TLS sockets want this first
            self.socket.settimeout(self._timeout_s)
        if self._suppresses:
            self.socket.suppress_ragged_eofs = True
