"""The encoder of OpenAI's Responses API."""

from __future__ import annotations

from typing import Any

from .base_encoders import MODEL, EventStreamEncoder, split_text, to_json

_LIMITS = ("max_output_tokens", "content_filter")
"""Finish reasons of a response that is incomplete."""


class ResponsesEncoder(EventStreamEncoder):
    """Encodes typed events; adds ``response.created`` and output items as needed."""

    name = "responses"

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._status: dict[str, Any] = {"status": "completed"}
        self._usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        self._items: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None
        self._texts: list[str] = []

    def event(self, data: Any, name: str | None = None) -> bytes:
        if name is None and isinstance(data, dict):
            name = data.get("type")
        return super().event(data, name)

    def ping(self) -> bytes:
        return self.event({"type": "keepalive", "sequence_number": 0})

    def _response(self, status: dict[str, Any]) -> dict[str, Any]:
        head = {"id": "resp_1", "object": "response", "created_at": 0, "model": MODEL}
        return {**head, "output": self._items, **status}

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        response = self._response({"status": "in_progress", "usage": None})
        return self.event({"type": "response.created", "response": response})

    def _event(self, kind: str, **fields: Any) -> bytes:
        head = {"type": f"response.{kind}", "output_index": len(self._items)}
        return self.event({**head, **fields})

    def _open_item(self, kind: str, part: str, **fields: Any) -> bytes:
        """Begin an item, unless one of this kind with this part is open."""
        if self._open is not None and (self._open["type"], self._open["part"]) == (kind, part):
            return b""
        before = self._start() + self._close()
        item_id = f"{kind}_{len(self._items)}"
        self._open = {"type": kind, "part": part, "id": item_id, **fields}
        item = {"type": kind, "id": item_id, "status": "in_progress", **fields}
        return before + self._event("output_item.added", item=item)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        item, self._open = self._open, None
        text, self._texts = "".join(self._texts), []
        part = item.pop("part")
        if item["type"] == "function_call":
            item["arguments"] = text
        elif item["type"] == "reasoning":
            item["summary"] = [{"type": "summary_text", "text": text}]
        else:
            named = {"refusal": text} if part == "refusal" else {"text": text, "annotations": []}
            item["content"] = [{"type": part, **named}]
        item["status"] = "completed"
        data = self._event("output_item.done", item=item)
        self._items.append(item)
        return data

    def _delta(self, kind: str, text: str, **fields: Any) -> bytes:
        self._texts.append(text)
        return self._event(f"{kind}.delta", item_id="item", delta=text, **fields)

    def text(self, text: str) -> bytes:
        opened = self._open_item("message", "output_text", role="assistant", content=[])
        return opened + self._delta("output_text", text, content_index=0)

    def refusal(self, text: str) -> bytes:
        opened = self._open_item("message", "refusal", role="assistant", content=[])
        return opened + self._delta("refusal", text, content_index=0)

    def reasoning(self, text: str) -> bytes:
        opened = self._open_item("reasoning", "summary_text", summary=[])
        return opened + self._delta("reasoning_summary_text", text, summary_index=0)

    def tool_call(self, name: str, arguments: str, id: str, pieces: int) -> bytes:
        part = f"call {len(self._items)}"
        opened = self._close() if self._open else b""
        opened += self._open_item("function_call", part, call_id=id, name=name, arguments="")
        parts = split_text(arguments, pieces)
        return opened + b"".join(self._delta("function_call_arguments", part) for part in parts)

    def finish(self, reason: str | None) -> bytes:
        if reason in _LIMITS:
            details = {"reason": reason}
            self._status = {"status": "incomplete", "incomplete_details": details}
        return self._start() + self._close()

    def usage(self, input_tokens: int, output_tokens: int) -> bytes:
        total = input_tokens + output_tokens
        self._usage = {"input_tokens": input_tokens, "output_tokens": output_tokens}
        self._usage["total_tokens"] = total
        return b""

    def done(self) -> bytes:
        self.is_over = True
        before = self._start() + self._close()
        response = self._response({**self._status, "usage": self._usage})
        return before + self.event(
            {"type": f"response.{self._status['status']}", "response": response}
        )

    def error(self, message: str, type: str, code: str | None) -> bytes:
        self.is_over = True
        error = {"type": type, "code": code, "message": message, "param": None}
        return self.event({"type": "error", "sequence_number": 0, "error": error})

    def garbage(self) -> bytes:
        return b'event: response.output_text.delta\ndata: {"type": "response.output_text", oops\n\n'

    def complete(self, text: str) -> tuple[str, bytes]:
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant"}
        self._items = [{**item, "content": [part]}]
        response = self._response({"status": "completed", "usage": self._usage})
        return "application/json", to_json(response)
