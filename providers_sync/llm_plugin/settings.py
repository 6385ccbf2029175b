"""The provider and the call that are made of ``-o`` and the keys of ``llm``."""

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
from .model_names import key_name

_SETTINGS = ("timeout", "retry", "base_url", "extra_body")


def make_provider(
    provider: str, model: str | None, options: dict[str, Any], key: str | None
) -> Provider:
    """Return the provider with its key: ``key``, or that which ``llm`` keeps for it.

    Raises ``InvalidRequestError`` for values that cannot work.
    """
    names = {"base_url": "base_url", "retry": "retry", "timeout": "timeouts"}
    settings: dict[str, Any] = {
        setting: options[name] for name, setting in names.items() if name in options
    }
    if "extra_body" in options:
        settings["extra_body"] = _json_object(options["extra_body"])
    if key is None and _is_vendors(provider, options):
        key = llm.get_key(alias=key_name(provider))
    if key:
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


def key_advice(text: str, provider: str, options: dict[str, Any]) -> str:
    """Return the text of an ``AuthenticationError`` with the remedy of this command."""
    if llm.get_key(alias=key_name(provider)) is None:
        remedy = f"use --key or llm keys set {key_name(provider)}"
        return text.replace("pass it as api_key=", "use --key").replace("use api_key=", remedy)
    if _is_vendors(provider, options):
        return text
    held_back = (
        f"the key that llm keeps for {key_name(provider)} is not sent to this address: use --key"
    )
    return f"{text.partition('; no key was ')[0]}; {held_back}"


def call_options(prompt: llm.models.Prompt, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of ``Provider.stream``: those of ``-o``, the tools and the schema."""
    settings = {name: value for name, value in options.items() if name not in _SETTINGS}
    if "stop" in settings:
        settings["stop"] = _texts(settings["stop"])
    if prompt.tools:
        settings["tools"] = to_tools(prompt.tools)
    if prompt.schema:
        settings["into"] = prompt.schema
    return settings


def _texts(value: list[str] | str) -> list[str] | str:
    """Return the texts of a JSON list; any other text is one."""
    try:
        texts = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value
    is_list = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    return texts if is_list else value


def _json_object(value: dict[str, Any] | str) -> dict[str, Any]:
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"extra_body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequestError('extra_body must be a JSON object such as {"top_k": 5}')
    return value
