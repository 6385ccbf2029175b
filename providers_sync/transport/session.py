"""``Transport``: sends requests through ``requests.Session.send``; proxies, CAs, certificates."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Literal, Union, cast

import requests
import requests.structures
import requests.utils
from requests import Session as Session  # the type of session=

from ..config import POOL_SIZE
from ..errors import ProviderError
from .attempt import AttemptStopped, RequestAttempt, current
from .caller_session import hide_redirect, send, session_settings
from .connection import Adapter
from .errors import connection_error
from .response import Response
from .tls_errors import forget_tls_errors

Certificate = Union[str, tuple[str, str]]
"""A client certificate: a file with certificate and key, or two files."""


class Transport:
    """The connections of one provider in one process; can be shared between threads.

    ``session`` is the caller's own ``requests.Session``; without one, a session is made here.
    ``proxy``, ``verify`` and ``cert`` override those of the session; ``None`` leaves its own.
    """

    def __init__(
        self,
        session: Session | None = None,
        *,
        proxy: str | Literal[False] | None = None,
        verify: bool | str | None = None,
        cert: Certificate | None = None,
    ) -> None:
        self._caller_session = session
        self._own_session = _new_session() if session is None else None
        self._proxy = proxy
        self._verify = verify
        self._cert = cert
        self._prepared_urls: dict[str, str | None] = {}

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        attempt: RequestAttempt,
    ) -> Response:
        """Send one request and return the response, of any status, once its headers have arrived.

        Raises ``AttemptStopped``, ``APIConnectionError``, ``APITimeoutError``,
        ``MalformedStream`` (ambiguous headers), and ``ProviderError`` for what the code in the
        caller's own session raises.
        """
        attempt.raise_if_stopped()
        current.attempt = attempt
        try:
            response = self._send(method, url, headers, body, attempt)
        except (AttemptStopped, ProviderError):
            forget_tls_errors()
            raise
        except Exception as error:
            forget_tls_errors()
            attempt.raise_if_stopped()
            in_tunnel = not attempt.is_connected and proxy_for(url, self._proxy) is not None
            raise connection_error(error, url, attempt, in_tunnel) from error
        finally:
            current.attempt = None
        if location := getattr(response, "hidden_location", None):
            response.headers["Location"] = location
        try:
            return Response(response, attempt)
        except AttributeError as error:  # a mock's response lacks something
            raise connection_error(error, url, attempt) from error
        except BaseException:
            response.close()
            raise

    def close(self) -> None:
        """Close the idle connections; those of open streams are closed when they end.

        The caller's own session stays open: it may serve others.
        """
        if self._own_session is not None:
            self._own_session.close()

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        attempt: RequestAttempt,
    ) -> requests.Response:
        session = self._own_session
        if session is None:
            caller_session = cast(Session, self._caller_session)
            settings = session_settings(caller_session, url, self._proxy, self._verify, self._cert)
            return send(caller_session, method, url, headers, body, attempt, settings)
        request = self._prepare(method, url, headers, body)
        if not isinstance(session.get_adapter(url), Adapter):  # a mock does not report this
            attempt.connected()
        verify = self._verify in (None, True)
        response = session.send(
            request,
            stream=True,
            timeout=cast(Any, (attempt.connect_time_left(), attempt.read_s)),
            allow_redirects=False,
            # Without these, requests would read the environment for every request.
            proxies=_proxies(url, self._proxy),
            verify=(_environment_ca() or True) if verify else self._verify,
            cert=self._cert,
        )
        if not isinstance(getattr(response, "status_code", None), int):
            raise TypeError(f"Session.send returned {type(response).__name__}, not a response")
        if not attempt.is_connected:  # a mock has answered in place of ``Session.send``
            attempt.connected()
        return response

    def _prepare(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> requests.PreparedRequest:
        """Return the request; not with ``Session.prepare_request``, which reads ``.netrc``."""
        request = requests.PreparedRequest()
        request.prepare_method(method)
        if url not in self._prepared_urls:  # parsed only once
            request.prepare_url(url, None)
            self._prepared_urls[url] = request.url
        request.url = self._prepared_urls[url]
        request.headers = requests.structures.CaseInsensitiveDict(headers)
        request.prepare_body(body, None)
        request.hooks = {"response": [hide_redirect]}
        return request


def _new_session() -> Session:
    session = Session()
    # Accept no cookies: callers share the session.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = Adapter(pool_maxsize=POOL_SIZE)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _environment_ca() -> str | None:
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")


def _proxies(url: str, proxy: str | Literal[False] | None) -> dict[str, str]:
    if proxy is None:
        return dict(requests.utils.get_environ_proxies(url)) if _may_have_proxies() else {}
    return {"all": proxy} if proxy else {}


def _may_have_proxies() -> bool:
    """Return whether any proxy may be configured.

    Without this check, the requests library would read the environment twice: a tenth of the time
    of a request.
    """
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, _PROXY_VARIABLES))


_PROXY_VARIABLES = [
    spelling(f"{scheme}_proxy")
    for scheme in ("http", "https", "all")
    for spelling in (str.lower, str.upper)
]


def proxy_for(url: str, proxy: str | Literal[False] | None = None) -> str | None:
    """Return the proxy that a request to ``url`` goes through, ``None`` if it connects directly."""
    found = requests.utils.select_proxy(url, _proxies(url, proxy))
    return f"http://{found}" if found and "://" not in found else found
