"""Reads the messages of Ollama's requests into OpenAI's form.

Source: Ollama API, "Generate a chat completion"; guides "Tool calling", "Vision", "Thinking".
"""

from __future__ import annotations

import base64
import json
from typing import Any

from ..types import Message, Messages
from . import validation
from .open_calls import OpenCalls
from .types import RequestError

ROLES = ("system", "user", "assistant", "tool")
SIGNATURES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)
"""First bytes of an image → its type, which the protocol does not tell."""
SNIFFED = 16
"""Bytes that tell the type; as many characters of base64, and a third more."""


def read_messages(value: Any) -> Messages:
    """Return the messages in OpenAI's form; calls without ids get some."""
    messages = validation.check_list(value, "messages")
    if not messages:
        raise RequestError(
            "messages must be a list with at least one message: this gateway does not load models"
        )
    reader = _MessageReader()
    return [reader.read(each, f"messages[{i}]") for i, each in enumerate(messages)]


class _MessageReader:
    """Reads messages in their order."""

    def __init__(self) -> None:
        self._calls = OpenCalls()

    def read(self, value: Any, name: str) -> Message:
        turn = validation.check_object(value, name)
        role = turn.get("role")
        if role not in ROLES:
            raise RequestError(f"{name}.role must be one of {', '.join(ROLES)}")
        content = turn.get("content")
        text = "" if content is None else validation.check_text(content, f"{name}.content")
        message: Message = {"role": role, "content": text}
        if images := validation.check_list(turn.get("images") or [], f"{name}.images"):
            numbered = enumerate(images)
            parts = [_image(each, f"{name}.images[{i}]") for i, each in numbered]
            message["content"] = [*([{"type": "text", "text": text}] if text else []), *parts]
        if role == "assistant":
            self._read_assistant(turn, message, name)
        elif role == "tool":
            message["tool_call_id"] = self._call_id(turn, name)
        return message

    def _read_assistant(self, turn: dict[str, Any], message: Message, name: str) -> None:
        calls = validation.check_list(turn.get("tool_calls") or [], f"{name}.tool_calls")
        if calls:
            numbered = enumerate(calls)
            message["tool_calls"] = [
                self._call(each, f"{name}.tool_calls[{i}]") for i, each in numbered
            ]
            message["content"] = message["content"] or None
        if thinking := turn.get("thinking"):
            message["reasoning_content"] = validation.check_text(thinking, f"{name}.thinking")

    def _call(self, value: Any, name: str) -> dict[str, Any]:
        call = validation.check_object(value, name)
        function = validation.check_object(call.get("function"), f"{name}.function")
        tool = validation.check_name(function.get("name"), f"{name}.function.name", "a tool")
        arguments = function.get("arguments")
        if arguments is None:
            arguments = {}
        arguments = validation.check_object(arguments, f"{name}.function.arguments")
        call_id = validation.check_text(call.get("id") or "", f"{name}.id")
        as_text = json.dumps(arguments, ensure_ascii=False)
        return {
            "id": self._calls.add(call_id, tool),
            "type": "function",
            "function": {"name": tool, "arguments": as_text},
        }

    def _call_id(self, turn: dict[str, Any], name: str) -> str:
        """Return the id of the call that a result belongs to."""
        call_id = validation.check_text(turn.get("tool_call_id") or "", f"{name}.tool_call_id")
        tool = validation.check_text(turn.get("tool_name") or "", f"{name}.tool_name")
        call_id = self._calls.take(call_id, tool)
        if not call_id:
            raise RequestError(
                f"{name} does not match any call: the messages before it must have one in "
                f"tool_calls" + (f", of the tool {tool!r}" if tool else "")
            )
        return call_id


def _image(value: Any, name: str) -> dict[str, Any]:
    """Return an image in OpenAI's form."""
    data = validation.check_text(value, name)
    try:
        start = base64.b64decode(data[: SNIFFED // 3 * 4 + 4], validate=True)
    except ValueError:
        raise RequestError(f"{name} must be an image in base64") from None
    return {"type": "image_url", "image_url": {"url": f"data:{_image_type(start)};base64,{data}"}}


def _image_type(start: bytes) -> str:
    """Return the type of an image by its first bytes; it is PNG if they are not known.

    >>> _image_type(b"GIF89a"), _image_type(b"RIFF....WEBP")
    ('image/gif', 'image/webp')
    """
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for first, kind in SIGNATURES if start.startswith(first)), "image/png")
