"""Messages for Gemini's protocol.

``cache_control`` has no counterpart: the server caches by itself, or what ``cachedContent`` names.
Source: Gemini API reference, ``Content`` and ``Part``; guides "Function calling", "Thought
signatures", "File input methods", "Document understanding".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import InvalidRequestError
from ..files import File
from ..server_json import load_object
from ..types import Messages
from .parts import calls_of, cannot_carry, parts_of, read_part, split_system, text_of_parts

_PROTOCOL = "Gemini's protocol"
_NO_SIGNATURE = "skip_thought_signature_validator"
"""Stands for the signature of a call that another model has made ("Thought signatures", FAQ)."""
_SINCE_3 = re.compile(r"(^|/)gemini-(?!1|2|pro$|pro-vision)")
"""Names of Gemini 3 and what follows it; ``gemini-flash-latest`` is one."""


class _Call(NamedTuple):
    """A call in the messages so far."""

    function: str
    position: int
    has_own_id: bool
    """Whether the server gave it the id."""


def is_since_3(model: str) -> bool:
    """Return whether a model is Gemini 3 or later: it refuses calls without a signature.

    >>> is_since_3("gemini-3-pro"), is_since_3("gemini-flash-latest"), is_since_3("gemini-2.5-pro")
    (True, True, False)
    """
    return _SINCE_3.search(model) is not None


def split_messages(
    messages: Messages, model: str
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the system instruction, if any, and the other messages as contents.

    >>> split_messages([{"role": "user", "content": "Hi"}], "gemini-3-pro")
    (None, [{'role': 'user', 'parts': [{'text': 'Hi'}]}])

    Raises ``InvalidRequestError`` for a part that the protocol cannot carry, an incomplete tool
    call, a result of no known call, a file that cannot be read, and system messages alone.
    """
    system, turns = split_system(messages, own="parts")
    texts = [text_of_parts(message, name, "a system message") for name, message in system]
    instruction = {"parts": [{"text": text} for text in texts if text]}
    if not turns:
        raise InvalidRequestError(
            f"messages has only system messages: {_PROTOCOL} needs at least one with another role"
        )
    contents = _contents(turns, model) or [{"role": "user", "parts": [{"text": ""}]}]
    return (instruction if instruction["parts"] else None), contents


def _contents(messages: list[tuple[str, Any]], model: str) -> list[dict[str, Any]]:
    contents: list[dict[str, Any]] = []
    calls: dict[str, _Call] = {}
    results: list[tuple[int, Any]] = []
    """Those since the last message of another role, with the positions of their calls."""
    for name, message in messages:
        if message["role"] == "tool":
            if not results:
                contents.append({"role": "user"})
            results.append(_result(message, name, calls))
            # Without ids, the server tells results of one function apart by their order.
            results.sort(key=lambda result: result[0])
            contents[-1]["parts"] = [part for _, part in results]
            continue
        results = []
        parts = _turn_parts(message, name, calls, needs_signature=is_since_3(model))
        if parts:
            role = "model" if message["role"] in ("assistant", "model") else "user"
            contents.append({"role": role, "parts": parts})
    return contents


def _turn_parts(
    message: Mapping[str, Any], name: str, calls: dict[str, _Call], *, needs_signature: bool
) -> list[Any]:
    made = calls_of(message, name)
    returned = _own_parts(message, name)
    own_ids = [part["functionCall"].get("id") for part in returned if "functionCall" in part]
    calls.update(
        (call.id, _Call(call.name, position, call.id in own_ids))
        for position, call in enumerate(made)
    )
    parts = returned or [_part(part, place) for part, place in parts_of(message, name)]
    if not returned:
        parts += [{"functionCall": {"name": call.name, "args": call.object()}} for call in made]
    first = next((i for i, part in enumerate(parts) if "functionCall" in part), None)
    if needs_signature and first is not None and "thoughtSignature" not in parts[first]:
        parts[first] = {**parts[first], "thoughtSignature": _NO_SIGNATURE}
    return parts


def _own_parts(message: Mapping[str, Any], name: str) -> list[Any]:
    """Return the parts of a message in Gemini's own form, if it has some."""
    parts = message.get("parts")
    if parts is None:
        return []
    if not isinstance(parts, (list, tuple)) or not all(isinstance(p, Mapping) for p in parts):
        raise InvalidRequestError(f"{name}['parts'] must be a list of dicts, in Gemini's own form")
    if not all(isinstance(part.get("functionCall", {}), Mapping) for part in parts):
        raise InvalidRequestError(f"{name}['parts'] has a 'functionCall' that is not a dict")
    if message["role"] != "assistant" and message.get("content"):
        raise InvalidRequestError(
            f"{name} has both 'content' and 'parts', which is Gemini's own form: leave one empty"
        )
    return list(parts)


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
    message: Mapping[str, Any], name: str, calls: Mapping[str, _Call]
) -> tuple[int, dict[str, Any]]:
    """Return the position of the call and its result; a result that is an object stays one."""
    call_id = str(message.get("tool_call_id"))
    call = calls.get(call_id)
    function = message.get("name") if call is None else call.function
    if not function or not isinstance(function, str):
        raise InvalidRequestError(
            f"{name}['tool_call_id'] does not match any call in the messages before it: "
            "Gemini needs the name of the function; add it as 'name'"
        )
    texts, files = [], []
    for part, place in parts_of(message, name):
        made = _part(part, place)
        if "text" in made:
            texts.append(made["text"])
        else:
            files.append(made)
    text = "".join(texts)
    value = load_object(text)
    if message.get("is_error"):
        value = value if value and "error" in value else {"error": value or text}
    response: dict[str, Any] = {"name": function, "response": value or {"output": text}}
    if call is not None and call.has_own_id:
        response["id"] = call_id
    if files:
        response["parts"] = files
    return (len(calls) if call is None else call.position), {"functionResponse": response}
