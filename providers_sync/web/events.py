"""The events of an answer, as server-sent events for a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ..errors import InvalidRequestError
from ..files import image_url
from ..stream import Stream, explain
from ..types import (
    Citation,
    Event,
    Join,
    Media,
    ReasoningDelta,
    Refusal,
    TextDelta,
    ToolCall,
    ToolResult,
)

COMMENT = b":\n\n"
"""Says nothing; a browser ignores it."""
_EVENT_NAMES = {TextDelta: "delta", ReasoningDelta: "reasoning", Refusal: "refusal"}
_WEB_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f-\x9f]{1,8000}", re.IGNORECASE)
_ENCODED = re.compile("[\"'<>`\\\\\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
"""Characters that could end an attribute in HTML, or show a URL as another one."""
_COUNTS = ("input_tokens", "output_tokens", "total_tokens")
_TOOL_FAILURE = "The function was not called, or it failed."


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
    if isinstance(event, Citation):
        source = {"url": _web_url(event.url), "title": event.title, "text": event.text}
        return encode_event("citation", source) if any(source.values()) else b""
    if isinstance(event, Media):
        url = _web_url(event.url) if event.data is None else _image_url(event.data)
        return encode_event("media", {"kind": event.kind, "url": url})
    if isinstance(event, Join):  # its reason may quote the model's server
        return encode_event("join", {"outcome": event.outcome})
    return b""  # usage and finish reason are sent with ``done``


def _web_url(url: str | None) -> str | None:
    """Return a URL that is safe as a link, or ``None``: not ``javascript:``, for example."""
    if not url or not _WEB_URL.fullmatch(url):
        return None
    return _ENCODED.sub(lambda match: quote(match[0]), url)


def _image_url(data: bytes) -> str | None:
    """Return an image as a ``data:`` URL; ``None`` for other bytes, or too many."""
    try:
        return image_url(data)
    except InvalidRequestError:
        return None


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
