"""requests' adapter over urllib3 pools whose every connection belongs to the call it works for."""

from __future__ import annotations

import functools
import socket
import ssl
from http.client import (
    HTTPException,
    HTTPResponse,
    IncompleteRead,
    RemoteDisconnected,
    parse_headers,
)
from typing import Any, cast

import requests
import requests.adapters
import requests.structures
import urllib3.connection
import urllib3.util.ssl_
from urllib3.exceptions import ProtocolError

from ..config import READ_BYTES
from .call import Call, CallStopped, current_call
from .framing import clear_kernel_timeout


class _WholeLines:
    """Header lines; http.client takes the end of the connection for the end of the headers."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.close = file.close

    def readline(self, limit: int) -> bytes:
        line: bytes = self._file.readline(limit)
        if len(line) < limit and not line.endswith(b"\n"):
            raise RemoteDisconnected("the headers end too early")
        return line


INTERIM_RESPONSES = 100
"""Before one answer; a server that works says so now and then, and hints are sent once."""


class _StrictResponse(HTTPResponse):
    """http.client's response, for which half the headers and half the last chunk are enough.

    It takes every status of 1xx but 100 for the answer; RFC 9110, section 15.2, has them passed
    over. 101 (another protocol from here on) is final: nobody asked for it.
    """

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(INTERIM_RESPONSES):
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if line[1] >= 200 or line[1] == 101:
                return line
            parse_headers(cast(Any, self.fp))
        raise HTTPException("too many interim responses")

    def begin(self) -> None:
        file, self.fp = self.fp, cast(Any, _WholeLines(self.fp))
        try:
            super().begin()
        finally:  # whoever closes a failed response flushes the file
            if self.fp is not None:
                self.fp = file
        if (call := current_call()) is not None:
            call.response = self

    def _read_and_discard_trailer(self) -> None:
        for _ in range(100):
            line = self.fp.readline(READ_BYTES)
            if not line.endswith(b"\n"):
                raise IncompleteRead(b"")
            if line in (b"\r\n", b"\n"):
                return
        raise HTTPException("too many trailers")


class _WatchedConnection:
    """Mixed into urllib3's connection classes: shows every socket to the call it works for."""

    response_class = _StrictResponse
    call: Call | None = None
    makes_own_socket = True
    """False for SOCKS, where PySocks makes it."""

    def connect(self: Any) -> None:
        if getattr(self, "ssl_context", self) is None:  # only HTTPS connections have one
            self.ssl_context = _strict_context(self.cert_reqs)
        super().connect()  # type: ignore[misc]
        if hasattr(self.sock, "suppress_ragged_eofs"):
            # A reset over TLS looks like this on Python 3.10 to 3.12 (gh-115627), and a body that
            # ends with its connection is whole only with a close_notify (RFC 9112, 9.8).
            self.sock.suppress_ragged_eofs = False
        if self.call is not None:
            self.call.raise_if_stopped()
            self.sock.settimeout(self.call.read_s)
            self.call.connected()

    def _new_conn(self: Any) -> socket.socket:
        call = self.call
        if call is None or not self.makes_own_socket:
            sock = cast(socket.socket, super()._new_conn())  # type: ignore[misc]
            if call is not None:
                call.track_socket(sock)
            return sock
        failure: OSError | None = None
        addresses = call.resolve(self._dns_host.strip("[]"), self.port)
        for index, address in enumerate(addresses):
            try:
                return _connected(address, call, len(addresses) - index, self.socket_options)
            except OSError as error:
                failure = error
                call.raise_if_stopped()
        # Not as an OSError: urllib3 takes a reset for one in sending, and reads from no socket.
        raise ProtocolError("no address took the connection", failure) from failure

    def getresponse(self: Any) -> Any:
        call = self.call
        if call is None:
            return super().getresponse()  # type: ignore[misc]
        call.socket = self.sock
        call.sent()
        try:
            response = super().getresponse()  # type: ignore[misc]
        except BaseException:
            if call.response is not None:  # its headers are refused; it may hold the socket
                call.response.close()
            raise
        call.raise_if_stopped()
        return response


def _strict_context(cert_reqs: Any) -> ssl.SSLContext:
    """Return urllib3's own TLS settings, for which an end without close_notify is an error.

    Debian's Python switches that error off in every new context.
    """
    context = urllib3.util.ssl_.create_urllib3_context(
        cert_reqs=urllib3.util.ssl_.resolve_cert_reqs(cert_reqs)
    )
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def _connected(address: Any, call: Call, shares: int, options: Any) -> socket.socket:
    """Connect to one address, under the eyes of ``call``."""
    family, kind, protocol, _, target = address
    sock = socket.socket(family, kind, protocol)
    try:
        for option in options or ():
            sock.setsockopt(*option)
        call.track_socket(sock)
        sock.settimeout(call.connect_time_left(shares))
        sock.connect(target)
        sock.settimeout(call.connect_time_left())  # for a proxy's CONNECT and the TLS handshake
    except BaseException:
        call.release_socket()
        sock.close()
        raise
    return sock


class _WatchedPool:
    """Mixed into urllib3's pools: a connection belongs to one call while it is out."""

    def _get_conn(self: Any, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        call = connection.call = current_call()
        if call is not None and connection.sock is not None:
            try:
                call.track_socket(connection.sock)
            except CallStopped:
                connection.close()
                raise
            if call.read_s is None:  # else Python's own timeout is in force, and this one is not
                clear_kernel_timeout(connection.sock)
            connection.sock.settimeout(call.read_s)
            call.connected()
        return connection

    def _put_conn(self: Any, connection: Any) -> None:
        # First of all: a stop that comes late must not hit the next user of this connection.
        if connection is not None and connection.call is not None:
            connection.call.release_socket()
            if not connection.call.read_to_end:  # else the rest would be the next caller's answer
                connection.close()
            connection.call = None
        super()._put_conn(connection)  # type: ignore[misc]


@functools.cache
def _watched(pool: type[Any]) -> type[Any]:
    """Return urllib3's pool class with our two mixins."""
    if issubclass(pool, _WatchedPool):
        return pool
    base = pool.ConnectionCls
    own = base._new_conn is urllib3.connection.HTTPConnection._new_conn
    connection = type(base.__name__, (_WatchedConnection, base), {"makes_own_socket": own})
    return type(pool.__name__, (_WatchedPool, pool), {"ConnectionCls": connection})


class Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter over watched pools, without what no caller of ours reads.

    Looking up the pool and the request's target, collecting cookies and guessing an encoding made a
    tenth of a warm request.
    """

    _last: tuple[Any, Any] = (None, None)
    """The pool in use, behind what it was looked up by: a provider's requests are all alike."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        _watch(manager)
        return manager

    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        wanted = (request.url, verify, dict(proxies or {}), cert)
        known, pool = self._last
        if known != wanted or pool.pool is None:  # closed
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            self._last = wanted, pool
        return pool

    def request_url(self, request: Any, proxies: Any) -> str:
        return super().request_url(request, proxies) if proxies else str(request.path_url)

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers = requests.structures.CaseInsensitiveDict(resp.headers)
        response.raw, response.url, response.request = resp, req.url, req
        return response


def _watch(manager: Any) -> None:
    classes = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _watched(pool) for scheme, pool in classes.items()}
