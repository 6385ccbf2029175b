"""Checks of what a caller gives a provider: each names the item and the remedy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from .. import transport
from ..config import NOT_GIVEN
from ..errors import InvalidRequestError

_RIGHT_WORDS = {
    "timeout": "timeouts=",
    "max_retries": "retry=",
    "proxies": "proxy= (of the provider)",
}


def find_setting(given: str | None, name: str, variable: str | None) -> tuple[str, str] | None:
    """Return a value with the name to complain under: given, or else from the environment."""
    if given is not None:
        if not isinstance(given, str) or not given:
            raise InvalidRequestError(f"{name} must be a string that is not empty, or None")
        return given, name
    value = mask_argument(os.environ.get(variable)) if variable else None
    return (value, str(variable)) if value else None


def mask_argument(given: Any) -> Any:
    """Return what the caller gave, masked where it holds a secret: headers, or an address."""
    if isinstance(given, Mapping):
        return transport.mask_secrets(given)
    return transport.Secret(given) if isinstance(given, str) and "@" in given else given


def validate_url(value: str, name: str) -> str:
    if problem := _problem(value):
        raise InvalidRequestError(f"{name} must {problem}")
    return value.rstrip("/")


def _problem(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname
        _ = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        usable = None
    if not usable or any(character.isspace() for character in value):
        return "be an http:// or https:// address such as http://127.0.0.1:8000/v1"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "not hold a user, a query or a fragment; give keys as api_key= or headers="
    return None


def validate_headers(headers: Mapping[str, str | None] | None) -> dict[str, str | None]:
    headers = mask_argument({} if headers is None else headers)
    if problem := _wrong_type(headers):
        del headers  # it could not be masked
        raise InvalidRequestError(problem)
    for name, value in headers.items():
        if not isinstance(name, str) or not name.isascii() or not _is_token(name):
            raise InvalidRequestError(f"{name!r} is not a header name")
        if value is not None:
            validate_header_value(f"header {name!r}", value)
    return dict(headers)


def _wrong_type(headers: Any) -> str | None:
    if not isinstance(headers, Mapping):
        return "headers must be a dict of strings"
    for name, value in headers.items():
        if not isinstance(value, (str, type(None))):
            return f"header {name!r} must be a string, not {type(value).__name__}"
    return None


def _is_token(name: str) -> bool:
    return bool(name) and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name)


def validate_header_value(name: str, value: object) -> None:
    """Refuse what cannot be a header's value, without showing it: it may be a secret."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a string, not {type(value).__name__}")
    if any(c in value for c in "\r\n\0"):
        raise InvalidRequestError(f"{name} holds a line break; strip() it")
    if value != value.strip():
        raise InvalidRequestError(f"{name} begins or ends with a space; strip() it")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{name} holds characters that no header can carry") from None


def validate_proxy(proxy: object) -> str | Literal[False] | None:
    if proxy is NOT_GIVEN or proxy is None:
        return None
    if proxy is False:
        return False
    if not isinstance(proxy, str) or not urlsplit(proxy).hostname or "://" not in proxy:
        raise InvalidRequestError(
            "proxy must be an address such as http://127.0.0.1:3128, False for none, "
            "or None for the environment's"
        )
    return transport.Secret(proxy) if "@" in proxy else proxy


def validate_verify(verify: object) -> bool | str:
    if isinstance(verify, bool):
        return verify
    if isinstance(verify, (str, os.PathLike)):
        path = os.fspath(verify)
        if isinstance(path, str) and os.path.exists(path):
            return path
        raise InvalidRequestError(f"verify names no file of CA certificates: {path!r}")
    raise InvalidRequestError("verify must be True, False or the path of a CA file")


def validate_options(options: dict[str, Any]) -> dict[str, Any]:
    for name, right in _RIGHT_WORDS.items():
        if name in options:
            raise InvalidRequestError(f"{name}= is not known here; the word is {right}")
    return options
