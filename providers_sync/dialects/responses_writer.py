"""Writes answers of OpenAI's Responses API: stream events and whole responses.

Source: OpenAI API reference, "The response object" and "Streaming events". Each output item is
added, gets its content in parts and is done; ``response.completed`` or ``response.incomplete`` ends
the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..types import ReasoningDelta, Refusal, ToolCall, Usage
from .openai_writer import error_shape
from .reasons import openai_reason
from .types import AnswerInfo, Delta, Ending, RequestError, json_bytes, raw_arguments, slices

WHOLE = {"stop", "tool_calls"}
INCOMPLETE = {"length": "max_output_tokens"}
"""OpenAI's finish reason → why a response is incomplete; others stay as they are."""
PARTS: dict[str, dict[str, Any]] = {
    "output_text": {"type": "output_text", "text": "", "annotations": [], "logprobs": []},
    "refusal": {"type": "refusal", "refusal": ""},
    "reasoning_text": {"type": "reasoning_text", "text": ""},
}
"""The parts of items, when they are added."""


class ResponsesWriter:
    """Writes server-sent events: at most one output item, and one part of it, is open at a time."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, info: AnswerInfo) -> None:
        self._key = info.key
        self._response: dict[str, Any] = {
            "id": f"resp_{info.key}",
            "object": "response",
            "created_at": info.created,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": None,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "truncation": "disabled",
            **info.request.echoed,
            "model": info.model,
            "output": [],
            "usage": None,
        }
        self._items: list[dict[str, Any]] = []
        self._item: dict[str, Any] | None = None
        self._part: dict[str, Any] | None = None
        self._texts: list[str] = []
        self._events = 0

    def start(self, usage: Usage) -> bytes:
        created = self._event("response.created", response=self._response)
        return created + self._event("response.in_progress", response=self._response)

    def delta(self, delta: Delta) -> bytes:
        if isinstance(delta, ToolCall):
            return self._call(delta)
        if isinstance(delta, ReasoningDelta):
            opened = self._open("reasoning", "reasoning_text")
            kind, text = "response.reasoning_text.delta", delta.text
        elif isinstance(delta, Refusal):
            opened = self._open("message", "refusal")
            kind, text = "response.refusal.delta", delta.text
        else:
            opened = self._open("message", "output_text")
            kind, text = "response.output_text.delta", delta
        self._texts.append(text)
        return opened + self._part_event(kind, delta=text)

    def end(self, ending: Ending) -> bytes:
        closed = self._close_item()
        response = self._ended(ending)
        return closed + self._event(f"response.{response['status']}", response=response)

    def error(self, error: RequestError) -> bytes | None:
        # The reference has the fields of the error in the event; the service and its client have
        # an object besides, and only that makes the official client raise.
        shape = error_shape(error)["error"]
        told = {name: shape[name] for name in ("code", "message", "param")}
        return self._event("error", **told, error=shape)

    def complete(self, deltas: Sequence[Delta], ending: Ending) -> bytes:
        for delta in deltas:
            self.delta(delta)
        self._close_item()
        return json_bytes(self._ended(ending))

    # --- items

    def _call(self, call: ToolCall) -> bytes:
        arguments = raw_arguments(call)
        closed = self._close_item()
        added = self._open_item(
            {
                "type": "function_call",
                "id": f"fc_{self._key}_{len(self._items)}",
                "call_id": call.id,
                "name": call.name,
                "arguments": "",
                "status": "in_progress",
            }
        )
        kind = "response.function_call_arguments"
        events = [self._item_event(f"{kind}.delta", delta=part) for part in slices(arguments)]
        events.append(self._item_event(f"{kind}.done", name=call.name, arguments=arguments))
        assert self._item is not None
        self._item["arguments"] = arguments
        return closed + added + b"".join(events) + self._close_item()

    def _open(self, kind: str, part: str) -> bytes:
        """Open an item and a part of these types, unless they are open; close others."""
        written = b""
        if self._item is None or self._item["type"] != kind:
            written = self._close_item()
            prefix, rest = ("msg", {"role": "assistant"}) if kind == "message" else ("rs", {})
            item_id = f"{prefix}_{self._key}_{len(self._items)}"
            empty: dict[str, Any] = {"content": []}
            if kind == "reasoning":
                empty = {"summary": [], "content": []}
            written += self._open_item(
                {"type": kind, "id": item_id, **rest, "status": "in_progress", **empty}
            )
        if self._part is None or self._part["type"] != part:
            written += self._close_part()
            self._part = {**PARTS[part]}
            written += self._part_event("response.content_part.added", part=self._part)
        return written

    def _open_item(self, item: dict[str, Any]) -> bytes:
        self._item = item
        return self._event("response.output_item.added", output_index=len(self._items), item=item)

    def _close_item(self) -> bytes:
        if self._item is None:
            return b""
        closed = self._close_part()
        item = {**self._item, "status": "completed"}
        done = self._event("response.output_item.done", output_index=len(self._items), item=item)
        self._items.append(item)
        self._item = None
        return closed + done

    def _close_part(self) -> bytes:
        if self._part is None or self._item is None:
            return b""
        kind = self._part["type"]
        field = "refusal" if kind == "refusal" else "text"
        text = "".join(self._texts)
        part = {**self._part, field: text}
        done = self._part_event(f"response.{kind}.done", **{field: text})
        done += self._part_event("response.content_part.done", part=part)
        self._item["content"].append(part)
        self._part = None
        self._texts = []
        return done

    def _ended(self, ending: Ending) -> dict[str, Any]:
        """Return the response after its last item."""
        reason = openai_reason(ending)
        end: dict[str, Any] = {"status": "completed"}
        if reason not in WHOLE:
            details = {"reason": INCOMPLETE.get(reason, reason)}
            end = {"status": "incomplete", "incomplete_details": details}
            if self._items and reason == "length":
                self._items[-1]["status"] = "incomplete"
        return {**self._response, **end, "output": self._items, "usage": _usage(ending.usage)}

    # --- events

    def _part_event(self, kind: str, **fields: Any) -> bytes:
        assert self._item is not None
        if kind.startswith("response.output_text."):
            fields["logprobs"] = []
        return self._item_event(kind, content_index=len(self._item["content"]), **fields)

    def _item_event(self, kind: str, **fields: Any) -> bytes:
        assert self._item is not None
        place = {"item_id": self._item["id"], "output_index": len(self._items)}
        return self._event(kind, **place, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        value = {"type": kind, "sequence_number": self._events, **fields}
        self._events += 1
        return f"event: {kind}\n".encode() + b"data: " + json_bytes(value) + b"\n\n"


def _usage(usage: Usage) -> dict[str, Any] | None:
    """Return the counts, or ``None`` if there are none; the protocol has all of them."""
    if usage == Usage():
        return None
    given, said = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": given,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": given + said if usage.total_tokens is None else usage.total_tokens,
    }
