"""What ``-o`` sets, and the provider and the call that are made of it."""

from __future__ import annotations

import json
import os
from typing import Any

import llm

from .. import PROVIDERS, Provider
from ..errors import InvalidRequestError
from ..provider_selection import select_provider
from ..providers import CLASSES, PRESETS, get_provider
from .messages import to_tools

_SETTINGS = ("timeout", "retry", "base_url", "extra_body")


class ModelOptions(llm.Options):
    """What ``-o NAME VALUE`` sets."""

    model_config = {"use_attribute_docstrings": True}

    temperature: float | None = None
    """How random the answer is."""
    top_p: float | None = None
    """The share of the likeliest tokens that the model chooses from."""
    max_tokens: int | None = None
    """The limit of the answer, in tokens."""
    stop: str | None = None
    """A text that ends the answer."""
    seed: int | None = None
    """The same seed may give the same answer."""
    reasoning_effort: str | None = None
    """How much the model reasons: low, medium, high, or what it knows."""
    timeout: float | None = None
    """Seconds for the whole answer, over all attempts; 600 by default."""
    retry: int | None = None
    """How many requests may be made before the first word arrives; 3 by default."""
    base_url: str | None = None
    """The address of the server, if it is not that of the vendor or the environment."""
    extra_body: dict[str, Any] | str | None = None
    """JSON that is added to the request as it is, such as {"top_k": 5}."""


def make_provider(
    provider: str, model: str | None, options: dict[str, Any], key: str | None, key_name: str
) -> Provider:
    """Return the provider with its key; ``key_name`` is the name of the vendor's key in ``llm``.

    Raises ``InvalidRequestError`` for values that cannot work.
    """
    names = {"base_url": "base_url", "retry": "retry", "timeout": "timeouts"}
    settings: dict[str, Any] = {
        setting: options[name] for name, setting in names.items() if name in options
    }
    if "extra_body" in options:
        settings["extra_body"] = _json_object(options["extra_body"])
    if key and (key != llm.get_key(alias=key_name) or _is_vendors(provider, options)):
        settings["api_key"] = key
    selection = select_provider(os.environ, provider=provider, model=model)
    return get_provider(provider, selection.model, **settings)


def _is_vendors(provider: str, options: dict[str, Any]) -> bool:
    """Return whether the address is the vendor's: a key that is kept for it goes to no other."""
    address = options.get("base_url")
    if address is None:
        return True
    if provider in CLASSES:
        kind = PROVIDERS[provider]
        return address.rstrip("/") in (kind.default_base_url, *kind.vendor_urls)
    return PRESETS[provider].owns(address)


def call_options(prompt: llm.models.Prompt, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of ``Provider.stream``: those of ``-o``, the tools and the schema."""
    settings = {name: value for name, value in options.items() if name not in _SETTINGS}
    if prompt.tools:
        settings["tools"] = to_tools(prompt.tools)
    if prompt.schema:
        settings["into"] = prompt.schema
    return settings


def _json_object(value: dict[str, Any] | str) -> dict[str, Any]:
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise InvalidRequestError(f"extra_body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequestError('extra_body must be a JSON object such as {"top_k": 5}')
    return value
