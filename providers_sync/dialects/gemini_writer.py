"""Writes Gemini's answers: chunks of a stream, complete answers, errors.

A stream is one of server-sent events, or a JSON array if the client has not asked for ``alt=sse``.
Source: Gemini API reference, ``GenerateContentResponse``; AIP-193 (errors).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..types import ReasoningDelta, Refusal, Usage
from .reasons import openai_reason
from .types import AnswerInfo, Delta, Ending, RequestError, json_bytes, raw_arguments

REASONS = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
"""OpenAI's finish reason → Gemini's."""
OWN_REASONS = {
    *("STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT"),
    *("SPII", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
    *("MISSING_THOUGHT_SIGNATURE", "IMAGE_SAFETY", "NO_IMAGE"),
}
OTHER = "OTHER"
"""Of reasons that the protocol has no name for; ``finishMessage`` tells them."""
MALFORMED = "MALFORMED_FUNCTION_CALL"
STATES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
"""Name of an error by HTTP status; others are ``INVALID_ARGUMENT`` below 500, else ``INTERNAL``."""


class GeminiWriter:
    """Writes one chunk for each delta, and one with the finish reason and the counts."""

    def __init__(self, info: AnswerInfo) -> None:
        self._head = {"modelVersion": info.model, "responseId": info.key}
        self._shows_thoughts = info.request.echoed.get("thoughts", True)
        self._is_array = info.request.echoed.get("alt") != "sse"
        self._is_open = False
        self._refused = False
        self._malformed: list[str] = []
        self.content_type = (
            "application/json; charset=utf-8"
            if self._is_array
            else "text/event-stream; charset=utf-8"
        )

    def start(self, usage: Usage) -> bytes:
        return b""

    def delta(self, delta: Delta) -> bytes:
        part = self._part(delta)
        return b"" if part is None else self._element(self._answer([part]))

    def end(self, ending: Ending) -> bytes:
        # The official client's chats keep no answer that has a chunk without parts.
        last = self._answer([{"text": ""}], ending)
        return self._element(last) + (b"]" if self._is_array else b"")

    def error(self, error: RequestError) -> bytes | None:
        return self._element(error_shape(error)) + (b"]" if self._is_array else b"")

    def complete(self, deltas: Sequence[Delta], ending: Ending) -> bytes:
        parts: list[dict[str, Any]] = []
        texts: list[str] = []
        for part in filter(None, map(self._part, deltas)):
            if not (parts and "text" in part and {**part, "text": ""} == parts[-1]):
                _set_text(parts, texts)
                parts.append({**part, "text": ""} if "text" in part else part)
            texts += [part["text"]] if "text" in part else []
        _set_text(parts, texts)
        return json_bytes(self._answer(parts or [{"text": ""}], ending))

    def _part(self, delta: Delta) -> dict[str, Any] | None:
        """Return the part for a delta, ``None`` if there is none to send."""
        if isinstance(delta, str):
            return {"text": delta}
        if isinstance(delta, Refusal):
            self._refused = True
            return {"text": delta.text}
        if isinstance(delta, ReasoningDelta):
            return {"text": delta.text, "thought": True} if self._shows_thoughts else None
        raw = raw_arguments(delta)
        if delta.arguments is None and raw:
            # The protocol's arguments are an object; the finish reason tells of others.
            self._malformed.append(f"{delta.name}({raw})")
            return None
        call = {"id": delta.id, "name": delta.name, "args": delta.arguments or {}}
        return {"functionCall": call}

    def _answer(self, parts: list[dict[str, Any]], ending: Ending | None = None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        counts = {}
        if ending is not None:
            candidate |= self._reason(ending)
            counts = {"usageMetadata": _counts(ending.usage)}
        return {"candidates": [candidate], **counts, **self._head}

    def _reason(self, ending: Ending) -> dict[str, str]:
        if self._malformed:
            message = "Malformed function call: " + ", ".join(self._malformed)
            return {"finishReason": MALFORMED, "finishMessage": message}
        if self._refused:
            return {"finishReason": "SAFETY"}
        own = ending.reason.upper()
        reason = own if own in OWN_REASONS else REASONS.get(openai_reason(ending), OTHER)
        unnamed = {"finishMessage": ending.reason} if reason == OTHER else {}
        return {"finishReason": reason, **unnamed}

    def _element(self, value: dict[str, Any]) -> bytes:
        if not self._is_array:
            return b"data: " + json_bytes(value) + b"\n\n"
        separator, self._is_open = (b",\r\n" if self._is_open else b"["), True
        return separator + json_bytes(value)


def error_shape(error: RequestError) -> dict[str, Any]:
    """Return an error in the form of Google's services."""
    default = "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL"
    state = STATES.get(error.status, default)
    return {"error": {"code": error.status, "message": error.message, "status": state}}


def _set_text(parts: list[dict[str, Any]], texts: list[str]) -> None:
    """Give the last part the text that was collected for it."""
    if texts:
        parts[-1]["text"] = "".join(texts)
        texts.clear()


def _counts(usage: Usage) -> dict[str, int]:
    """Return the counts; the candidates' are those without the thoughts'."""
    output = usage.output_tokens
    if output is not None:
        output = max(0, output - (usage.reasoning_tokens or 0))
    total = usage.total_tokens
    if total is None and usage.input_tokens is not None:
        total = usage.input_tokens + (usage.output_tokens or 0)
    counts = {
        "promptTokenCount": usage.input_tokens,
        "cachedContentTokenCount": usage.cached_tokens,
        "candidatesTokenCount": output,
        "thoughtsTokenCount": usage.reasoning_tokens,
        "totalTokenCount": total,
    }
    return {name: count for name, count in counts.items() if count is not None}
