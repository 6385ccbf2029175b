"""Validation of prompts and messages, and conversion to the forms of the protocols.

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

from .errors import InvalidRequestError
from .images import check_image, image_url
from .returned_messages import RETURNED, check_returned
from .server_json import load_json
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
    if (found := _find_image(part, name)) is not None:
        check_image(*found)


def _find_image(part: Mapping[str, Any], name: str) -> tuple[object, str] | None:
    """Return the image of an ``image`` or ``image_url`` part, and its name for error messages."""
    if part["type"] == "image" and "image" in part:
        return part["image"], f"{name}['image']"
    if part["type"] != "image_url":
        return None
    detail = part.get("image_url")
    if isinstance(detail, Mapping):
        return detail.get("url"), f"{name}['image_url']['url']"
    return detail, f"{name}['image_url']"


def role_texts(messages: Messages) -> list[tuple[str, str]]:
    """Return ``(role, text)`` of every message, text parts joined, for text-only protocols.

    >>> role_texts([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
    [('user', 'Hi')]

    Raises ``InvalidRequestError`` for a part that is not text, and for tool calls.
    """
    return [
        (message["role"], _text(message["content"], f"messages[{index}]['content']"))
        for index, message in enumerate(messages)
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


# --- conversion to the forms of the protocols


def with_image_urls(messages: Messages) -> Messages:
    """Return ``messages`` with images in OpenAI's form, as http(s) or data: URLs.

    >>> png = b"\\x89PNG\\r\\n\\x1a\\n"
    >>> turn = {"role": "user", "content": [{"type": "image", "image": png}]}
    >>> with_image_urls([turn])[0]["content"]
    [{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,iVBORw0KGgo='}}]

    Raises ``InvalidRequestError`` for an image that cannot be read.
    """
    return [
        {**message, "content": [_with_url(part) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _with_url(part: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _find_image(part, "")
    if found is None or (part["type"] == "image_url" and isinstance(found[0], str)):
        return part
    url = {"url": image_url(found[0])}
    if part["type"] == "image":
        rest = {name: value for name, value in part.items() if name not in ("type", "image")}
        return {"type": "image_url", "image_url": {**rest, **url}}
    detail = part["image_url"]
    return {**part, "image_url": {**detail, **url} if isinstance(detail, Mapping) else url}


def lift_system(messages: Messages) -> tuple[str | list[Mapping[str, Any]], Messages]:
    """Return the text of the system messages, and the other messages, in Anthropic's form.

    Parts that say more than their text (``cache_control``) stay parts.

    >>> lift_system([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    ('Be brief.', [{'role': 'user', 'content': 'Hi'}])

    Raises ``InvalidRequestError`` for a system message that is not text.
    """
    system = [message for message in messages if message["role"] in ("system", "developer")]
    turns = [message for message in messages if message not in system]
    texts = role_texts(system)
    parts = [
        part
        for message in system
        for part in (
            message["content"]
            if isinstance(message["content"], list)
            else [{"type": "text", "text": message["content"]}]
        )
    ]
    if any(part.keys() - {"type", "text"} for part in parts):
        return [part for part in parts if part["text"]], turns
    return "\n\n".join(text for _, text in texts), turns


def to_anthropic_blocks(turns: Messages) -> Messages:
    """Return messages in Anthropic's form: tool calls, tool results and images become blocks.

    >>> call = {"id": "1", "function": {"name": "add", "arguments": '{"a": 1}'}}
    >>> calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    >>> result = {"role": "tool", "tool_call_id": "1", "content": "2"}
    >>> first, second = to_anthropic_blocks([calling, result])
    >>> first["content"]
    [{'type': 'tool_use', 'id': '1', 'name': 'add', 'input': {'a': 1}}]
    >>> second
    {'role': 'user', 'content': [{'type': 'tool_result', 'tool_use_id': '1', 'content': '2'}]}

    Raises ``InvalidRequestError`` for an incomplete tool call and an image that cannot be read.
    """
    result: Messages = []
    for message in turns:
        if message["role"] == "tool":
            content = _block_content(message.get("content"))
            block = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
            block["content"] = content
            if result and result[-1].get("_results"):  # the results of one turn go into one message
                result[-1]["content"].append(block)
            else:
                result.append({"role": "user", "content": [block], "_results": True})
        else:
            result.append(_to_turn(message))
    return [{name: turn[name] for name in turn if name != "_results"} for turn in result]


def _to_turn(message: dict[str, Any]) -> dict[str, Any]:
    content = _block_content(message.get("content"))
    if message.get("tool_calls"):
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        content = [*(content or ()), *map(_tool_use, message["tool_calls"])]
    return {"role": message["role"], "content": content}


def _tool_use(call: Any) -> dict[str, Any]:
    try:
        function = call["function"]
        arguments = function.get("arguments") or "{}"
        value = _input(arguments) if isinstance(arguments, str) else arguments
        return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": value}
    except (TypeError, LookupError, AttributeError) as error:
        raise InvalidRequestError(
            "a tool call in the messages must have an id and a function with a name and "
            f"arguments: {error!r}"
        ) from error


def _input(arguments: str) -> dict[str, Any]:
    """Return the arguments of a call as an object, the only input that Anthropic accepts.

    >>> _input('{"a": 1}'), _input("SELECT 1")
    ({'a': 1}, {'input': 'SELECT 1'})
    """
    try:
        value = load_json(arguments)
    except ValueError:  # a custom call, or the model's own mistake
        value = None
    return value if isinstance(value, dict) else {"input": arguments}


def _block_content(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [_image_block(part) for part in content]


def _image_block(part: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _find_image(part, "")
    if found is None:
        return part
    url = image_url(found[0])
    if url[:5].lower() != "data:":
        return {"type": "image", "source": {"type": "url", "url": url}}
    media_type, separator, data = url[5:].partition(";base64,")
    if not separator:
        raise InvalidRequestError("the data: URL of an image must be base64 for this provider")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
