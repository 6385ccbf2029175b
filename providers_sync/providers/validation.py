"""Validation of provider settings and call arguments; errors name the item and the remedy."""

from __future__ import annotations

import inspect
import os
import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from .. import transport
from ..config import NOT_GIVEN
from ..errors import InvalidRequestError

if TYPE_CHECKING:
    from ..rate_limit import RateLimit

_REPLACEMENTS = {
    **dict.fromkeys(("timeout", "request_timeout"), "timeouts="),
    **dict.fromkeys(("max_retries", "num_retries"), "retry="),
    **dict.fromkeys(("extra_headers", "default_headers"), "headers="),
    "proxies": "proxy= (of the provider)",
    **dict.fromkeys(("extra_query", "default_query", "params"), "query= (of the provider)"),
    "api_version": 'query={"api-version": …} (of the provider)',
    "http_client": "session= (of the provider), a requests.Session",
    "client_cert": "cert= (of the provider)",
    **dict.fromkeys(("verify_ssl", "ssl_verify"), "verify= (of the provider)"),
    **dict.fromkeys(("api_base", "azure_endpoint", "baseurl"), "base_url= (of the provider)"),
    "apikey": "api_key= (of the provider)",
    "azure_ad_token_provider": "api_key= (of the provider), which may be a function",
}
"""What other clients call a setting, and its name here."""
_NOT_EXTRA = ("stream", "messages", "input", "contents")
"""Keys of the body that an answer depends on: where the messages are, and how it comes."""
_OF_RUNS = ("max_rounds", "tool_timeout", "approve", "journal", "on_error", "on_unknown")


def find_setting(argument: str | None, name: str, variable: str | None) -> tuple[str, str] | None:
    """Return the argument, or else the variable's value, with its name for error messages."""
    if argument is not None:
        if not isinstance(argument, str) or not argument:
            function = ", a function" if name == "api_key" else ""
            raise InvalidRequestError(f"{name} must be a non-empty string{function} or None")
        return argument, name
    value = mask_argument(os.environ.get(variable)) if variable else None
    return (value, str(variable)) if value else None


def mask_argument(value: Any) -> Any:
    """Return an argument, masked if it may contain a secret: headers, or an address with "@"."""
    if isinstance(value, Mapping):
        return transport.mask_secrets(value)
    return transport.Secret(value) if isinstance(value, str) and "@" in value else value


def validate_key_function(function: Callable[[], str]) -> Callable[[], str]:
    """Return a function that returns the key; raise for what is certainly none."""
    if isinstance(function, type):
        problem = f"not the class {function.__name__}; create an instance of it"
    elif inspect.iscoroutinefunction(function):
        problem = "not an async one: let it return the key itself"
    else:
        return function
    raise InvalidRequestError(f"api_key must be a string or a function, {problem}")


def validate_url(value: str, name: str) -> str:
    if problem := _url_problem(value):
        raise InvalidRequestError(f"{name} must {problem}")
    return value.rstrip("/")


def _url_problem(value: str) -> str | None:
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
        return (
            "not contain a user, a query or a fragment; pass keys as api_key= or headers=, "
            "and a query as query="
        )
    return None


def validate_headers(headers: Mapping[str, str | None] | None) -> dict[str, str | None]:
    headers = mask_argument({} if headers is None else headers)
    if problem := _type_problem(headers):
        del headers  # could not be masked
        raise InvalidRequestError(problem)
    for name, value in headers.items():
        if not isinstance(name, str) or not name.isascii() or not _is_token(name):
            raise InvalidRequestError(f"{name!r} is not a valid header name")
        if value is not None:
            validate_header_value(f"header {name!r}", value)
    return dict(headers)


def _type_problem(headers: Any) -> str | None:
    if not isinstance(headers, Mapping):
        return "headers must be a dict of strings"
    for name, value in headers.items():
        if not isinstance(value, (str, type(None))):
            return f"header {name!r} must be a string, not {type(value).__name__}"
    return None


def _is_token(name: str) -> bool:
    return bool(name) and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name)


def validate_header_value(name: str, value: object) -> None:
    """Raise for an invalid header value, without showing it: it may be a secret."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a string, not {type(value).__name__}")
    if any(c in value for c in "\r\n\0"):
        raise InvalidRequestError(f"{name} contains a line break or a NUL character; remove it")
    if value != value.strip():
        raise InvalidRequestError(f"{name} starts or ends with white space; remove it")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidRequestError(
            f"{name} contains characters outside Latin-1, which a header cannot contain"
        ) from None


def validate_proxy(proxy: object) -> str | Literal[False] | None:
    if proxy is NOT_GIVEN or proxy is None:
        return None
    if proxy is False:
        return False
    if not isinstance(proxy, str) or not urlsplit(proxy).hostname or "://" not in proxy:
        raise InvalidRequestError(
            "proxy must be an address such as http://127.0.0.1:3128, False for no proxy, "
            "or None for the environment's proxy"
        )
    return transport.Secret(proxy) if "@" in proxy else proxy


def validate_verify(verify: object) -> bool | str | None:
    """Return the setting; ``None`` if it is not given, so that a session's own applies."""
    if verify is NOT_GIVEN:
        return None
    if isinstance(verify, bool):
        return verify
    if isinstance(verify, (str, os.PathLike)):
        path = os.fspath(verify)
        if isinstance(path, str) and os.path.exists(path):
            return path
        raise InvalidRequestError(
            f"verify must be an existing file of CA certificates, not {path!r}"
        )
    raise InvalidRequestError("verify must be True, False or the path of a CA file")


def validate_rate_limit(limit: object) -> RateLimit:
    from ..rate_limit import RateLimit  # late: few need it

    if not isinstance(limit, RateLimit):
        raise InvalidRequestError(f"rate_limit must be a RateLimit, not {limit!r}")
    return limit


def validate_cert(cert: object) -> str | tuple[str, str] | None:
    """Return a client certificate: one file, or a file and that of its key. It must be usable."""
    if cert is None:
        return None
    paths: list[Any] = list(cert) if isinstance(cert, (tuple, list)) else [cert]
    if len(paths) not in (1, 2) or not all(isinstance(each, (str, os.PathLike)) for each in paths):
        raise InvalidRequestError(
            "cert must be the path of a PEM file with certificate and key, or a pair of paths: "
            "(certificate, key)"
        )
    names = [str(os.fspath(path)) for path in paths]
    for name in names:
        if not os.path.isfile(name):
            raise InvalidRequestError(f"cert must name existing files; {name!r} is not one")
    try:
        # Without the function, OpenSSL would ask for the password on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(names[0], names[-1], _no_password)
    except _EncryptedKey:
        raise InvalidRequestError(
            "the key of cert= is encrypted, which requests does not support: "
            "decrypt it, with openssl pkey -in KEY -out PLAIN_KEY"
        ) from None
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error.strerror
        raise InvalidRequestError(
            f"cert must be a PEM file with a certificate and its private key; "
            f"{' and '.join(map(repr, names))} cannot be loaded: {reason}"
        ) from error
    return (names[0], names[1]) if len(names) == 2 else names[0]


class _EncryptedKey(Exception):
    """OpenSSL has asked for the password of a key."""


def _no_password() -> str:
    raise _EncryptedKey


def validate_query(query: Mapping[str, str] | None) -> dict[str, str]:
    """Return the parameters to add to every address, masked where they may be secret."""
    if query is None:
        return {}
    query = mask_argument(query)
    if not isinstance(query, Mapping):
        raise InvalidRequestError('query must be a dict of strings, such as {"api-version": "1"}')
    for name, value in query.items():
        if not isinstance(name, str) or not name or not isinstance(value, str):
            raise InvalidRequestError(
                f"query[{name!r}] must be a string, not {type(value).__name__}"
            )
    return dict(query)


def validate_session(session: Any) -> Any:
    if session is None or isinstance(session, transport.Session):
        return session
    hint = "; create an instance of it" if isinstance(session, type) else ""
    raise InvalidRequestError(
        f"session must be a requests.Session, not {type(session).__name__}{hint}"
    )


def validate_extra_body(extra_body: object) -> dict[str, Any]:
    if extra_body is None:
        return {}
    if not isinstance(extra_body, Mapping) or not all(isinstance(k, str) for k in extra_body):
        raise InvalidRequestError("extra_body must be a dict whose keys are strings")
    for name in _NOT_EXTRA:
        if name in extra_body:
            remedy = (
                "stream() always streams" if name == "stream" else "they are the first argument"
            )
            raise InvalidRequestError(f"extra_body cannot replace {name!r}: {remedy}")
    return dict(extra_body)


def validate_options(options: dict[str, Any]) -> dict[str, Any]:
    for name, replacement in _REPLACEMENTS.items():
        if name in options:
            raise InvalidRequestError(f"{name}= is not supported; use {replacement}")
    for name in _OF_RUNS:
        if name in options:
            raise InvalidRequestError(f"{name}= is for calls with tools: use provider.run()")
    if "continue_after_break" in options:
        raise InvalidRequestError(
            "continue_after_break= belongs to stream() and complete(), or to a Failover"
        )
    tools = options.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, (list, tuple)) else ()):
        if callable(tool) or hasattr(tool, "schema"):
            raise InvalidRequestError(
                f"tools[{index}] is a function: run() and Chat call it; stream() and complete() "
                "take its schema, Tool(…).schema"
            )
    return options
