"""The check that costs nothing: a GET of the list of models, for TLS, the key and the model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .. import transport
from ..config import Timeouts
from ..errors import APIStatusError, APITimeoutError, MalformedStream, ProviderError
from ..providers.base import get_text
from ..providers.model_lists import ListsModels
from .base_urls import find_base_url
from .causes import clean, explain_error, shown_models
from .examination import Examination
from .finding import Finding, note, ok, wrong

LIST_S = 3.0
"""For all pages of the list; it leaves the answer most of the time."""
TRIED_MODELS = 3
"""Without a model: some of a list are not for chats, and their names do not tell."""
_NO_LIST = (404, 405, 501)
"""What servers without a list of models return."""
_OTHER_KINDS = re.compile(
    r"embed|bge-|rerank|whisper|transcri|tts|audio|realtime|dall-e|image|sora|veo|moderation"
    r"|guard|babbage|davinci|ocr|aqa",
    re.IGNORECASE,
)
"""Parts of the names of listed models that do not chat."""


def check_models(examination: Examination) -> Iterator[Finding]:
    """Report what the server lists; if it lists nothing, the answer decides what is wrong.

    Many good servers have no list, or a key for answers only (OpenAI's restricted keys).
    """
    try:
        examination.listed = _listed(examination)
    except ProviderError as error:
        examination.list_error = error
        yield from _check_error(error, examination)
    else:
        examination.has_responded = True
        yield _tls(examination)
        if isinstance(examination.provider, ListsModels):
            yield _model(examination)


def _listed(examination: Examination) -> list[str]:
    provider, limits = examination.provider, Timeouts(total=examination.time_left(LIST_S))
    if isinstance(provider, ListsModels):
        return [name for name in provider.list_models(timeouts=limits, retry=1) if name]
    get_text(provider, provider.api_endpoint, limits)
    return []


def _check_error(error: ProviderError, examination: Examination) -> Iterator[Finding]:
    is_timeout = isinstance(error, APITimeoutError)
    if not is_timeout and transport.find_tls_error(error) is not None:
        yield explain_error(error, examination)
        return
    if isinstance(error, (APIStatusError, MalformedStream)):
        examination.has_responded = True
        yield _tls(examination)
    if isinstance(error, APIStatusError) and error.status_code in _NO_LIST:
        yield ok("server", f"it responds (a GET returns {error.status_code})")
    elif isinstance(examination.provider, ListsModels):
        text = clean(str(error), examination)
        if is_timeout:
            text = f"it was not received within {LIST_S:g} s"
        yield note("models", f"no list of models: {text}")
    if not isinstance(examination.provider, ListsModels):
        return
    if examination.model:
        yield note("model", f"the server lists no models; trying {examination.model}")
    else:
        yield _explain_without_question(error, examination)
        examination.is_over = True


def _explain_without_question(error: ProviderError, examination: Examination) -> Finding:
    """Return the cause if no question can be sent, because no model is known."""
    if isinstance(error, (APIStatusError, MalformedStream)):
        if found := find_base_url(examination, error):
            return corrected(found, examination)
        is_page = "web page" in str(error)
        if not is_page and getattr(error, "status_code", 404) in _NO_LIST:
            return wrong("model", "none given, and the server lists none", "use --model NAME")
    return explain_error(error, examination)


def corrected(found: str, examination: Examination) -> Finding:
    """Return the finding about a wrong address whose correction was found."""
    return wrong(
        "address",
        f"the API is not at {examination.provider.base_url}, but at {found}",
        f"use {found}",
    )


def _tls(examination: Examination) -> Finding:
    return ok(
        "TLS",
        f"the certificate of {examination.host} is valid"
        if examination.is_tls
        else "none: http://",
    )


def _model(examination: Examination) -> Finding:
    """Report whether the server lists the model; without a model, use one of the list."""
    names = examination.listed
    if examination.model is None and names:
        chats = [name for name in names if not _OTHER_KINDS.search(name)] or names
        examination.model, *examination.other_models = chats[:TRIED_MODELS]
        listed = shown_models(names)
        return ok("model", f"none given, so {chats[0]} is used; the server lists {listed}")
    if examination.model is None:
        return wrong("model", "none given, and the server lists none", "use --model NAME")
    if not names:
        return note("model", f"the server lists no models; trying {examination.model}")
    if examination.model in names:
        return ok("model", f"the server lists {examination.model}")
    listed = shown_models(names)
    return note("model", f"the server does not list {examination.model}; it lists {listed}")
