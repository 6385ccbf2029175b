"""One request over requests: session, proxy, TLS, reading, stopping; the only importer of requests.

Stopping works through a duplicate of the TCP socket, taken before it connects: shutting that down
ends a connect, a TLS handshake, a CONNECT, the wait for headers and a blocked read, from any
thread. Name resolution cannot be interrupted, so it has a thread of its own that may be left alone.
"""

from __future__ import annotations

import contextlib
import email.utils
import functools
import json
import math
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Literal, cast

import requests
import requests.adapters
import requests.utils
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
import urllib3.util.connection
import urllib3.util.ssl_

from .config import DRAIN_S, ERROR_BODY_BYTES, POOL_SIZE, READ_BYTES
from .errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    MalformedStream,
    ProviderError,
    RateLimitError,
    StreamCut,
)


class Stopped(Exception):
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
        self.up = False
        """Whether a connection stands; until then a timeout is the connect clock's."""
        self.read_s = read_s
        """A backstop for one blocked read; the clocks proper are kept by the reader."""
        self.sent = on_sent
        self._on_connected = on_connected
        self.socket: socket.socket | None = None
        """The connection's own socket, for the thread that reads."""
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

    def check(self) -> None:
        """Raise ``Stopped`` if the call was stopped."""
        if self.stopped:
            raise Stopped

    def connected(self) -> None:
        """Note that the connection stands and the request goes out."""
        self.up = True
        self._on_connected()

    def watch(self, sock: socket.socket) -> None:
        """Take a duplicate of ``sock`` to stop it by."""
        with self._lock:
            self.release()
            # Not sock.dup(): a TLS socket refuses it, and this must be the TCP socket beneath.
            self._duplicate = socket.socket(fileno=socket.dup(sock.fileno()))
        self.check()

    def release(self) -> None:
        """Let the socket go, before it serves somebody else."""
        with self._lock:
            duplicate, self._duplicate = self._duplicate, None
            if duplicate is not None:
                duplicate.close()

    def connect_left(self, shares: int = 1) -> float | None:
        """Return the seconds left for connecting, divided fairly among the addresses to try."""
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left / shares

    def resolve(self, host: str, port: int) -> list[Any]:
        """Return the addresses of ``host``, giving up when stopped or out of time."""
        family = urllib3.util.connection.allowed_gai_family()
        with contextlib.suppress(socket.gaierror, UnicodeError):
            return socket.getaddrinfo(
                host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        found: list[Any] = []

        def look_up() -> None:
            answer: Any
            try:
                answer = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                answer = error
            with self._lock:
                found.append(answer)
                self._lock.notify_all()

        threading.Thread(target=look_up, name="providers-sync-resolver", daemon=True).start()
        with self._lock:
            self._lock.wait_for(lambda: found or self.stopped, self.connect_left())
        self.check()
        if not found:
            raise TimeoutError(f"the name {host} was not resolved in time")
        if isinstance(found[0], Exception):
            raise found[0]
        return cast("list[Any]", found[0])


# The call a thread is working on: the way past requests and urllib3, which pass nothing through.
_current = threading.local()


def _call() -> Call | None:
    return getattr(_current, "call", None)


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


class _StrictResponse(HTTPResponse):
    """http.client's response, for which half the headers and half the last chunk are enough."""

    def begin(self) -> None:
        file, self.fp = self.fp, cast(Any, _WholeLines(self.fp))
        super().begin()
        if self.fp is not None:
            self.fp = file

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
            self.call.check()
            self.sock.settimeout(self.call.read_s)
            self.call.connected()

    def _new_conn(self: Any) -> socket.socket:
        call = self.call
        if call is None or not self.makes_own_socket:
            sock = cast(socket.socket, super()._new_conn())  # type: ignore[misc]
            if call is not None:
                call.watch(sock)
            return sock
        failure: OSError | None = None
        addresses = call.resolve(self._dns_host.strip("[]"), self.port)
        for index, address in enumerate(addresses):
            try:
                return _connected(address, call, len(addresses) - index, self.socket_options)
            except OSError as error:
                failure = error
                call.check()
        raise failure or OSError("the name has no address")

    def getresponse(self: Any) -> Any:
        call = self.call
        if call is None:
            return super().getresponse()  # type: ignore[misc]
        call.socket = self.sock
        call.sent()
        response = super().getresponse()  # type: ignore[misc]
        call.check()
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
        call.watch(sock)
        sock.settimeout(call.connect_left(shares))
        sock.connect(target)
        sock.settimeout(call.connect_left())  # for a proxy's CONNECT and the TLS handshake
    except BaseException:
        call.release()
        sock.close()
        raise
    return sock


class _WatchedPool:
    """Mixed into urllib3's pools: a connection belongs to one call while it is out."""

    def _get_conn(self: Any, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        call = connection.call = _call()
        if call is not None and connection.sock is not None:
            try:
                call.watch(connection.sock)
            except Stopped:
                connection.close()
                raise
            connection.sock.settimeout(call.read_s)
            call.connected()
        return connection

    def _put_conn(self: Any, connection: Any) -> None:
        # First of all: a stop that comes late must not hit the next user of this connection.
        if connection is not None and connection.call is not None:
            connection.call.release()
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


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter over watched pools."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        _watch(manager)
        return manager


def _watch(manager: Any) -> None:
    classes = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _watched(pool) for scheme, pool in classes.items()}


class Transport:
    """One process's connections of one provider; safe to share among threads."""

    def __init__(self) -> None:
        self._session = requests.Session()
        # One caller's cookies are nobody else's business.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _Adapter(pool_maxsize=POOL_SIZE)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        call: Call,
        *,
        proxy: str | Literal[False] | None = None,
        verify: bool | str = True,
    ) -> Answer:
        """Send one request and return the answer once its headers are there, whatever its status.

        Raises ``Stopped``, ``APIConnectionError`` or ``APITimeoutError``.
        """
        call.check()
        # auth=: without one, requests lets .netrc replace the Authorization header.
        request = requests.Request(method, url, headers, data=body, auth=_as_it_is).prepare()
        _current.call = call
        try:
            # The adapter, not session.send(), which reads the whole body of a redirect.
            response = self._session.get_adapter(url).send(
                request,
                stream=True,
                timeout=cast(Any, (call.connect_left(), call.read_s)),
                verify=_verify(verify),
                proxies=_proxies(url, proxy),
            )
        except Stopped:
            raise
        except Exception as error:
            call.check()
            raise _connection_error(error, url, call) from error
        finally:
            _current.call = None
        return Answer(response, call)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _verify(verify: bool | str) -> bool | str:
    if verify is True:
        return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    return verify


def _proxies(url: str, proxy: str | Literal[False] | None) -> dict[str, str]:
    if proxy is None:
        return dict(requests.utils.get_environ_proxies(url))
    return {"all": proxy} if proxy else {}


def proxy_for(url: str, proxy: str | Literal[False] | None = None) -> str | None:
    """Return the proxy that a request to ``url`` goes through, ``None`` where it goes straight."""
    found = requests.utils.select_proxy(url, _proxies(url, proxy))
    return f"http://{found}" if found and "://" not in found else found


class Answer:
    """The server's response: headers at hand, the body read piece by piece."""

    def __init__(self, response: requests.Response, call: Call) -> None:
        self._response = response
        self._raw: Any = response.raw
        self._call = call
        self.status = int(response.status_code)
        self.reason = str(response.reason or "")
        self.url = str(response.url)
        self.headers = dict(response.headers)
        self._lower = {name.lower(): value for name, value in self.headers.items()}

    def header(self, *names: str) -> str | None:
        """Return the first of these headers that is there."""
        return next((self._lower[name] for name in names if name in self._lower), None)

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty where none is given."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    @property
    def request_id(self) -> str | None:
        """The server's name for this request, for its support desk."""
        return self.header("x-request-id", "request-id")

    def read(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; ``b""`` is the end.

        Raises ``StreamCut``, ``MalformedStream`` (broken compression) or ``Stopped``.
        """
        try:
            data: bytes = self._raw.read1(READ_BYTES, decode_content=True)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise APITimeoutError("no answer within the total time", clock="total") from error
        except urllib3.exceptions.DecodeError as error:
            self._call.check()
            raise MalformedStream("the compressed body is broken") from error
        except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            self._call.check()
            raise StreamCut(f"the connection broke in the answer: {_reason(error)}") from error
        # A shutdown looks like a clean end, and real data may still arrive after it.
        self._call.check()
        if not data and _unfinished_gzip(self._raw):
            raise StreamCut("the compressed body ends too early")
        return data

    def read_error(self, wait_s: float) -> bytes:
        """Return what arrives of an error's body in ``wait_s`` seconds, 64 KiB at most."""
        body = bytearray()
        deadline = time.monotonic() + wait_s
        # OSError: the socket is closed already where the first read has had the whole body.
        with contextlib.suppress(ProviderError, OSError):
            while len(body) < ERROR_BODY_BYTES and (left := deadline - time.monotonic()) > 0:
                if self._call.socket is not None:
                    self._call.socket.settimeout(left)
                if not (data := self.read()):
                    break
                body += data
        return bytes(body[:ERROR_BODY_BYTES])

    def drain(self) -> None:
        """Read on after the protocol's end marker, briefly, so that the connection can be kept."""
        connection = getattr(self._raw, "connection", None)
        sock = getattr(connection, "sock", None)
        if sock is not None:
            sock.settimeout(DRAIN_S)
            with contextlib.suppress(ProviderError, Stopped):
                self.read()

    def close(self) -> None:
        """Give everything back; a body not read to its end closes the connection."""
        with contextlib.suppress(OSError, urllib3.exceptions.HTTPError, HTTPException):
            self._raw.close()


def _unfinished_gzip(raw: Any) -> bool:
    """Tell whether a gzip body ended before its trailer, which urllib3 passes over in silence."""
    member = getattr(getattr(raw, "_decoder", None), "_obj", None)
    return member is not None and not getattr(member, "eof", True) and not member.unused_data


# --- what went wrong, in our own words


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and everything it wraps: causes, contexts, reasons and arguments."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            yield error
            inner = [getattr(error, "reason", None), error.__cause__, error.__context__]
            waiting += [*inner, *error.args]


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return the failure of TLS behind an error, if there is one."""
    return next((inner for inner in _chain(error) if isinstance(inner, ssl.SSLError)), None)


def _reason(error: BaseException) -> str:
    """Return the innermost reason in plain words; never the text of a foreign error as it is."""
    for inner in _chain(error):
        if isinstance(inner, socket.gaierror):
            return "its name is not known (DNS)"
        if isinstance(inner, ssl.SSLError):
            return f"TLS: {inner.reason or 'the handshake failed'}"
        if isinstance(inner, RemoteDisconnected):
            return "it hung up without an answer"
        if isinstance(inner, (IncompleteRead, urllib3.exceptions.IncompleteRead)):
            return "the body ended too early"
        if isinstance(inner, urllib3.exceptions.InvalidChunkLength):
            return "a chunk of the body is broken"
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror.lower()
        if isinstance(inner, HTTPException):
            return "it does not speak HTTP"
    return type(error).__name__


def _connection_error(error: Exception, url: str, call: Call) -> ProviderError:
    """Return our own error for whatever came out of requests before the headers."""
    chain = list(_chain(error))
    for inner in chain:  # they carry the request, and with it the key
        if isinstance(inner, requests.RequestException):
            inner.request = None
    where = urllib3.util.parse_url(url).netloc or url
    timeouts = (TimeoutError, urllib3.exceptions.TimeoutError, requests.Timeout)
    if any(isinstance(inner, timeouts) for inner in chain):
        if not call.up:
            return APITimeoutError(f"no connection to {where} in time", clock="connect")
        return APITimeoutError(f"no answer from {where} within the total time", clock="total")
    if any(isinstance(inner, _PROXY_ERRORS) for inner in chain):
        where += " through the proxy"
    for inner in chain:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return _hopeless(
                f"the certificate of {where} was refused: {inner.verify_message}; "
                "give the right CA file as verify="
            )
        if isinstance(inner, _UNUSABLE):
            return _hopeless(
                f"cannot connect to {where}: {type(inner).__name__}; check base_url, proxy= and "
                "the proxies in the environment (SOCKS needs 'requests[socks]')"
            )
    if type(error) is OSError:  # from requests' own look for the CA file
        return _hopeless(
            "the file of CA certificates is missing: check verify= and REQUESTS_CA_BUNDLE"
        )
    return APIConnectionError(f"cannot connect to {where}: {_reason(error)}")


_PROXY_ERRORS = (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)
_UNUSABLE = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
    UnicodeError,
)


def _hopeless(message: str) -> APIConnectionError:
    error = APIConnectionError(message)
    error.retryable = False
    return error


def status_error(answer: Answer, wait_s: float) -> APIStatusError:
    """Return the error for an answer whose status is not 2xx, with the server's own words."""
    body = answer.read_error(wait_s).decode("utf-8", "replace")
    kind = {401: AuthenticationError, 403: AuthenticationError, 429: RateLimitError}.get(
        answer.status, APIStatusError
    )
    message = f"{answer.status} {answer.reason}".strip() + f" from {answer.url}"
    target = answer.header("location")
    if 300 <= answer.status < 400 and target:
        message += f": redirected to {target.partition('?')[0]}; give that address as base_url"
    elif said := _server_message(body):
        message += f": {said}"
    retry_after = _retry_after(answer)
    if retry_after is not None:
        message += f" (the server asks to wait {retry_after:g} s)"
    return kind(
        message,
        status_code=answer.status,
        body=body,
        headers=answer.headers,
        request_id=answer.request_id,
        retry_after=retry_after,
    )


def _server_message(body: str) -> str:
    """Return the server's own message: ``error.message``, ``error``, ``message`` or ``detail``."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        text = " ".join(body.split())
        return "" if text.startswith("<") else text[:300]
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(name):
            value = value[name]
    return (value if isinstance(value, str) else json.dumps(value))[:2000]


def _retry_after(answer: Answer) -> float | None:
    """Return the wait in seconds that a server asks for, as a number or an HTTP date."""
    if (text := answer.header("retry-after")) is None:
        return None
    try:
        wait = float(text)
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(wait, 0.0) if math.isfinite(wait) else None
