"""The doctor: checks why a provider does not answer or stream, and advises what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..errors import InvalidRequestError
from ..provider_selection import PROVIDER_VARIABLE
from ..providers import PRESETS, PROVIDERS, Provider, get_provider
from ..providers.settings import api_key_of, uses_default_url
from .answer import check_answer
from .examination import Examination
from .finding import Finding, note, ok, wrong
from .model_list import check_models
from .network import check_connection, check_proxy, is_this_machine, resolve_host

__all__ = ["Finding", "configured_providers", "examine"]

DEFAULT, PRESET = "the default", "the preset"
"""Sources of addresses that receive the vendor's key from the environment."""


def configured_providers() -> list[str]:
    """Return the names of the providers configured by the environment; all if there are none."""
    variables = {name: (k.base_url_variable, k.api_key_variable) for name, k in PROVIDERS.items()}
    names = {pair: name for name, pair in reversed(variables.items())}  # of several, the first
    found = [
        name
        for name, pair in variables.items()
        if names[pair] == name and any(os.environ.get(variable or "") for variable in pair)
    ]
    found += [
        name for name, preset in PRESETS.items() if name not in PROVIDERS and preset.configured_by()
    ]
    preferred = os.environ.get(PROVIDER_VARIABLE, "").strip().lower()
    if preferred and preferred not in found:
        found.insert(0, preferred)
    return found or list(PROVIDERS)


def examine(
    name: str, *, base_url: str | None = None, model: str | None = None
) -> Iterator[Finding]:
    """Yield the findings about one provider, check by check; stop after the first wrong one.

    ``name`` is one of ``PROVIDERS`` or ``PRESETS``; ``base_url`` replaces its configured address.
    The last check sends one question, whose answer is limited to 20 tokens. All checks together end
    within ten seconds (``examination.LIMIT_S``).
    """
    try:
        provider = get_provider(name, model, **({"base_url": base_url} if base_url else {}))
    except InvalidRequestError as error:
        yield wrong("settings", str(error))
        return
    examination = Examination(provider, _origin(name, provider, base_url), model, name)
    checks = (
        _check_address,
        _check_key,
        check_proxy,
        resolve_host,
        check_connection,
        check_models,
        check_answer,
    )
    with provider:
        for check in checks:
            for finding in check(examination):
                yield finding
                if finding.level == "wrong":
                    return
            if examination.is_over:
                return


def _origin(name: str, provider: Provider, base_url: str | None) -> str:
    if base_url:
        return "--base-url"
    if name in PRESETS and name not in PROVIDERS:
        return PRESET
    if uses_default_url(provider):
        return DEFAULT
    return next(iter((provider.environment_url() or ())[1:]), provider.base_url_variable)


def _check_address(examination: Examination) -> Iterator[Finding]:
    provider = examination.provider
    if uses_default_url(provider) and not provider.working:
        yield wrong(
            "address",
            f"the public service at {provider.base_url} no longer exists",
            f"run `providers-sync serve` and set {provider.base_url_variable} to the address "
            "it prints",
        )
    else:
        yield ok("address", f"{provider.base_url}, from {examination.address_from}")


def _check_key(examination: Examination) -> Iterator[Finding]:
    """Report whether a key will be sent, but never show it."""
    provider, variable = examination.provider, examination.provider.api_key_variable
    if api_key_of(provider):
        yield ok("key", f"from {variable}")
        if not examination.is_tls and not is_this_machine(examination.host):
            yield note("key", "it is sent unencrypted: the address is http://", "use https://")
    elif variable is None:
        yield ok("key", "none, and usually none is needed")
    elif os.environ.get(variable):
        yield note(
            "key",
            f"none is sent: {variable} is set, but is sent only to the provider's own address",
            f"to send it to this address, set {provider.base_url_variable} instead of --base-url",
        )
    elif examination.address_from in (DEFAULT, PRESET) and not is_this_machine(examination.host):
        yield wrong("key", "none is set", f"set {variable}")
    else:
        yield ok("key", f"none; {variable} is not set")
