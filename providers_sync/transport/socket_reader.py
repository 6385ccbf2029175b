"""``SocketReader``: reads what follows a response's headers from its socket, past http.client."""

from __future__ import annotations

import contextlib
import ssl
from http.client import HTTPResponse
from typing import Any

import requests

from ..config import READ_BYTES
from .attempt import is_real


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
        self._has_buffer = True
        """Whether http.client's buffer may hold data, as later reads bypass it."""
        self._has_read = False

    @property
    def at_hand(self) -> bool:
        """Whether something can be read although the socket is silent."""
        return self._has_buffer or (self._is_tls and self.socket.pending() > 0)

    def receive(self) -> bytes | None:
        """Return what one read brings, ``None`` if nothing has arrived, ``b""`` at the end.

        Raises what the socket raises.
        """
        try:
            if self._has_buffer:
                return self._receive_buffer()
            data: bytes = self.socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        self._has_read = True
        return data

    def _receive_buffer(self) -> bytes | None:
        """Empty http.client's buffer; if it is empty, read once."""
        if self.is_plain and not self._waits:
            self.socket.setblocking(False)
        # peek() returns all of it, 128 KiB from Python 3.14 on. If it is empty, peek() reads once;
        # if that brings nothing, it does not tell whether the connection has ended.
        buffered = self._file.peek(1)
        self._has_buffer = False
        self._has_read = bool(buffered)
        if not buffered and self.is_plain and not self._waits:
            return None
        data: bytes = self._file.read1(len(buffered)) if buffered else b""
        return data

    def settimeout(self, seconds: float) -> None:
        """Let the next ``receive`` wait, at most ``seconds``; it raises ``TimeoutError`` then."""
        self._waits = True
        self.socket.settimeout(seconds)

    def is_drained(self) -> bool:
        """Return whether nothing has arrived after what was read."""
        if self._has_read and not self._is_tls:
            return True  # urllib3 checks a plain socket before its next use, but not inside TLS
        try:
            self.socket.settimeout(0)
            return not self._file.peek(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
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
