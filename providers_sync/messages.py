"""Validation of prompts and messages.

>>> to_messages("Hello")
[{'role': 'user', 'content': 'Hello'}]
>>> to_messages({"role": "user", "content": ""})
[{'role': 'user', 'content': ''}]
>>> to_messages([{"role": "tool", "tool_call_id": "1", "content": "42"}])
[{'role': 'tool', 'tool_call_id': '1', 'content': '42'}]
>>> to_messages([{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}])
[{'role': 'assistant', 'content': None, 'tool_calls': [{'id': '1'}]}]
>>> to_messages([])
Traceback (most recent call last):
providers_sync.errors.InvalidRequestError: messages is empty; give at least one message
>>> to_messages([{"content": "Hello"}])
Traceback (most recent call last):
providers_sync.errors.InvalidRequestError: messages[0] has no 'role'; add one, such as 'user'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .encoding.parts import SystemArgument, named
from .errors import InvalidRequestError
from .files import check_file, file_source
from .returned_messages import RETURNED, check_returned
from .types import Messages


def to_messages(prompt: object) -> Messages:
    """Return ``prompt`` (a string, a message or a list of messages) as a new list of messages.

    Raises ``InvalidRequestError`` naming the invalid item.
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


def with_system(messages: Messages, system: object) -> Messages:
    """Return ``messages`` after a system message with this text or these parts, if any.

    >>> with_system([{"role": "user", "content": "Hello"}], "Be brief.")
    [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hello'}]
    """
    if system is None:
        return messages
    if not isinstance(system, (str, list, tuple)) or not system:
        raise InvalidRequestError("system must be text, a list of parts, or None")
    if isinstance(system, (list, tuple)):
        for index, part in enumerate(system):
            _check_part(part, f"system[{index}]")
        system = list(system)
    return [SystemArgument(role="system", content=system), *messages]


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
    if RETURNED in message:
        check_returned(message, name)
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
            f"{name}['content'] {problem}; give text (None is allowed only with 'tool_calls')"
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
    if (found := file_source(part, name)) is not None:
        check_file(*found)


def role_texts(messages: Messages) -> list[tuple[str, str]]:
    """Return ``(role, text)`` of every message, text parts joined, for text-only protocols.

    >>> role_texts([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
    [('user', 'Hi')]

    Raises ``InvalidRequestError`` for a part that is not text, and for tool calls.
    """
    return [
        (message["role"], _text(message["content"], f"{name}['content']"))
        for name, message in named(messages)
    ]


def _text(content: object, name: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequestError(f"{name} must be text: this provider does not support tool calls")
    for index, part in enumerate(content):
        if part["type"] != "text":
            raise InvalidRequestError(
                f"{name}[{index}] is of type {part['type']!r}: this provider supports only text"
            )
    return "".join(part["text"] for part in content)
