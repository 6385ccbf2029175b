"""``SocketReader``: reads what follows a response's headers from its socket, past http.client."""

from __future__ import annotations

import contextlib
import io
import ssl
from http.client import HTTPResponse
from typing import Any

import requests

from ..config import READ_BYTES, SMALL_READ_BYTES
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
        """Whether a selector can wait for it: not for TLS inside TLS."""
        self._is_tls = not self.is_plain or isinstance(sock, ssl.SSLSocket)
        self._timeout_s = sock.gettimeout()
        self._suppresses = getattr(sock, "suppress_ragged_eofs", None)
        if self._suppresses:  # as in ``connection.py``
            sock.suppress_ragged_eofs = False
        self._receive: Any = self._file.read1
        self._has_read = False
        self._size = max(READ_BYTES, io.DEFAULT_BUFFER_SIZE)
        """Bytes of the next read. ``recv`` allocates them before it waits, in every waiting stream.
        The first read must take everything in http.client's buffer (8 KiB; 128 KiB from Python
        3.14 on), because later reads bypass it and use the socket."""

    def receive(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; ``b""`` at the connection's end.

        Raises what the socket raises.
        """
        data: bytes = self._receive(self._size)
        self._receive = self.socket.recv  # http.client's buffer is empty now
        self._has_read = True
        self._size = READ_BYTES if len(data) >= SMALL_READ_BYTES else SMALL_READ_BYTES
        return data

    def receive_available(self) -> bytes:
        """Return what has arrived, without waiting; ``b""`` does not mean the end.

        Only before the first ``receive``. Over TLS, always returns ``b""``.
        """
        return self.receive() if not self._is_tls and self._has_arrived() else b""

    def is_drained(self) -> bool:
        """Return whether nothing has arrived after what was read."""
        if self._has_read and not self._is_tls:
            return True  # urllib3 checks a plain socket before its next use, but not inside TLS
        try:
            return not self._has_arrived()
        except OSError:
            return False

    def _has_arrived(self) -> bool:
        wait_s = self.socket.gettimeout()
        self.socket.settimeout(0)
        try:
            return bool(self._file.peek(1))
        except ssl.SSLWantReadError:
            return False
        finally:
            self.socket.settimeout(wait_s)

    def settimeout(self, seconds: float) -> None:
        """Limit the wait of the next ``receive``."""
        self.socket.settimeout(seconds)

    def release(self) -> None:
        """Give the connection back, with its socket as it was."""
        self._http.close()
        with contextlib.suppress(OSError):
            self.socket.settimeout(self._timeout_s)
        if self._suppresses:
            self.socket.suppress_ragged_eofs = True
