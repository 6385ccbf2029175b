"""The encoder of Gemini's protocol."""

from __future__ import annotations

import json
from typing import Any

from .base_encoders import MODEL, EventStreamEncoder, to_json

_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "overloaded_error": 503,
}
"""The code of an error by its type; of all others 500."""


class GeminiEncoder(EventStreamEncoder):
    """Encodes events with ``candidates``; a ``finishReason`` ends the answer."""

    name = "gemini"

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, int] = {"promptTokenCount": 1, "totalTokenCount": 1}
        self._finished = False

    def _parts(self, *parts: dict[str, Any]) -> bytes:
        self._finished = False  # a reason before it proves nothing any more
        return self._candidate({"content": {"parts": [*parts], "role": "model"}})

    def _candidate(self, candidate: dict[str, Any]) -> bytes:
        value = {"candidates": [{"index": 0, **candidate}], "usageMetadata": self._counts}
        return self.event({**value, "modelVersion": MODEL, "responseId": "r1"})

    def text(self, text: str) -> bytes:
        return self._parts({"text": text})

    def reasoning(self, text: str) -> bytes:
        return self._parts({"text": text, "thought": True})

    def refusal(self, text: str) -> bytes:
        raise self._unsupported("refusal")

    def tool_call(self, name: str, arguments: str, id: str, pieces: int) -> bytes:
        return self._parts(
            {"functionCall": {"name": name, "args": json.loads(arguments or "{}"), "id": id}}
        )

    def finish(self, reason: str | None) -> bytes:
        self._finished = True
        return self._candidate({"finishReason": reason or "STOP"})

    def usage(self, input_tokens: int, output_tokens: int) -> bytes:
        counts = {"promptTokenCount": input_tokens, "candidatesTokenCount": output_tokens}
        self._counts = {**counts, "totalTokenCount": input_tokens + output_tokens}
        return self.event({"usageMetadata": self._counts, "modelVersion": MODEL})

    def done(self) -> bytes:
        """Return a finish reason: the protocol has no other end marker."""
        self.is_over = True
        return b"" if self._finished else self.finish(None)

    def error(self, message: str, type: str, code: str | None) -> bytes:
        self.is_over = True
        status = _STATUSES.get(type, 500)
        return self.event({"error": {"code": status, "message": message, "status": type}})

    def garbage(self) -> bytes:
        return b'data: {"candidates": [{"content": {"parts": [oops\n\n'

    def complete(self, text: str) -> tuple[str, bytes]:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        body = {"candidates": [{**candidate, "finishReason": "STOP"}], "modelVersion": MODEL}
        return "application/json", to_json({**body, "usageMetadata": self._counts})

    def failure(self, message: str, type: str, code: str | None) -> tuple[str, bytes]:
        status = _STATUSES.get(type, 500)
        body = {"error": {"code": status, "message": message, "status": type}}
        return "application/json", to_json(body)
