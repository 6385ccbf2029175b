"""Reads messages in OpenAI's form: their parts, files and tool calls, for all protocols.

Source: OpenAI API reference, "Create chat completion". Besides its parts there are two short
forms, ``{"type": "image", "image": …}`` and ``{"type": "file", "file": …}``, which take a URL, a
path object or bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import InvalidRequestError
from ..files import File, file_source, load_file
from ..returned_messages import arguments_object
from ..types import Message, Messages

SYSTEM_ROLES = ("system", "developer")
_AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}


class SentCall(NamedTuple):
    """A tool call in a message."""

    id: str
    name: str
    arguments: str
    """As JSON; the input itself if the call is a custom one."""
    is_custom: bool
    call: Mapping[str, Any]

    def object(self) -> dict[str, Any]:
        """Return the arguments as an object, the only form that some protocols accept."""
        return arguments_object(self.arguments)


def read_part(part: Mapping[str, Any], name: str) -> str | File | None:
    """Return the text or the file of a part; ``None`` for one of another form.

    >>> read_part({"type": "text", "text": "Hello"}, "messages[0]['content'][0]")
    'Hello'

    Raises ``InvalidRequestError`` for a file that cannot be read.
    """
    for kind in ("text", "refusal"):
        if part["type"] == kind and isinstance(part.get(kind), str):
            return str(part[kind])
    if (found := file_source(part, name)) is not None:
        file = load_file(*found)
        return file if part["type"] == "file" or file.kind == "image" else _as_image(file, found[1])
    detail = part.get(part["type"])
    if part["type"] == "file" and isinstance(detail, Mapping) and detail.get("file_data"):
        return load_file(detail["file_data"], f"{name}['file']['file_data']")
    if part["type"] == "input_audio" and isinstance(detail, Mapping):
        return _audio(detail, name)
    return None


def _as_image(file: File, name: str) -> File:
    """Return the file of an image part, whose address may not tell its type."""
    if file.data is not None and file.media_type.partition("/")[0] != "image":
        raise InvalidRequestError(f"{name} is not an image; use a part of type 'file'")
    return File("image", file.media_type, file.url, file.data, file.name)


def _audio(detail: Mapping[str, Any], name: str) -> File:
    media_type = _AUDIO_TYPES.get(str(detail.get("format")))
    if media_type is None or not isinstance(detail.get("data"), str):
        raise InvalidRequestError(
            f"{name}['input_audio'] must have base64 in 'data', and 'wav' or 'mp3' as its 'format'"
        )
    return File("audio", media_type, None, detail["data"])


def parts_of(message: Mapping[str, Any], name: str) -> list[tuple[Mapping[str, Any], str]]:
    """Return the parts of a message with their names for errors; text is one part."""
    content = message.get("content")
    if isinstance(content, str):
        return [({"type": "text", "text": content}, f"{name}['content']")] if content else []
    return [(part, f"{name}['content'][{i}]") for i, part in enumerate(content or ())]


def text_of_parts(message: Mapping[str, Any], name: str, what: str) -> str:
    """Return the text of a message; raise ``InvalidRequestError`` if it has other parts.

    ``what`` names the message for the error: "a system message".
    """
    texts = []
    for part, place in parts_of(message, name):
        text = read_part(part, place) if part["type"] in ("text", "refusal") else None
        if not isinstance(text, str):
            raise InvalidRequestError(
                f"{place} is of type {part['type']!r}: {what} can contain only text here"
            )
        texts.append(text)
    return "".join(texts)


def cannot_carry(part: Mapping[str, Any], name: str, protocol: str, remedy: str = "") -> Exception:
    """Return the error for a part that a protocol has no place for."""
    return InvalidRequestError(
        f"{name} is of type {part['type']!r}, which {protocol} does not support"
        + (f"; {remedy}" if remedy else "")
    )


def calls_of(message: Mapping[str, Any], name: str) -> list[SentCall]:
    """Return the tool calls of an assistant message; raise ``InvalidRequestError`` if incomplete.

    >>> call = {"id": "1", "function": {"name": "add", "arguments": '{"a": 1}'}}
    >>> [call.object() for call in calls_of({"tool_calls": [call]}, "messages[0]")]
    [{'a': 1}]
    """
    calls = message.get("tool_calls") or []
    if not isinstance(calls, (list, tuple)):
        raise InvalidRequestError(f"{name}['tool_calls'] must be a list")
    return [_call(call, f"{name}['tool_calls'][{i}]") for i, call in enumerate(calls)]


def _call(call: Any, name: str) -> SentCall:
    try:
        is_custom = call.get("type") == "custom" and "custom" in call
        function = call["custom"] if is_custom else call["function"]
        arguments = function.get("input" if is_custom else "arguments") or ""
        if not isinstance(arguments, str):
            raise TypeError(f"{type(arguments).__name__} in place of JSON text")
        call_id, function_name = str(call["id"]), str(function["name"])
    except (TypeError, LookupError, AttributeError) as error:
        raise InvalidRequestError(
            f"{name} is not a tool call: it must have an id and a function with a name and "
            f"arguments: {error!r}"
        ) from error
    return SentCall(
        call_id, function_name, arguments or ("" if is_custom else "{}"), is_custom, call
    )


class SystemArgument(dict[str, Any]):
    """The message for ``system=``, which is none of ``messages``."""


_NOT_PORTABLE = {
    "parts": "Gemini's own form; use 'content' here",
    "output": "the Responses API's own form; use 'content' here",
    "images": "Ollama's own form; use parts of 'content' here",
    "audio": "supported by chat completions only; send its transcript as 'content'",
    "function_call": "OpenAI's old form; use 'tool_calls'",
}
"""Fields of messages that only their own protocol knows: without them, something would be lost."""


def named(messages: Messages) -> list[tuple[str, Message]]:
    """Return each message with its name for errors.

    >>> [name for name, _ in named([SystemArgument(), {}, {}])]
    ['system', 'messages[0]', 'messages[1]']
    """
    skipped = sum(isinstance(message, SystemArgument) for message in messages)
    return [
        ("system" if isinstance(message, SystemArgument) else f"messages[{index}]", message)
        for index, message in enumerate(messages, -skipped)
    ]


def translatable(messages: Messages, own: str = "") -> list[tuple[str, Message]]:
    """Return each message with its name for errors; a ``refusal`` is a part of its content.

    ``own`` is the field that the protocol has for itself. Raises ``InvalidRequestError`` for the
    fields of other protocols, and the role ``function``.
    """
    return [(name, _translatable(message, name, own)) for name, message in named(messages)]


def _translatable(message: Message, name: str, own: str) -> Message:
    for field, remedy in _NOT_PORTABLE.items():
        if message.get(field) and field != own:
            raise InvalidRequestError(f"{name}[{field!r}] is {remedy}")
    if message["role"] == "function":
        raise InvalidRequestError(
            f"{name}['role'] is OpenAI's old form; use 'tool', with the 'tool_call_id' of the call"
        )
    refusal = message.get("refusal")
    if not refusal:
        return message
    parts = [part for part, _ in parts_of(message, name)]
    return {**message, "content": [*parts, {"type": "refusal", "refusal": refusal}]}


def split_system(
    messages: Messages, own: str = ""
) -> tuple[list[tuple[str, Message]], list[tuple[str, Message]]]:
    """Return system messages and the other ones, as ``translatable`` does."""
    pairs = translatable(messages, own)
    system = [pair for pair in pairs if pair[1]["role"] in SYSTEM_ROLES]
    return system, [pair for pair in pairs if pair[1]["role"] not in SYSTEM_ROLES]
