"""The answer of a model as a message of the next request, with what its protocol wants back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .errors import InvalidRequestError
from .server_json import load_object
from .types import Message, Messages, ProtocolMessage, ToolCall

RETURNED = "providers_sync"
"""The key of an assistant message for what its protocol wants back unchanged."""
RETURNED_VERSION = 1
RETURNED_LEVELS = 100
"""Limit of the nesting of what goes back: JSON of it must be readable on any stack."""
_FAMILY = re.compile(r"[a-z]*")


def is_shallow(value: object) -> bool:
    """Return whether a value has at most ``RETURNED_LEVELS`` levels.

    >>> is_shallow({"content": [{"type": "text"}]})
    True
    """
    inner = [value]
    for _ in range(RETURNED_LEVELS):
        inner = [
            each
            for outer in inner
            if isinstance(outer, (dict, list))
            for each in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return not inner


def assistant_message(
    text: str,
    calls: Iterable[ToolCall],
    protocol_message: ProtocolMessage | None = None,
    model: str | None = None,
    server: str = "",
) -> Message:
    """Return the message of an answer in OpenAI's form, as JSON.

    >>> assistant_message("Hello", ())
    {'role': 'assistant', 'content': 'Hello'}
    """
    message: Message = {"role": "assistant", "content": text}
    tool_calls = [_tool_call(call) for call in calls]
    if tool_calls:
        message.update(content=text or None, tool_calls=tool_calls)
    if protocol_message is not None:
        message[RETURNED] = {
            "protocol": protocol_message.protocol,
            "model": model,
            "server": server,
            "version": RETURNED_VERSION,
            "fields": protocol_message.fields,
        }
    return message


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.raw or "{}"},
    }


def with_returned_fields(
    messages: Messages, protocol: str, model: str | None, server: str
) -> Messages:
    """Return messages with what their protocol wants back in its place.

    It is left out for another protocol, server or family of models. A whole answer in the
    protocol's own form is left out if its text or calls have been changed since; other fields stay
    beside the change.
    """
    return [
        _with_returned(message, (protocol, _family(model), server))
        if RETURNED in message
        else message
        for message in messages
    ]


def _with_returned(message: Message, target: tuple[str, str, str]) -> Message:
    returned = message[RETURNED]
    message = {name: value for name, value in message.items() if name != RETURNED}
    if (returned.get("protocol"), _family(returned.get("model")), returned.get("server")) != target:
        return message
    fields = dict(returned["fields"])
    for name, summary in _SUMMARIES.items():
        if name in fields and not _is_unchanged(message, *summary(fields[name])):
            return message
    calls = message.get("tool_calls") or []
    more_of_calls = fields.pop("tool_calls", None)
    if (blocks := fields.pop("content", None)) is not None:
        message.pop("tool_calls", None)
        message["content"] = blocks
    elif more_of_calls and len(more_of_calls) == len(calls):
        message["tool_calls"] = [
            _returned_call(call, more) for call, more in zip(calls, more_of_calls, strict=True)
        ]
    return {**fields, **message}


def _returned_call(call: Mapping[str, Any], more: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a call with the other fields that it had; a custom one in the form that it had."""
    custom = more.get("custom")
    if not isinstance(custom, Mapping):
        functions = more.get("function", {}), call.get("function", {})
        if not all(isinstance(function, Mapping) for function in functions):
            return call
        return {**more, **call, "function": {**functions[0], **functions[1]}}
    if call.get("function") != {"name": custom.get("name"), "arguments": custom.get("input")}:
        return call  # changed since
    return {name: value for name, value in {**call, **more}.items() if name != "function"}


def with_call_ids(message: Message, ids: Sequence[str]) -> Message:
    """Return an answer whose calls have other ids, also in what its protocol wants back."""
    calls = [{**call, "id": each} for call, each in zip(message["tool_calls"], ids, strict=True)]
    message = {**message, "tool_calls": calls}
    if RETURNED in message:
        fields = dict(message[RETURNED]["fields"])
        for name in _SUMMARIES.keys() & fields.keys():
            left = iter(ids)
            fields[name] = [_with_call_id(item, left) for item in fields[name]]
        message[RETURNED] = {**message[RETURNED], "fields": fields}
    return message


def _with_call_id(item: dict[str, Any], left: Iterator[str]) -> dict[str, Any]:
    """Return an item of an answer in its protocol's own form, with the next id if it is a call."""
    if isinstance(call := item.get("functionCall"), dict):
        call_id = next(left, "")
        return {**item, "functionCall": {**call, "id": call_id}} if "id" in call else item
    key = _ID_KEYS.get(item.get("type", ""))
    return {**item, key: next(left, "")} if key else item


_Calls = list[tuple[Any, Any, Any]]


def _is_unchanged(message: Message, text: str, calls: _Calls) -> bool:
    """Return whether a message still has the text and the calls that its protocol's form has."""
    content = message.get("content") or ""
    if not isinstance(content, str) or _letters(content) != _letters(text):
        return False
    now = _calls(message.get("tool_calls") or ())
    if len(now) != len(calls):
        return False
    return all(
        (before[0] is None or before[0] == after[0]) and before[1:] == after[1:]
        for before, after in zip(calls, now, strict=True)
    )


def _block_summary(blocks: list[dict[str, Any]]) -> tuple[str, _Calls]:
    """Return the text and the calls (id, name, arguments) of Anthropic's content blocks."""
    uses = [block for block in blocks if block["type"] == "tool_use"]
    return _joined(block.get("text") for block in blocks if block["type"] == "text"), [
        (use.get("id"), use.get("name"), use.get("input")) for use in uses
    ]


def _part_summary(parts: list[dict[str, Any]]) -> tuple[str, _Calls]:
    """Return the same of Gemini's parts, whose calls may have no id."""
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    return _joined(part.get("text") for part in parts if not part.get("thought")), [
        (call.get("id"), call.get("name"), call.get("args")) for call in calls
    ]


def _item_summary(items: list[dict[str, Any]]) -> tuple[str, _Calls]:
    """Return the same of the output items of the Responses API."""
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    calls = [item for item in items if item["type"] in ("function_call", "custom_tool_call")]
    return _joined(part.get("text") for part in parts if part["type"] == "output_text"), [
        (
            call.get("call_id"),
            call.get("name"),
            arguments_object(call.get("arguments") or call.get("input") or ""),
        )
        for call in calls
    ]


_ID_KEYS = {"tool_use": "id", "function_call": "call_id", "custom_tool_call": "call_id"}
"""Where Anthropic's content blocks and the Responses API's items have the id of a call."""
_SUMMARIES = {"content": _block_summary, "parts": _part_summary, "output": _item_summary}
"""Fields that hold a whole answer in its protocol's own form."""


def _joined(texts: Iterable[Any]) -> str:
    return "".join(text for text in texts if isinstance(text, str))


def _calls(calls: Iterable[Mapping[str, Any]]) -> _Calls:
    """Return the same of tool calls in OpenAI's form."""
    found = []
    for call in calls:
        function = call.get("function")
        function = function if isinstance(function, Mapping) else {}
        arguments = function.get("arguments")
        value = arguments_object(arguments) if isinstance(arguments, str) else arguments
        found.append((call.get("id"), function.get("name"), value))
    return found


def _letters(text: str) -> str:
    """Return a text without white space: blocks of nothing else do not go back."""
    return "".join(text.split())


def arguments_object(arguments: str) -> dict[str, Any]:
    """Return the arguments of a call as an object, the only form that some protocols accept.

    >>> arguments_object('{"a": 1}'), arguments_object("SELECT 1"), arguments_object("")
    ({'a': 1}, {'input': 'SELECT 1'}, {})
    """
    value = load_object(arguments or "{}")
    return {"input": arguments} if value is None else value  # a custom call, or a mistake


def _family(model: object) -> str:
    """Return the family of a model.

    >>> _family("anthropic/claude-sonnet-4-5"), _family("gpt-4o"), _family(None)
    ('claude', 'gpt', '')
    """
    match = _FAMILY.match(str(model or "").lower().rpartition("/")[2])
    return match[0] if match else ""


def check_returned(message: Message, name: str) -> None:
    """Raise ``InvalidRequestError`` for a wrong ``providers_sync`` of a message."""
    returned = message[RETURNED]
    fields = returned.get("fields") if isinstance(returned, Mapping) else None
    if not isinstance(fields, Mapping) or returned.get("version") != RETURNED_VERSION:
        raise InvalidRequestError(
            f"{name}[{RETURNED!r}] must come from this version of the package: remove it"
        )
    if message["role"] != "assistant":
        raise InvalidRequestError(f"{name}[{RETURNED!r}] is allowed only in assistant messages")
    place = f"{name}[{RETURNED!r}]['fields']"
    if not is_shallow(fields):
        raise InvalidRequestError(f"{place} is nested too deeply: remove it")
    for key, summary in _SUMMARIES.items():
        _check_dicts(fields.get(key, []), f"{place}[{key!r}]")
        try:
            summary(fields.get(key, []))
        except (TypeError, LookupError, AttributeError) as error:
            raise InvalidRequestError(
                f"{place}[{key!r}] must be unchanged from the answer: {error!r}"
            ) from error
    for block in fields.get("content", []):
        if not isinstance(block.get("type"), str):
            raise InvalidRequestError(f"{place}['content'] must hold dicts with a 'type'")
    _check_dicts(fields.get("tool_calls", []), f"{place}['tool_calls']")
    _check_dicts(message.get("tool_calls") or [], f"{name}['tool_calls']")


def _check_dicts(value: object, name: str) -> None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, Mapping) for v in value):
        raise InvalidRequestError(f"{name} must be a list of dicts")
