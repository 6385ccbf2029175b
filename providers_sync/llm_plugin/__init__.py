"""The models of the ``llm`` plugin: those whose names stand in a command or a file of ``llm``.

``llm`` knows a model only after a plugin has registered it. No server is asked for its models.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from ..errors import InvalidRequestError
from .model import ProviderModel, provider_names
from .model_names import PREFIX, known_names, name_to_ask

__all__ = ["make_model", "models"]


def models() -> Iterator[ProviderModel]:
    """Yield the models to register; nothing is sent.

    Raises ``click.ClickException`` if the command asks a provider that does not exist.
    """
    providers = provider_names()
    names = list(known_names())
    if "" in names:  # ``llm models -q providers-sync``
        names += providers
    for name in dict.fromkeys(names):
        provider, slash, rest = name.partition("/")
        if provider in providers and (rest or not slash):
            yield ProviderModel(provider, rest or None)
    if (asked := name_to_ask()) is not None:
        try:
            make_model(asked)
        except InvalidRequestError as error:
            raise click.ClickException(str(error)) from error


def make_model(name: str) -> ProviderModel:
    """Return the model called ``name``: ``openai/qwen3``, or ``openai`` for that of the server.

    Raises ``InvalidRequestError`` for an unknown provider.
    """
    provider, _, rest = name.removeprefix(PREFIX).partition("/")
    return ProviderModel(provider, rest or None)
