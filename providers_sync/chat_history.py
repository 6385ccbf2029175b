"""The exchanges of a conversation, their size, and what an answer adds to them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .errors import InvalidRequestError
from .returned_messages import RETURNED
from .stream import Stream, added_messages
from .types import Message, Messages

PERMANENT_ROLES = ("system", "developer")
"""Roles of messages that are always sent."""


def exchanges(history: Messages) -> Iterator[Messages]:
    """Yield the exchanges: a user message that follows another role starts a new one.

    Tool results stay with the call they answer. System messages belong to no exchange.

    >>> roles = ["system", "user", "assistant", "tool", "assistant", "user", "user", "assistant"]
    >>> [[m["role"] for m in e] for e in exchanges([{"role": role} for role in roles])]
    [['user', 'assistant', 'tool', 'assistant'], ['user', 'user', 'assistant']]
    """
    exchange: Messages = []
    for message in history:
        if message["role"] in PERMANENT_ROLES:
            continue
        begins = message["role"] == "user" and not _is_tool_result(message)
        if begins and exchange and exchange[-1]["role"] != "user":
            yield exchange
            exchange = []
        exchange.append(message)
    if exchange:
        yield exchange


def _is_tool_result(message: Message) -> bool:
    """Return whether a user's message holds the results of tools, in Anthropic's form."""
    content = message.get("content")
    return isinstance(content, list) and any(part["type"] == "tool_result" for part in content)


def text_size(messages: Messages) -> int:
    """Return the number of characters of text, including those of tool calls.

    >>> text_size([{"content": "Hi"}, {"content": [{"text": "you"}]}])
    5
    """
    count = 0
    for message in messages:
        content = message.get("content") or ""
        if isinstance(content, str):
            count += len(content)
        else:
            count += sum(len(str(part.get("text") or "")) for part in content)
        count += sum(
            _json_size(message[name]) for name in ("tool_calls", RETURNED) if message.get(name)
        )
    return count


def _json_size(value: object) -> int:
    try:
        return len(json.dumps(value, default=str))
    except RecursionError as error:
        raise InvalidRequestError("a message is nested too deeply") from error


def without(history: Messages, omitted: Messages) -> Messages:
    ids = set(map(id, omitted))
    return [message for message in history if id(message) not in ids]


def messages_after(stream: Stream, prefix: str) -> tuple[Messages, str]:
    """Return what ``added_messages`` does, for an answer that goes on after the text ``prefix``."""
    added, rest = added_messages(stream)
    if prefix and added:  # what the protocol wants back is that of the second half only
        first = {name: value for name, value in added[0].items() if name != RETURNED}
        added[0] = {**first, "content": _joined(prefix, first["content"] or "")}
    elif prefix:
        rest = _joined(prefix, rest)
    return added, rest


def _joined(text: str, more: str) -> str:
    """Return a text and its continuation; the model may repeat the white space between them."""
    return (text.rstrip() if more[:1].isspace() else text) + more
