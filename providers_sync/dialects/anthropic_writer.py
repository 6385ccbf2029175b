"""Writes Anthropic's answers: stream events with content blocks, complete messages, errors.

Source: Anthropic API reference, "Streaming Messages" and "Errors".
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ..types import ReasoningDelta, Refusal, ToolCall, Usage
from .reasons import openai_reason
from .types import AnswerInfo, Delta, Ending, RequestError, json_bytes, raw_arguments, slices

REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
"""OpenAI's finish reason → Anthropic's stop reason; others stay as they are."""
OWN_REASONS = {*REASONS.values(), "stop_sequence", "model_context_window_exceeded"}

ERRORS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Error type by status; others are ``invalid_request_error`` below 500, else ``api_error``."""

SIGNATURE = "unsigned"
"""Anthropic signs its models' reasoning; clients keep the signature and send it back."""


class AnthropicWriter:
    """Writes server-sent events: one open content block at a time, ended by ``message_stop``."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, info: AnswerInfo) -> None:
        self._message: dict[str, Any] = {
            "id": f"msg_{info.key}",
            "type": "message",
            "role": "assistant",
            "model": info.model,
        }
        self._blocks = 0
        self._open_kind: str | None = None
        self._refused = self._called = False

    def start(self, usage: Usage) -> bytes:
        empty: dict[str, Any] = {
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(usage),
        }
        return _event("message_start", message={**self._message, **empty}) + _event("ping")

    def delta(self, delta: Delta) -> bytes:
        if isinstance(delta, ToolCall):
            self._called = True
            start = self._open_block({**_tool_use(delta), "input": {}})
            parts = slices(raw_arguments(delta))
            rest = [{"type": "input_json_delta", "partial_json": part} for part in parts]
            return start + b"".join(map(self._delta_event, rest))
        block = _block(delta)
        kind = block["type"]
        self._refused = self._refused or isinstance(delta, Refusal)
        start = b""
        if self._open_kind != kind:
            empty = {"text": ""} if kind == "text" else {"thinking": "", "signature": ""}
            start = self._open_block({"type": kind, **empty})
        return start + self._delta_event({"type": f"{kind}_delta", kind: block[kind]})

    def end(self, ending: Ending) -> bytes:
        delta = _stop_reason(ending, self._refused, self._called)
        usage = _event("message_delta", delta=delta, usage=_usage(ending.usage))
        return self._close_block() + usage + _event("message_stop")

    def error(self, error: RequestError) -> bytes | None:
        return _named_event("error", error_shape(error))

    def complete(self, deltas: Sequence[Delta], ending: Ending) -> bytes:
        content: list[dict[str, Any]] = []
        for kind, run in itertools.groupby(map(_block, deltas), key=lambda block: block["type"]):
            if kind == "tool_use":
                content += run
            else:
                blocks = list(run)
                content.append({**blocks[0], kind: "".join(block[kind] for block in blocks)})
        refused, called = (any(isinstance(d, kind) for d in deltas) for kind in (Refusal, ToolCall))
        end = {**_stop_reason(ending, refused, called), "usage": _usage(ending.usage)}
        return json_bytes({**self._message, "content": content, **end})

    def _open_block(self, block: dict[str, Any]) -> bytes:
        previous_end = self._close_block()
        self._open_kind = block["type"]
        return previous_end + _event("content_block_start", index=self._blocks, content_block=block)

    def _delta_event(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._blocks, delta=delta)

    def _close_block(self) -> bytes:
        if self._open_kind is None:
            return b""
        signature = b""
        if self._open_kind == "thinking":
            signature = self._delta_event({"type": "signature_delta", "signature": SIGNATURE})
        stop = _event("content_block_stop", index=self._blocks)
        self._open_kind, self._blocks = None, self._blocks + 1
        return signature + stop


def error_shape(error: RequestError) -> dict[str, Any]:
    """Return an error in Anthropic's form."""
    kind = ERRORS.get(error.status) or (
        "invalid_request_error" if error.status < 500 else "api_error"
    )
    return {"type": "error", "error": {"type": kind, "message": error.message}}


def _block(delta: Delta) -> dict[str, Any]:
    if isinstance(delta, str):
        return {"type": "text", "text": delta}
    if isinstance(delta, Refusal):
        return {"type": "text", "text": delta.text}
    if isinstance(delta, ReasoningDelta):
        return {"type": "thinking", "thinking": delta.text, "signature": SIGNATURE}
    # The protocol's input is an object; what else a model wrote is sent as text, not lost.
    given = delta.raw if delta.arguments is None else delta.arguments
    return {**_tool_use(delta), "input": given}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name}


def _stop_reason(ending: Ending, refused: bool, called: bool) -> dict[str, Any]:
    reason = ending.reason
    if reason not in OWN_REASONS:
        reason = REASONS.get(openai_reason(ending), reason)
    if called and reason == "end_turn":
        reason = "tool_use"  # otherwise clients do not run the tools
    if refused:
        reason = "refusal"
    elif ending.stop_sequence is not None:
        reason = "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": ending.stop_sequence}


def _usage(usage: Usage) -> dict[str, Any]:
    """Return the counts; Anthropic's ``input_tokens`` are those beside its cache."""
    total, cached, written = usage.input_tokens or 0, usage.cached_tokens, usage.cache_write_tokens
    uncached = total - (cached or 0) - (written or 0)
    # A negative number: the server behind the engine has not counted its cache in.
    counts: dict[str, Any] = {"input_tokens": uncached if uncached >= 0 else total}
    if cached is not None:
        counts["cache_read_input_tokens"] = cached
    if written is not None:
        counts["cache_creation_input_tokens"] = written
    counts["output_tokens"] = usage.output_tokens or 0
    if usage.reasoning_tokens is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts


def _event(kind: str, **fields: Any) -> bytes:
    return _named_event(kind, {"type": kind, **fields})


def _named_event(kind: str, value: Any) -> bytes:
    # The official clients use the event's name, others the type in its data.
    return f"event: {kind}\n".encode() + b"data: " + json_bytes(value) + b"\n\n"
