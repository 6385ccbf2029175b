"""Keeps what a request's headers hold out of the errors: servers quote keys, whole or in part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any

from requests.structures import CaseInsensitiveDict

from ..errors import ProviderError
from .problems import chain

_SECRET_NAME = re.compile("auth|key|token|secret|cookie|password|credential", re.IGNORECASE)
SECRET_LENGTH = 5
"""A shorter word is no secret, and would only garble the text."""
PREFIX_LENGTH = 12
"""So much of a secret is hidden too, where the rest of it is cut off."""


def secrets(headers: Mapping[str, str], *others: str | None) -> list[str]:
    """Return what must not be shown: the values of secret headers, whole and without a scheme.

    >>> secrets({"Authorization": "Bearer sk-1234", "Accept": "text/plain"}, None)
    ['Bearer sk-1234', 'sk-1234']
    """
    values = [value for name, value in headers.items() if _SECRET_NAME.search(name)]
    values += filter(None, others)
    found = dict.fromkeys(part for value in values for part in (value, value.rpartition(" ")[2]))
    return [part for part in found if len(part) >= SECRET_LENGTH]


def hide(words: list[str], error: ProviderError) -> None:
    """Put stars for these words in an error, its attributes and everything behind it."""
    if not words:
        return
    for inner in chain(error):
        inner.args = tuple(_starred(words, arg) for arg in inner.args)
    for name, value in vars(error).items():
        if name != "partial":  # the answer's own text
            setattr(error, name, _starred(words, value))


def _starred(words: list[str], value: Any) -> Any:
    if type(value) in (dict, CaseInsensitiveDict):
        return type(value)((name, _starred(words, each)) for name, each in value.items())
    if type(value) is bytes:
        hidden = _starred(words, value.decode("latin-1"))
        return hidden.encode("latin-1")
    if type(value) is not str:
        return value
    for word in words:
        value = (
            "***".join(_between(word, value))
            if len(word) >= PREFIX_LENGTH
            else (value.replace(word, "***"))
        )
    return value


def _between(word: str, text: str) -> Iterator[str]:
    """Yield what stands between the places where a word begins; case does not count."""
    first, *others = re.split(re.escape(word[:PREFIX_LENGTH]), text, flags=re.IGNORECASE)
    yield first
    rest = word[PREFIX_LENGTH:].lower()
    for other in others:
        pairs = zip(rest, other.lower(), strict=False)
        yield other[sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) :]
