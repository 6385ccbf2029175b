"""Reads ``tools``, ``tool_choice`` and ``response_format`` in OpenAI's form, for all protocols.

Source: OpenAI API reference, "Create chat completion".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import InvalidRequestError

_FORMATS = ("text", "json_object", "json_schema")
_CHOICES = ("auto", "none", "required")


class Function(NamedTuple):
    """A function that the model may call."""

    name: str
    description: str | None
    parameters: dict[str, Any]
    """A JSON schema."""
    strict: bool | None
    tool: Mapping[str, Any]


class ToolChoice(NamedTuple):
    """Whether the model calls tools: ``auto``, ``none``, ``required``, or the function ``name``."""

    mode: str
    name: str | None = None


class ResponseFormat(NamedTuple):
    """The format of the answer: ``text``, ``json_object``, or ``json_schema`` with its schema."""

    kind: str
    name: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None

    def described_schema(self) -> dict[str, Any]:
        """Return the schema, with the format's description where it has none of its own."""
        described = {"description": self.description} if self.description else {}
        return {**described, **(self.schema or {})}


def function_of(tool: object, name: str) -> Function | None:
    """Return the function of a tool in OpenAI's form; ``None`` for the protocol's own form."""
    if not isinstance(tool, Mapping):
        raise InvalidRequestError(f"{name} must be a dict, not {type(tool).__name__}")
    function = tool.get("function")
    if tool.get("type", "function") != "function" or not isinstance(function, Mapping):
        return None
    called = function.get("name")
    if not isinstance(called, str) or not called:
        raise InvalidRequestError(f"{name}['function']['name'] must be a non-empty string")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping):
        raise InvalidRequestError(f"{name}['function']['parameters'] must be a JSON schema, a dict")
    return Function(
        called, function.get("description"), dict(parameters), function.get("strict"), tool
    )


def tools_of(options: Mapping[str, Any]) -> list[tuple[Function | None, Any, str]]:
    """Return each tool: its function if it is in OpenAI's form, the tool, its name for errors."""
    tools = options.get("tools")
    if tools is None:
        return []
    if not isinstance(tools, (list, tuple)):
        raise InvalidRequestError("tools must be a list of dicts")
    return [(function_of(tool, f"tools[{i}]"), tool, f"tools[{i}]") for i, tool in enumerate(tools)]


def tool_choice_of(options: Mapping[str, Any]) -> ToolChoice | None:
    """Return the choice in OpenAI's form; ``None`` if there is none, or in the protocol's own."""
    choice = options.get("tool_choice")
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise InvalidRequestError(
                f"tool_choice must be one of {', '.join(_CHOICES)}, or name a function: "
                '{"type": "function", "function": {"name": …}}'
            )
        return ToolChoice(choice)
    if choice is not None and not isinstance(choice, Mapping):
        raise InvalidRequestError(
            f"tool_choice must be a string or a dict, not {type(choice).__name__}"
        )
    function = choice.get("function") if choice is not None else None
    if isinstance(function, Mapping):
        name = function.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidRequestError("tool_choice['function']['name'] must be a non-empty string")
        return ToolChoice("required", name)
    return None


def response_format_of(options: Mapping[str, Any]) -> ResponseFormat | None:
    """Return the format in OpenAI's form; ``None`` if there is none.

    >>> response_format_of({"response_format": {"type": "json_object"}}).kind
    'json_object'
    """
    value = options.get("response_format")
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in _FORMATS:
        raise InvalidRequestError(f"response_format['type'] must be one of {', '.join(_FORMATS)}")
    if kind != "json_schema":
        return ResponseFormat(kind)
    detail = value.get("json_schema")
    schema = detail.get("schema") if isinstance(detail, Mapping) else None
    if not isinstance(detail, Mapping) or not isinstance(schema, Mapping):
        raise InvalidRequestError(
            "response_format['json_schema']['schema'] must be a JSON schema, a dict"
        )
    return ResponseFormat(
        kind, str(detail.get("name") or "answer"), schema, detail.get("strict"),
        detail.get("description"),
    )  # fmt: skip


def check_one_answer(options: Mapping[str, Any]) -> None:
    """Raise ``InvalidRequestError`` if ``n`` asks for several answers, or none."""
    if options.get("n") not in (None, 1):
        raise InvalidRequestError("n must be 1: a stream has one answer; send several requests")


def one_of(options: dict[str, Any], *names: str) -> Any:
    """Remove options that mean the same, and return their value; ``None`` if none is given.

    >>> one_of({"max_tokens": 5}, "max_tokens", "max_completion_tokens")
    5

    Raises ``InvalidRequestError`` if they contradict each other.
    """
    given = {name: options.pop(name) for name in names if name in options}
    given = {name: value for name, value in given.items() if value is not None}
    values = list(given.values())
    if any(value != values[0] for value in values):
        raise contradiction(*given)
    return values[0] if values else None


def contradiction(*names: str) -> Exception:
    """Return the error for options that mean the same and have different values."""
    return InvalidRequestError(
        f"{' and '.join(f'{name}=' for name in names)} contradict each other: give one of them "
        "(None removes one that the provider has)"
    )


def stop_sequences(options: dict[str, Any]) -> list[str] | None:
    """Remove ``stop`` and return its texts; ``None`` if it is not given.

    >>> stop_sequences({"stop": "END"})
    ['END']

    Raises ``InvalidRequestError`` if it is neither text nor a list of texts.
    """
    stop = options.pop("stop", None)
    if stop is None:
        return None
    texts = [stop] if isinstance(stop, str) else stop
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequestError("stop must be text, or a list of texts")
    return list(texts)


def take(options: dict[str, Any], *names: str) -> None:
    """Remove options that have been translated."""
    for name in names:
        options.pop(name, None)


def refuse(options: Mapping[str, Any], names: Mapping[str, str], protocol: str) -> None:
    """Raise ``InvalidRequestError`` for an option that a protocol cannot honour.

    ``names`` has the remedy for each option, which may be empty. ``False`` asks for nothing.
    """
    for name, remedy in names.items():
        if options.get(name) is not None and options[name] is not False:
            raise InvalidRequestError(
                f"{name}= is not supported by {protocol}" + (f": {remedy}" if remedy else "")
            )
