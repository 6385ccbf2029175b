"""Checks of parsed JSON request bodies, shared by the protocols; each error names the field."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..types import Message, Messages
from .types import ChatRequest, RequestError

MAX_STOPS = 64
"""Stop sequences in a request; OpenAI allows four. Each one is searched for in the whole answer."""


BUDGETS = ((0, "none"), (1024, "low"), (8192, "medium"))
"""Up to how many tokens each effort to reason goes; more is ``high``. Source: Gemini API, guide
"OpenAI compatibility"."""
FORMATS = ("text", "json_object", "json_schema")
NOT_SENT = {
    "logprobs": "this gateway has no log probabilities",
    "top_logprobs": "this gateway has no log probabilities",
    "audio": "this gateway answers in text",
    "functions": "use tools",
    "function_call": "use tool_choice",
    "web_search_options": "this gateway does not search the web",
    "moderation": "this gateway does not moderate",
}
"""Options of chat completions that no answer of the gateway can honour, and the remedy."""


def json_type(value: Any) -> str:
    """Return the JSON name of a value's type, for error texts."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def check_object(value: Any, name: str) -> dict[str, Any]:
    """Return ``value`` if it is a JSON object, else raise ``RequestError``."""
    if not isinstance(value, dict):
        raise RequestError(f"{name} must be a JSON object, not {json_type(value)}")
    return value


def check_list(value: Any, name: str) -> list[Any]:
    """Return ``value`` if it is a list, else raise ``RequestError``."""
    if not isinstance(value, list):
        raise RequestError(f"{name} must be a list, not {json_type(value)}")
    return value


def check_text(value: Any, name: str) -> str:
    """Return ``value`` if it is text, else raise ``RequestError``."""
    if not isinstance(value, str):
        raise RequestError(f"{name} must be text, not {json_type(value)}")
    return value


def check_name(value: Any, name: str, what: str = "a model") -> str:
    """Return ``value`` if it is text and not empty, else raise ``RequestError``."""
    if not isinstance(value, str) or not value:
        raise RequestError(f"{name} must be the name of {what}, not {json_type(value)}")
    return value


def check_flag(fields: dict[str, Any], name: str) -> bool:
    """Return a boolean field; absent and ``null`` are false."""
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false, not {json_type(value)}")
    return bool(value)


def check_messages(value: Any) -> Messages:
    """Return messages in OpenAI's form: ``role``, and ``content`` of text or parts."""
    if not isinstance(value, list) or not value:
        raise RequestError("messages must be a list with at least one message")
    return [_check_message(item, f"messages[{i}]") for i, item in enumerate(value)]


def _check_message(value: Any, name: str) -> Message:
    message = check_object(value, name)
    if "providers_sync" in message:  # a provider behind the gateway would trust it
        raise RequestError(f"{name}.providers_sync is not part of the protocol; remove it")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise RequestError(f"{name}.role must be text such as user, not {json_type(role)}")
    calls = message.get("tool_calls")
    if calls is not None:
        for i, call in enumerate(check_list(calls, f"{name}.tool_calls")):
            _check_tool_call(call, f"{name}.tool_calls[{i}]")
    if role == "tool":
        check_text(message.get("tool_call_id"), f"{name}.tool_call_id")
    if (refusal := message.get("refusal")) is not None:
        check_text(refusal, f"{name}.refusal")
    if isinstance(content, list):
        for i, part in enumerate(content):
            _check_part(part, f"{name}.content[{i}]")
    elif content is None and not calls and refusal is not None:
        return {**message, "content": ""}  # a provider behind the gateway takes null beside calls
    elif not isinstance(content, str) and not (content is None and calls):
        raise RequestError(
            f"{name}.content must be text or a list of parts, not {json_type(content)}"
        )
    return message


def _check_tool_call(value: Any, name: str) -> None:
    call = check_object(value, name)
    check_text(call.get("id"), f"{name}.id")
    function = check_object(call.get("function"), f"{name}.function")
    check_name(function.get("name"), f"{name}.function.name", "a tool")
    check_text(function.get("arguments"), f"{name}.function.arguments")


def _check_part(value: Any, name: str) -> None:
    part = check_object(value, name)
    check_text(part.get("type"), f"{name}.type")
    if part["type"] in ("text", "refusal"):
        check_text(part.get(part["type"]), f"{name}.{part['type']}")
    elif part["type"] == "image_url":
        image = check_object(part.get("image_url"), f"{name}.image_url")
        check_text(image.get("url"), f"{name}.image_url.url")


def check_options(fields: dict[str, Any], not_options: Collection[str]) -> dict[str, Any]:
    """Return the fields that are options, checked and without those that are ``null``."""
    options = {k: v for k, v in fields.items() if k not in not_options and v is not None}
    temperature = options.get("temperature", 0)
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise RequestError(f"temperature must be a number, not {json_type(temperature)}")
    for name in ("max_tokens", "max_completion_tokens"):
        check_limit(options.get(name, 1), name)
    refuse(options, NOT_SENT)
    if options.get("modalities", ["text"]) != ["text"]:
        raise RequestError('modalities must be ["text"]: this gateway answers in text')
    if options.get("n", 1) != 1:
        raise RequestError("n must be 1: this gateway returns one answer per request")
    _check_stop(options.get("stop", []))
    if "response_format" in options:
        response_format = check_object(options["response_format"], "response_format")
        if check_format(response_format.get("type"), "response_format.type") == "json_schema":
            schema = check_object(response_format.get("json_schema"), "response_format.json_schema")
            check_object(schema.get("schema", {}), "response_format.json_schema.schema")
    _check_tools(options)
    return options


def check_limit(value: Any, name: str) -> None:
    """Check a limit of tokens."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RequestError(f"{name} must be a whole number above 0")


def check_format(value: Any, name: str) -> str:
    """Return the type of a ``response_format``."""
    if value not in FORMATS:
        raise RequestError(f"{name} must be {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    return str(value)


def effort_for(budget: int) -> str:
    """Return OpenAI's ``reasoning_effort`` for a limit of tokens to reason with."""
    return next((effort for limit, effort in BUDGETS if budget <= limit), "high")


def refuse(fields: dict[str, Any], remedies: Mapping[str, str]) -> None:
    """Raise ``RequestError`` for a field with a remedy.

    ``null``, ``false``, 0 and an empty list ask for nothing; an empty object may.
    """
    for name, remedy in remedies.items():
        if fields.get(name) not in (None, False, 0, []):
            raise RequestError(f"{name} is not supported: {remedy}")


def _check_stop(value: Any) -> None:
    """Check ``stop``: text or a list of at most ``MAX_STOPS``."""
    stops = [value] if isinstance(value, str) else check_list(value, "stop")
    if len(stops) > MAX_STOPS:
        raise RequestError(f"stop must have at most {MAX_STOPS} sequences, not {len(stops)}")
    for i, each in enumerate(stops):
        check_text(each, f"stop[{i}]")


def _check_tools(options: dict[str, Any]) -> None:
    """Check ``tools`` and ``tool_choice`` in OpenAI's form."""
    names = []
    for i, each in enumerate(check_list(options.get("tools", []), "tools")):
        function = check_object(
            check_object(each, f"tools[{i}]").get("function"), f"tools[{i}].function"
        )
        names.append(check_name(function.get("name"), f"tools[{i}].function.name", "a tool"))
        check_object(function.get("parameters") or {}, f"tools[{i}].function.parameters")
    choice = options.get("tool_choice", "auto")
    if choice in ("none", "auto"):
        return
    if not names:
        raise RequestError("tool_choice requires a tool, but no tools are given")
    if choice == "required":
        return
    if isinstance(choice, str):
        raise RequestError(
            "tool_choice must be none, auto, required or an object that names a tool"
        )
    chosen = check_object(
        check_object(choice, "tool_choice").get("function"), "tool_choice.function"
    )
    if chosen.get("name") not in names:
        raise RequestError("tool_choice.function.name must be the name of one of the tools")


def streaming_request(
    fields: dict[str, Any], messages: Messages, model: str | None, not_options: set[str]
) -> ChatRequest:
    """Return a request of a protocol that always streams; the other fields are options."""
    options = check_options(fields, not_options | {"stream", "stream_options"})
    return ChatRequest(messages, options, model, include_usage=include_usage(fields))


def include_usage(fields: dict[str, Any]) -> bool:
    """Return whether ``stream_options``, OpenAI's field, requests token counts."""
    options = fields.get("stream_options")
    return (
        options is not None and check_object(options, "stream_options").get("include_usage") is True
    )
