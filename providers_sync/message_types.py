"""Messages and their parts as ``TypedDict``\\ s, for annotations; a plain dict does as well.

::

    from providers_sync.message_types import UserMessage

    question: UserMessage = {"role": "user", "content": [{"type": "image", "image": Path("a.png")}]}

This is OpenAI's form, which every protocol takes, with two short forms: ``ImagePart`` and
``FilePart`` take an ``http:``, ``https:`` or ``data:`` URL as a string, a path object, or bytes.
Source: OpenAI API reference, "Create chat completion".
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Union

FileSource = Union[str, "os.PathLike[str]", bytes]


class Markable(TypedDict, total=False):
    """May mark the end of what the server caches; sent only in protocols that support it."""

    cache_control: Mapping[str, Any]


class TextPart(Markable):
    """Text."""

    type: Literal["text"]
    text: str


class ImagePart(Markable):
    """An image."""

    type: Literal["image"]
    image: FileSource


class ImageURLPart(Markable):
    """An image in OpenAI's own form: ``{"url": …, "detail": …}``."""

    type: Literal["image_url"]
    image_url: FileSource | Mapping[str, Any]


class FilePart(Markable):
    """An image, a PDF or audio; or a dict in OpenAI's own form: ``{"file_data": …}``."""

    type: Literal["file"]
    file: FileSource | Mapping[str, Any]


class AudioPart(Markable):
    """Audio in OpenAI's own form: ``{"data": …, "format": "wav"}``."""

    type: Literal["input_audio"]
    input_audio: Mapping[str, str]


Part = Union[TextPart, ImagePart, ImageURLPart, FilePart, AudioPart]


class SystemMessage(Markable):
    """Instructions for the model."""

    role: Literal["system", "developer"]
    content: str | Sequence[TextPart]


class NamedMessage(Markable, total=False):
    """A message that may name its author, for ``OpenAICompatible``."""

    name: str


class UserMessage(NamedMessage):
    """What the user says."""

    role: Literal["user"]
    content: str | Sequence[Part | Mapping[str, Any]]


class CalledFunction(TypedDict):
    """The function of a call, with its arguments as JSON text."""

    name: str
    arguments: str


class FunctionToolCall(Markable):
    """A call of a function by the model."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class OptionalToolCalls(NamedMessage, total=False):
    """A message that may have calls."""

    tool_calls: Sequence[FunctionToolCall | Mapping[str, Any]]


class AssistantMessage(OptionalToolCalls):
    """What the model has said; ``completion.message`` is one, with more in it."""

    role: Literal["assistant"]
    content: str | Sequence[Part | Mapping[str, Any]] | None


class OptionalError(Markable, total=False):
    """A result that may be an error; Anthropic is told so."""

    is_error: bool


class ToolMessage(OptionalError):
    """The result of a call."""

    role: Literal["tool"]
    tool_call_id: str
    content: str | Sequence[Part | Mapping[str, Any]]


AnyMessage = Union[SystemMessage, UserMessage, AssistantMessage, ToolMessage]
