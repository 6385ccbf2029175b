"""The provider classes, ``PROVIDERS`` by name, and ``get_provider``."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidRequestError
from .ai365vip import AI365VIP
from .anthropic import Anthropic
from .base import Provider
from .codelinkava import CodeLinkAva
from .openai import PRESETS, OpenAICompatible
from .vitalentum import Vitalentum

PROVIDERS: dict[str, type[Provider]] = {
    "vitalentum": Vitalentum,
    "codelinkava": CodeLinkAva,
    "ai365vip": AI365VIP,
    "openai": OpenAICompatible,
    "anthropic": Anthropic,
}


def get_provider(name: str, model: str | None = None, **settings: Any) -> Provider:
    """Return the provider called ``name``: one of ``PROVIDERS`` or a preset of OpenAI's protocol.

    Raises ``InvalidRequestError``, which lists the known names.
    """
    if name in PROVIDERS:
        return PROVIDERS[name](model, **settings)
    if name in PRESETS:
        return OpenAICompatible.preset(name, model, **settings)
    known = ", ".join([*PROVIDERS, *PRESETS])
    raise InvalidRequestError(f"unknown provider {name!r}; choose one of {known}")


__all__ = [
    "AI365VIP",
    "PRESETS",
    "PROVIDERS",
    "Anthropic",
    "CodeLinkAva",
    "OpenAICompatible",
    "Provider",
    "Vitalentum",
    "get_provider",
]
