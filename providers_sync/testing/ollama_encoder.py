"""The encoder of Ollama's chat protocol."""

from __future__ import annotations

import json
from typing import Any

from .base_encoders import MODEL, Encoder, to_json


class OllamaEncoder(Encoder):
    """Encodes lines of JSON; one with ``"done": true`` ends the answer."""

    name = "ollama"
    content_type = "application/x-ndjson"

    def __init__(self) -> None:
        super().__init__()
        self._counts = {"prompt_eval_count": 1, "eval_count": 1}
        self._reason = "stop"

    def event(self, data: Any, name: str | None = None) -> bytes:
        """Return a line; there are no names of events."""
        body = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else to_json(data)
        return body + b"\n"

    def comment(self, text: str) -> bytes:
        return b"\n"

    def ping(self) -> bytes:
        return b"\n"

    def _line(self, message: dict[str, Any], **fields: Any) -> bytes:
        head = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z"}
        message = {"role": "assistant", "content": "", **message}
        return self.event({**head, "message": message, "done": False, **fields})

    def text(self, text: str) -> bytes:
        return self._line({"content": text})

    def reasoning(self, text: str) -> bytes:
        return self._line({"thinking": text})

    def refusal(self, text: str) -> bytes:
        raise self._unsupported("refusal")

    def tool_call(self, name: str, arguments: str, id: str, pieces: int) -> bytes:
        function = {"name": name, "arguments": json.loads(arguments or "{}")}
        return self._line({"tool_calls": [{"id": id, "function": function}]})

    def finish(self, reason: str | None) -> bytes:
        """Set the reason; it stands in the last line."""
        self._reason = reason or "stop"
        return b""

    def usage(self, input_tokens: int, output_tokens: int) -> bytes:
        """Set the counts; they stand in the last line."""
        self._counts = {"prompt_eval_count": input_tokens, "eval_count": output_tokens}
        return b""

    def done(self) -> bytes:
        self.is_over = True
        return self._line({}, done=True, done_reason=self._reason, **self._counts)

    def error(self, message: str, type: str, code: str | None) -> bytes:
        self.is_over = True
        return self.event({"error": message})

    def garbage(self) -> bytes:
        return b'{"model": "m", "message": {"content": oops}}\n'

    def ending(self) -> bytes:
        return b"" if self.is_over else self.done()

    def complete(self, text: str) -> tuple[str, bytes]:
        message = {"role": "assistant", "content": text}
        body = {"model": MODEL, "message": message, "done": True, "done_reason": "stop"}
        return "application/json", to_json({**body, **self._counts})

    def failure(self, message: str, type: str, code: str | None) -> tuple[str, bytes]:
        return "application/json", to_json({"error": message})
