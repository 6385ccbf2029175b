"""One process's connections of one provider: proxy, trust, one request at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Literal, cast

import requests
import requests.utils

from ..config import POOL_SIZE
from .answer import Answer
from .call import Call, Stopped, current
from .pools import Adapter
from .problems import connection_error


class Transport:
    """One process's connections of one provider; safe to share among threads."""

    def __init__(self) -> None:
        self._session = requests.Session()
        # One caller's cookies are nobody else's business.
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
        current.call = call
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
            raise connection_error(error, url, call) from error
        finally:
            current.call = None
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
