"""Hints for options that are probably misspelt: for a warning, and for a server's refusal.

>>> hint("OpenAIOptions", ["temprature"])
"'temprature' is not an option of OpenAI's chat completions: did you mean 'temperature'?"
>>> hint("OpenAIOptions", ["temperature", "something_new"])
''
"""

from __future__ import annotations

import functools
import inspect
import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_PROTOCOLS = {
    "OpenAIOptions": "OpenAI's chat completions",
    "ResponsesOptions": "the Responses API",
    "AnthropicOptions": "Anthropic's protocol",
    "GeminiOptions": "Gemini's protocol",
    "OllamaOptions": "Ollama's protocol",
    "HistoricalOptions": "this protocol",
    "AI365VIPOptions": "this protocol",
}
_KEYWORDS = (
    *("into", "repairs", "skip_invalid", "continue_after_break", "system", "timeouts", "retry"),
    *("headers", "cancel", "extra_body", "base_url", "api_key", "query", "proxy", "verify", "cert"),
    *("session", "rate_limit", "max_rounds", "parallel", "tool_timeout", "approve", "journal"),
    *("on_error", "on_unknown", "budget"),
)
"""What calls, providers and a ``Chat`` take beside options: misspelt, it would be sent as one."""
_REMEDY = "Put your server's own options into extra_body={…}"
_is_silent: ContextVar[bool] = ContextVar("_is_silent", default=False)
_PACKAGE = os.path.dirname(__file__) + os.sep
_LIKENESS = 0.88
"""Of two names, from 0 to 1: ``top_n`` is not a misspelt ``top_k``, but ``stops`` is a ``stop``."""
_NAME_LENGTH = 40
"""A longer name is not compared, which would take long."""


@functools.lru_cache(maxsize=16)
def known_options(type_name: str) -> frozenset[str]:
    """Return the names in a ``TypedDict`` of ``options``."""
    from . import options  # late: a call without options does not need it

    keys: frozenset[str] = getattr(options, type_name).__optional_keys__
    return keys


@functools.cache
def _all_options() -> frozenset[str]:
    return frozenset().union(_KEYWORDS, *map(known_options, _PROTOCOLS))


@functools.lru_cache(maxsize=256)
def similar_option(name: str, type_name: str) -> str | None:
    """Return the option or keyword that a name, which is none, is probably meant for.

    >>> similar_option("maxTokens", "OpenAIOptions"), similar_option("top_n", "OpenAIOptions")
    ('max_tokens', None)
    >>> similar_option("timout", "OpenAIOptions"), similar_option("apikey", "OpenAIOptions")
    ('timeouts', 'api_key')
    """
    from difflib import get_close_matches  # late: few need it

    plain = {_plain(known): known for known in sorted({*known_options(type_name), *_KEYWORDS})}
    plain["timeout"] = "timeouts"  # as other clients call it
    if len(name) > _NAME_LENGTH:
        return None
    found = get_close_matches(_plain(name), plain, n=1, cutoff=_LIKENESS)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def hint(type_name: str, names: Collection[str]) -> str:
    """Return the hint for options that are probably misspelt; empty if there are none.

    An option of another protocol is not misspelt, unless only case and underscores differ.
    """
    if not type_name or not names:
        return ""
    return "; ".join(
        f"{name!r} is not an option of {_PROTOCOLS[type_name]}: did you mean {meant!r}?"
        for name in names
        if (meant := _meant(name, type_name)) is not None
    )


def _meant(name: str, type_name: str) -> str | None:
    if name in _KEYWORDS or name in known_options(type_name):
        return None
    meant = similar_option(name, type_name)
    is_foreign = name in _all_options()
    return meant if meant and (not is_foreign or _plain(meant) == _plain(name)) else None


@contextmanager
def silent(is_silent: bool) -> Iterator[None]:
    """Warn of nothing inside, if so: a call may send several requests, and warns once."""
    token = _is_silent.set(is_silent)
    try:
        yield
    finally:
        _is_silent.reset(token)


def warn_of(text: str) -> None:
    """Warn with a hint, at the line outside this package that made the call."""
    if _is_silent.get():
        return
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(f"{text} {_REMEDY}", UserWarning, stacklevel=level)
