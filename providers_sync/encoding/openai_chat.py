"""Messages for OpenAI's chat completions: they stay as they are, but for a few short forms.

Source: OpenAI API reference, "Create chat completion"; guides "Images", "File inputs", "Audio".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequestError
from ..files import File, file_source, load_file
from ..types import Message, Messages
from .parts import named, read_part

_CACHE = "cache_control"
"""It stands beside what it marks (OpenRouter, "Prompt Caching")."""
_FORMATS = {"audio/wav": "wav", "audio/mpeg": "mp3"}


def with_openai_files(messages: Messages) -> Messages:
    """Return messages with images, PDF and audio in OpenAI's form.

    >>> png = b"\\x89PNG\\r\\n\\x1a\\n"
    >>> turn = {"role": "user", "content": [{"type": "image", "image": png}]}
    >>> with_openai_files([turn])[0]["content"]
    [{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,iVBORw0KGgo='}}]

    The protocol does not know ``is_error`` of a tool's result: the words have to say it. Raises
    ``InvalidRequestError`` for a file that cannot be read or carried.
    """
    return [
        {**message, "content": _parts(message["content"], f"{name}['content']")}
        if isinstance(message.get("content"), list)
        else message
        for name, message in named([_without_is_error(message) for message in messages])
    ]


def _without_is_error(message: Message) -> Message:
    is_result = message["role"] == "tool" and "is_error" in message
    return _without(message, "is_error") if is_result else message


def _parts(parts: list[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    return [_part(part, f"{name}[{index}]") for index, part in enumerate(parts)]


def _part(part: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = file_source(part, name)
    if found is None or (part["type"] == "image_url" and isinstance(found[0], str)):
        return part
    if part["type"] == "file":
        file = load_file(*found)
        made, detail = _file_part(file, name), {}
        if file.kind == "image" and "detail" in part:
            detail = {"detail": part["detail"]}
            made["image_url"] |= detail
        return {**made, **_without(part, "type", "file", *detail)}
    url = {"url": found[0] if isinstance(found[0], str) else _image_url(part, name)}
    if part["type"] == "image":
        rest = _without(part, "type", "image", _CACHE)
        made = {"type": "image_url", "image_url": {**rest, **url}}
        return {**made, _CACHE: part[_CACHE]} if _CACHE in part else made
    detail = part["image_url"]
    return {**part, "image_url": {**detail, **url} if isinstance(detail, Mapping) else url}


def _without(part: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in names}


def _image_url(part: Mapping[str, Any], name: str) -> str:
    file = read_part(part, name)
    assert isinstance(file, File)
    return file.data_url


def _file_part(file: File, name: str) -> dict[str, Any]:
    if file.kind == "image":
        return {"type": "image_url", "image_url": {"url": file.data_url}}
    if file.data is None:
        raise InvalidRequestError(
            f"{name}: chat completions accept only images by URL; download the file, and "
            "pass it as a pathlib.Path or bytes"
        )
    if file.kind == "audio":
        if file.media_type not in _FORMATS:
            raise InvalidRequestError(
                f"{name} must be WAV or MP3: chat completions accept no other audio"
            )
        audio = {"data": file.data, "format": _FORMATS[file.media_type]}
        return {"type": "input_audio", "input_audio": audio}
    return {"type": "file", "file": {"filename": file.name, "file_data": file.data_url}}
