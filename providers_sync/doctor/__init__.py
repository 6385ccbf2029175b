"""The doctor: checks why a provider does not answer or stream, and advises what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from .. import transport
from ..clock import monotonic
from ..config import Timeouts
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
from ..provider_selection import PROVIDER_VARIABLE
from ..providers import PRESETS, PROVIDERS, Provider, get_provider
from ..providers.base import get_text
from ..providers.settings import api_key_of, uses_default_url
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

__all__ = ["Finding", "configured_providers", "examine"]

QUESTION = "Write the numbers from 1 to 100 in digits, separated by spaces, and nothing else."
"""About 300 characters: enough chunks to judge the stream, at almost no cost."""
TIMEOUTS = Timeouts(connect=10, first_token=60, idle=30, total=120)
"""Short, because a person is waiting for the report."""
MODEL_LIST_PATHS = {"/chat/completions": "/models", "/v1/messages": "/v1/models"}
"""Where a protocol lists its models, by its endpoint for answers; a list costs nothing."""
SHOWN_MODELS = 8
DEFAULT, PRESET = "the default", "the preset"
"""Sources of addresses that receive the vendor's key from the environment."""
KEY_ADVICE = "check that the key is complete, not expired, and valid for this address"
ADVICE: list[tuple[type[ProviderError], str]] = [
    (AuthenticationError, KEY_ADVICE),
    (RateLimitError, "wait, or check the account's limits and its balance"),
    (APIStatusError, "check the model's name (--model) and the path of the address"),
    (
        APITimeoutError,
        "the server is too busy or the model too slow: try again, or use another model",
    ),
    (ServerError, "the server failed: try again later"),
    (MalformedStream, "check the path of the address: another service answers there"),
    (StreamTruncated, "check for a proxy with a time limit, or try again"),
    (StreamCut, "check for a proxy with a time limit, or try again"),
]


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
    The last check sends one short question.
    """
    try:
        provider = get_provider(name, model, **({"base_url": base_url} if base_url else {}))
    except InvalidRequestError as error:
        yield wrong("settings", str(error))
        return
    examination = Examination(provider, _origin(name, provider, base_url), model)
    checks = (
        _check_address,
        _check_key,
        check_proxy,
        resolve_host,
        check_connection,
        _check_api,
        _check_answer,
    )
    for check in checks:
        for finding in check(examination):
            yield finding
            if finding.level == "wrong":
                return


def _origin(name: str, provider: Provider, base_url: str | None) -> str:
    if base_url:
        return "--base-url"
    if name in PRESETS:
        return PRESET
    return DEFAULT if uses_default_url(provider) else provider.base_url_variable


def _check_address(examination: Examination) -> Iterator[Finding]:
    provider = examination.provider
    if uses_default_url(provider) and not provider.working:
        yield wrong(
            "address",
            f"the public service at {provider.base_url} no longer exists",
            f"run `providers-sync serve` and set {provider.base_url_variable} as it prints",
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
    elif examination.address_from in (DEFAULT, PRESET):
        yield wrong("key", "none is set", f"set {variable}")
    else:
        yield ok("key", f"none; {variable} is not set")


def _check_api(examination: Examination) -> Iterator[Finding]:
    """Send a GET, which costs nothing, to check TLS, the key and the model."""
    provider = examination.provider
    path = MODEL_LIST_PATHS.get(provider.api_endpoint)
    listed = None
    try:
        listed = get_text(provider, path or provider.api_endpoint, TIMEOUTS)
    except (APIStatusError, MalformedStream) as error:
        yield _tls(examination)
        yield from _check_error(examination, error, bool(path))
    except ProviderError as error:
        tls = transport.find_tls_error(error)
        if tls is not None:
            yield explain_tls(tls, examination.host)
        else:
            yield wrong("server", _clean(str(error), provider), bypass_advice(examination))
        return
    else:
        yield _tls(examination)
    if path:
        yield from _check_model(examination, listed)


def _tls(examination: Examination) -> Finding:
    return ok(
        "TLS",
        f"the certificate of {examination.host} is valid"
        if examination.is_tls
        else "none: http://",
    )


def _check_error(
    examination: Examination, error: ProviderError, is_list: bool
) -> Iterator[Finding]:
    """Report the meaning of a response that is not a list of models."""
    status = error.status_code if isinstance(error, APIStatusError) else 200
    text = _clean(str(error), examination.provider)
    if status in (401, 403):
        problem = "rejects the key" if api_key_of(examination.provider) else "requires a key"
        variable = examination.provider.api_key_variable
        set_key = f"set {variable}" if variable else "pass it as api_key="
        advice = KEY_ADVICE if api_key_of(examination.provider) else set_key
        yield wrong("key", f"the server {problem} ({status})", advice)
    elif status == 407:
        yield wrong(
            "proxy", "it requires a name and a password", "use http://NAME:PASSWORD@HOST:PORT"
        )
    elif status in (301, 302, 303, 307, 308):
        yield wrong("address", text)
    elif status >= 500:
        yield wrong(
            "server",
            text,
            bypass_advice(examination) or "the server has a problem: try again later",
        )
    elif is_list and isinstance(error, MalformedStream):
        yield wrong("address", text, "an API's address often ends in /v1")
    else:
        yield ok("server", f"it responds (a GET returns {status})")


def _check_model(examination: Examination, listed: str | None) -> Iterator[Finding]:
    """Report whether the server lists the model; without a model, use the first listed one."""
    names = _names(listed)
    shown = ", ".join(names[:SHOWN_MODELS]) + (", …" if len(names) > SHOWN_MODELS else "")
    if examination.model is None and names:
        examination.model = names[0]
        yield ok("model", f"none given, so {names[0]} is used; the server lists {shown}")
    elif examination.model is None:
        yield wrong("model", "none given, and the server lists none", "use --model NAME")
    elif not names:
        yield note("model", f"the server lists no models, so {examination.model} is tried")
    elif examination.model in names:
        yield ok("model", f"the server lists {examination.model}")
    else:
        yield note("model", f"the server does not list {examination.model}; it lists {shown}")


def _names(listed: str | None) -> list[str]:
    try:
        return [str(model["id"]) for model in json.loads(listed or "")["data"]]
    except (ValueError, TypeError, LookupError):
        return []


def _check_answer(examination: Examination) -> Iterator[Finding]:
    """Send a short question and check the arrival times of the answer's chunks."""
    times: list[float] = []
    started = monotonic()
    try:
        with examination.provider.stream(
            QUESTION, examination.model, timeouts=TIMEOUTS, retry=1
        ) as stream:
            for event in stream.events():
                if isinstance(event, (TextDelta, ReasoningDelta)):
                    times.append(monotonic())
    except ProviderError as error:
        advice = next((advice for kind, advice in ADVICE if isinstance(error, kind)), "")
        text = _clean(str(error), examination.provider)
        prefix = f"after {len(times)} chunks: " if times else ""
        yield wrong("answer", prefix + text, advice)
        return
    yield ok("answer", f"{stream.outcome}: {len(stream.text)} characters")
    yield detect_buffering(started, times, stream.headers)


def _clean(text: str, provider: Provider) -> str:
    """Return ``text`` without words that contain part of the key: servers often quote it."""
    key = api_key_of(provider) or ""
    parts = (key[:8], key[-4:]) if len(key) >= SECRET_LENGTH else ()
    words = ["***" if any(part in word for part in parts) else word for word in text.split()]
    return " ".join(words)
