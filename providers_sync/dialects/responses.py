"""OpenAI's Responses API: reads requests into the form of chat completions.

Source: OpenAI API reference, "Create a model response"; guide "Migrate to the Responses API".
"""

from __future__ import annotations

from typing import Any

from ..types import Message, Messages
from . import validation
from .openai_writer import error_shape
from .responses_writer import ResponsesWriter
from .types import ChatRequest, Dialect, RequestError

STORES_NOTHING = "this gateway stores nothing: send the whole conversation as input"
REFUSED = {
    "previous_response_id": STORES_NOTHING,
    "conversation": STORES_NOTHING,
    "prompt": "this gateway does not store prompts: send the text as input",
    "background": "this gateway answers only while the client waits",
    "max_tool_calls": "it limits server-side tools, and this gateway has none",
    "messages": "use input",
    "response_format": "use text.format",
    "reasoning_effort": "use reasoning.effort",
    "verbosity": "use text.verbosity",
    "max_tokens": "use max_output_tokens",
    "max_completion_tokens": "use max_output_tokens",
    "context_management": "this gateway does not compact conversations",
}
"""Fields that are not supported, and the remedy."""
NOT_OPTIONS = {
    *REFUSED,
    *("model", "input", "instructions", "stream", "stream_options", "store", "include"),
    *("tools", "tool_choice", "text", "reasoning", "max_output_tokens", "truncation"),
}
ECHOED = (
    *("instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "reasoning"),
    *("safety_identifier", "temperature", "text", "tool_choice", "tools", "top_p", "user"),
)
"""Fields of the request that the answer repeats."""
ROLES = ("user", "assistant", "system", "developer")
TEXT_PARTS = ("input_text", "output_text", "text")


def read_responses(body: Any) -> ChatRequest:
    """Read a request; fields that are not known are options.

    >>> body = {"model": "m", "instructions": "Be brief.", "input": "Hi", "max_output_tokens": 9}
    >>> request = read_responses(body)
    >>> request.messages
    [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hi'}]
    >>> request.options
    {'max_tokens': 9}
    """
    fields = validation.check_object(body, "the body")
    model = validation.check_name(fields.get("model"), "model")
    validation.refuse(fields, REFUSED)
    for i, name in enumerate(validation.check_list(fields.get("include") or [], "include")):
        if name == "message.output_text.logprobs":
            raise RequestError(f"include[{i}]: this gateway has no log probabilities")
    if fields.get("truncation") not in (None, "disabled"):
        raise RequestError(
            "truncation must be disabled: this gateway does not shorten conversations"
        )
    messages = _messages(fields.get("input"))
    if fields.get("instructions") is not None:
        content = validation.check_text(fields["instructions"], "instructions")
        messages.insert(0, {"role": "system", "content": content})
    unchanged = {name: value for name, value in fields.items() if name not in NOT_OPTIONS}
    options = validation.check_options({**unchanged, **_translated_options(fields)}, ())
    return ChatRequest(
        messages,
        options,
        model,
        stream=validation.check_flag(fields, "stream"),
        echoed={name: fields[name] for name in ECHOED if fields.get(name) is not None},
    )


# --- input


def _messages(value: Any) -> Messages:
    """Return the input as messages; an assistant's text with its reasoning and calls is one."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise RequestError("input must be text or a list with at least one item")
    messages: Messages = []
    for i, item in enumerate(value):
        message = _item(validation.check_object(item, f"input[{i}]"), f"input[{i}]")
        last = messages[-1] if messages else message
        goes_on = last is not message and last["role"] == message["role"] == "assistant"
        if goes_on and not ("content" in last and "content" in message):
            _merge(last, message)
        else:
            messages.append(message)
    return [_finished(message) for message in messages]


def _item(item: dict[str, Any], name: str) -> Message:
    kind = item.get("type") or "message"
    if kind == "message":
        return _message(item, name)
    if kind == "function_call":
        function = {
            "name": validation.check_name(item.get("name"), f"{name}.name", "a tool"),
            "arguments": validation.check_text(item.get("arguments"), f"{name}.arguments"),
        }
        call_id = validation.check_text(item.get("call_id"), f"{name}.call_id")
        call = {"id": call_id, "type": "function", "function": function}
        return {"role": "assistant", "tool_calls": [call]}
    if kind == "function_call_output":
        call_id = validation.check_text(item.get("call_id"), f"{name}.call_id")
        content = _content(item.get("output"), f"{name}.output")
        return {"role": "tool", "tool_call_id": call_id, "content": content}
    if kind == "reasoning":
        return {"role": "assistant", "reasoning_content": [_reasoning(item, name)]}
    if kind == "item_reference":
        raise RequestError(f"{name}.type 'item_reference' is not supported: {STORES_NOTHING}")
    raise RequestError(
        f"{name}.type {kind!r} is not supported: use message, function_call, "
        "function_call_output or reasoning"
    )


def _message(item: dict[str, Any], name: str) -> Message:
    role = item.get("role")
    if role not in ROLES:
        raise RequestError(f"{name}.role must be {', '.join(ROLES[:-1])} or {ROLES[-1]}")
    return {"role": role, "content": _content(item.get("content"), f"{name}.content")}


def _content(value: Any, name: str) -> Any:
    """Return content in the form of chat completions; parts that are all text are joined."""
    if isinstance(value, str):
        return value
    parts = [
        _part(validation.check_object(each, f"{name}[{i}]"), f"{name}[{i}]")
        for i, each in enumerate(validation.check_list(value, name))
    ]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: dict[str, Any], name: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in TEXT_PARTS:
        return {"type": "text", "text": validation.check_text(part.get("text"), f"{name}.text")}
    if kind == "refusal":
        refusal = validation.check_text(part.get("refusal"), f"{name}.refusal")
        return {"type": "refusal", "refusal": refusal}
    if kind == "input_image":
        if part.get("image_url") is None:
            raise RequestError(f"{name}.image_url is missing: this gateway does not store files")
        image = {"url": validation.check_text(part["image_url"], f"{name}.image_url")}
        if part.get("detail") is not None:
            image["detail"] = validation.check_text(part["detail"], f"{name}.detail")
        return {"type": "image_url", "image_url": image}
    if kind == "input_file":
        if part.get("file_data") is None:
            raise RequestError(f"{name}.file_data is missing: this gateway does not fetch files")
        file = {"file_data": validation.check_text(part["file_data"], f"{name}.file_data")}
        if part.get("filename") is not None:
            file["filename"] = validation.check_text(part["filename"], f"{name}.filename")
        return {"type": "file", "file": file}
    raise RequestError(
        f"{name}.type {kind!r} is not supported: use input_text, input_image or input_file"
    )


def _reasoning(item: dict[str, Any], name: str) -> str:
    """Return the text of a reasoning item; encrypted reasoning has none."""
    texts = []
    for field in ("summary", "content"):
        for i, part in enumerate(validation.check_list(item.get(field) or [], f"{name}.{field}")):
            part = validation.check_object(part, f"{name}.{field}[{i}]")
            texts.append(validation.check_text(part.get("text"), f"{name}.{field}[{i}].text"))
    return "".join(texts)


def _merge(message: Message, item: Message) -> None:
    """Add a further item of an assistant to its message, whose lists grow in place."""
    for name, value in item.items():
        if isinstance(value, list) and name in message:
            message[name] += value
        else:
            message[name] = value


def _finished(message: Message) -> Message:
    """Return a message with its reasoning as text, and with content."""
    if "reasoning_content" in message:
        message["reasoning_content"] = "".join(message["reasoning_content"])
    if "content" in message:
        return message
    return {**message, "content": None if message.get("tool_calls") else ""}


# --- options


def _translated_options(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have another name or form in chat completions."""
    options: dict[str, Any] = {}
    if (limit := fields.get("max_output_tokens")) is not None:
        validation.check_limit(limit, "max_output_tokens")
        options["max_tokens"] = limit
    if (tools := fields.get("tools")) is not None:
        numbered = enumerate(validation.check_list(tools, "tools"))
        options["tools"] = [_tool(each, f"tools[{i}]") for i, each in numbered]
    if (choice := fields.get("tool_choice")) is not None:
        options["tool_choice"] = _tool_choice(choice)
    text = validation.check_object(fields.get("text") or {}, "text")
    if (output_format := text.get("format")) is not None:
        options["response_format"] = _response_format(output_format)
    options["verbosity"] = text.get("verbosity")
    reasoning = validation.check_object(fields.get("reasoning") or {}, "reasoning")
    options["reasoning_effort"] = reasoning.get("effort")
    return options


def _response_format(value: Any) -> dict[str, Any]:
    output_format = validation.check_object(value, "text.format")
    kind = validation.check_format(output_format.get("type"), "text.format.type")
    if kind != "json_schema":
        return {"type": kind}
    validation.check_object(output_format.get("schema"), "text.format.schema")
    schema = {name: each for name, each in output_format.items() if name != "type"}
    return {"type": kind, "json_schema": schema}


def _tool(value: Any, name: str) -> dict[str, Any]:
    tool = validation.check_object(value, name)
    if tool.get("type") != "function":
        raise RequestError(
            f"{name}.type {tool.get('type')!r} is not supported here; define a function"
        )
    validation.check_name(tool.get("name"), f"{name}.name", "a tool")
    validation.check_object(tool.get("parameters") or {}, f"{name}.parameters")
    function = {key: each for key, each in tool.items() if key != "type" and each is not None}
    return {"type": "function", "function": function}


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    choice = validation.check_object(choice, "tool_choice")
    if choice.get("type") != "function":
        raise RequestError(
            f"tool_choice.type {choice.get('type')!r} is not supported here; use function"
        )
    name = validation.check_name(choice.get("name"), "tool_choice.name", "a tool")
    return {"type": "function", "function": {"name": name}}


RESPONSES = Dialect(
    "responses", "/v1", "/v1/responses", read_responses, ResponsesWriter, error_shape
)
