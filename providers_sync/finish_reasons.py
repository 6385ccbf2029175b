"""What the finish reasons of models mean: whether the model ended by itself, and else why not.

Sources: OpenAI, "finish_reason"; Anthropic, "Handling stop reasons"; Gemini, ``FinishReason``;
Amazon Bedrock, ``stopReason``; Mistral (``model_length``); Z.ai (``sensitive``); Baidu
(``normal``); Cohere (``error_toxic``); IBM watsonx.ai (``token_limit``); vLLM (``abort``); Text
Generation Inference (``eos_token``).
"""

from __future__ import annotations

from typing import Any

_OWN_ENDS = frozenset(
    {
        *("stop", "end_turn", "stop_sequence", "eos_token", "eos", "completed", "complete"),
        *("tool_calls", "tool_use", "function_call", "tool_call", "normal", "end", "end_of_turn"),
        *("stop_token", "stop_string"),
    }
)
"""The model has said all it wanted to, or waits for the results of its tool calls."""
_PAUSES = ("pause_turn", "compaction")
_REFUSAL = "{was} ended by a refusal"
_UNKNOWN = "ended for an unknown reason"
_REASONS = {
    "{was} cut off by a limit on {its} length": (
        *("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "token_limit"),
        *("max_length", "error_limit"),
    ),
    "{was} cut off because the model's context window is full": (
        *("model_context_window_exceeded", "model_length", "context_length_exceeded"),
    ),
    "{was} ended by a content filter": (
        *("content_filter", "content_filtered", "sensitive", "guardrail_intervened", "error_toxic"),
        *("safety", "recitation", "blocklist", "prohibited_content", "spii", "model_armor"),
        *("blocked", "content_policy", "jailbreak"),
        *("image_safety", "image_recitation", "image_prohibited_content"),
    ),
    _REFUSAL: ("refusal",),
    "{is} paused: send {them} back to let the model go on": _PAUSES,
    "{was} ended by an invalid tool call": (
        *("malformed_function_call", "malformed_tool_use", "unexpected_tool_call"),
        *("too_many_tool_calls", "malformed_model_output"),
    ),
    "{was} ended without the image that was asked for": ("no_image", "image_other"),
    "{was} ended because {its} language is not supported": ("language",),
    "{was} ended because the request lacks a thought signature": ("missing_thought_signature",),
    "{was} stopped by the server": (
        *("abort", "aborted", "cancelled", "canceled", "user_cancel"),
        *("timeout", "time_limit"),
    ),
}
_ENDINGS = {reason: ending for ending, reasons in _REASONS.items() for reason in reasons}
_ONE = {
    **{"was": "was", "is": "is", "has": "has"},
    **{"it": "it", "its": "its", "them": "it", "refusal": "a refusal"},
}
_MANY = {
    **{"was": "were", "is": "are", "has": "have"},
    **{"it": "they", "its": "their", "them": "them", "refusal": "refusals"},
}
_SHOWN_CHARACTERS = 60
"""How much of a finish reason is quoted; real ones are a few words."""


def is_whole(outcome: str | None, reason: str | None, refusal: str = "") -> bool:
    """Return whether an answer is complete, and the model ended it by itself.

    >>> is_whole("complete", "stop"), is_whole("complete", "length"), is_whole("cut", "stop")
    (True, False, False)
    """
    if outcome not in ("complete", "unverified") or refusal:
        return False
    return not reason or _normalized(reason) in _OWN_ENDS


def wants_to_go_on(reason: str | None) -> bool:
    """Return whether the model has only paused, and goes on when its answer is sent back.

    >>> wants_to_go_on("pause_turn"), wants_to_go_on("tool_use")
    (True, False)
    """
    return _normalized(reason or "") in _PAUSES


def explain_end(
    outcome: str | None,
    reason: str | None,
    *,
    is_empty: bool = False,
    refusal: str = "",
    has_reasoning: bool = False,
    count: int | None = None,
) -> str:
    """Return in words why a complete answer is not whole, or empty; ``""`` if it is neither.

    The words are one line, except that control characters of the reason are left as they are.
    ``is_empty``: it has no text, no tool call and no image or sound. ``has_reasoning``: the model
    has reasoned. ``count``: how many such answers there are.

    >>> explain_end("complete", "length")
    'the answer was cut off by a limit on its length (finish reason length)'
    >>> explain_end("complete", "length", count=3)
    '3 answers were cut off by a limit on their length (finish reason length)'
    >>> explain_end("complete", "length", is_empty=True, has_reasoning=True)
    'the answer is empty: it has only reasoning, and was cut off by a limit on its length \
(finish reason length)'
    >>> explain_end("complete", "pause_turn", count=2)
    '2 answers are paused: send them back to let the model go on (finish reason pause_turn)'
    >>> explain_end("complete", "SAFETY", refusal="No.", count=2)
    '2 answers are refusals, and were ended by a content filter (finish reason SAFETY)'
    >>> explain_end("complete", "stop", is_empty=True)
    'the answer is empty (finish reason stop)'
    >>> explain_end("complete", "stop")
    ''
    """
    if outcome == "paused":
        return "the answer is paused: a tool call needs approval"
    if outcome not in ("complete", "unverified"):
        return ""
    ending = "" if is_whole(outcome, reason, refusal) else _ending(reason, bool(refusal))
    if is_empty and not refusal:
        ending = _empty(ending, has_reasoning)
    if not ending:
        return ""
    answers = "the answer" if count is None else f"{count} answer{'' if count == 1 else 's'}"
    words = ending.format_map(_ONE if count in (None, 1) else _MANY)
    return f"{answers} {words} ({_stated(reason)})"


def shown_text(answer: Any) -> str:
    """Return what a reader sees of an answer: its text, and the model's refusal if it is apart.

    ``answer`` is a ``Stream`` or a ``Completion``.
    """
    return "\n\n".join(filter(None, [answer.text, answer.refusal]))


def explain(answer: Any) -> str:
    """Return in words why a complete answer is not whole, or empty; ``""`` if it is neither.

    ``answer`` is a ``Stream`` or a ``Completion``.
    """
    usage = answer.usage
    return explain_end(
        answer.outcome,
        answer.finish_reason,
        is_empty=not (answer.text.strip() or answer.tool_calls or answer.media),
        refusal=answer.refusal,
        has_reasoning=bool(answer.reasoning or (usage and usage.reasoning_tokens)),
    )


def _normalized(reason: str) -> str:
    """Return the name of a reason; some servers send that of their own constant.

    >>> _normalized("FinishReason.STOP"), _normalized("FINISH_REASON_MAX_TOKENS")
    ('stop', 'max_tokens')
    """
    name = reason.strip().rpartition(".")[2].lower().replace("-", "_")
    return name.removeprefix("finish_reason_")


def _ending(reason: str | None, is_refusal: bool) -> str:
    """Return how an answer ended that is not whole."""
    known = _ENDINGS.get(_normalized(reason or ""))
    if is_refusal:
        return "{is} {refusal}" + (f", and {known}" if known not in (None, _REFUSAL) else "")
    return known or _UNKNOWN


def _empty(ending: str, has_reasoning: bool) -> str:
    """Return the same of an answer that is empty besides; ``ending`` is empty if it is whole."""
    if has_reasoning:
        return "{is} empty: {it} {has} only reasoning" + (f", and {ending}" if ending else "")
    return "{is} empty" + (f": {{it}} {ending}" if ending else "")


def _stated(reason: str | None) -> str:
    words = " ".join((reason or "").split())
    if not words:
        return "no finish reason"
    shown = words if len(words) <= _SHOWN_CHARACTERS else words[:_SHOWN_CHARACTERS] + "…"
    return f"finish reason {shown}"
