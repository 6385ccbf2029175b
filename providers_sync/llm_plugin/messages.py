"""The messages and tools of a prompt of ``llm`` in OpenAI's form, which every provider takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import llm
from llm import parts

from ..errors import InvalidRequestError
from ..returned_messages import RETURNED, RETURNED_VERSION
from ..types import Message, Messages

BROKEN_ARGUMENTS = "_raw"
"""Where ``llm`` keeps the arguments of a call that are no JSON object."""
_ADDRESS = "providers_sync_address"
"""Where an answer keeps the address that ``-o`` gave it."""


def to_messages(prompt: llm.models.Prompt) -> Messages:
    """Return the whole conversation up to this prompt.

    Raises ``InvalidRequestError`` for an attachment that names no file.
    """
    turns = prompt.messages
    messages = [message for turn in turns for message in _messages_of(turn)]
    if prompt.system:  # with ``-c`` it takes the place of that which the conversation had
        has_one = bool(messages) and messages[0]["role"] == "system"
        messages[: int(has_one)] = [{"role": "system", "content": prompt.system}]
    return messages


def address_kept(provider: str, address: str | None) -> dict[str, Any]:
    """Return what an answer keeps of the address of ``-o``."""
    return {} if address is None else {_ADDRESS: {"provider": provider, "base_url": address}}


def address_before(prompt: llm.models.Prompt, provider: str) -> str | None:
    """Return the address that the last answer of the conversation has kept for this provider.

    A conversation with a server that ``-o`` has named must not go to another one unasked.
    """
    answers = [turn for turn in prompt.messages if turn.role == "assistant"]
    for part in answers[-1].parts if answers else ():
        kept = (getattr(part, "provider_metadata", None) or {}).get(_ADDRESS)
        if isinstance(kept, dict) and kept.get("provider") == provider:
            address: str | None = kept.get("base_url")
            return address
    return None


def _messages_of(turn: llm.Message) -> Iterator[Message]:
    if turn.role == "assistant":
        yield _answer(turn)
    elif turn.role == "tool":
        results = [part for part in turn.parts if isinstance(part, parts.ToolResultPart)]
        for part in results:
            yield {"role": "tool", "tool_call_id": part.tool_call_id, "content": part.output}
        if files := [_file(each) for part in results for each in part.attachments]:
            yield {"role": "user", "content": files}
    else:
        yield {"role": turn.role, "content": _content(turn.parts)}


def _content(given: Iterable[parts.Part]) -> Any:
    content = [
        _file(part.attachment)
        if isinstance(part, parts.AttachmentPart) and part.attachment
        else {"type": "text", "text": getattr(part, "text", "")}
        for part in given
    ]
    if all(part["type"] == "text" for part in content):
        return "".join(part["text"] for part in content)
    return content


def _file(attachment: llm.Attachment) -> dict[str, Any]:
    """Return the part for a file. ``llm`` has checked its type; the provider reads its content."""
    source: Any = attachment.content or attachment.url
    if not source and attachment.path:
        source = Path(attachment.path)
    if not source:
        raise InvalidRequestError("an attachment must have a path, a url or content")
    if isinstance(source, str) and (attachment.type or "").startswith("image/"):
        return {"type": "image", "image": source}  # its address may not tell that it is one
    return {"type": "file", "file": source}


def _answer(turn: llm.Message) -> Message:
    text = "".join(part.text for part in turn.parts if isinstance(part, parts.TextPart))
    message: Message = {"role": "assistant", "content": text}
    calls = [
        {
            "id": part.tool_call_id,
            "type": "function",
            "function": {"name": part.name, "arguments": _arguments(part.arguments)},
        }
        for part in turn.parts
        if isinstance(part, parts.ToolCallPart) and not part.server_executed
    ]
    if calls:
        message.update(content=text or None, tool_calls=calls)
    for part in turn.parts:
        returned = (getattr(part, "provider_metadata", None) or {}).get(RETURNED)
        if isinstance(returned, dict) and returned.get("version") == RETURNED_VERSION:
            message[RETURNED] = returned
    return message


def _arguments(arguments: dict[str, Any]) -> str:
    if list(arguments) == [BROKEN_ARGUMENTS]:
        return str(arguments[BROKEN_ARGUMENTS])
    return json.dumps(arguments, ensure_ascii=False)


def to_tools(tools: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the functions that the model may call; ``llm`` calls them itself."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description or "",
                "parameters": tool.input_schema or {"type": "object", "properties": {}},
            },
        }
        for tool in tools
    ]
