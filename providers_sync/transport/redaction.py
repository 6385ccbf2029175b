"""Hides API keys and proxy passwords in reprs, errors and tracebacks."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from types import FrameType, TracebackType
from typing import Any
from urllib.parse import quote, unquote
from urllib.request import getproxies

from requests.structures import CaseInsensitiveDict

from ..errors import ProviderError
from .errors import error_chain

_SECRET_NAME = re.compile(
    "auth|key|token|secret|cookie|password|credential|signature|^sig$|^code$", re.IGNORECASE
)
SECRET_LENGTH = 5
"""Minimum length: a shorter value is not treated as a secret; hiding it would garble the text."""
PREFIX_LENGTH = 12
"""A prefix this long is hidden too, if the rest of the secret is cut off.

A shorter secret is hidden only where it is a whole word: local servers take any key, and ``token``
must not garble ``max_token``."""
_SCHEME = re.compile("(?:bearer|basic|token|key|api-?key|oauth|negotiate)(?: |%20)", re.IGNORECASE)
"""The word before the key in an ``Authorization`` header; it makes a short key no longer."""
_BEFORE_WORD = r"(?:(?<![\w-])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"
"""No part of an identifier comes before; the end of an escape in JSON or in a URL may."""
_CREDENTIALS = re.compile("(?:[^/]*//)?(.*)@", re.DOTALL)
"""The part before the host of a URL, however malformed the rest is."""
_URL_WITH_USER = re.compile("//.*@", re.DOTALL)
_SENSITIVE_PACKAGES = {
    "providers_sync",
    "requests",
    "urllib3",
    "http",
    "ssl",
    "socket",
    "socks",
    "json",
}
_SENSITIVE_PACKAGES |= {"sseclient", "encodings", "email"}
"""Packages whose local variables and errors contain headers, or server text that quotes them."""
_HARMLESS_TYPES = (bool, int, float, BaseException, type(None))


_MAPPINGS = ("extra_body", "headers", "query")
"""Arguments that are dicts."""


class Secret(str):
    """A string that is sent but never shown: tools that print local variables show stars."""

    def __repr__(self) -> str:
        return "'***'"


@functools.lru_cache(maxsize=256)  # the same few names at each request
def names_secret(name: str) -> bool:
    """Return whether a header or parameter of this name probably carries a secret."""
    return bool(_SECRET_NAME.search(name))


def mask_secrets(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return headers or settings whose secret values, and URLs with a user, hide their ``repr``.

    >>> mask_secrets({"Authorization": "Bearer sk-1234", "Accept": "*/*"})
    {'Authorization': '***', 'Accept': '*/*'}
    """
    return {name: _masked(name, value) for name, value in headers.items()}


def _masked(name: object, value: Any) -> Any:
    if name in _MAPPINGS and isinstance(value, Mapping):  # which may hold secrets
        return mask_secrets(value)
    return Secret(value) if _is_secret(name, value) else value


def _is_secret(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return names_secret(name) or bool(_URL_WITH_USER.search(value[:1000]))


def collect_secrets(headers: Mapping[str, str], proxies: Iterable[str] = ()) -> list[str]:
    """Return the strings to hide: values of secret headers, users and passwords of proxies.

    >>> collect_secrets({"Authorization": "Bearer sk-1234", "Accept": "text/plain"})
    ['Bearer sk-1234', 'sk-1234']
    >>> collect_secrets({}, ["http://me:s3cret%21@localhost"])
    ['me:s3cret%21', 's3cret%21', 'me:s3cret!', 's3cret!', 'bWU6czNjcmV0IQ==']
    """
    values = [
        value for name, value in headers.items() if names_secret(name) or isinstance(value, Secret)
    ]
    found = [part for value in values for part in (value, value.rpartition(" ")[2])]
    for proxy in proxies:
        if match := _CREDENTIALS.match(proxy):
            users = [match[1], unquote(match[1])]
            found += [part for user in users for part in (user, user.partition(":")[2])]
            found.append(base64.b64encode(users[1].encode("utf-8", "replace")).decode())
    return [part for part in dict.fromkeys(found) if len(part) >= SECRET_LENGTH]


def proxies_in_use(proxy: str | bool | None) -> list[str]:
    """Return the URLs of the proxies that a request may go through."""
    return [proxy] if isinstance(proxy, str) else list(getproxies().values())


def redact(secrets: list[str], error: Exception) -> None:
    """Replace secrets by stars in an error and all errors behind it; clear what may contain more.

    Requests, connections and local variables contain headers, and error reporting tools show them.
    """
    # Replace a key before the header that contains it: otherwise the end of a key that is encoded
    # differently may remain.
    encoded = [_encodings(secret) for secret in sorted(secrets, key=len)]
    for inner in error_chain(error, _belongs_to_call):
        inner.args = tuple(_redact_value(encoded, arg) for arg in inner.args)
        _clear_frames(inner.__traceback__)
        if type(inner).__module__.partition(".")[0] in _SENSITIVE_PACKAGES - {"providers_sync"}:
            for name, value in vars(inner).items():
                value = _redact_value(encoded, value) if isinstance(value, (str, bytes)) else value
                setattr(
                    inner,
                    name,
                    value if isinstance(value, (str, bytes, *_HARMLESS_TYPES)) else None,
                )
    if isinstance(error, ProviderError):
        for name, value in vars(error).items():
            if name != "partial":  # the text of the answer
                setattr(error, name, _redact_value(encoded, value))


def redact_text(secrets: list[str], text: str) -> str:
    """Return a text with the secrets replaced by stars.

    >>> redact_text(["sk-1234"], "http://127.0.0.1/sk-1234/chat")
    'http://127.0.0.1/***/chat'
    """
    return str(_redact_value([_encodings(secret) for secret in sorted(secrets, key=len)], text))


def _encodings(secret: str) -> list[str]:
    """Return a secret as it is, and as encoded in JSON, in a URL and in HTML."""
    from html import escape  # late: it loads every entity that HTML has

    in_json = json.dumps(secret)[1:-1]
    encodings = [
        secret,
        in_json,
        in_json.replace("/", "\\/"),
        quote(secret),
        quote(secret, ""),
        escape(secret),
    ]
    return list(dict.fromkeys(encodings))


def _belongs_to_call(context: BaseException) -> bool:
    """Return whether an error's context comes from the call; the caller's own errors stay intact.

    The first frame of a traceback is the one that handled the error.
    """
    trace = context.__traceback__
    return trace is None or _is_sensitive(trace.tb_frame)


def _is_sensitive(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _SENSITIVE_PACKAGES


def _clear_frames(trace: TracebackType | None) -> None:
    """Clear the local variables of finished frames; the traceback keeps its line numbers."""
    for frame, _ in traceback.walk_tb(trace):
        if _is_sensitive(frame):
            with contextlib.suppress(RuntimeError):  # it is still running
                frame.clear()


def _redact_value(secrets: list[list[str]], value: Any) -> Any:
    if type(value) in (dict, CaseInsensitiveDict):
        return type(value)((name, _redact_value(secrets, each)) for name, each in value.items())
    if type(value) is bytes:
        return _redact_value(secrets, value.decode("latin-1")).encode("latin-1")
    if type(value) is not str:
        return value
    for encodings in secrets:
        for encoded in encodings:
            value = "***".join(
                _split_at_words(encoded, value)
                if len(_SCHEME.sub("", encoded, 1)) < PREFIX_LENGTH
                else _split(encoded, encodings, value)
            )
    return value


def _split_at_words(encoded: str, text: str) -> list[str]:
    """Return the parts of a text around a short secret, where it is a whole word."""
    return re.split(rf"{_BEFORE_WORD}{re.escape(encoded)}(?![\w-])", text)


def _split(encoded: str, encodings: list[str], text: str) -> Iterator[str]:
    """Yield the parts of a text around a secret, complete or cut off; case is ignored."""
    prefix = encoded[:PREFIX_LENGTH]
    rests = [each[PREFIX_LENGTH:].lower() for each in encodings if each.startswith(prefix)]
    first, *others = re.split(re.escape(prefix), text, flags=re.IGNORECASE)
    yield first
    for other in others:
        yield other[max(_common_prefix_length(rest, other.lower()) for rest in rests) :]


def _common_prefix_length(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
