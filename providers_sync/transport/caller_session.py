"""Sends requests through the caller's own ``requests.Session`` and leaves the session as it is."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Literal, cast
from urllib.parse import parse_qsl, urlsplit

import requests
import requests.utils
import urllib3.exceptions
import urllib3.response
from requests import Session

from ..errors import ProviderError
from .attempt import RequestAttempt
from .redaction import mask_secrets, names_secret


def send(
    session: Session,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    attempt: RequestAttempt,
    settings: Mapping[str, Any],
) -> requests.Response:
    """Return the response to a request with exactly these headers, and whatever the session adds.

    Uses ``session.request()``, which many subclasses override (to add a token, for example).
    Raises what that raises, and ``ProviderError`` for what the caller's own code in it raises.
    """
    attempt.connected()  # the session's adapters do not report when they have connected
    received: list[requests.Response] = []
    response: Any = None
    try:
        response = session.request(
            method,
            url,
            headers=_only(headers, session),
            params=_without_query_of(url),
            data=body,
            auth=_keep_headers if _has_key(headers, session) else None,
            hooks=_with_our_hooks(session, received),
            timeout=cast(Any, (attempt.connect_time_left(), attempt.silence_s)),
            allow_redirects=False,
            stream=True,
            **settings,
        )
    except Exception as error:  # noqa: BLE001 (the caller's own code may raise anything)
        response = _rejected_by_hook(error)
        if response is None:
            failure = _error_of_session(error, bool(received))
            raise failure from failure.__cause__
    finally:
        _release(received, response)
    return _checked(response, attempt)


def _error_of_session(error: Exception, has_response: bool) -> Exception:
    """Return the error itself if it is one of the connection's, or else ours, caused by it."""
    connection = requests.RequestException, HTTPException, urllib3.exceptions.HTTPError
    if isinstance(error, connection) or (isinstance(error, OSError) and not has_response):
        return error
    failure = ProviderError(f"session= raised {type(error).__name__}; see its cause")
    failure.__cause__ = error
    return failure


def _release(received: list[requests.Response], used: Any) -> None:
    """Remove our notes from the responses, and close them if a hook has raised."""
    for each in received:
        vars(each).pop("iter_content", None)
        if used is None:  # otherwise the connection would be lost to the pool
            each.close()
    received.clear()  # the request has the hooks, and they have the list: a reference cycle


def _checked(response: Any, attempt: RequestAttempt) -> requests.Response:
    """Return what the session returned; raise ``ProviderError`` if it is not a response."""
    if not isinstance(response, requests.Response):
        kind = type(response).__name__
        raise ProviderError(f"session= must return a requests.Response, not {kind}")
    if _was_read(response):
        response.close()
        raise ProviderError(
            "a hook of session= read part of the answer; let it read response.content or nothing"
        )
    attempt.sent_headers = _sent_headers(response)
    return response


def _only(headers: Mapping[str, str], session: Session) -> dict[str, Any]:
    """Return the headers, and ``None`` for the session's others: those that every session has."""
    return {**dict.fromkeys(session.headers), **headers}


def _without_query_of(url: str) -> dict[str, Any]:
    """Return ``None`` for each parameter of a URL: it takes precedence over the session's own."""
    return dict.fromkeys(name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True))


def _has_key(headers: Mapping[str, str], session: Session) -> bool:
    """Return whether the headers carry a key that ``session.auth`` or ``.netrc`` would replace."""
    if session.auth is None:
        return any(names_secret(name) for name in headers)
    own = session.headers.get("Authorization")
    return any(name.lower() == "authorization" and headers[name] != own for name in headers)


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Be the request's ``auth`` instead of the session's or the one in ``.netrc``."""
    return request


def _with_our_hooks(session: Session, received: list[requests.Response]) -> dict[str, Any]:
    """Return the session's hooks between ours; requests does not merge lists of hooks."""

    own: Any = session.hooks.get("response") or []
    own = [own] if callable(own) else list(own)

    def remember(response: requests.Response, **_: Any) -> None:
        received.append(response)
        if own:
            _note_reading(response)

    return {**session.hooks, "response": [remember, *own, hide_redirect]}


def _note_reading(response: requests.Response) -> None:
    """Note in the response whether somebody reads its body."""
    original = response.iter_content

    def iter_content(*arguments: Any, **settings: Any) -> Any:
        vars(response)["was_read"] = True
        return original(*arguments, **settings)

    vars(response)["iter_content"] = iter_content


def hide_redirect(response: requests.Response, **_: Any) -> None:
    """Hide the target of a redirect: ``Session.send`` would read the complete body for it."""
    if response.is_redirect:
        response.hidden_location = response.headers.pop("Location")  # type: ignore[attr-defined]


def _rejected_by_hook(error: Exception) -> Any:
    """Return the response for which a hook has called ``raise_for_status()``, if it has."""
    response = error.response if isinstance(error, requests.HTTPError) else None
    return response if response is not None and response.status_code >= 400 else None


def _was_read(response: requests.Response) -> bool:
    """Return whether a hook has taken something from the body that is not in the response."""
    state = vars(response)
    was_read = state.pop("was_read", False)
    if state.get("_content", False) is not False:
        return False
    raw: Any = response.raw
    is_urllib3 = isinstance(raw, urllib3.response.BaseHTTPResponse)
    return bool(was_read or (is_urllib3 and raw.tell() > 0))


def _sent_headers(response: requests.Response) -> dict[str, str]:
    request = getattr(response, "request", None)  # a mocked response may have none
    sent = getattr(request, "headers", None) or {}
    return mask_secrets({name: value for name, value in sent.items() if isinstance(value, str)})


def session_settings(
    session: Session,
    url: str,
    proxy: str | Literal[False] | None,
    verify: bool | str | None,
    cert: str | tuple[str, str] | None,
) -> dict[str, Any]:
    """Return the arguments of ``Session.request``: what is given here, else the session's own.

    Left alone, requests would put the environment's proxies and CA file before the session's.
    """
    if verify is None and session.verify is not True:
        verify = session.verify
    parts = urlsplit(url)
    keys = [f"{parts.scheme}://{parts.hostname}", parts.scheme, f"all://{parts.hostname}", "all"]
    if proxy is None:
        key = next((key for key in keys if key in session.proxies), None)
        proxies = {} if key is None else {keys[0]: session.proxies[key] or ""}
    else:
        proxies = {keys[0]: proxy or ""}  # the key that requests looks up first
    return {"proxies": proxies, "verify": verify, "cert": cert}


def custom_headers(session: Session) -> dict[str, Any]:
    """Return the headers of a session that differ from those every session has."""
    defaults = requests.utils.default_headers()
    return {
        name: value.decode("latin-1") if isinstance(value, bytes) else value
        for name, value in session.headers.items()
        if value is not None and value != defaults.get(name)
    }


def session_parameters(session: Session) -> dict[str, str]:
    """Return the query parameters and cookies that a session adds to each request."""
    params: Any = session.params
    pairs = params.items() if isinstance(params, Mapping) else ()
    found = {name: value for name, value in pairs if isinstance(value, str)}
    return {**found, **{f"cookie {cookie.name}": str(cookie.value) for cookie in session.cookies}}


def session_credentials(session: Session) -> list[str]:
    """Return addresses with the credentials of a session: its proxies', and its ``auth`` as one."""
    found = [str(value) for value in session.proxies.values()]
    auth: Any = session.auth
    if not isinstance(auth, tuple):
        auth = getattr(auth, "username", None), getattr(auth, "password", None)
    if len(auth) == 2 and all(isinstance(each, str) for each in auth):
        found.append("//{}:{}@".format(*auth))
    return found
