"""Anthropic's protocol: reads requests into OpenAI's form and formats the list of models.

Source: Anthropic API reference, "Create a Message", "List Models", "Errors"; version 2023-06-01.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..types import Message, Messages
from . import validation
from .anthropic_writer import AnthropicWriter, error_shape
from .types import ChatRequest, Dialect, ModelEndpoint, RequestError, find_model

REFUSED = {
    "stop": "use stop_sequences",
    "response_format": "use output_config.format",
    "max_completion_tokens": "use max_tokens",
    "stream_options": "it is not part of the protocol",
    "mcp_servers": "this gateway does not call other servers",
    "container": "this gateway does not run code",
    "context_management": "this gateway does not edit conversations",
    "compaction": "this gateway does not edit conversations",
    "thread": "this gateway stores nothing: send the whole conversation as messages",
}
"""Fields that are not supported, and the remedy."""
NOT_OPTIONS = {
    *("model", "messages", "system", "stream", "stop_sequences", "tools", "tool_choice"),
    *("output_config", "output_format", "thinking", *REFUSED),
}
TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
ALLOWED_BLOCKS = {
    "system": ("text",),
    "user": ("text", "image", "tool_result"),
    "assistant": ("text", "tool_use", "thinking", "redacted_thinking"),
    "tool_result": ("text", "image"),
}
"""Block types by context; documents and results of Anthropic's own tools are not supported."""


def read_anthropic(body: Any) -> ChatRequest:
    """Read a request; unknown fields are options.

    >>> body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    >>> read_anthropic({**body, "system": "Be brief.", "stop_sequences": ["."]})
    ChatRequest(messages=[{'role': 'system', 'content': 'Be brief.'}, \
{'role': 'user', 'content': 'Hi'}], options={'max_tokens': 9, 'stop': ['.']}, model='m', \
stream=False, include_usage=False, echoed={})
    """
    fields = validation.check_object(body, "the body")
    model = validation.check_name(fields.get("model"), "model")
    if fields.get("max_tokens") is None:
        raise RequestError("max_tokens: field required; it must be a whole number above 0")
    validation.refuse(fields, REFUSED)
    turns = fields.get("messages")
    if not isinstance(turns, list) or not turns:
        raise RequestError("messages must be a list with at least one message")
    system = fields.get("system")
    messages = [] if system is None else _system(system, "system")
    for i, turn in enumerate(turns):
        messages += _turn(turn, f"messages[{i}]")
    unchanged = {name: value for name, value in fields.items() if name not in NOT_OPTIONS}
    options = validation.check_options({**unchanged, **_translated_options(fields)}, ())
    return ChatRequest(messages, options, model, stream=validation.check_flag(fields, "stream"))


# --- messages


def _system(value: Any, name: str) -> Messages:
    """Return the system message, if any, from text or text blocks."""
    if isinstance(value, list):
        value = "\n\n".join(block["text"] for block in _blocks(value, name, "system"))
    content = validation.check_text(value, name)
    return [{"role": "system", "content": content}] if content else []


def _turn(value: Any, name: str) -> Messages:
    """Return one turn as messages: each tool result becomes a separate message.

    A turn of the system, between the others, is one that newer clients send.
    """
    turn = validation.check_object(value, name)
    role, content = turn.get("role"), turn.get("content")
    if role == "system":
        return _system(content, f"{name}.content")
    if role != "user" and role != "assistant":
        raise RequestError(f"{name}.role must be user, assistant or system")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if not isinstance(content, list) or not content:
        raise RequestError(
            f"{name}.content must be text or a list of blocks, not {validation.json_type(content)}"
        )
    blocks = _blocks(content, f"{name}.content", role)
    return _user_turn(blocks) if role == "user" else [_assistant_turn(blocks)]


def _user_turn(blocks: list[dict[str, Any]]) -> Messages:
    """Return a user turn as messages, tool results first, as in Anthropic's protocol."""
    results = [block for block in blocks if block["type"] == "tool"]
    parts = [block for block in blocks if block["type"] != "tool"]
    messages = [{name: r[name] for name in r if name != "type"} for r in results]
    return [*messages, {"role": "user", "content": parts}] if parts else messages


def _assistant_turn(blocks: list[dict[str, Any]]) -> Message:
    text = [block["text"] for block in blocks if block["type"] == "text"]
    calls = [block for block in blocks if block["type"] == "function"]
    reasoning = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    message: Message = {"role": "assistant", "content": "".join(text) if text else None}
    if calls:
        message["tool_calls"] = calls
    elif not text:
        message["content"] = ""
    if reasoning:
        message["reasoning_content"] = reasoning
    return message


def _blocks(values: list[Any], name: str, context: str) -> list[dict[str, Any]]:
    """Return blocks in OpenAI's form: parts, calls, ``tool`` messages; reasoning is unchanged."""
    return [_block(each, f"{name}[{i}]", context) for i, each in enumerate(values)]


def _block(value: Any, name: str, context: str) -> dict[str, Any]:
    block = validation.check_object(value, name)
    kind = block.get("type")
    if kind not in ALLOWED_BLOCKS[context]:
        allowed = ", ".join(ALLOWED_BLOCKS[context])
        raise RequestError(f"{name}.type {kind!r} is not supported here: use {allowed}")
    if kind == "text":
        return {"type": "text", "text": validation.check_text(block.get("text"), f"{name}.text")}
    if kind == "image":
        url = _image(
            validation.check_object(block.get("source"), f"{name}.source"), f"{name}.source"
        )
        return {"type": "image_url", "image_url": {"url": url}}
    if kind == "tool_use":
        return _tool_use(block, name)
    if kind == "tool_result":
        return _tool_result(block, name)
    # A redacted_thinking block has no readable text: only Anthropic can decrypt it.
    text = validation.check_text(block.get("thinking", ""), f"{name}.thinking")
    return {"type": "thinking", "thinking": text}


def _tool_use(block: dict[str, Any], name: str) -> dict[str, Any]:
    function = {
        "name": validation.check_name(block.get("name"), f"{name}.name", "a tool"),
        "arguments": json.dumps(validation.check_object(block.get("input"), f"{name}.input")),
    }
    call_id = validation.check_text(block.get("id"), f"{name}.id")
    return {"id": call_id, "type": "function", "function": function}


def _tool_result(block: dict[str, Any], name: str) -> dict[str, Any]:
    content = block.get("content") or ""
    if isinstance(content, list):
        content = _blocks(content, f"{name}.content", "tool_result")
        if all(part["type"] == "text" for part in content):
            content = "".join(part["text"] for part in content)
    elif not isinstance(content, str):
        raise RequestError(
            f"{name}.content must be text or a list of blocks, not {validation.json_type(content)}"
        )
    call_id = validation.check_text(block.get("tool_use_id"), f"{name}.tool_use_id")
    result = {"type": "tool", "role": "tool", "tool_call_id": call_id, "content": content}
    # OpenAI's protocol does not have this field; an engine that knows it may use it.
    return {**result, "is_error": True} if block.get("is_error") else result


def _image(source: dict[str, Any], name: str) -> str:
    if source.get("type") == "url":
        return validation.check_text(source.get("url"), f"{name}.url")
    if source.get("type") == "base64":
        kind = validation.check_text(source.get("media_type"), f"{name}.media_type")
        return f"data:{kind};base64,{validation.check_text(source.get('data'), f'{name}.data')}"
    raise RequestError(f"{name}.type must be base64 or url")


# --- options


def _translated_options(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have another name or form in OpenAI's protocol."""
    options: dict[str, Any] = {}
    if (stop := fields.get("stop_sequences")) is not None:
        options["stop"] = validation.check_list(stop, "stop_sequences")
    if (tools := fields.get("tools")) is not None:
        numbered = enumerate(validation.check_list(tools, "tools"))
        options["tools"] = [_tool(each, f"tools[{i}]") for i, each in numbered]
    if (choice := fields.get("tool_choice")) is not None:
        options |= _tool_choice(validation.check_object(choice, "tool_choice"))
    config = validation.check_object(fields.get("output_config") or {}, "output_config")
    if unknown := config.keys() - {"format", "effort"}:
        raise RequestError(f"output_config.{min(unknown)} is not supported: use format or effort")
    options |= _effort(fields.get("thinking"))
    if (effort := config.get("effort")) is not None:
        options["reasoning_effort"] = validation.check_text(effort, "output_config.effort")
    output_format, name = config.get("format"), "output_config.format"
    if output_format is None:  # while structured output was a beta, it was a field of the body
        output_format, name = fields.get("output_format"), "output_format"
    if output_format is not None:
        schema = validation.check_object(output_format, name).get("schema")
        schema = validation.check_object(schema, f"{name}.schema")
        named_schema = {"name": "output", "schema": schema}
        options["response_format"] = {"type": "json_schema", "json_schema": named_schema}
    return options


def _effort(value: Any) -> dict[str, Any]:
    """Return how much to reason, under OpenAI's name, unless it is left to the model."""
    if value is None:
        return {}
    thinking = validation.check_object(value, "thinking")
    kind = thinking.get("type")
    if kind in ("adaptive", "between_tools"):
        return {}
    if kind == "disabled":
        return {"reasoning_effort": "none"}
    if kind != "enabled":
        raise RequestError("thinking.type must be enabled, disabled, adaptive or between_tools")
    validation.check_limit(thinking.get("budget_tokens"), "thinking.budget_tokens")
    return {"reasoning_effort": validation.effort_for(thinking["budget_tokens"])}


def _tool(value: Any, name: str) -> dict[str, Any]:
    tool = validation.check_object(value, name)
    if tool.get("type") not in (None, "custom"):
        raise RequestError(
            f"{name}.type {tool['type']!r} is not supported here; define a custom tool"
        )
    function: dict[str, Any] = {
        "name": validation.check_name(tool.get("name"), f"{name}.name", "a tool"),
        "parameters": validation.check_object(tool.get("input_schema"), f"{name}.input_schema"),
    }
    if tool.get("strict") is not None:
        function["strict"] = validation.check_flag(tool, "strict")
    if tool.get("description") is not None:
        function["description"] = validation.check_text(tool["description"], f"{name}.description")
    return {"type": "function", "function": function}


def _tool_choice(choice: dict[str, Any]) -> dict[str, Any]:
    kind = choice.get("type")
    if kind == "tool":
        translated: Any = {"type": "function", "function": {"name": choice.get("name")}}
    elif isinstance(kind, str) and kind in TOOL_CHOICES:
        translated = TOOL_CHOICES[kind]
    else:
        raise RequestError("tool_choice.type must be auto, any, tool or none")
    parallel = {"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else {}
    return {"tool_choice": translated, **parallel}


def _format_model(name: str) -> dict[str, Any]:
    model = {"type": "model", "id": name, "display_name": name}
    return {**model, "created_at": "1970-01-01T00:00:00Z", "lifecycle": "active"}


def _format_list(models: Sequence[str]) -> dict[str, Any]:
    data = [_format_model(name) for name in models]
    return {"data": data, "has_more": False, "first_id": models[0], "last_id": models[-1]}


ANTHROPIC = Dialect(
    "anthropic",
    "/anthropic",
    "/anthropic/v1/messages",
    read_anthropic,
    AnthropicWriter,
    error_shape,
)
ANTHROPIC_MODELS = (
    ModelEndpoint("/anthropic/v1/models", _format_list),
    ModelEndpoint(
        "/anthropic/v1/models/<path:name>",
        lambda models, name: _format_model(find_model(name, models)),
    ),
)
