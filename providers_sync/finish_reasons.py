"""What the finish reasons of models mean: whether the model ended by itself, and else why not.

Sources: OpenAI, "finish_reason"; Anthropic, "Handling stop reasons"; Gemini, ``FinishReason``;
Mistral (``model_length``); Z.ai (``sensitive``); TGI (``eos_token``).
"""

from __future__ import annotations

_OWN_ENDS = frozenset(
    {
        *("stop", "end_turn", "stop_sequence", "eos_token", "eos", "completed", "complete"),
        *("tool_calls", "tool_use", "function_call", "tool_call"),
    }
)
"""The model has said all it wanted to, or waits for the results of its tool calls."""
_LIMITS = frozenset(
    {
        *("length", "max_tokens", "max_output_tokens", "model_length"),
        "model_context_window_exceeded",
    }
)
_FILTERS = frozenset(
    {
        *("content_filter", "content-filter", "sensitive", "safety", "recitation", "blocklist"),
        *("prohibited_content", "spii", "image_safety", "guardrail_intervened"),
    }
)


def is_whole(outcome: str | None, reason: str | None, refusal: str = "") -> bool:
    """Return whether an answer is complete, and the model ended it by itself.

    >>> is_whole("complete", "stop"), is_whole("complete", "length"), is_whole("cut", "stop")
    (True, False, False)
    """
    if outcome not in ("complete", "unverified") or refusal:
        return False
    return reason is None or reason.lower() in _OWN_ENDS


def explain_end(
    outcome: str | None, reason: str | None, *, is_empty: bool = False, refusal: str = ""
) -> str:
    """Return in words why a complete answer is not whole, or empty; ``""`` if it is neither.

    ``is_empty``: it has no text and no tool call.

    >>> explain_end("complete", "length")
    'the answer was cut off by a limit on its length (finish reason length)'
    >>> explain_end("complete", "stop", is_empty=True)
    'the answer is empty (finish reason stop)'
    >>> explain_end("complete", "stop")
    ''
    """
    if outcome not in ("complete", "unverified"):
        return ""
    stated = f" (finish reason {reason})" if reason else ""
    if not is_whole(outcome, reason, refusal):
        return f"the answer {_ending(reason, refusal)}{stated}"
    return f"the answer is empty{stated}" if is_empty else ""


def _ending(reason: str | None, refusal: str) -> str:
    name = (reason or "").lower()
    if refusal or name == "refusal":
        return "is a refusal"
    if name in _LIMITS:
        return "was cut off by a limit on its length"
    if name in _FILTERS:
        return "was ended by a filter"
    if name == "pause_turn":
        return "is paused: send it back to let the model go on"
    return "was not ended by the model"
