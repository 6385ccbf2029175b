"""Messages for Gemini's protocol.

Source: Gemini API reference, ``Content`` and ``Part``; guides "Function calling", "Thought
signatures", "File input methods", "Document understanding".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequestError
from ..files import File
from ..server_json import load_json
from ..types import Messages
from .parts import calls_of, cannot_carry, parts_of, read_part, split_system, text_of_parts

_PROTOCOL = "Gemini's protocol"
_NO_SIGNATURE = "skip_thought_signature_validator"
"""Stands for the signature of a call that another model has made ("Thought signatures", FAQ)."""


def split_messages(
    messages: Messages, model: str
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the system instruction, if any, and the other messages as contents.

    >>> split_messages([{"role": "user", "content": "Hi"}], "gemini-3-pro")
    (None, [{'role': 'user', 'parts': [{'text': 'Hi'}]}])

    Raises ``InvalidRequestError`` for a part that the protocol cannot carry, an incomplete tool
    call, a result of no known call, and a file that cannot be read.
    """
    system, turns = split_system(messages)
    texts = [text_of_parts(message, name, "a system message") for name, message in system]
    instruction = {"parts": [{"text": text} for text in texts if text]}
    return (instruction if instruction["parts"] else None), _contents(turns, model)


def _contents(messages: list[tuple[str, Any]], model: str) -> list[dict[str, Any]]:
    contents: list[dict[str, Any]] = []
    names: dict[str, tuple[str, bool]] = {}
    """The function of each call, and whether the server gave it the id."""
    results: list[Any] | None = None
    for name, message in messages:
        if message["role"] == "tool":
            if results is None:
                results = []
                contents.append({"role": "user", "parts": results})
            results.append(_result(message, name, names))
            continue
        results = None
        parts = _turn_parts(message, name, names, needs_signature=_is_signing(model))
        if parts:
            role = "model" if message["role"] == "assistant" else "user"
            contents.append({"role": role, "parts": parts})
    return contents


def _is_signing(model: str) -> bool:
    """Return whether a model refuses calls without a signature."""
    return "gemini-3" in model


def _turn_parts(
    message: Mapping[str, Any],
    name: str,
    names: dict[str, tuple[str, bool]],
    *,
    needs_signature: bool,
) -> list[Any]:
    calls = calls_of(message, name)
    returned = message.get("parts")
    own_ids = {
        part["functionCall"].get("id")
        for part in (returned if isinstance(returned, list) else ())
        if isinstance(part.get("functionCall"), Mapping)
    }
    names.update((call.id, (call.name, call.id in own_ids)) for call in calls)
    if isinstance(returned, list):
        return returned
    parts: list[Any] = [_part(part, place) for part, place in parts_of(message, name)]
    for number, call in enumerate(calls):
        part: dict[str, Any] = {"functionCall": {"name": call.name, "args": call.object()}}
        if needs_signature and number == 0:
            part["thoughtSignature"] = _NO_SIGNATURE
        parts.append(part)
    return parts


def _part(part: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = read_part(part, name)
    if isinstance(value, str):
        return {"text": value}
    if value is None:
        raise cannot_carry(part, name, _PROTOCOL)
    return _file(value, name)


def _file(file: File, name: str) -> dict[str, Any]:
    if file.data is not None:
        return {"inlineData": {"mimeType": file.media_type, "data": file.data}}
    source = {"fileUri": file.url}
    return {"fileData": {"mimeType": file.media_type, **source} if file.media_type else source}


def _result(
    message: Mapping[str, Any], name: str, names: Mapping[str, tuple[str, bool]]
) -> dict[str, Any]:
    """Return the result of a call; an object stays one."""
    call_id = str(message.get("tool_call_id"))
    function, has_own_id = names.get(call_id, (message.get("name"), False))
    if not function:
        raise InvalidRequestError(
            f"{name}['tool_call_id'] is that of no call in the messages before it: Gemini needs "
            "the name of the function"
        )
    texts, files = [], []
    for part, place in parts_of(message, name):
        made = _part(part, place)
        if "text" in made:
            texts.append(made["text"])
        else:
            files.append(made)
    text = "".join(texts)
    key = "error" if message.get("is_error") else "output"
    response: dict[str, Any] = {"name": function, "response": _object(text) or {key: text}}
    if has_own_id:
        response["id"] = call_id
    if files:
        response["parts"] = files
    return {"functionResponse": response}


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = load_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
