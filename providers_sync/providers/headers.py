"""The headers of an attempt: merged from layers, with a key that a function may return."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from .. import transport
from ..errors import ProviderError
from .validation import validate_header_value


def merge_headers(*layers: Mapping[str, str | None]) -> dict[str, str]:
    """Return the merged layers, later ones taking precedence; ``None`` removes a header."""
    merged: dict[str, tuple[str, str | None]] = {}
    for layer in layers:
        for name, value in layer.items():
            merged[name.lower()] = (name, value)
    return transport.mask_secrets(
        {name: value for name, value in merged.values() if value is not None}
    )


def ask_for_key(function: Callable[[], str]) -> str:
    """Return the key that the caller's function returns for the next attempt.

    Raises ``ProviderError`` if the function raises, or returns anything but a usable key.
    """
    try:
        key = function()
    except Exception as error:
        # Not its text, which may quote a secret of the caller's.
        kind = type(error).__name__
        raise ProviderError(f"the api_key function raised {kind}; see its cause") from error
    if inspect.iscoroutine(key):
        key.close()  # otherwise Python warns that nobody has awaited it
        raise ProviderError("the api_key function must not be async: let it return the key itself")
    if not isinstance(key, str) or not key:
        kind = "an empty string" if key == "" else type(key).__name__
        del key  # it could not be masked
        raise ProviderError(f"the api_key function must return the key as a string, not {kind}")
    key = transport.Secret(key)
    try:
        validate_header_value("the key from the api_key function", key)
    except ProviderError as error:
        raise ProviderError(str(error)) from None
    return key
