"""The models of the ``llm`` plugin: one for each provider, and those whose names are known.

``llm`` knows a model only after a plugin has registered it. No server is asked for its models: a
name is registered if it stands in the command, in the settings of ``llm``, or has answered before.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..providers import CLASSES, PRESETS
from .model import AsyncProviderModel, ProviderModel
from .model_names import PREFIX, known_names

__all__ = ["make_model", "models"]


def models() -> Iterator[tuple[ProviderModel, AsyncProviderModel]]:
    """Yield the models to register, each for both kinds of programs; nothing is sent."""
    providers = dict.fromkeys([*CLASSES, *PRESETS])
    for name in dict.fromkeys([*providers, *known_names()]):
        provider, slash, rest = name.partition("/")
        if provider in providers and (rest or not slash):
            yield ProviderModel(provider, rest or None), AsyncProviderModel(provider, rest or None)


def make_model(name: str) -> ProviderModel:
    """Return the model called ``name``: ``openai/qwen3``, or ``openai`` for that of the server.

    Raises ``InvalidRequestError`` for an unknown provider.
    """
    provider, _, rest = name.removeprefix(PREFIX).partition("/")
    return ProviderModel(provider, rest or None)
