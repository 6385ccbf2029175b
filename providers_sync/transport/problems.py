"""What went wrong before the answer, in our own words: no foreign error's text is passed on."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from http.client import HTTPException, IncompleteRead, RemoteDisconnected

import requests
import urllib3.exceptions
import urllib3.util

from ..errors import APIConnectionError, APITimeoutError, MalformedStream, ProviderError
from .call import Call


def error_chain(
    error: BaseException | None, follows: Callable[[BaseException], bool] = lambda context: True
) -> Iterator[BaseException]:
    """Yield an error and everything it wraps: causes, reasons, arguments, the contexts wanted."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            yield error
            waiting += [getattr(error, "reason", None), error.__cause__]
            if error.__context__ is not None and follows(error.__context__):
                waiting.append(error.__context__)
            waiting += error.args


def find_tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return the failure of TLS behind an error, if there is one."""
    return next((inner for inner in error_chain(error) if isinstance(inner, ssl.SSLError)), None)


def describe_error(error: BaseException) -> str:
    """Return the innermost reason in plain words; never the text of a foreign error as it is."""
    for inner in error_chain(error):
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
    return "the connection failed"


def connection_error(
    error: Exception, url: str, call: Call, in_tunnel: bool = False
) -> ProviderError:
    """Return our own error for whatever came out of requests before the headers.

    ``in_tunnel`` tells that a proxy was still in the way.
    """
    behind = list(error_chain(error))
    where = urllib3.util.parse_url(url).netloc or url
    if any(isinstance(inner, urllib3.exceptions.InvalidHeader) for inner in behind):
        return MalformedStream(f"{where} gives its answer two lengths that contradict each other")
    if in_tunnel or any(isinstance(inner, _PROXY_ERRORS) for inner in behind):
        where += " through the proxy"
    timeouts = (TimeoutError, urllib3.exceptions.TimeoutError, requests.Timeout)
    refusals = urllib3.exceptions.NewConnectionError  # one of urllib3's timeouts, by descent only
    if any(isinstance(inner, timeouts) and not isinstance(inner, refusals) for inner in behind):
        if not call.is_connected:
            return APITimeoutError(f"no connection to {where} in time", clock="connect")
        return APITimeoutError(f"no answer from {where} within the total time", clock="total")
    for inner in behind:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return _hopeless(
                f"the certificate of {where} was refused: {inner.verify_message}; "
                "give the right CA file as verify="
            )
        if isinstance(inner, _UNUSABLE):
            return _hopeless(
                f"cannot connect to {where}: an address is wrong or of an unknown kind; check "
                "base_url, proxy= and the proxies in the environment (SOCKS needs "
                "'requests[socks]')"
            )
    if type(error) is OSError and "certificate" in str(
        error
    ):  # from requests' own look for the CA file
        return _hopeless(
            "the file of CA certificates is missing: check verify= and REQUESTS_CA_BUNDLE"
        )
    return APIConnectionError(f"cannot connect to {where}: {describe_error(error)}")


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
