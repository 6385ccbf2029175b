"""Options for Gemini's protocol.

Source: Gemini API reference, ``GenerationConfig``, ``Tool``, ``ToolConfig``; guides "Structured
output", "Thinking", "OpenAI compatibility" (what ``reasoning_effort`` means).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequestError
from ..options import GeminiConfig
from .gemini import is_since_3
from .options import (
    Function,
    check_one_answer,
    contradiction,
    one_of,
    refuse,
    response_format_of,
    stop_sequences,
    take,
    tool_choice_of,
    tools_of,
)

_PROTOCOL = "Gemini's protocol"
_NAMES = {
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "stop": "stopSequences",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
"""OpenAI's names of what ``generationConfig`` has under another one."""
_OWN_NAMES = ("temperature", *sorted(GeminiConfig.__optional_keys__))
_NO_EQUIVALENT = {
    **dict.fromkeys(("logit_bias", "metadata", "user", "prediction", "verbosity"), ""),
    **dict.fromkeys(("safety_identifier", "prompt_cache_key", "prompt_cache_retention"), ""),
    **dict.fromkeys(("audio", "modalities"), "use responseModalities and speechConfig"),
    "service_tier": "use serviceTier=",
    "web_search_options": 'use tools=[{"google_search": {}}]',
    **dict.fromkeys(("contents", "messages"), "pass the messages as the first argument"),
    "functions": "use tools=",
    "function_call": "use tool_choice=",
}
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""What ``reasoning_effort`` means to models before Gemini 3, in tokens."""
_LEVELS = ("minimal", "low", "medium", "high")
_STRICT = "VALIDATED"
"""The mode in which a call follows its schema; in ``ANY`` it always does ("Function calling")."""


def translate_options(options: dict[str, Any], model: str) -> dict[str, Any]:
    """Return the fields of the body for options in OpenAI's names and forms, or Gemini's own."""
    options = {name: value for name, value in options.items() if value is not None}
    check_one_answer(options)
    if options.get("stream") is False:
        raise InvalidRequestError("stream=False is not supported: this address always streams")
    refuse(options, _NO_EQUIVALENT, _PROTOCOL)
    if options.pop("parallel_tool_calls", None) is False:
        raise InvalidRequestError(f"parallel_tool_calls=False is not supported by {_PROTOCOL}")
    config = _config(options, model)
    if config:
        options["generationConfig"] = config
    _translate_tools(options)
    take(options, "n", "stream", "stream_options")
    return options


def _config(options: dict[str, Any], model: str) -> dict[str, Any]:
    """Take the options of ``generationConfig`` and return it."""
    config: dict[str, Any] = {}
    _translate_format(options, config)
    names = dict.fromkeys(config, "response_format")
    if not isinstance(options.get("logprobs", False), bool):
        raise InvalidRequestError("logprobs must be True or False; top_logprobs= sets how many")
    if (limit := one_of(options, "max_tokens", "max_completion_tokens")) is not None:
        options["max_tokens"] = limit
    if (stop := stop_sequences(options)) is not None:
        options["stop"] = stop
    for name, own in _NAMES.items():
        if name in options:
            config[own], names[own] = options.pop(name), name
    effort = options.pop("reasoning_effort", None)
    given = {name: options.pop(name) for name in _OWN_NAMES if name in options}
    whole = _take_dict(options, "generationConfig")
    thinking = {**_take_dict(given, "thinkingConfig"), **_take_dict(whole, "thinkingConfig")}
    for values, place in ((given, ""), (whole, "generationConfig")):
        for own, value in values.items():
            if config.get(own, value) != value:
                raise contradiction(names.get(own, own), place or own)
        config |= values
    if effort is not None:
        thinking = _thinking(effort, model, thinking)
    return {**config, **({"thinkingConfig": thinking} if thinking else {})}


def _take_dict(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Take a dict, which may be missing; leave out what is ``None`` in it."""
    value = values.pop(name, None)
    if not isinstance(value, (Mapping, type(None))):
        raise InvalidRequestError(f"{name} must be a dict, not {type(value).__name__}")
    return {key: each for key, each in (value or {}).items() if each is not None}


def _thinking(effort: object, model: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return ``thinkingConfig`` for an effort, with what is given of it."""
    if not isinstance(effort, str) or effort not in _BUDGETS:
        raise InvalidRequestError(
            f"reasoning_effort must be one of {', '.join(_BUDGETS)} for {_PROTOCOL}"
        )
    if "thinkingBudget" in given or "thinkingLevel" in given:
        raise InvalidRequestError("give either reasoning_effort= or the amount in thinkingConfig=")
    if is_since_3(model) and effort in _LEVELS:
        return {"thinkingLevel": effort, "includeThoughts": True, **given}
    budget = _BUDGETS[effort]
    return {"thinkingBudget": budget, "includeThoughts": budget > 0, **given}


def _translate_format(options: dict[str, Any], config: dict[str, Any]) -> None:
    answer = response_format_of(options)
    if answer is None:
        return
    del options["response_format"]
    if answer.kind == "text":
        return
    config["responseMimeType"] = "application/json"
    if answer.kind == "json_schema":
        config["responseJsonSchema"] = answer.schema


def _translate_tools(options: dict[str, Any]) -> None:
    tools = tools_of(options)
    functions = [_declaration(function) for function, _, _ in tools if function is not None]
    others = [_own_tool(tool, name) for function, tool, name in tools if function is None]
    if tools:
        options["tools"] = [
            *others,
            *([{"functionDeclarations": functions}] if functions else []),
        ]
    choice = tool_choice_of(options)
    if choice is None and options.get("tool_choice") is not None:
        raise InvalidRequestError(
            f"tool_choice of this form is not supported by {_PROTOCOL}: use toolConfig="
        )
    options.pop("tool_choice", None)
    calling: dict[str, Any] = {}
    if choice is not None:
        calling["mode"] = {"required": "ANY"}.get(choice.mode, choice.mode.upper())
        if choice.name:
            calling["allowedFunctionNames"] = [choice.name]
    is_strict = any(function.strict for function, _, _ in tools if function is not None)
    if is_strict and calling.get("mode", "AUTO") == "AUTO":
        calling["mode"] = _STRICT
    given = _take_dict(options, "toolConfig")
    own = _take_dict(given, "functionCallingConfig")
    if choice is not None and not own.keys().isdisjoint(("mode", "allowedFunctionNames")):
        raise InvalidRequestError("give either tool_choice= or the mode of toolConfig=")
    calling |= own
    if given or calling:
        more = {"functionCallingConfig": calling} if calling else {}
        options["toolConfig"] = {**given, **more}


def _declaration(function: Function) -> dict[str, Any]:
    declared = {"name": function.name}
    if function.description is not None:
        declared["description"] = function.description
    return {**declared, "parametersJsonSchema": function.parameters}


def _own_tool(tool: Any, name: str) -> Any:
    if tool.get("type") == "function":
        raise InvalidRequestError(f"{name} must have a dict 'function', with the function's name")
    if "type" in tool:
        raise InvalidRequestError(
            f"{name} is of type {tool['type']!r}, which {_PROTOCOL} does not have; its own tools "
            'look like {"google_search": {}}'
        )
    return tool
