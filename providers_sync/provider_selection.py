"""Selects a command's provider and model: from options, the environment, or the server's list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .config import Timeouts
from .errors import InvalidRequestError, ModelNotSupportedError, ProviderError, StreamCancelled
from .providers import (
    PRESETS,
    PROVIDERS,
    Provider,
    get_provider,
)
from .providers.model_lists import ListsModels
from .stream import CancelToken

PROVIDER_VARIABLE = "PROVIDERS_SYNC_PROVIDER"
MODEL_VARIABLE = "PROVIDERS_SYNC_MODEL"
MODEL_LIST_S = 10.0
"""Timeout for the list of a server's models: a page of text that no model has to generate."""
SHOWN_MODELS = 8
SHOWN_LENGTH = 60
"""Characters of a name that a message shows; real names are shorter."""


class Selection(NamedTuple):
    """The selected provider and model."""

    provider: str
    """A name that ``get_provider()`` knows."""
    model: str | None
    """``None`` if neither the options nor the environment name one."""
    reason: str
    """The option or the variable that selected the provider."""
    model_variable: str | None = None
    """The variable that names the model, if one does."""


def select_provider(
    environ: Mapping[str, str],
    *,
    provider: str | None = None,
    model: str | None = None,
    base_url: str | None = None,
    options: str = "--provider NAME",
) -> Selection:
    """Return the given provider and model, or else those of the environment.

    The provider is the first of: ``provider``; that of ``PROVIDERS_SYNC_PROVIDER``; OpenAI's
    protocol if there is a ``base_url``; the first of ``PROVIDERS`` whose address is set; the first
    of ``PROVIDERS`` and ``PRESETS`` whose key is set, and whose address is known; a key that is
    usually set for something else selects nothing. ``PROVIDERS_SYNC_MODEL`` is ignored if
    ``provider`` differs from ``PROVIDERS_SYNC_PROVIDER``.

    Raises ``InvalidRequestError`` if there is none, suggesting ``options``, and for variables with
    invalid values.
    """
    preferred = environ.get(PROVIDER_VARIABLE, "").strip().lower()
    name, reason = provider or "", "--provider"
    if not name and preferred:
        name, reason = _known_provider(preferred), PROVIDER_VARIABLE
    if not name and base_url:
        name, reason = "openai", "--base-url"
    if not name:
        name, reason = _configured_provider(environ)
    if not name:
        raise InvalidRequestError(
            f"no provider is selected or configured: use {options}, or set {PROVIDER_VARIABLE}, "
            "an address such as OPENAI_BASE_URL, or a key such as OPENAI_API_KEY"
        )
    if not model and provider in (None, preferred) and environ.get(MODEL_VARIABLE, "").strip():
        return Selection(name, _model_name(environ[MODEL_VARIABLE]), reason, MODEL_VARIABLE)
    return Selection(name, model, reason)


def _known_provider(name: str) -> str:
    if name not in PROVIDERS and name not in PRESETS:
        raise InvalidRequestError(
            f"{PROVIDER_VARIABLE} is set to an unknown provider: {name[:SHOWN_LENGTH]!r}; "
            f"choose one of {', '.join(dict.fromkeys([*PROVIDERS, *PRESETS]))}"
        )
    return name


def _configured_provider(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the first provider that has an address or else a key, and the variable."""
    addresses = [(kind.base_url_variable, name) for name, kind in PROVIDERS.items()]
    keys = [(kind.api_key_variable, name) for name, kind in PROVIDERS.items()]
    for variable, name in [*addresses, *keys]:
        if variable and environ.get(variable):
            return name, variable
    for name, preset in PRESETS.items():
        if variable := preset.configured_by(environ):
            return name, variable
    return "", ""


def _model_name(value: str) -> str:
    name = value.strip()
    if not name.isprintable():
        raise InvalidRequestError(
            f"{MODEL_VARIABLE} contains unprintable characters: {name[:SHOWN_LENGTH]!r}"
        )
    return name


def make_provider(selection: Selection, base_url: str | None = None, **options: Any) -> Provider:
    """Return the selected provider, at ``base_url`` if there is one, with options for all calls.

    Raises ``InvalidRequestError`` for settings that cannot work, naming the variable at fault.
    """
    settings = {**options, "base_url": base_url} if base_url else options
    try:
        return get_provider(selection.provider, selection.model, **settings)
    except ModelNotSupportedError as error:
        if selection.model_variable is None:
            raise
        raise InvalidRequestError(f"{selection.model_variable}: {error}") from error


def set_only_model(
    provider: Provider, cancel: CancelToken | None = None, *, option: str = "--model NAME"
) -> None:
    """Give ``provider`` the only model of its server, if it has no model yet.

    Sends a request only if the protocol has a list of models, and waits at most ten seconds. Raises
    ``InvalidRequestError`` if the server lists several models or none, suggesting ``option``, and
    what ``list_models`` raises if it fails.
    """
    provider = getattr(provider, "provider", provider)  # that of a Recorded
    if not isinstance(provider, ListsModels):
        return
    if provider.model or provider.default_model:
        return
    try:
        listed = provider.list_models(timeouts=Timeouts(total=MODEL_LIST_S), cancel=cancel)
    except StreamCancelled:
        raise
    except ProviderError as error:
        error.args = (
            f"a request needs a model: use {option}; listing the server's models failed: {error}",
        )
        raise
    names = list(dict.fromkeys(filter(None, listed)))
    if len(names) == 1:
        provider.model = names[0]
        return
    shown = ", ".join(name[:SHOWN_LENGTH] for name in names[:SHOWN_MODELS])
    more = ", …" if len(names) > SHOWN_MODELS else ""
    raise InvalidRequestError(
        f"a request needs a model: use {option}; {provider.base_url} lists "
        + (f"{len(names)}: {shown}{more}" if names else "none")
        + (f"; {provider.models_note}" if provider.models_note else "")
    )


def models_of(provider: Provider) -> list[str]:
    """Return the names of the models that the server lists, or else those of the class.

    Waits at most ten seconds. Raises ``InvalidRequestError`` if there is no list, and what
    ``list_models`` raises.
    """
    if isinstance(provider, ListsModels):
        listed = provider.list_models(timeouts=Timeouts(total=MODEL_LIST_S))
        return list(filter(None, listed))
    if not provider.models:
        raise InvalidRequestError(f"{type(provider).__name__} has no list of models")
    return provider.get_models()
