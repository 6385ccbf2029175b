"""Output items of OpenAI's Responses API: what they say, and how they go back.

Reference: OpenAI API, "Responses", the ``output`` array; guide "Conversation state".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..types import Media, ToolCall
from .openai_parts import decode_base64
from .parsing import join_surrogates, json_text
from .tool_calls import parse_arguments

CALLS = ("function_call", "custom_tool_call")
_CALL_KEYS = frozenset({"type", "id", "status", "call_id", "name", "arguments", "input"})
ITEM_KEYS = {
    "message": frozenset({"type", "id", "status", "role", "content"}),
    "reasoning": frozenset({"type", "id", "status", "summary", "content"}),
    **dict.fromkeys(CALLS, _CALL_KEYS),
}
"""Keys of items that are read, or of no use; all other items are ``Extra`` values."""
RESPONSE_KEYS = frozenset(
    {
        *("id", "object", "created_at", "completed_at", "status", "model", "output", "usage"),
        *("error", "incomplete_details", "output_text"),
        # what was asked for
        *("instructions", "max_output_tokens", "max_tool_calls", "parallel_tool_calls", "prompt"),
        *("previous_response_id", "reasoning", "store", "temperature", "text", "tool_choice"),
        *("tools", "top_p", "top_logprobs", "truncation", "user", "metadata", "service_tier"),
        *("background", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("frequency_penalty", "presence_penalty", "conversation", "include", "stream", "input"),
        *("stream_options", "context_management"),
    }
)
"""Keys of a whole response that are read, or repeat the request."""


def is_nameless(item: dict[str, Any]) -> bool:
    """Return whether an item is a call that names no tool."""
    return item.get("type") in CALLS and not item.get("name")


def call_of(item: dict[str, Any]) -> ToolCall:
    """Return the tool call of an item; a custom one has its input in ``raw``."""
    is_custom = item["type"] == "custom_tool_call"
    raw = item.get("input" if is_custom else "arguments") or ""
    raw = join_surrogates(raw if isinstance(raw, str) else json_text(raw))
    call_id = item.get("call_id") or item.get("id") or ""
    return ToolCall(
        join_surrogates(str(call_id)),
        join_surrogates(str(item["name"])),
        None if is_custom else parse_arguments(raw),
        raw,
    )


def image_of(item: dict[str, Any]) -> Media | None:
    """Return the image of an ``image_generation_call``; ``None`` if there is none."""
    data = decode_base64(item.get("result"))
    if data is None:
        return None
    form = item.get("output_format")
    return Media("image", f"image/{form}" if isinstance(form, str) else None, data)


def text_parts(item: dict[str, Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield the kind and the index of each part of an item that has text, and the part."""
    for name, default in (("summary", "summary_text"), ("content", "")):
        parts = item.get(name) or ()
        if item.get("type") not in ITEM_KEYS and not isinstance(parts, list):
            continue
        if isinstance(parts, str):
            parts = [{"type": default or "output_text", "text": parts}]
        for index, part in enumerate(parts):
            if isinstance(part, dict):
                yield part.get("type") or default, index, part
            elif item.get("type") in ITEM_KEYS:
                raise TypeError("a part is no object")


def returned_items(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items as they go back, empty if the text and the calls say as much.

    Reasoning goes back if it says something without the server's memory. Without it, the ids of
    the other items must not refer to it.
    """
    kept = [item for item in items if item.get("type") != "reasoning" or _can_go_back(item)]
    if len(kept) < len(items):
        kept = [
            {key: value for key, value in item.items() if key != "id"}
            if item.get("type") in ("message", *CALLS)
            else item
            for item in kept
        ]
    kinds = [item.get("type") for item in kept]
    is_portable = kinds in (
        [],
        *(["message"] * messages + ["function_call"] * kinds.count("function_call")
          for messages in (0, 1)),
    )  # fmt: skip
    if is_portable and all(map(_is_portable, kept)):
        return []
    return kept


def _can_go_back(reasoning: dict[str, Any]) -> bool:
    return bool(reasoning.get("encrypted_content") or reasoning.get("content"))


def _is_portable(item: dict[str, Any]) -> bool:
    if any(item[key] for key in item.keys() - ITEM_KEYS[item["type"]]):
        return False
    parts = item.get("content") or []
    if isinstance(parts, str):
        return True
    return len(parts) <= 1 and all(part.get("type") == "output_text" for part in parts)
