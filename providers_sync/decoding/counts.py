"""Token counts in the forms of the protocols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..types import Usage

RAW_COUNTS = 256
"""How many raw counts are kept from event to event; real servers send some twenty."""
_OPENAI = {
    "input_tokens": ("prompt_tokens", "input_tokens"),
    "output_tokens": ("completion_tokens", "output_tokens"),
    "total_tokens": ("total_tokens",),
    "cached_tokens": (
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "cached_tokens",  # Moonshot
        "prompt_cache_hit_tokens",  # DeepSeek
        "cache_read_input_tokens",
    ),
    "cache_write_tokens": (
        "prompt_tokens_details.cache_write_tokens",  # OpenRouter
        "prompt_tokens_details.cache_creation_tokens",
        "cache_creation_input_tokens",
    ),
    "reasoning_tokens": (
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "reasoning_tokens",
    ),
}
"""Where servers of OpenAI's protocol put each count: the first that is found holds."""
_GEMINI = (
    *("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
    *("cachedContentTokenCount", "totalTokenCount", "toolUsePromptTokenCount"),
)
_GEMINI_OUTPUT = frozenset({"candidatesTokenCount", "thoughtsTokenCount"})


def token_count(value: Any) -> int | None:
    """Return a valid token count, ``None`` for anything else.

    >>> token_count(7), token_count(7.0), token_count(True), token_count("7"), token_count(2**63)
    (7, 7, None, None, None)
    """
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**63 else None


def openai_usage(counts: Any, before: Usage | None) -> Usage | None:
    """Return the usage after counts have come; ``None`` if they hold nothing.

    A count that is missing now keeps its value of ``before``.

    >>> openai_usage({"prompt_tokens": 1, "completion_tokens": 2}, None)
    Usage(input_tokens=1, output_tokens=2, total_tokens=3, cached_tokens=None, \
cache_write_tokens=None, reasoning_tokens=None)
    """
    if not isinstance(counts, dict):
        return None
    found = {name: _find(counts, places) for name, places in _OPENAI.items()}
    known = {name: count for name, count in found.items() if count is not None}
    if not known or (before is not None and not any(known.values())):
        return None  # some servers end with zeros
    if _excludes_reasoning(known):
        known["output_tokens"] += known["reasoning_tokens"]
    usage = replace(before or Usage(), **known, raw=_merged(before, counts))
    if "total_tokens" not in known:
        usage = replace(usage, total_tokens=_total(usage.input_tokens, usage.output_tokens))
    return usage


def _excludes_reasoning(counts: Mapping[str, int]) -> bool:
    """Return whether the reasoning is a part of the total, but not of the output.

    Source: xAI, "Consumption and Rate Limits". The sum shows it, whatever the host.
    """
    names = ("input_tokens", "output_tokens", "reasoning_tokens", "total_tokens")
    sent, output, reasoning, total = (counts.get(name, 0) for name in names)
    return "output_tokens" in counts and reasoning > 0 and sent + output + reasoning == total


def _merged(before: Usage | None, counts: dict[str, Any]) -> dict[str, Any]:
    """Return all raw counts so far; of a server that sends thousands, only the last ones."""
    raw = (before.raw if before else None) or {}
    return {**raw, **counts} if len(raw) <= RAW_COUNTS else counts


def _find(counts: dict[str, Any], places: tuple[str, ...]) -> int | None:
    """Return the first count above 0, else the first."""
    found = None
    for place in places:
        outer, _, inner = place.rpartition(".")
        where = counts.get(outer) if outer else counts
        if isinstance(where, dict) and (count := token_count(where.get(inner))) is not None:
            if count:
                return count
            found = count
    return found


def anthropic_usage(counts: Mapping[str, Any], *, is_final: bool) -> Usage | None:
    """Return the usage for all counts of a message so far; ``None`` if they hold nothing.

    Anthropic counts input read from and written to its cache separately. Until the counts are
    final, their sum means nothing.
    """
    fresh, cached, written, output = (
        token_count(counts.get(name))
        for name in (
            "input_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "output_tokens",
        )
    )
    details = counts.get("output_tokens_details")
    reasoning = token_count(details.get("thinking_tokens")) if isinstance(details, dict) else None
    if fresh is None and output is None:
        return None
    sent = None if fresh is None else token_count(fresh + (cached or 0) + (written or 0))
    total = _total(sent, output) if is_final else None
    return Usage(sent, output, total, cached, written, reasoning, dict(counts))


def gemini_counts(before: dict[str, Any], counts: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of a Gemini answer so far; those of the output belong together."""
    if len(before) > RAW_COUNTS:
        before = {name: before[name] for name in _GEMINI if name in before}
    if not _GEMINI_OUTPUT.isdisjoint(counts):
        before = {name: count for name, count in before.items() if name not in _GEMINI_OUTPUT}
    return {**before, **counts}


def gemini_usage(counts: Mapping[str, Any]) -> Usage | None:
    """Return the usage for all counts of an answer so far; ``None`` if they hold nothing.

    Gemini counts thoughts separately from the rest of the output, and the results of its own tools
    (``toolUsePromptTokenCount``) only in the total.

    >>> gemini_usage({"promptTokenCount": 1, "candidatesTokenCount": 2, "thoughtsTokenCount": 3})
    Usage(input_tokens=1, output_tokens=5, total_tokens=6, cached_tokens=None, \
cache_write_tokens=None, reasoning_tokens=3)
    """
    sent, answer, thoughts, cached, total, used = (
        token_count(counts.get(name)) for name in _GEMINI
    )
    if sent is None and answer is None and thoughts is None:
        return None
    output = token_count((answer or 0) + (thoughts or 0))
    if answer is None and thoughts is None:
        output = None
    if total is None and (total := _total(sent, output)) is not None:
        total = _total(total, used or 0)
    return Usage(sent, output, total, cached, None, thoughts, dict(counts))


def ollama_usage(counts: Mapping[str, Any]) -> Usage | None:
    """Return the usage of Ollama's last line; ``None`` if it holds nothing.

    >>> ollama_usage({"prompt_eval_count": 1, "eval_count": 2}).total_tokens
    3
    """
    sent, output = (
        token_count(counts.get("prompt_eval_count")),
        token_count(counts.get("eval_count")),
    )
    if sent is None and output is None:
        return None
    raw = {name: counts[name] for name in ("prompt_eval_count", "eval_count") if name in counts}
    return Usage(sent, output, _total(sent, output), raw=raw)


def _total(sent: int | None, received: int | None) -> int | None:
    return None if sent is None or received is None else token_count(sent + received)
