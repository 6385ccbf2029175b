"""``Transport``: sends requests over pooled connections, through proxies and with custom CAs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Literal, cast

import requests
import requests.structures
import requests.utils

from ..config import POOL_SIZE
from .attempt import AttemptStopped, RequestAttempt, current
from .connection import Adapter
from .errors import connection_error
from .response import Response


class Transport:
    """The connections of one provider in one process; can be shared between threads."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._prepared_urls: dict[str, str | None] = {}
        # Accept no cookies: callers share the session.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = Adapter(pool_maxsize=POOL_SIZE)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        attempt: RequestAttempt,
        *,
        proxy: str | Literal[False] | None = None,
        verify: bool | str = True,
    ) -> Response:
        """Send one request and return the response, of any status, once its headers have arrived.

        Raises ``AttemptStopped``, ``APIConnectionError``, ``APITimeoutError`` or
        ``MalformedStream`` (contradictory lengths).
        """
        attempt.raise_if_stopped()
        request = self._prepare(method, url)
        request.headers = requests.structures.CaseInsensitiveDict(headers)
        request.prepare_body(body, None)
        current.attempt = attempt
        try:
            # Not session.send(), which reads the complete body of a redirect.
            response = self._session.get_adapter(url).send(
                request,
                stream=True,
                timeout=cast(Any, (attempt.connect_time_left(), attempt.read_s)),
                verify=_with_environment_ca(verify),
                proxies=_proxies(url, proxy),
            )
        except AttemptStopped:
            raise
        except Exception as error:
            attempt.raise_if_stopped()
            in_tunnel = not attempt.is_connected and proxy_for(url, proxy) is not None
            raise connection_error(error, url, attempt, in_tunnel) from error
        finally:
            current.attempt = None
        return Response(response, attempt)

    def _prepare(self, method: str, url: str) -> requests.PreparedRequest:
        """Return a new request for a URL, which is parsed only once.

        This bypasses the session's own preparation: nothing is read from ``.netrc`` and no cookie
        is sent.
        """
        request = requests.PreparedRequest()
        request.prepare_method(method)
        if url not in self._prepared_urls:
            request.prepare_url(url, None)
            self._prepared_urls[url] = request.url
        request.url = self._prepared_urls[url]
        return request


def _with_environment_ca(verify: bool | str) -> bool | str:
    if verify is True:
        return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    return verify


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
