"""Converts exceptions of requests and urllib3 to errors of this package."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from http.client import HTTPException, IncompleteRead, RemoteDisconnected

import requests
import urllib3.exceptions
import urllib3.util

from ..errors import APIConnectionError, APITimeoutError, MalformedStream, ProviderError
from .attempt import RequestAttempt

MAX_QUOTED = 2000
"""Characters quoted of the text of another library's error."""


def error_chain(
    error: BaseException | None,
    follow_context: Callable[[BaseException], bool] = lambda context: True,
) -> Iterator[BaseException]:
    """Yield an error and all errors behind it: reasons, causes, contexts and arguments.

    ``follow_context`` decides which contexts are followed.
    """
    seen: set[int] = set()
    queue = [error]
    while queue:
        error = queue.pop(0)
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            yield error
            queue += [getattr(error, "reason", None), error.__cause__]
            if error.__context__ is not None and follow_context(error.__context__):
                queue.append(error.__context__)
            queue += error.args


def find_tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return the TLS error behind an error, if there is one."""
    return next((inner for inner in error_chain(error) if isinstance(inner, ssl.SSLError)), None)


def describe_error(error: BaseException) -> str:
    """Return the innermost reason in plain words.

    Another library's own text is used only where there is no reason behind it: the error was raised
    by hand, for example by a mock.
    """
    for inner in error_chain(error):
        if isinstance(inner, socket.gaierror):
            return "its name could not be resolved (DNS)"
        if isinstance(inner, ssl.SSLError):
            return f"TLS: {inner.reason or 'the handshake failed'}"
        if isinstance(inner, RemoteDisconnected):
            return "it closed the connection without an answer"
        if isinstance(inner, (IncompleteRead, urllib3.exceptions.IncompleteRead)):
            return "the body ended too early"
        if isinstance(inner, urllib3.exceptions.InvalidChunkLength):
            return "its chunked encoding is invalid"
        if isinstance(inner, urllib3.exceptions.ResponseError):  # retries by an adapter
            return str(inner)
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror.lower()
        if isinstance(inner, HTTPException):
            return "it does not speak HTTP"
    if isinstance(error, OSError) and error.args and isinstance(error.args[0], str):
        return _one_line(error) or "the connection failed"
    return "the connection failed"


def quote_error(error: BaseException) -> str:
    """Return the class and the text of an error that no network library has raised."""
    return ": ".join(filter(None, (type(error).__name__, _one_line(error))))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MAX_QUOTED]


def connection_error(
    error: Exception, url: str, attempt: RequestAttempt, in_tunnel: bool = False
) -> ProviderError:
    """Return our error for whatever requests raised before the response headers.

    ``in_tunnel`` means that the connection through a proxy was not established yet.
    """
    chain = list(error_chain(error))
    server = urllib3.util.parse_url(url).netloc or url
    if any(isinstance(inner, urllib3.exceptions.InvalidHeader) for inner in chain):
        return MalformedStream(f"{server} declares contradictory Content-Lengths for its answer")
    if not _is_of_network(chain):
        return _permanent_error(f"the request to {server} failed: {quote_error(error)}")
    listener = "server"
    if in_tunnel or any(isinstance(inner, _PROXY_ERRORS) for inner in chain):
        server += " through the proxy"
        listener = "proxy"
    timeouts = (TimeoutError, urllib3.exceptions.TimeoutError, requests.Timeout)
    refusal = urllib3.exceptions.NewConnectionError  # a timeout only by inheritance
    if any(isinstance(inner, timeouts) and not isinstance(inner, refusal) for inner in chain):
        if not attempt.is_connected and _is_read_timeout_of_mock(chain):
            return APITimeoutError(f"no answer from {server}: ReadTimeout", clock="first_token")
        if not attempt.is_connected or any(_is_connect_timeout(inner) for inner in chain):
            return APITimeoutError(
                f"no connection to {server} within the connect timeout", clock="connect"
            )
        if not attempt.is_over():  # only a connection of the caller's own session gives up earlier
            return APITimeoutError(
                f"no answer from {server}: a timeout of session= expired", clock="first_token"
            )
        return APITimeoutError(f"no answer from {server} within the total timeout", clock="total")
    for inner in chain:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return _permanent_error(
                f"the certificate of {server} was rejected: {inner.verify_message}; "
                "pass the right CA file as verify="
            )
        if isinstance(inner, _INVALID_ADDRESS_ERRORS):
            return _permanent_error(
                f"cannot connect to {server}: an address is invalid or has an unsupported scheme; "
                "check base_url, proxy= and the proxies in the environment (SOCKS needs "
                "'requests[socks]')"
            )
        if isinstance(inner, ssl.SSLError) and inner.reason in _CERTIFICATE_ALERTS:
            return _permanent_error(f"{server} {_CERTIFICATE_ALERTS[inner.reason]}")
    # requests raises a plain OSError when it does not find the CA file.
    if type(error) is OSError and "invalid path" in str(error) and "CA cert" not in str(error):
        return _permanent_error("a file of the client certificate is missing: check cert=")
    if type(error) is OSError and "certificate" in str(error):
        return _permanent_error(
            "the file of CA certificates is missing: check verify= and REQUESTS_CA_BUNDLE"
        )
    message = f"cannot connect to {server}: {describe_error(error)}"
    if any(isinstance(inner, ConnectionRefusedError) for inner in chain):
        message += f"; is the {listener} running?"
    return APIConnectionError(message)


def _is_of_network(chain: list[BaseException]) -> bool:
    """Return whether an error reports a failure of the network.

    Others are a tool's refusal (pytest-socket, vcrpy, requests-mock) or a mistake in an adapter, a
    hook or a setting: another attempt would get the same.
    """
    error = chain[0]
    if isinstance(error, _INVALID_ADDRESS_ERRORS):
        return True
    if _is_from_network_library(error):
        return not isinstance(error, (requests.exceptions.InvalidHeader, TypeError))
    # An adapter's own class for a real failure has that failure behind it.
    return isinstance(error, OSError) and any(map(_is_from_network_library, chain[1:]))


def _is_from_network_library(error: BaseException) -> bool:
    package = type(error).__module__.partition(".")[0]
    return package in _NETWORK_PACKAGES or (package == "builtins" and isinstance(error, OSError))


def _is_read_timeout_of_mock(chain: list[BaseException]) -> bool:
    """Return whether a read timeout was raised by hand: a real one has urllib3's behind it."""
    return isinstance(chain[0], requests.ReadTimeout) and not any(
        isinstance(inner, urllib3.exceptions.HTTPError) for inner in chain
    )


_NETWORK_PACKAGES = {"requests", "urllib3", "http", "ssl", "socket", "socks"}


def _is_connect_timeout(error: BaseException) -> bool:
    kinds = requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError
    return isinstance(error, kinds)


_CERTIFICATE_ALERTS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "requires a client certificate: pass one as cert=",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "refused the TLS handshake: it may require a client "
    "certificate (cert=)",
    **dict.fromkeys(
        (
            *("SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_UNKNOWN"),
            *("SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_REVOKED"),
            *("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "TLSV1_ALERT_UNKNOWN_CA"),
            *("TLSV1_ALERT_ACCESS_DENIED", "TLSV1_ALERT_DECRYPT_ERROR"),
        ),
        "rejected the client certificate: check cert=",
    ),
}
"""What a server says in TLS about the client's certificate, and the remedy."""

_PROXY_ERRORS = (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)
_INVALID_ADDRESS_ERRORS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
    UnicodeError,
)


def _permanent_error(message: str) -> APIConnectionError:
    error = APIConnectionError(message)
    error.retryable = False
    return error
