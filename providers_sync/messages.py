"""Any accepted input → a list of messages, checked before anything is sent.

>>> conversation("Hello")
[{'role': 'user', 'content': 'Hello'}]
>>> conversation({"role": "user", "content": ""})
[{'role': 'user', 'content': ''}]
>>> conversation([{"role": "tool", "tool_call_id": "1", "content": "42"}])
[{'role': 'tool', 'tool_call_id': '1', 'content': '42'}]
>>> conversation([{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}])
[{'role': 'assistant', 'content': None, 'tool_calls': [{'id': '1'}]}]
>>> conversation([])
Traceback (most recent call last):
providers_sync.errors.InvalidRequestError: messages is empty; give at least one message
>>> conversation([{"content": "Hello"}])
Traceback (most recent call last):
providers_sync.errors.InvalidRequestError: messages[0] has no 'role'; add one, such as 'user'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import InvalidRequestError
from .types import Messages


def conversation(prompt: object) -> Messages:
    """Return ``prompt`` (a string, a message or a list of messages) as a new list of messages.

    Raises ``InvalidRequestError`` naming the item that is wrong.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, Mapping):
        return [_message(prompt, "messages")]
    if not isinstance(prompt, (list, tuple)):
        raise InvalidRequestError(
            "messages must be a string, a dict or a list of dicts with 'role' and 'content', "
            f"not {type(prompt).__name__}"
        )
    if not prompt:
        raise InvalidRequestError("messages is empty; give at least one message")
    return [_message(item, f"messages[{index}]") for index, item in enumerate(prompt)]


def _message(item: object, name: str) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise InvalidRequestError(
            f"{name} must be a dict with 'role' and 'content', not {type(item).__name__}"
        )
    message = dict(item)
    if "role" not in message:
        raise InvalidRequestError(f"{name} has no 'role'; add one, such as 'user'")
    if not isinstance(message["role"], str) or not message["role"]:
        raise InvalidRequestError(f"{name}['role'] must be a string such as 'user'")
    _check_content(message, name)
    return message


def _check_content(message: dict[str, Any], name: str) -> None:
    content = message.get("content")
    if isinstance(content, str):
        return
    if content is None:
        if message.get("tool_calls"):
            return
        problem = "is None" if "content" in message else "is missing"
        raise InvalidRequestError(
            f"{name}['content'] {problem}; give text, or None beside 'tool_calls' only"
        )
    if not isinstance(content, (list, tuple)):
        raise InvalidRequestError(
            f"{name}['content'] must be text or a list of parts, not {type(content).__name__}"
        )
    for index, part in enumerate(content):
        _check_part(part, f"{name}['content'][{index}]")
    message["content"] = list(content)


def _check_part(part: object, name: str) -> None:
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise InvalidRequestError(
            f"{name} must be a dict with a 'type', such as {{'type': 'text', 'text': 'Hello'}}"
        )
    if part["type"] == "text" and not isinstance(part.get("text"), str):
        raise InvalidRequestError(f"{name}['text'] must be a string")


def plain_text(messages: Messages) -> list[tuple[str, str]]:
    """Return ``(role, text)`` of every message, text parts joined, for protocols that know no more.

    >>> plain_text(conversation([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]))
    [('user', 'Hi')]

    Raises ``InvalidRequestError`` for a part that is not text, and for tool calls.
    """
    return [
        (message["role"], _joined(message["content"], f"messages[{index}]['content']"))
        for index, message in enumerate(messages)
    ]


def _joined(content: object, name: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequestError(f"{name} must be text: this provider knows no tool calls")
    for index, part in enumerate(content):
        if part["type"] != "text":
            raise InvalidRequestError(
                f"{name}[{index}] is of type {part['type']!r}: this provider takes text parts only"
            )
    return "".join(part["text"] for part in content)
