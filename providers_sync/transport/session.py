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
from .attempt import AttemptStopped, RequestAttempt, current
from .connection import Adapter
from .errors import connection_error
from .response import Response

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
        self._is_own_session = session is None
        self._session = session or _new_session()
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

        Raises ``AttemptStopped``, ``APIConnectionError``, ``APITimeoutError`` or
        ``MalformedStream`` (contradictory lengths).
        """
        attempt.raise_if_stopped()
        current.attempt = attempt
        try:
            response = self._send(self._prepare(method, url, headers, body), attempt)
        except AttemptStopped:
            raise
        except requests.HTTPError as error:
            if error.response is None:
                raise connection_error(error, url, attempt) from error
            response = error.response  # a hook of the session has called raise_for_status()
        except Exception as error:
            attempt.raise_if_stopped()
            in_tunnel = not attempt.is_connected and proxy_for(url, self._proxy) is not None
            raise connection_error(error, url, attempt, in_tunnel) from error
        finally:
            current.attempt = None
        if location := getattr(response, "hidden_location", None):
            response.headers["Location"] = location
        try:
            return Response(response, attempt)
        except BaseException:
            response.close()
            raise

    def close(self) -> None:
        """Close the idle connections; those of open streams are closed when they end.

        The caller's own session stays open: it may serve others.
        """
        if self._is_own_session:
            self._session.close()

    def _send(
        self, request: requests.PreparedRequest, attempt: RequestAttempt
    ) -> requests.Response:
        adapter = self._session.get_adapter(str(request.url))
        if not isinstance(adapter, Adapter):  # it does not report when it has connected
            attempt.connected()
        response = self._session.send(
            request,
            stream=True,
            timeout=cast(Any, (attempt.connect_time_left(), attempt.read_s)),
            allow_redirects=False,
            **self._settings(str(request.url)),
        )
        if not isinstance(getattr(response, "status_code", None), int):
            raise TypeError(f"Session.send returned {type(response).__name__}, not a response")
        if not attempt.is_connected:  # a mock has answered in place of ``Session.send``
            attempt.connected()
        return response

    def _settings(self, url: str) -> dict[str, Any]:
        """Return the arguments of ``Session.send`` that override the session's own settings.

        Without ``proxies`` and ``verify``, requests would read the environment for every request.
        """
        settings: dict[str, Any] = {}
        session = self._session
        if self._is_own_session or self._proxy is not None:
            settings["proxies"] = _proxies(url, self._proxy)
        if self._verify is not None:
            settings["verify"] = self._verify
        elif session.verify is True and (self._is_own_session or session.trust_env):
            settings["verify"] = _environment_ca() or True
        if self._cert is not None:
            settings["cert"] = self._cert
        return settings

    def _prepare(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> requests.PreparedRequest:
        hooks = {"response": [_hide_redirect]}
        if not self._is_own_session:
            has_key = any(name.lower() == "authorization" for name in headers)
            return self._session.prepare_request(
                requests.Request(
                    method,
                    url,
                    headers=dict(headers),
                    data=body,
                    auth=_keep_authorization if has_key else None,
                    hooks=hooks,
                )
            )
        # Not Session.prepare_request(), which would parse the URL each time and read .netrc.
        request = requests.PreparedRequest()
        request.prepare_method(method)
        if url not in self._prepared_urls:
            request.prepare_url(url, None)
            self._prepared_urls[url] = request.url
        request.url = self._prepared_urls[url]
        request.headers = requests.structures.CaseInsensitiveDict(headers)
        request.prepare_body(body, None)
        request.hooks = hooks
        return request


def _new_session() -> Session:
    session = Session()
    # Accept no cookies: callers share the session.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = Adapter(pool_maxsize=POOL_SIZE)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _hide_redirect(response: requests.Response, **_: Any) -> None:
    """Hide the target of a redirect: ``Session.send`` would read the complete body for it."""
    if response.is_redirect:
        response.hidden_location = response.headers.pop("Location")  # type: ignore[attr-defined]


def _keep_authorization(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Take precedence over the session's ``auth`` and ``.netrc``, which would replace the key."""
    return request


def custom_headers(session: Session | None) -> dict[str, str]:
    """Return the headers of a session that differ from those every session has."""
    if session is None:
        return {}
    defaults = requests.utils.default_headers()
    return {
        name: str(value)
        for name, value in session.headers.items()
        if value is not None and value != defaults.get(name)
    }


def session_credentials(session: Session) -> list[str]:
    """Return addresses with the credentials of a session: its proxies', and its ``auth`` as one."""
    found = [str(value) for value in session.proxies.values()]
    auth: Any = session.auth
    user = getattr(auth, "username", None), getattr(auth, "password", None)
    if isinstance(auth, tuple) or all(isinstance(each, str) for each in user):
        found.append("//{}:{}@".format(*(auth if isinstance(auth, tuple) else user)))
    return found


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
