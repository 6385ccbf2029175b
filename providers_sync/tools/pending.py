"""The tool calls that a conversation ends with, and the ids of calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ..server_json import load_object
from ..types import Message, Messages, ToolCall


class CallsOfAnswer(NamedTuple):
    """The calls of one answer."""

    before: Messages
    """The messages before the answer."""
    calls: list[ToolCall]
    is_open: list[bool]
    """Which of the calls have no result yet."""


def last_calls(messages: Messages) -> CallsOfAnswer | None:
    """Return the calls of the last answer, unless all have results or more has been said since.

    >>> function = {"name": "add", "arguments": "{}"}
    >>> calls = [{"id": "1", "function": function}, {"id": "2", "function": function}]
    >>> asked = [{"role": "assistant", "content": None, "tool_calls": calls}]
    >>> last_calls([*asked, {"role": "tool", "tool_call_id": "1"}]).is_open
    [False, True]
    """
    size = len(messages)
    while size and messages[size - 1]["role"] == "tool":
        size -= 1
    if not size or messages[size - 1]["role"] != "assistant":
        return None
    answered = Counter(message.get("tool_call_id") for message in messages[size:])
    calls = [_call(call) for call in messages[size - 1].get("tool_calls") or ()]
    is_open = []
    for call in calls:
        is_open.append(not answered[call.id])
        answered[call.id] -= not is_open[-1]
    return CallsOfAnswer(messages[: size - 1], calls, is_open) if any(is_open) else None


def _call(call: Any) -> ToolCall:
    call = call if isinstance(call, Mapping) else {}
    function = call.get("function")
    function = function if isinstance(function, Mapping) else {}
    raw = function.get("arguments")
    raw = raw if isinstance(raw, str) else ""
    return ToolCall(
        str(call.get("id") or ""), str(function.get("name") or ""), load_object(raw or "{}"), raw
    )


def unique_id(call_id: str, others: Collection[str]) -> str:
    """Return the id of a call, or another one: some servers give none, or one twice.

    >>> unique_id("a", []), unique_id("", []), unique_id("a", ["a"])
    ('a', 'call_0', 'call_1')
    """
    number = len(others)
    while not call_id or call_id in others:
        call_id, number = f"call_{number}", number + 1
    return call_id


def without_calls(message: Message) -> Message:
    """Return an answer without its calls, for one that is not whole: nobody may make them.

    A server refuses calls that have no results.
    """
    if "tool_calls" not in message:
        return message
    return {"role": "assistant", "content": message["content"] or ""}
