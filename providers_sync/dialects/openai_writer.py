"""Answers as OpenAI writes them: chunks of a stream, whole completions, errors.

Source: OpenAI API reference, objects "chat.completion" and "chat.completion.chunk"; the stream
ends with ``data: [DONE]``. ``reasoning_content`` is the word of DeepSeek, vLLM and llama.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..types import ReasoningDelta, Refusal, ToolCall, Usage
from .models import AnswerInfo, Ending, Piece, RequestError, json_bytes, slices


class ChunkWriter:
    """Server-sent events with OpenAI's chunks, closed by ``[DONE]``."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, about: AnswerInfo) -> None:
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{about.key}",
            "object": "chat.completion.chunk",
            "created": about.created,
            "model": about.model,
        }
        self._include_usage = about.include_usage
        if about.include_usage:
            self._head["usage"] = None  # in every chunk but the one that counts
        self._calls = 0

    def start(self, usage: Usage) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, piece: Piece) -> bytes:
        if isinstance(piece, str):
            return self._chunk({"content": piece})
        if isinstance(piece, ReasoningDelta):
            return self._chunk({"reasoning_content": piece.text})
        if isinstance(piece, Refusal):
            return self._chunk({"refusal": piece.text})
        index, self._calls = self._calls, self._calls + 1
        begun = {"index": index, **_call(piece, arguments="")}
        rest = [{"index": index, "function": {"arguments": part}} for part in slices(piece.raw)]
        return b"".join(self._chunk({"tool_calls": [each]}) for each in [begun, *rest])

    def end(self, ending: Ending) -> bytes:
        counted = b""
        if self._include_usage:
            # OpenAI's usage chunk comes after the finish reason and has no choices.
            counted = _event({**self._head, "choices": [], "usage": _usage(ending.usage)})
        return self._chunk({}, ending.reason) + counted + b"data: [DONE]\n\n"

    def error(self, error: RequestError) -> bytes | None:
        return _event(error_shape(error))

    def whole(self, pieces: Sequence[Piece], ending: Ending) -> bytes:
        calls = [_call(piece, piece.raw) for piece in pieces if isinstance(piece, ToolCall)]
        said = "".join(piece for piece in pieces if isinstance(piece, str))
        message: dict[str, Any] = {
            "role": "assistant",
            "content": said if said or not calls else None,
            "refusal": _joined(pieces, Refusal) or None,
        }
        if thought := _joined(pieces, ReasoningDelta):
            message["reasoning_content"] = thought
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": ending.reason}
        head = {**self._head, "object": "chat.completion", "usage": _usage(ending.usage)}
        return json_bytes({**head, "choices": [choice]})

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event({**self._head, "choices": [choice]})


def error_shape(error: RequestError) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    detail = {"message": error.message, "type": error.type, "param": None, "code": error.code}
    return {"error": detail}


def _joined(pieces: Sequence[Piece], kind: type[ReasoningDelta] | type[Refusal]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, kind))


def _call(call: ToolCall, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _usage(usage: Usage) -> dict[str, int]:
    given, said = usage.input_tokens or 0, usage.output_tokens or 0
    total = given + said if usage.total_tokens is None else usage.total_tokens
    return {"prompt_tokens": given, "completion_tokens": said, "total_tokens": total}


def _event(value: Any) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"
