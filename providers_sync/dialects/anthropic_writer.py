"""Answers as Anthropic writes them: blocks of a stream, whole messages, errors.

Source: Anthropic API reference, "Streaming Messages" and "Errors".
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ..types import ReasoningDelta, Refusal, ToolCall, Usage
from .models import AnswerInfo, Ending, Piece, RequestError, json_bytes, slices

REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
"""OpenAI's word → Anthropic's; others stay as they are."""

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
"""By status; others are ``invalid_request_error`` below 500 and ``api_error`` from there on."""

SIGNATURE = "unsigned"
"""Anthropic signs what its models think; clients keep the signature and send it back."""


class BlockWriter:
    """Server-sent events: one content block open at a time, closed by ``message_stop``."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, about: AnswerInfo) -> None:
        self._message: dict[str, Any] = {
            "id": f"msg_{about.key}",
            "type": "message",
            "role": "assistant",
            "model": about.model,
        }
        self._blocks = 0
        self._open: str | None = None
        self._refused = False

    def start(self, usage: Usage) -> bytes:
        empty: dict[str, Any] = {
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(usage),
        }
        return _event("message_start", message={**self._message, **empty}) + _event("ping")

    def piece(self, piece: Piece) -> bytes:
        if isinstance(piece, ToolCall):
            begun = self._begin({**_tool_use(piece), "input": {}})
            rest = [
                {"type": "input_json_delta", "partial_json": part} for part in slices(piece.raw)
            ]
            return begun + b"".join(map(self._delta, rest))
        block = _block(piece)
        kind = block["type"]
        self._refused = self._refused or isinstance(piece, Refusal)
        begun = b""
        if self._open != kind:
            empty = {"text": ""} if kind == "text" else {"thinking": "", "signature": ""}
            begun = self._begin({"type": kind, **empty})
        return begun + self._delta({"type": f"{kind}_delta", kind: block[kind]})

    def end(self, ending: Ending) -> bytes:
        delta = _stop(ending, self._refused)
        counted = _event("message_delta", delta=delta, usage=_usage(ending.usage))
        return self._close() + counted + _event("message_stop")

    def error(self, error: RequestError) -> bytes | None:
        return _named("error", error_shape(error))

    def whole(self, pieces: Sequence[Piece], ending: Ending) -> bytes:
        content: list[dict[str, Any]] = []
        for kind, run in itertools.groupby(map(_block, pieces), key=lambda block: block["type"]):
            if kind == "tool_use":
                content += run
            else:
                blocks = list(run)
                content.append({**blocks[0], kind: "".join(block[kind] for block in blocks)})
        refused = any(isinstance(piece, Refusal) for piece in pieces)
        end = {**_stop(ending, refused), "usage": _usage(ending.usage)}
        return json_bytes({**self._message, "content": content, **end})

    def _begin(self, block: dict[str, Any]) -> bytes:
        closed = self._close()
        self._open = block["type"]
        return closed + _event("content_block_start", index=self._blocks, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._blocks, delta=delta)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        signed = b""
        if self._open == "thinking":
            signed = self._delta({"type": "signature_delta", "signature": SIGNATURE})
        stop = _event("content_block_stop", index=self._blocks)
        self._open, self._blocks = None, self._blocks + 1
        return signed + stop


def error_shape(error: RequestError) -> dict[str, Any]:
    """Return an error in Anthropic's shape."""
    kind = ERRORS.get(error.status) or (
        "invalid_request_error" if error.status < 500 else "api_error"
    )
    return {"type": "error", "error": {"type": kind, "message": error.message}}


def _block(piece: Piece) -> dict[str, Any]:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    if isinstance(piece, Refusal):
        return {"type": "text", "text": piece.text}
    if isinstance(piece, ReasoningDelta):
        return {"type": "thinking", "thinking": piece.text, "signature": SIGNATURE}
    if piece.arguments is None:
        raise RequestError(
            f"the model called {piece.name} with arguments that are no JSON object: {piece.raw}",
            status=500,
            code="broken_tool_call",
        )
    return {**_tool_use(piece), "input": piece.arguments}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name}


def _stop(ending: Ending, refused: bool) -> dict[str, Any]:
    reason = REASONS.get(ending.reason, ending.reason)
    if refused:
        reason = "refusal"
    elif ending.stop_sequence is not None:
        reason = "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": ending.stop_sequence}


def _usage(usage: Usage) -> dict[str, int]:
    return {"input_tokens": usage.input_tokens or 0, "output_tokens": usage.output_tokens or 0}


def _event(kind: str, **fields: Any) -> bytes:
    return _named(kind, {"type": kind, **fields})


def _named(kind: str, value: Any) -> bytes:
    # The official clients go by the event's name, others by the type in its data.
    return f"event: {kind}\n".encode() + b"data: " + json_bytes(value) + b"\n\n"
