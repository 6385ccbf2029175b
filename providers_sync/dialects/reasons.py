"""Finish reasons of every protocol under OpenAI's names: an engine may report any of them."""

from __future__ import annotations

from .types import Ending

_NAMES = {
    "stop": ("end_turn", "stop_sequence", "eos_token", "completed", "normal"),
    "length": (
        *("max_tokens", "max_output_tokens", "model_context_window_exceeded", "model_length"),
        *("token_limit", "context_length_exceeded"),
    ),
    "tool_calls": ("tool_use", "function_call"),
    "content_filter": (
        *("refusal", "content_filtered", "safety", "recitation", "blocklist", "spii"),
        *("prohibited_content", "guardrail_intervened", "sensitive"),
    ),
}
_OPENAI = {name: openai for openai, names in _NAMES.items() for name in (openai, *names)}


def openai_reason(ending: Ending) -> str:
    """Return OpenAI's name for how an answer ended; a reason that is not known stays as it is.

    >>> openai_reason(Ending("MAX_TOKENS")), openai_reason(Ending("pause_turn"))
    ('length', 'pause_turn')
    """
    return _OPENAI.get(ending.reason.lower(), ending.reason)
