"""Adapter for the requests library, with stoppable connections and stricter response parsing."""

from __future__ import annotations

import contextlib
import errno
import functools
import queue
import socket
import ssl
from http.client import HTTPException, HTTPResponse, RemoteDisconnected, parse_headers
from typing import Any, cast

import requests
import requests.adapters
import requests.structures
import urllib3.util.connection
import urllib3.util.ssl_
from urllib3.exceptions import ProtocolError

from .addresses import connect
from .attempt import AttemptStopped, RequestAttempt, current_attempt
from .framing import Body, body_of
from .socks_proxy import connect_through


class _CompleteLines:
    """Wraps the file with the header lines and reports a truncated line as an error.

    http.client would take the end of the connection for the end of the headers.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.close = file.close

    def readline(self, limit: int) -> bytes:
        line: bytes = self._file.readline(limit)
        if len(line) < limit and not line.endswith(b"\n"):
            raise RemoteDisconnected("the headers end too early")
        return line


MAX_INTERIM_RESPONSES = 100
"""1xx responses accepted before the final one: a working server may send 102 (processing) now
and then, and 103 (early hints) once."""


class _StrictResponse(HTTPResponse):
    """http.client's response, which reports truncated and ambiguous headers as errors.

    http.client accepts both, and takes every 1xx status except 100 for the final response. RFC
    9110, section 15.2, says to skip them. 101 (switching protocols) is final here: we never request
    another protocol.
    """

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MAX_INTERIM_RESPONSES):
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if line[1] >= 200 or line[1] == 101:
                return line
            parse_headers(cast(Any, self.fp))
        raise HTTPException("too many interim responses")

    def begin(self) -> None:
        file, self.fp = self.fp, cast(Any, _CompleteLines(self.fp))
        try:
            super().begin()
        finally:  # closing a failed response flushes the file
            if self.fp is not None:
                self.fp = file
        self.framing = body_of(self)  # only once: it takes some 20 µs
        if type(self.framing) is Body:
            # In an error response lengths may contradict each other, for which urllib3 raises.
            del self.headers["Content-Length"]
        else:  # http.client does not know every legal form of a body that leaves it open
            self.will_close = self._check_close()  # type: ignore[attr-defined]


class _TrackedConnection:
    """Mixin for urllib3's connection classes: registers every socket with the current attempt."""

    response_class = _StrictResponse
    attempt: RequestAttempt | None = None

    sock: Any
    close: Any

    def connect(self: Any) -> None:
        if getattr(self, "ssl_context", self) is None:  # only HTTPS connections have one
            self.ssl_context = _strict_context(self.cert_reqs)
        super().connect()  # type: ignore[misc]
        # Not hasattr(): a mock's socket may raise errors of its own.
        if "suppress_ragged_eofs" in getattr(self.sock, "__dict__", ()):
            # Report ragged EOFs: on Python 3.10 to 3.12, a reset over TLS looks like one
            # (gh-115627), and a body that ends with its connection is complete only with a
            # close_notify (RFC 9112, 9.8).
            self.sock.suppress_ragged_eofs = False
        if self.attempt is not None:
            self.attempt.raise_if_stopped()
            self.sock.settimeout(self.attempt.read_s)
            self.attempt.connected()

    def _new_conn(self: Any) -> socket.socket:
        attempt = self.attempt
        # Programs replace create_connection() to choose the address themselves.
        is_replaced = (
            urllib3.util.connection.create_connection.__module__ != urllib3.util.connection.__name__
        )
        socks = getattr(self, "_socks_options", None)
        if attempt is None or (is_replaced and not socks):
            sock = cast(socket.socket, super()._new_conn())  # type: ignore[misc]
            if attempt is not None:
                attempt.track_socket(sock)
            return sock
        target = self._dns_host.strip("[]"), self.port
        settings = attempt, self.socket_options, self.source_address
        try:
            if socks:
                return connect_through(socks, *target, *settings)
            return connect(attempt.resolve(*target), *settings)
        except OSError as error:
            # Not an OSError: urllib3 would take a reset for a failed send, and go on to read the
            # response, without a socket.
            raise ProtocolError("no address accepted the connection", error) from error

    def send(self: Any, data: Any) -> None:
        try:
            super().send(data)  # type: ignore[misc]
        except ssl.SSLEOFError as error:
            # The server has closed early, and may have said why: in a response, or in a TLS alert
            # that it requires a certificate. For this error urllib3 goes on to read it.
            raise BrokenPipeError(errno.EPIPE, "the server has closed the connection") from error

    def getresponse(self: Any) -> Any:
        attempt = self.attempt
        if attempt is None:
            return super().getresponse()  # type: ignore[misc]
        attempt.sent()
        response = super().getresponse()  # type: ignore[misc]
        attempt.raise_if_stopped()
        return response


def _strict_context(cert_reqs: Any) -> ssl.SSLContext:
    """Return urllib3's default TLS context, except that a missing close_notify is an error.

    Debian's Python disables that error in every new context.
    """
    context = urllib3.util.ssl_.create_urllib3_context(
        cert_reqs=urllib3.util.ssl_.resolve_cert_reqs(cert_reqs)
    )
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


class _TrackedPool:
    """Mixin for urllib3's pools: assigns a connection to the attempt that uses it."""

    @property
    def ConnectionCls(self: Any) -> Any:  # noqa: N802 (urllib3's name)
        """The pool's connection class with our mixin.

        Derived at each use, and only from urllib3's own classes: vcrpy replaces the class of every
        pool while a cassette is in use, and no request may bypass it.
        """
        base = super().ConnectionCls  # type: ignore[misc]
        is_original = base.__module__.partition(".")[0] == "urllib3"
        return _tracked_connection_class(base) if is_original else base

    retired = False
    """Whether the provider has closed its connections; those in use are closed when they end."""

    def retire(self: Any) -> None:
        """Close the idle connections; unlike ``close``, requests that are starting go on."""
        self.retired = True
        with contextlib.suppress(queue.Empty):
            while True:
                if (connection := self.pool.get(block=False)) is not None:
                    connection.close()

    def _close_replaced(self: Any) -> None:
        """Close the idle connections if another class replaces theirs: vcrpy may just drop them."""
        if not issubclass(self.ConnectionCls, _TrackedConnection):
            idle = [each for each in list(self.pool.queue) if isinstance(each, _TrackedConnection)]
            for connection in idle:
                connection.close()

    def _get_conn(self: Any, timeout: float | None = None) -> Any:
        self._close_replaced()
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        attempt = current_attempt()
        if attempt is None:
            return connection
        if not isinstance(connection, _TrackedConnection):
            attempt.connected()
            return connection
        connection.attempt = attempt
        if connection.sock is not None:
            try:
                attempt.track_socket(connection.sock)
            except AttemptStopped:
                connection.close()
                raise
            connection.sock.settimeout(attempt.read_s)
            attempt.connected()
        return connection

    def _put_conn(self: Any, connection: Any) -> None:
        # Do this first: a late stop must not hit the next user of this connection.
        if isinstance(connection, _TrackedConnection) and connection.attempt is not None:
            connection.attempt.release_socket()
            if not connection.attempt.read_to_end:  # unread bytes would start the next response
                connection.close()
            connection.attempt = None
        if self.retired and connection is not None:
            connection.close()
        super()._put_conn(connection)  # type: ignore[misc]


@functools.cache
def _tracked_pool_class(pool: type[Any]) -> type[Any]:
    """Return a urllib3 pool class with our mixin."""
    if issubclass(pool, _TrackedPool):
        return pool
    return type(pool.__name__, (_TrackedPool, pool), {})


@functools.cache
def _tracked_connection_class(base: type[Any]) -> type[Any]:
    """Return one of urllib3's connection classes with our mixin."""
    return type(base.__name__, (_TrackedConnection, base), {})


class Adapter(requests.adapters.HTTPAdapter):
    """Adapter for the requests library over tracked pools; skips work whose result we never use.

    Looking up the pool and the request's target, collecting cookies and guessing an encoding took a
    tenth of the time of a request on an open connection.
    """

    _last_pool: tuple[Any, Any] = (None, None)
    """The last lookup key and its pool: a provider's requests nearly always use the same one."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _use_tracked_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        _use_tracked_pools(manager)
        return manager

    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        key = (request.url, verify, dict(proxies or {}), cert)
        last_key, pool = self._last_pool
        if key != last_key or pool.retired:
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            self._last_pool = key, pool
        return pool

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they end."""
        for manager in (self.poolmanager, *list(self.proxy_manager.values())):
            for key in list(manager.pools.keys()):
                with contextlib.suppress(KeyError):  # another thread closes, too
                    manager.pools[key].retire()
        super().close()

    def request_url(self, request: Any, proxies: Any) -> str:
        return super().request_url(request, proxies) if proxies else str(request.path_url)

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers = requests.structures.CaseInsensitiveDict(resp.headers)
        response.raw, response.url, response.request = resp, req.url, req
        return response


def _use_tracked_pools(manager: Any) -> None:
    classes = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {
        scheme: _tracked_pool_class(pool) for scheme, pool in classes.items()
    }
