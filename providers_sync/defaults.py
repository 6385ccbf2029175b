"""Which provider and model are meant where a command names none: what the environment says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .config import Timeouts
from .errors import InvalidRequestError, ModelNotSupportedError, ProviderError, StreamCancelled
from .providers import PRESETS, PROVIDERS, OpenAICompatible, Provider, get_provider
from .stream import CancelToken

PROVIDER_VARIABLE = "PROVIDERS_SYNC_PROVIDER"
MODEL_VARIABLE = "PROVIDERS_SYNC_MODEL"
LIST_S = 10.0
"""For the list of a server's models: a page of text, which no model has to think about."""
SHOWN_MODELS = 8
SHOWN_LENGTH = 60
"""Characters of a name in a message; honest names are shorter."""


class Choice(NamedTuple):
    """What is to be asked."""

    provider: str
    """A name that ``get_provider()`` knows."""
    model: str | None
    """``None`` where nothing names one."""
    reason: str
    """The option or the variable that has decided on the provider."""
    model_variable: str | None = None
    """The variable that names the model, if one does."""


def choose(
    environ: Mapping[str, str],
    *,
    provider: str | None = None,
    model: str | None = None,
    base_url: str | None = None,
    options: str = "--provider NAME",
) -> Choice:
    """Return the provider and the model that are given, or else those of the environment.

    The provider is the first of: the one given; that of ``PROVIDERS_SYNC_PROVIDER``; OpenAI's
    protocol where a ``base_url`` is given; the first of the table whose address is set; the first
    whose key is set. ``PROVIDERS_SYNC_MODEL`` is left out where another provider is given than
    ``PROVIDERS_SYNC_PROVIDER`` names.

    Raises ``InvalidRequestError`` where there is none, naming ``options`` as a way out, and for
    variables that make no sense.
    """
    preferred = environ.get(PROVIDER_VARIABLE, "").strip().lower()
    name, reason = provider or "", "--provider"
    if not name and preferred:
        name, reason = _known(preferred), PROVIDER_VARIABLE
    if not name and base_url:
        name, reason = "openai", "--base-url"
    if not name:
        name, reason = _configured(environ)
    if not name:
        raise InvalidRequestError(
            f"no provider is named or configured: give {options}, or set {PROVIDER_VARIABLE}, "
            "an address such as OPENAI_BASE_URL, or a key such as OPENAI_API_KEY"
        )
    if not model and provider in (None, preferred) and environ.get(MODEL_VARIABLE, "").strip():
        return Choice(name, _model(environ[MODEL_VARIABLE]), reason, MODEL_VARIABLE)
    return Choice(name, model, reason)


def _known(name: str) -> str:
    if name not in PROVIDERS and name not in PRESETS:
        raise InvalidRequestError(
            f"{PROVIDER_VARIABLE} names no provider: {name[:SHOWN_LENGTH]!r}; "
            f"there are {', '.join([*PROVIDERS, *PRESETS])}"
        )
    return name


def _configured(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the first provider that has an address or else a key, and its variable."""
    addresses = {kind.base_url_variable: name for name, kind in PROVIDERS.items()}
    keys = {kind.api_key_variable: name for name, kind in PROVIDERS.items()}
    presets = {preset.api_key_variable: name for name, preset in PRESETS.items()}
    for variable, name in [*addresses.items(), *keys.items(), *presets.items()]:
        if variable and environ.get(variable):
            return name, variable
    return "", ""


def _model(value: str) -> str:
    name = value.strip()
    if not name.isprintable():
        raise InvalidRequestError(
            f"{MODEL_VARIABLE} holds characters that no model's name has: {name[:SHOWN_LENGTH]!r}"
        )
    return name


def make_provider(choice: Choice, base_url: str | None = None) -> Provider:
    """Return the provider that was chosen, at ``base_url`` if one is given.

    Raises ``InvalidRequestError`` for settings that cannot work, naming the variable that is wrong.
    """
    settings = {"base_url": base_url} if base_url else {}
    try:
        return get_provider(choice.provider, choice.model, **settings)
    except ModelNotSupportedError as error:
        if choice.model_variable is None:
            raise
        raise InvalidRequestError(f"{choice.model_variable}: {error}") from error


def find_model(provider: Provider, cancel: CancelToken | None = None) -> None:
    """Give ``provider`` the only model of its server where it has none; ask nobody otherwise.

    Asks for at most ten seconds, and only servers of OpenAI's protocol. Raises
    ``InvalidRequestError`` where the server lists several models or none, and what
    ``list_models`` raises where the list cannot be had.
    """
    if not isinstance(provider, OpenAICompatible) or provider.model or provider.default_model:
        return
    try:
        listed = provider.list_models(timeouts=Timeouts(total=LIST_S), cancel=cancel)
    except StreamCancelled:
        raise
    except ProviderError as error:
        error.args = (
            "a request needs a model: give --model NAME; the server's own list cannot be had: "
            f"{error}",
        )
        raise
    names = list(dict.fromkeys(filter(None, listed)))
    if len(names) == 1:
        provider.model = names[0]
        return
    shown = ", ".join(name[:SHOWN_LENGTH] for name in names[:SHOWN_MODELS])
    more = ", …" if len(names) > SHOWN_MODELS else ""
    raise InvalidRequestError(
        f"a request needs a model: give --model NAME; {provider.base_url} lists "
        + (f"{len(names)}: {shown}{more}" if names else "none")
    )
