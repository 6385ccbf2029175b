"""The events of an answer, as server-sent events for a browser."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..stream import Stream, explain
from ..types import Event, ReasoningDelta, Refusal, TextDelta, ToolCall, ToolResult

COMMENT = b":\n\n"
"""Says nothing; a browser ignores it."""
_EVENT_NAMES = {TextDelta: "delta", ReasoningDelta: "reasoning", Refusal: "refusal"}
_COUNTS = ("input_tokens", "output_tokens", "total_tokens")
_TOOL_FAILURE = "The function was not called, or has failed."


def encode(event: Event) -> bytes:
    """Return an event of the answer; nothing for one that is not sent."""
    if isinstance(event, (TextDelta, ReasoningDelta, Refusal)):
        return encode_event(_EVENT_NAMES[type(event)], {"text": event.text})
    if isinstance(event, ToolCall):  # raw: parsed, it may hold values that JSON lacks, such as NaN
        return encode_event("tool_call", {"id": event.id, "name": event.name, "raw": event.raw})
    if isinstance(event, ToolResult):
        # The text of an exception may hold anything, such as the address of a database.
        shown = {"content": _TOOL_FAILURE} if event.is_error else {}
        return encode_event("tool_result", {**vars(event), **shown})
    return b""  # usage and finish reason are sent with ``done``


def outcome_data(stream: Stream) -> dict[str, Any]:
    """Return the data of ``done``."""
    return {
        "outcome": stream.outcome,
        "finish_reason": stream.finish_reason,
        "is_whole": stream.is_whole,
        "note": explain(stream) or None,
        "model": stream.model,
        "usage": stream.usage and {name: getattr(stream.usage, name) for name in _COUNTS},
        "stats": vars(stream.stats),
    }


def encode_event(name: str, data: Mapping[str, Any]) -> bytes:
    """Return a server-sent event."""
    text = json.dumps(data, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode("ascii")
