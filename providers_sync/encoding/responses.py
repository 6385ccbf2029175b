"""Messages and options for OpenAI's Responses API.

Source: OpenAI API reference, "Create a model response"; guides "Migrate to the Responses API",
"Function calling", "Images and vision", "File inputs", "Reasoning models".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequestError
from ..files import File
from ..types import Messages
from .options import Function, refuse, response_format_of, take, tool_choice_of, tools_of
from .parts import SYSTEM_ROLES, calls_of, cannot_carry, named, parts_of, read_part, text_of_parts

_PROTOCOL = "the Responses API"
_OWN_PARTS = ("input_text", "input_image", "input_file", "output_text")
_NO_EQUIVALENT = {
    **dict.fromkeys(("stop", "seed", "frequency_penalty", "presence_penalty", "logit_bias"), ""),
    **dict.fromkeys(("audio", "modalities", "prediction"), ""),
    "web_search_options": 'use tools=[{"type": "web_search"}]',
    "functions": "use tools=",
    "function_call": "use tool_choice=",
    "messages": "pass the messages as the first argument",
}
_ENCRYPTED = "reasoning.encrypted_content"
_LOGPROBS = "message.output_text.logprobs"


def to_input(
    messages: Messages, *, has_instructions: bool
) -> tuple[str | None, list[dict[str, Any]]]:
    """Return the instructions and the input items.

    System messages at the beginning become the instructions, unless the options have some.

    >>> to_input([{"role": "user", "content": "Hi"}], has_instructions=False)
    (None, [{'role': 'user', 'content': 'Hi'}])

    Raises ``InvalidRequestError`` for a part that the protocol cannot carry, an incomplete tool
    call, and a file that cannot be read.
    """
    instructions: list[str] = []
    items: list[dict[str, Any]] = []
    custom_calls: set[str] = set()
    for name, message in named(messages, takes_parts=False):
        role = message["role"]
        if role in SYSTEM_ROLES and not items and not has_instructions:
            instructions.append(text_of_parts(message, name, "a system message"))
        elif role == "tool":
            items.append(_result(message, name, custom_calls))
        elif isinstance(output := message.get("output"), list) and role == "assistant":
            items += output
        else:
            items += _items(message, name)
        custom_calls |= {
            item["call_id"] for item in items[-1:] if item.get("type") == "custom_tool_call"
        }
    return "\n\n".join(instructions) or None, items


def _items(message: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a message, and after it the calls that it has."""
    role, content = message["role"], message.get("content")
    calls = [
        {"type": "custom_tool_call", "call_id": call.id, "name": call.name, "input": call.arguments}
        if call.is_custom
        else {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in calls_of(message, name)
    ]
    if isinstance(content, list):
        content = [_part(part, place, role) for part, place in parts_of(message, name)]
    turn = [{"role": role, "content": content}] if content or not calls else []
    return [*turn, *calls]


def _part(part: Mapping[str, Any], name: str, role: str) -> Mapping[str, Any]:
    if part["type"] in _OWN_PARTS:
        return part
    value = read_part(part, name)
    if isinstance(value, str):
        if role != "assistant":
            return {"type": "input_text", "text": value}
        kind = "refusal" if part["type"] == "refusal" else "output_text"
        return {"type": kind, "refusal" if kind == "refusal" else "text": value}
    detail = part.get("file")
    if value is None and isinstance(detail, Mapping) and detail.get("file_id"):
        return {"type": "input_file", "file_id": detail["file_id"]}
    if value is None:
        raise cannot_carry(part, name, _PROTOCOL)
    return _file(value, part, name)


def _file(file: File, part: Mapping[str, Any], name: str) -> dict[str, Any]:
    if file.kind == "audio":
        raise cannot_carry(part, name, _PROTOCOL, "transcribe the audio and send its text")
    if file.kind == "image":
        source = part.get("image_url")
        detail = source.get("detail") if isinstance(source, Mapping) else part.get("detail")
        image = {"type": "input_image", "image_url": file.data_url}
        return {**image, "detail": detail} if detail else image
    if file.data is None:
        return {"type": "input_file", "file_url": file.url}
    source = part.get("file")
    given = source.get("filename") if isinstance(source, Mapping) else None
    return {"type": "input_file", "filename": given or file.name, "file_data": file.data_url}


def _result(message: Mapping[str, Any], name: str, custom_calls: set[str]) -> dict[str, Any]:
    call_id, content = message.get("tool_call_id"), message.get("content")
    if isinstance(content, list):
        content = [_part(part, place, "user") for part, place in parts_of(message, name)]
    kind = "custom_tool_call_output" if call_id in custom_calls else "function_call_output"
    return {"type": kind, "call_id": call_id, "output": content}


def translate_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with chat completions' names and forms translated; others unchanged."""
    options = dict(options)
    if (options.get("n") or 1) != 1:
        raise InvalidRequestError("n must be 1: a stream carries one answer; send several requests")
    refuse(options, _NO_EQUIVALENT, _PROTOCOL)
    for name in ("max_tokens", "max_completion_tokens"):
        if (limit := options.pop(name, None)) is not None:
            options.setdefault("max_output_tokens", limit)
    if (effort := options.pop("reasoning_effort", None)) is not None:
        options["reasoning"] = {"effort": effort, **(options.get("reasoning") or {})}
    if (verbosity := options.pop("verbosity", None)) is not None:
        options["text"] = {"verbosity": verbosity, **(options.get("text") or {})}
    if options.pop("logprobs", None):
        options["include"] = [*(options.get("include") or ()), _LOGPROBS]
    if options.get("tools") is not None:
        options["tools"] = [_tool(function, tool) for function, tool, _ in tools_of(options)]
    _translate_tool_choice(options)
    _translate_format(options)
    _keep_reasoning(options)
    take(options, "n", "stream_options", *_NO_EQUIVALENT)
    return options


def _keep_reasoning(options: dict[str, Any]) -> None:
    """Ask for the reasoning in a form that ``message`` can carry, unless the server keeps it."""
    if any(options.get(name) for name in ("store", "previous_response_id", "conversation")):
        return
    options["store"] = False
    include = list(options.get("include") or ())
    options["include"] = include if _ENCRYPTED in include else [*include, _ENCRYPTED]


def _tool(function: Function | None, tool: Any) -> Any:
    if function is not None:
        more = {key: value for key, value in tool.items() if key not in ("type", "function")}
        made = {"description": function.description, "strict": bool(function.strict)}
        return {
            "type": "function",
            "name": function.name,
            "parameters": function.parameters,
            **{key: value for key, value in made.items() if value is not None},
            **more,
        }
    custom = tool.get("custom")
    if tool.get("type") == "custom" and isinstance(custom, Mapping):
        form = custom.get("format")
        grammar = form.get("grammar") if isinstance(form, Mapping) else None
        if isinstance(grammar, Mapping):  # {"type": "grammar", "grammar": {…}}
            custom = {**custom, "format": {"type": "grammar", **grammar}}
        return {"type": "custom", **custom}
    return tool


def _translate_tool_choice(options: dict[str, Any]) -> None:
    choice, given = tool_choice_of(options), options.get("tool_choice")
    if choice is not None:
        named_function = {"type": "function", "name": choice.name}
        options["tool_choice"] = named_function if choice.name else choice.mode
    elif isinstance(given, Mapping) and given.get("type") in ("custom", "allowed_tools"):
        detail = given.get(given["type"])
        if not isinstance(detail, Mapping):
            return
        detail = dict(detail)
        if isinstance(tools := detail.get("tools"), list):
            detail["tools"] = [_named_tool(tool) for tool in tools]
        options["tool_choice"] = {"type": given["type"], **detail}


def _named_tool(tool: Any) -> Any:
    """Return a tool of ``allowed_tools``, which is flat here."""
    detail = tool.get(tool.get("type")) if isinstance(tool, Mapping) else None
    return {"type": tool["type"], **detail} if isinstance(detail, Mapping) else tool


def _translate_format(options: dict[str, Any]) -> None:
    answer = response_format_of(options)
    if answer is None:
        return
    del options["response_format"]
    made: dict[str, Any] = {"type": answer.kind}
    if answer.kind == "json_schema":
        made |= {"name": answer.name, "schema": answer.schema}
        made |= {"strict": answer.strict} if answer.strict is not None else {}
        made |= {"description": answer.description} if answer.description else {}
    options["text"] = {**(options.get("text") or {}), "format": made}
