"""Keeps keys and proxies' passwords out of what people see, also where servers quote them."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from itertools import takewhile
from types import FrameType, TracebackType
from typing import Any
from urllib.parse import quote, unquote
from urllib.request import getproxies

from requests.structures import CaseInsensitiveDict

from ..errors import ProviderError
from .problems import error_chain

_SECRET_NAME = re.compile("auth|key|token|secret|cookie|password|credential", re.IGNORECASE)
SECRET_LENGTH = 5
"""A shorter word is no secret, and would only garble the text."""
PREFIX_LENGTH = 12
"""So much of a secret is hidden too, where the rest of it is cut off."""
_CREDENTIALS = re.compile("(?:[^/]*//)?(.*)@", re.DOTALL)
"""What stands before an address's host, however odd the rest of it is."""
_IN_ADDRESS = re.compile("//.*@", re.DOTALL)
_CLEARED = {"providers_sync", "requests", "urllib3", "http", "ssl", "socket", "socks", "json"}
_CLEARED |= {"sseclient", "encodings", "email"}
"""Packages whose local variables and errors hold headers, or what a server quotes of them."""
_HARMLESS = (bool, int, float, BaseException, type(None))


class Secret(str):
    """Text that is sent and never shown: tools that print local variables see stars."""

    def __repr__(self) -> str:
        return "'***'"


def mask_secrets(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return headers or settings whose secret values have no ``repr``, nor have addresses' users.

    >>> mask_secrets({"Authorization": "Bearer sk-1234", "Accept": "*/*"})
    {'Authorization': '***', 'Accept': '*/*'}
    """
    return {
        name: Secret(value) if _is_secret(name, value) else value for name, value in headers.items()
    }


def _is_secret(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return bool(_SECRET_NAME.search(name) or _IN_ADDRESS.search(value[:1000]))


def collect_secrets(headers: Mapping[str, str], proxies: Iterable[str] = ()) -> list[str]:
    """Return what must not be shown: the values of secret headers and the passwords of proxies.

    >>> collect_secrets({"Authorization": "Bearer sk-1234", "Accept": "text/plain"})
    ['Bearer sk-1234', 'sk-1234']
    >>> collect_secrets({}, ["http://me:s3cret%21@localhost"])
    ['me:s3cret%21', 's3cret%21', 'me:s3cret!', 's3cret!', 'bWU6czNjcmV0IQ==']
    """
    values = [value for name, value in headers.items() if _SECRET_NAME.search(name)]
    found = [part for value in values for part in (value, value.rpartition(" ")[2])]
    for proxy in proxies:
        if match := _CREDENTIALS.match(proxy):
            given = [match[1], unquote(match[1])]
            found += [part for both in given for part in (both, both.partition(":")[2])]
            found.append(base64.b64encode(given[1].encode("utf-8", "replace")).decode())
    return [part for part in dict.fromkeys(found) if len(part) >= SECRET_LENGTH]


def proxies_in_use(proxy: str | bool | None) -> list[str]:
    """Return the addresses of the proxies that a request may go through."""
    return [proxy] if isinstance(proxy, str) else list(getproxies().values())


def redact(words: list[str], error: Exception) -> None:
    """Put stars for these words in an error and everything behind it; empty what may hold more.

    Requests, connections and local variables hold headers: tools that report errors show them.
    """
    # A key before the whole header it stands in: of what is spelled otherwise no end is left over.
    spelled = [_spellings(word) for word in sorted(words, key=len)]
    for inner in error_chain(error, _is_of_the_call):
        inner.args = tuple(_starred(spelled, arg) for arg in inner.args)
        _clear_frames(inner.__traceback__)
        if type(inner).__module__.partition(".")[0] in _CLEARED - {"providers_sync"}:
            for name, value in vars(inner).items():
                value = _starred(spelled, value) if isinstance(value, (str, bytes)) else value
                setattr(inner, name, value if isinstance(value, (str, bytes, *_HARMLESS)) else None)
    if isinstance(error, ProviderError):
        for name, value in vars(error).items():
            if name != "partial":  # the answer's own text
                setattr(error, name, _starred(spelled, value))


def _spellings(word: str) -> list[str]:
    """Return a word as it is, and as it stands in JSON, in an address and in HTML."""
    in_json = json.dumps(word)[1:-1]
    spellings = [
        word,
        in_json,
        in_json.replace("/", "\\/"),
        quote(word),
        quote(word, ""),
        escape(word),
    ]
    return list(dict.fromkeys(spellings))


def _is_of_the_call(context: BaseException) -> bool:
    """Tell whether what was handled when an error arose is ours; the caller's own stays as it is.

    A traceback begins where the error was handled.
    """
    trace = context.__traceback__
    return trace is None or _is_cleared(trace.tb_frame)


def _is_cleared(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _CLEARED


def _clear_frames(trace: TracebackType | None) -> None:
    """Forget the local variables of what has ended; where it was stays known."""
    for frame, _ in traceback.walk_tb(trace):
        if _is_cleared(frame):
            with contextlib.suppress(RuntimeError):  # it still runs
                frame.clear()


def _starred(words: list[list[str]], value: Any) -> Any:
    if type(value) in (dict, CaseInsensitiveDict):
        return type(value)((name, _starred(words, each)) for name, each in value.items())
    if type(value) is bytes:
        return _starred(words, value.decode("latin-1")).encode("latin-1")
    if type(value) is not str:
        return value
    for spellings in words:
        for word in spellings:
            value = "***".join(
                _between(word, spellings, value)
                if len(word) >= PREFIX_LENGTH
                # Within another word it is that word's part: a local server's key may be "token".
                else re.split(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", value)
            )
    return value


def _between(word: str, spellings: list[str], text: str) -> Iterator[str]:
    """Yield what stands between the places where a word begins; case does not count."""
    prefix = word[:PREFIX_LENGTH]
    rests = [each[PREFIX_LENGTH:].lower() for each in spellings if each.startswith(prefix)]
    first, *others = re.split(re.escape(prefix), text, flags=re.IGNORECASE)
    yield first
    for other in others:
        yield other[max(_length_in_common(rest, other.lower()) for rest in rests) :]


def _length_in_common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
