"""Finds the right ``base_url`` behind a wrong one: a ``/v1`` missing or doubled, a path too much.

Only GETs are sent, and only to the scheme, host and port that are configured.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from ..config import Timeouts
from ..errors import APIStatusError, AuthenticationError, ProviderError
from ..providers import PRESETS, Provider
from ..providers.base import get_text
from ..providers.model_lists import ListsModels
from .examination import Examination

PROBE_S = 1.5
"""For one GET; the server has already answered others."""
_ENDPOINT = re.compile(
    r"/(chat/completions|completions|responses|messages|api/chat|api/generate|api/tags"
    r"|api/converse-edge|models(/[^/]+:\w+)?)$"
)
"""The paths that each protocol adds itself."""
_VERSION = re.compile(r"/v\d+(beta\d*)?$")
_DOUBLED = re.compile(r"(/v\d+(?:beta\d*)?)\1+$")
_NO_PATH = (404, 405, 410)
_WRONG_PATH = (400, 403, 404, 405, 410, 422, 501)
"""What servers return for a path that they do not know, beside redirects and web pages."""
_KNOWN_PATH = (400, 401, 403, 405, 415, 422)
"""What a GET of an endpoint for POST may return, but not of a path that does not exist."""


def find_base_url(examination: Examination, error: ProviderError) -> str | None:
    """Return the corrected address if the API answers there, else ``None``.

    ``error`` is that of the request. Nothing is sent if it has another cause than the address, or
    if the list of models, or an endpoint, was found at the configured address.
    """
    provider, list_error = examination.provider, examination.list_error
    if list_error is None or not examination.has_responded:
        return None
    if isinstance(error, APIStatusError) and (
        error.quota_exhausted
        or (not (300 <= error.status_code < 400) and error.status_code not in _WRONG_PATH)
    ):
        return None
    if not isinstance(provider, ListsModels) and getattr(list_error, "status_code", 0) != 404:
        return None
    for url in candidates(examination.name, provider):
        if examination.time_left() < PROBE_S / 2:
            break
        with copy.copy(provider) as other:
            other.base_url = url
            if _is_api(other, examination):
                return url
    return None


def candidates(name: str, provider: Provider) -> Iterator[str]:
    """Yield other addresses on the same server that ``base_url`` may be meant to be, each once."""
    parts = urlsplit(provider.base_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    seen = {provider.base_url}
    for path in _paths(name, provider, parts.path):
        url = origin + path
        if url not in seen:
            seen.add(url)
            yield url
    known = [preset.base_url for preset in PRESETS.values() if provider.protocol == "openai-chat"]
    for url in [*known, provider.default_base_url]:
        if url.startswith(origin + "/") and url not in seen:
            seen.add(url)
            yield url


def _paths(name: str, provider: Provider, path: str) -> Iterator[str]:
    path = path.rstrip("/")
    while shorter := _ENDPOINT.sub("", path):
        if shorter == path:
            break
        path = shorter.rstrip("/")
    path = _DOUBLED.sub(r"\1", "" if _ENDPOINT.fullmatch(path) else path)
    bare = _VERSION.sub("", path)
    if provider.protocol in ("openai-chat", "responses"):
        yield path
        if path == bare:
            yield f"{path}/v1"
        yield bare
    elif provider.protocol == "gemini":
        path = path.removesuffix("/openai")
        yield path
        yield f"{_VERSION.sub('', path)}/v1beta"
    else:
        yield bare
        yield bare.removesuffix("/api")
        yield f"{bare}/{name}"  # as the gateway serves them


def _is_api(provider: Provider, examination: Examination) -> bool:
    """Return whether a GET finds what the protocol has at this address."""
    error, limit = examination.list_error, Timeouts(total=examination.time_left(PROBE_S))
    is_path_unknown = not isinstance(error, APIStatusError) or error.status_code in _NO_PATH
    try:
        if isinstance(provider, ListsModels):
            provider.list_models(timeouts=limit, retry=1)
        else:
            get_text(provider, provider.api_endpoint, limit)
    except AuthenticationError:  # no path of an API, if the wrong one is refused as well
        return is_path_unknown
    except APIStatusError as found:
        return not isinstance(provider, ListsModels) and found.status_code in _KNOWN_PATH
    except ProviderError:
        return False
    return isinstance(provider, ListsModels)
