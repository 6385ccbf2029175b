"""The doctor: what stands between a provider and its answers, in plain words, and what to do."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

from .. import transport
from ..config import Timeouts
from ..defaults import PROVIDER_VARIABLE
from ..errors import (
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    InvalidRequestError,
    MalformedStream,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamCut,
    StreamTruncated,
)
from ..providers import PRESETS, PROVIDERS, Provider, get_provider
from ..providers.base import api_key_of, get_text, uses_default_url
from ..transport import SECRET_LENGTH
from ..types import ReasoningDelta, TextDelta
from .buffering import detect_buffering
from .finding import Finding, note, ok, wrong
from .network import (
    Examination,
    bypass_advice,
    check_connection,
    check_proxy,
    explain_tls,
    is_this_machine,
    resolve_host,
)

__all__ = ["Finding", "configured", "examine"]

QUESTION = "Write the numbers from 1 to 100 in digits, separated by spaces, and nothing else."
"""Some 300 characters: enough pieces to look at, and next to no cost."""
CLOCKS = Timeouts(connect=10, first_token=60, idle=30, total=120)
"""Whoever runs a doctor sits before it and waits."""
LISTS = {"/chat/completions": "/models", "/v1/messages": "/v1/models"}
"""Where a protocol lists its models; asking costs nothing."""
SHOWN_MODELS = 8
DEFAULT, PRESET = "the default", "the preset"
"""Where an address comes from that the vendor's own key goes to."""
CHECK_KEY = "look whether the key is whole, not expired, and made for this address"
ADVICE: list[tuple[type[ProviderError], str]] = [
    (AuthenticationError, CHECK_KEY),
    (RateLimitError, "wait, or look at the account's limits and its balance"),
    (APIStatusError, "look at the model's name (--model) and at the path of the address"),
    (APITimeoutError, "the server is too busy or the model too slow: try again, or another model"),
    (ServerError, "the server itself has failed: try again later"),
    (MalformedStream, "look at the path of the address: another service answers there"),
    (StreamTruncated, "look for a proxy with a time limit, or try again"),
    (StreamCut, "look for a proxy with a time limit, or try again"),
]


def configured() -> list[str]:
    """Return the names of the providers that the environment tells of; all where there are none."""
    kinds = {name: (k.base_url_variable, k.api_key_variable) for name, k in PROVIDERS.items()}
    presets = {name: (preset.api_key_variable,) for name, preset in PRESETS.items()}
    variables = {**kinds, **presets}
    found = [name for name, of in variables.items() if any(os.environ.get(v or "") for v in of)]
    preferred = os.environ.get(PROVIDER_VARIABLE, "").strip().lower()
    if preferred and preferred not in found:
        found.insert(0, preferred)
    return found or list(PROVIDERS)


def examine(
    name: str, *, base_url: str | None = None, model: str | None = None
) -> Iterator[Finding]:
    """Yield what is found about one provider, step by step; the first that is wrong is the last.

    ``name`` is one of ``PROVIDERS`` or ``PRESETS``. It asks one short question at the end.
    """
    try:
        provider = get_provider(name, model, **({"base_url": base_url} if base_url else {}))
    except InvalidRequestError as error:
        yield wrong("settings", str(error))
        return
    patient = Examination(provider, _origin(name, provider, base_url), model)
    for look in (_address, _key, check_proxy, resolve_host, check_connection, _talk, _ask):
        for finding in look(patient):
            yield finding
            if finding.level == "wrong":
                return


def _origin(name: str, provider: Provider, base_url: str | None) -> str:
    if base_url:
        return "--base-url"
    if name in PRESETS:
        return PRESET
    return DEFAULT if uses_default_url(provider) else provider.base_url_variable


def _address(patient: Examination) -> Iterator[Finding]:
    provider = patient.provider
    if uses_default_url(provider) and not provider.working:
        yield wrong(
            "address",
            f"{provider.base_url} is gone: the public service does not exist any more",
            "run `providers-sync serve` and set "
            f"{provider.base_url_variable} to the address it prints",
        )
    else:
        yield ok("address", f"{provider.base_url}, from {patient.address_from}")


def _key(patient: Examination) -> Iterator[Finding]:
    """Say whether a key is going to be sent, and never which."""
    provider, variable = patient.provider, patient.provider.api_key_variable
    if api_key_of(provider):
        yield ok("key", f"from {variable}")
        if not patient.is_tls and not is_this_machine(patient.host):
            yield note("key", "it travels unprotected: the address is http://", "use https://")
    elif variable is None:
        yield ok("key", "none, and none is usual here")
    elif os.environ.get(variable):
        yield note(
            "key",
            f"none is sent: {variable} is set, and goes only to the provider's own address",
            f"to send it there too, set {provider.base_url_variable} in place of --base-url",
        )
    elif patient.address_from in (DEFAULT, PRESET):
        yield wrong("key", "there is none", f"set {variable}")
    else:
        yield ok("key", f"none; {variable} is not set")


def _talk(patient: Examination) -> Iterator[Finding]:
    """Exchange a few words that cost nothing: they show TLS, the key and the models."""
    provider = patient.provider
    path = LISTS.get(provider.api_endpoint)
    listed = None
    try:
        listed = get_text(provider, path or provider.api_endpoint, CLOCKS)
    except (APIStatusError, MalformedStream) as error:
        yield _tls(patient)
        yield from _status(patient, error, bool(path))
    except ProviderError as error:
        tls = transport.find_tls_error(error)
        if tls is not None:
            yield explain_tls(tls, patient.host)
        else:
            yield wrong("server", _clean(str(error), provider), bypass_advice(patient))
        return
    else:
        yield _tls(patient)
    if path:
        yield from _models(patient, listed)


def _tls(patient: Examination) -> Finding:
    return ok(
        "TLS", f"the certificate of {patient.host} is good" if patient.is_tls else "none: http://"
    )


def _status(patient: Examination, error: ProviderError, is_list: bool) -> Iterator[Finding]:
    """Say what an answer that is no list of models tells."""
    status = error.status_code if isinstance(error, APIStatusError) else 200
    said = _clean(str(error), patient.provider)
    if status in (401, 403):
        sent = "refuses the key" if api_key_of(patient.provider) else "wants a key"
        variable = patient.provider.api_key_variable
        set_it = f"set {variable}" if variable else "give it as api_key="
        advice = CHECK_KEY if api_key_of(patient.provider) else set_it
        yield wrong("key", f"the server {sent} ({status})", advice)
    elif status == 407:
        yield wrong("proxy", "it wants a name and a password", "http://NAME:PASSWORD@HOST:PORT")
    elif status in (301, 302, 303, 307, 308):
        yield wrong("address", said)
    elif status >= 500:
        yield wrong("server", said, bypass_advice(patient) or "the server is in trouble: try later")
    elif is_list and isinstance(error, MalformedStream):
        yield wrong("address", said, "an API's address often ends in /v1")
    else:
        yield ok("server", f"it answers (a GET gets {status})")


def _models(patient: Examination, listed: str | None) -> Iterator[Finding]:
    """Say whether the server lists the model; without one, take the first it lists."""
    names = _names(listed)
    shown = ", ".join(names[:SHOWN_MODELS]) + (", …" if len(names) > SHOWN_MODELS else "")
    if patient.model is None and names:
        patient.model = names[0]
        yield ok("model", f"none given, so {names[0]} is asked; there are {shown}")
    elif patient.model is None:
        yield wrong("model", "none given, and the server lists none", "give --model NAME")
    elif not names:
        yield note("model", f"the server does not list its models, so {patient.model} is tried")
    elif patient.model in names:
        yield ok("model", f"the server has {patient.model}")
    else:
        yield note("model", f"the server does not list {patient.model}; there are {shown}")


def _names(listed: str | None) -> list[str]:
    try:
        return [str(model["id"]) for model in json.loads(listed or "")["data"]]
    except (ValueError, TypeError, LookupError):
        return []


def _ask(patient: Examination) -> Iterator[Finding]:
    """Ask a short question and look at the moments at which the answer's pieces come."""
    times: list[float] = []
    began = time.monotonic()
    try:
        with patient.provider.stream(QUESTION, patient.model, timeouts=CLOCKS, retry=1) as stream:
            for event in stream.events():
                if isinstance(event, (TextDelta, ReasoningDelta)):
                    times.append(time.monotonic())
    except ProviderError as error:
        advice = next((advice for kind, advice in ADVICE if isinstance(error, kind)), "")
        text = _clean(str(error), patient.provider)
        begun = f"after {len(times)} pieces: " if times else ""
        yield wrong("answer", begun + text, advice)
        return
    yield ok("answer", f"{stream.outcome}: {len(stream.text)} characters")
    yield detect_buffering(began, times, stream.headers)


def _clean(text: str, provider: Provider) -> str:
    """Return ``text`` without any word that holds part of the key: servers like to quote it."""
    key = api_key_of(provider) or ""
    hints = (key[:8], key[-4:]) if len(key) >= SECRET_LENGTH else ()
    words = ["***" if any(hint in word for hint in hints) else word for word in text.split()]
    return " ".join(words)
