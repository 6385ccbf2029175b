"""Messages and options for OpenAI's Responses API.

Source: OpenAI API reference, "Create a model response"; guides "Migrate to the Responses API",
"Function calling", "Images and vision", "File inputs", "Reasoning models", "Background mode".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from ..errors import InvalidRequestError
from ..files import File
from ..types import Messages
from .options import (
    Function,
    check_one_answer,
    contradiction,
    one_of,
    refuse,
    response_format_of,
    take,
    tool_choice_of,
    tools_of,
)
from .parts import (
    SYSTEM_ROLES,
    calls_of,
    cannot_carry,
    parts_of,
    read_part,
    text_of_parts,
    translatable,
)

_PROTOCOL = "the Responses API"
_OWN_PARTS = ("input_text", "input_image", "input_file", "output_text")
_OWN_ITEMS = (
    *("mcp_approval_response", "computer_call_output", "local_shell_call_output"),
    *("shell_call_output", "apply_patch_call_output", "tool_search_output", "program_output"),
    *("function_call_output", "custom_tool_call_output", "item_reference", "compaction_trigger"),
)
"""Items of the protocol that answer its own tools; in ``messages`` they are parts."""
_KEPT_BY = ("store", "previous_response_id", "conversation", "background")
"""Options with which the server keeps the answers, or must."""
_NO_EQUIVALENT = {
    **dict.fromkeys(("stop", "seed", "frequency_penalty", "presence_penalty", "logit_bias"), ""),
    **dict.fromkeys(("audio", "modalities", "prediction"), ""),
    "web_search_options": 'use tools=[{"type": "web_search"}]',
    "functions": "use tools=",
    "function_call": "use tool_choice=",
    **dict.fromkeys(("messages", "input"), "pass the messages as the first argument"),
}
ENCRYPTED = "reasoning.encrypted_content"
_LOGPROBS = "message.output_text.logprobs"


def to_input(
    messages: Messages, *, has_instructions: bool
) -> tuple[str | None, list[dict[str, Any]]]:
    """Return the instructions and the input items.

    System messages at the beginning become the instructions, unless the options have some or there
    are no other messages: a request must have input.

    >>> to_input([{"role": "user", "content": "Hi"}], has_instructions=False)
    (None, [{'role': 'user', 'content': 'Hi'}])

    Raises ``InvalidRequestError`` for a part that the protocol cannot carry, an incomplete tool
    call, a result without the id of its call, and a file that cannot be read.
    """
    instructions: list[str] = []
    system: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    custom_calls: set[str] = set()
    for name, message in translatable(messages, own="output"):
        role = message["role"]
        if role in SYSTEM_ROLES and not items and not has_instructions:
            instructions.append(text_of_parts(message, name, "a system message"))
            system += _items(message, name)
            continue
        added = _result(message, name, custom_calls) if role == "tool" else _items(message, name)
        custom_calls |= {
            item["call_id"]
            for item in added
            if item.get("type") == "custom_tool_call" and isinstance(item.get("call_id"), str)
        }
        items += added
    return ("\n\n".join(instructions) or None, items) if items else (None, system)


def _items(message: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a message, before it the answers to the protocol's own tools, after it its calls."""
    role, content = message["role"], message.get("content")
    if role == "assistant" and _is_output(output := message.get("output")):
        return output
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
    own: list[dict[str, Any]] = []
    if isinstance(content, list):
        own = [dict(part) for part in content if part["type"] in _OWN_ITEMS]
        content = [
            _part(part, place, role)
            for part, place in parts_of(message, name)
            if part["type"] not in _OWN_ITEMS
        ]
    phase = {"phase": message["phase"]} if message.get("phase") else {}
    has_turn = content or not (own or calls)
    return [*own, *([{"role": role, "content": content, **phase}] if has_turn else []), *calls]


def _is_output(output: Any) -> TypeGuard[list[dict[str, Any]]]:
    return (
        isinstance(output, list)
        and bool(output)
        and all(isinstance(item, Mapping) for item in output)
    )


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
    if role == "assistant":
        remedy = "put it in a user message"
        raise cannot_carry(part, name, f"an assistant's message in {_PROTOCOL}", remedy)
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


def _result(message: Mapping[str, Any], name: str, custom_calls: set[str]) -> list[dict[str, Any]]:
    """Return the result of a call, whose item depends on the type of the tool."""
    call_id, content = message.get("tool_call_id"), message.get("content")
    if not isinstance(call_id, str) or not call_id:
        raise InvalidRequestError(
            f"{name}['tool_call_id'] must be the id of the call that the message answers"
        )
    if isinstance(content, list):
        content = [_part(part, place, "user") for part, place in parts_of(message, name)]
    kind = "custom_tool_call_output" if call_id in custom_calls else "function_call_output"
    return [{"type": kind, "call_id": call_id, "output": content}]


def translate_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with chat completions' names and forms translated; others unchanged.

    >>> translate_options({"max_tokens": 5, "store": True})
    {'store': True, 'max_output_tokens': 5}

    Raises ``InvalidRequestError`` for an option that the protocol cannot honour, with the remedy.
    """
    options = dict(options)
    check_one_answer(options)
    refuse(options, _NO_EQUIVALENT, _PROTOCOL)
    limit = one_of(options, "max_output_tokens", "max_completion_tokens", "max_tokens")
    if limit is not None:
        options["max_output_tokens"] = limit
    _put_inside(options, "reasoning_effort", "reasoning", "effort")
    _put_inside(options, "verbosity", "text", "verbosity")
    if options.pop("logprobs", None) or options.get("top_logprobs"):
        _include(options, _LOGPROBS)
    if isinstance(stream := options.pop("stream_options", None), Mapping):
        own = {key: value for key, value in stream.items() if key != "include_usage"}
        options.update({"stream_options": own} if own else {})  # the usage comes anyway
    if options.get("tools") is not None:
        options["tools"] = [_tool(function, tool) for function, tool, _ in tools_of(options)]
    _translate_tool_choice(options)
    _translate_format(options)
    _keep_reasoning(options)
    take(options, "n", *_NO_EQUIVALENT)
    return options


def _put_inside(options: dict[str, Any], name: str, outer: str, inner: str) -> None:
    """Move an option into the dict where the protocol has it."""
    if (value := options.pop(name, None)) is None:
        return
    given = _object(options, outer)
    if given.get(inner) not in (None, value):
        raise contradiction(name, outer)
    options[outer] = {**given, inner: value}


def _object(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = options.get(name) or {}
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"{name} must be a dict, not {type(value).__name__}")
    return value


def _keep_reasoning(options: dict[str, Any]) -> None:
    """Ask for the reasoning in a form that ``message`` can carry, unless the server keeps it."""
    is_kept = any(options.get(name) for name in _KEPT_BY)
    if not is_kept or options.get("store") is False:
        options["store"] = False
        _include(options, ENCRYPTED)


def _include(options: dict[str, Any], name: str) -> None:
    include = options.get("include") or ()
    if not isinstance(include, (list, tuple)):
        raise InvalidRequestError("include must be a list of strings")
    options["include"] = [*include, *((name,) if name not in include else ())]


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
    text = _object(options, "text")
    if text.get("format"):
        raise InvalidRequestError("response_format= and text['format'] are the same: give one")
    options["text"] = {**text, "format": made}
