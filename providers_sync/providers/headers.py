"""The headers of an attempt: merged from layers, with a key that a function may return."""

from __future__ import annotations

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
    except ProviderError:
        raise
    except Exception as error:
        raise ProviderError(
            f"the api_key function raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(key, str) or not key:
        kind = "an empty string" if key == "" else type(key).__name__
        raise ProviderError(f"the api_key function must return a key, not {kind}")
    key = transport.Secret(key)
    try:
        validate_header_value("the key from the api_key function", key)
    except ProviderError as error:
        raise ProviderError(str(error)) from None
    return key
