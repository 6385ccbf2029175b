"""The provider classes, ``PROVIDERS`` by name, and ``get_provider``.

The classes are imported at their first use: a program uses one or two of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from .base import Provider

if TYPE_CHECKING:
    from .ai365vip import AI365VIP
    from .anthropic import Anthropic
    from .codelinkava import CodeLinkAva
    from .gemini import Gemini
    from .ollama import Ollama
    from .openai import OpenAICompatible
    from .presets import PRESETS
    from .responses import OpenAIResponses
    from .vitalentum import Vitalentum

    PROVIDERS: dict[str, type[Provider]]
    """Every provider class by the name that the command line takes (``--provider``)."""

CLASSES = {
    "vitalentum": "Vitalentum",
    "codelinkava": "CodeLinkAva",
    "ai365vip": "AI365VIP",
    "openai": "OpenAICompatible",
    "responses": "OpenAIResponses",
    "anthropic": "Anthropic",
    "gemini": "Gemini",
    "ollama": "Ollama",
}
"""The class of each provider; its module has the same name as the provider."""


def __getattr__(name: str) -> Any:
    """Import a provider class, all of them for ``PROVIDERS``, or ``PRESETS``."""
    if name == "PROVIDERS":
        value: Any = {each: _class_of(each) for each in CLASSES}
    elif name == "PRESETS":
        value = importlib.import_module(f"{__name__}.presets").PRESETS
    elif name in CLASSES.values():
        value = _class_of(next(each for each, kind in CLASSES.items() if kind == name))
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _class_of(name: str) -> type[Provider]:
    kind: type[Provider] = getattr(importlib.import_module(f"{__name__}.{name}"), CLASSES[name])
    return kind


def get_provider(name: str, model: str | None = None, **settings: Any) -> Provider:
    """Return the provider called ``name``: one of ``PROVIDERS`` or a preset of OpenAI's protocol.

    Raises ``InvalidRequestError``, which lists the known names.
    """
    from .openai import OpenAICompatible  # late, like the others
    from .presets import PRESETS

    if name in CLASSES:
        return _class_of(name)(model, **settings)
    if name in PRESETS:
        return OpenAICompatible.preset(name, model, **settings)
    known = ", ".join(dict.fromkeys([*CLASSES, *PRESETS]))
    raise InvalidRequestError(f"unknown provider {name!r}; choose one of {known}")


__all__ = [
    "AI365VIP",
    "PRESETS",
    "PROVIDERS",
    "Anthropic",
    "CodeLinkAva",
    "Gemini",
    "Ollama",
    "OpenAICompatible",
    "OpenAIResponses",
    "Provider",
    "Vitalentum",
    "get_provider",
]
