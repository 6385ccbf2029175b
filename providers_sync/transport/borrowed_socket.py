"""``BorrowedSocket``: the socket of a response that the caller's own session has opened."""

from __future__ import annotations

import contextlib
import socket
import ssl
from http.client import HTTPResponse
from typing import Any, cast

import requests

OWN_CODINGS = ("identity", "gzip")
"""The codings of bodies that this package reads from the socket itself."""


class BorrowedSocket:
    """A socket that another request uses next; ``restore`` leaves it as it was."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._timeout_s = sock.gettimeout()
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        if self._is_tls:
            self._suppresses = cast(Any, sock).suppress_ragged_eofs
            cast(Any, sock).suppress_ragged_eofs = False  # as in ``connection.py``

    def restore(self) -> None:
        """Undo every change."""
        with contextlib.suppress(OSError):
            self.socket.settimeout(self._timeout_s)
        if self._is_tls:
            cast(Any, self.socket).suppress_ragged_eofs = self._suppresses


def find_socket(
    response: requests.Response, coding: str
) -> tuple[HTTPResponse, BorrowedSocket] | None:
    """Return http.client's response and its socket, if this package may read the body from it.

    Not for other codings: urllib3 reads those, and returns the connection to the pool by itself. A
    late stop could then hit the next request on it.
    """
    http = getattr(getattr(response, "raw", None), "_original_response", None)
    sock = getattr(getattr(getattr(http, "fp", None), "raw", None), "_sock", None)
    if coding not in OWN_CODINGS or not isinstance(http, HTTPResponse):
        return None
    return (http, BorrowedSocket(sock)) if isinstance(sock, socket.socket) else None
