"""Output items of OpenAI's Responses API: what they say, and how they go back.

Reference: OpenAI API, "Responses", the ``output`` array; guide "Conversation state".
"""

from __future__ import annotations

from typing import Any

from ..error_words import as_text
from ..errors import MalformedStream
from ..types import Media, ToolCall
from .openai_parts import decode_base64, media_from_url, text_of
from .parsing import SHOWN_CHARACTERS, join_surrogates, json_text
from .tool_calls import parse_arguments

CALLS = ("function_call", "custom_tool_call")
EVENT_KEYS = frozenset(
    {
        *("type", "sequence_number", "item_id", "output_index", "content_index", "summary_index"),
        *("delta", "text", "refusal", "part", "item", "obfuscation", "name", "arguments", "input"),
        *("annotation", "annotations", "annotation_index", "response", "logprobs", "call_id"),
    }
)
"""Keys of events that are read, or of no use."""
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


def kind_of(item: dict[str, Any]) -> str:
    """Return the type of an item; one with a role is a message."""
    return as_text(item.get("type") or ("message" if "role" in item else ""))


def normalized(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item whose parts and arguments have the form of OpenAI's.

    >>> normalized({"type": "message", "content": "Hello"})["content"]
    [{'type': 'output_text', 'text': 'Hello'}]
    """
    kind = kind_of(item)
    if kind in CALLS:
        inputs = {key: input_text(item[key]) for key in _INPUTS if item.get(key) is not None}
        return {**item, **inputs}
    parts: dict[str, Any] = {
        key: _parts(item[key], name) for key, name in _PARTS.get(kind, ()) if item.get(key)
    }
    if kind == "message":
        parts = {"type": kind, "content": [], **parts}
    elif kind == "reasoning" and item.get("summary") is None:
        parts["summary"] = []  # it must be there
    return {**item, **parts}


_INPUTS = ("arguments", "input")
_PARTS = {
    "message": (("content", "output_text"),),
    "reasoning": (("summary", "summary_text"), ("content", "reasoning_text")),
}
"""Keys of items that hold parts, and the type of a part that does not tell its own."""


def input_text(value: Any) -> str:
    """Return a call's arguments, or a piece of them; some servers send an object."""
    return value if isinstance(value, str) else "" if value is None else json_text(value)


def _parts(value: Any, name: str) -> list[dict[str, Any]]:
    parts = value if isinstance(value, list) else [value]
    return [
        {**part, "type": part_kind(part, name)}
        if isinstance(part, dict)
        else {"type": name, "text": _string(part)}
        for part in parts
        if part
    ]


def _string(part: Any) -> str:
    if not isinstance(part, str):
        raise TypeError("a part is not an object")
    return part


def part_kind(part: dict[str, Any], default: str) -> str:
    """Return the type of a part; ``default`` if it does not tell."""
    kind = as_text(part.get("type") or default)
    return "output_text" if kind == "text" else kind


def is_nameless(item: dict[str, Any]) -> bool:
    """Return whether a call names no tool."""
    return not item.get("name")


def call_of(item: dict[str, Any]) -> ToolCall:
    """Return the tool call of an item; a custom one has its input in ``raw``.

    Raises ``MalformedStream`` if it names no tool.
    """
    is_custom = item.get("type") == "custom_tool_call"
    raw = join_surrogates(item.get("input" if is_custom else "arguments") or "")
    call_id = join_surrogates(as_text(item.get("call_id") or item.get("id") or ""))
    if is_nameless(item):
        shown = f"{call_id} {raw[:SHOWN_CHARACTERS]}".strip()
        raise MalformedStream(f"the model calls a tool without naming it: {shown}")
    return ToolCall(
        call_id,
        join_surrogates(as_text(item["name"])),
        None if is_custom else parse_arguments(raw),
        raw,
    )


def image_of(item: dict[str, Any]) -> Media | None:
    """Return the image of an ``image_generation_call``; ``None`` if there is none."""
    result = item.get("result")
    if isinstance(result, str) and result.startswith(("data:", "https:")):
        return media_from_url("image", result)
    data = decode_base64(result)
    if data is None:
        return None
    form = item.get("output_format")
    return Media("image", f"image/{form}" if isinstance(form, str) else None, data)


def text_parts(item: dict[str, Any]) -> list[tuple[str, int, dict[str, Any]]]:
    """Return the kind and the index of each part of an item that has text, and the part."""
    return [
        (part["type"], index, part)
        for name, _ in _PARTS.get(item["type"], ())
        for index, part in enumerate(item.get(name) or ())
    ]


def text_length(item: dict[str, Any]) -> int:
    """Return how many characters the parts of an item have."""
    return sum(len(text_of(part)) for _, _, part in text_parts(item))


def returned_items(items: list[dict[str, Any]], *, is_stored: bool) -> list[dict[str, Any]]:
    """Return the items as they go back, empty if the text and the calls say as much.

    Reasoning goes back if it says something without the server's memory, or the server has stored
    it. Without it, the ids of the other items must not refer to it. The API refuses reasoning that
    nothing follows, which an answer has that was cut off.
    """
    end = len(items)
    while end and items[end - 1].get("type") == "reasoning":
        end -= 1
    items = items[:end]
    kept = [
        item for item in items if item.get("type") != "reasoning" or is_stored or _can_go_back(item)
    ]
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
    return len(parts) <= 1 and all(part.get("type") == "output_text" for part in parts)
