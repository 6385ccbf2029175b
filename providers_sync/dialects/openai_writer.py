"""Writes OpenAI's answers: stream chunks, complete answers, errors.

Source: OpenAI API reference, objects "chat.completion" and "chat.completion.chunk"; the stream
ends with ``data: [DONE]``. ``reasoning_content`` is the field of DeepSeek, vLLM and llama.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..types import ReasoningDelta, Refusal, ToolCall, Usage
from .reasons import openai_reason
from .types import AnswerInfo, Delta, Ending, RequestError, json_bytes, raw_arguments, slices


class OpenAIWriter:
    """Writes server-sent events with OpenAI's chunks, ended by ``[DONE]``."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, info: AnswerInfo) -> None:
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{info.key}",
            "object": "chat.completion.chunk",
            "created": info.created,
            "model": info.model,
        }
        self._include_usage = info.request.include_usage
        if info.request.include_usage:
            self._head["usage"] = None  # in every chunk but the usage chunk
        self._calls = 0

    def start(self, usage: Usage) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def delta(self, delta: Delta) -> bytes:
        if isinstance(delta, str):
            return self._chunk({"content": delta})
        if isinstance(delta, ReasoningDelta):
            return self._chunk({"reasoning_content": delta.text})
        if isinstance(delta, Refusal):
            return self._chunk({"refusal": delta.text})
        index, self._calls = self._calls, self._calls + 1
        first = {"index": index, **_call(delta, arguments="")}
        parts = slices(raw_arguments(delta))
        rest = [{"index": index, "function": {"arguments": part}} for part in parts]
        return b"".join(self._chunk({"tool_calls": [each]}) for each in [first, *rest])

    def end(self, ending: Ending) -> bytes:
        usage_chunk = b""
        if self._include_usage and (usage := _usage(ending.usage)):
            # OpenAI's usage chunk comes after the finish reason and has no choices.
            usage_chunk = _event({**self._head, "choices": [], "usage": usage})
        return self._chunk({}, _reason(ending, self._calls > 0)) + usage_chunk + b"data: [DONE]\n\n"

    def error(self, error: RequestError) -> bytes | None:
        return _event(error_shape(error))

    def complete(self, deltas: Sequence[Delta], ending: Ending) -> bytes:
        calls = [
            _call(delta, raw_arguments(delta)) for delta in deltas if isinstance(delta, ToolCall)
        ]
        text = "".join(delta for delta in deltas if isinstance(delta, str))
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text or not calls else None,
            "refusal": _join_text(deltas, Refusal) or None,
        }
        if reasoning := _join_text(deltas, ReasoningDelta):
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": _reason(ending, bool(calls))}
        head = {**self._head, "object": "chat.completion", "usage": _usage(ending.usage)}
        return json_bytes({**head, "choices": [choice]})

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event({**self._head, "choices": [choice]})


def error_shape(error: RequestError) -> dict[str, Any]:
    """Return an error in OpenAI's form."""
    detail = {"message": error.message, "type": error.type, "param": None, "code": error.code}
    return {"error": detail}


def _reason(ending: Ending, called: bool) -> str:
    reason = openai_reason(ending)
    # Other protocols end calls with an ordinary reason, with which clients do not run the tools.
    return "tool_calls" if called and reason == "stop" else reason


def _join_text(deltas: Sequence[Delta], kind: type[ReasoningDelta] | type[Refusal]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, kind))


def _call(call: ToolCall, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _usage(usage: Usage) -> dict[str, Any] | None:
    """Return the counts, those of caches and of reasoning if they are known; ``None`` for none."""
    if usage == Usage():
        return None
    prompt, completion = usage.input_tokens or 0, usage.output_tokens or 0
    total = prompt + completion if usage.total_tokens is None else usage.total_tokens
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    cache = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
    reasoning = {"reasoning_tokens": usage.reasoning_tokens}
    details = {"prompt_tokens_details": cache, "completion_tokens_details": reasoning}
    known = {name: _without_none(part) for name, part in details.items()}
    return {**counts, **{name: part for name, part in known.items() if part}}


def _without_none(counts: dict[str, int | None]) -> dict[str, int | None]:
    return {name: count for name, count in counts.items() if count is not None}


def _event(value: Any) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"
