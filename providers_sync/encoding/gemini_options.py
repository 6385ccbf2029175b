"""Options for Gemini's protocol.

Source: Gemini API reference, ``GenerationConfig``, ``Tool``, ``ToolConfig``; guides "Structured
output", "Thinking", "OpenAI compatibility" (what ``reasoning_effort`` means).
"""

from __future__ import annotations

from typing import Any

from ..errors import InvalidRequestError
from .options import Function, refuse, response_format_of, take, tool_choice_of, tools_of

_PROTOCOL = "Gemini's protocol"
_NAMES = {
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
"""OpenAI's names of what ``generationConfig`` has under another one."""
_OWN_NAMES = (
    *("temperature", "topP", "topK", "maxOutputTokens", "stopSequences", "seed", "candidateCount"),
    *("presencePenalty", "frequencyPenalty", "responseLogprobs", "responseMimeType"),
    *("responseSchema", "responseJsonSchema", "responseModalities", "thinkingConfig"),
    *(
        "speechConfig",
        "imageConfig",
        "mediaResolution",
        "audioTimestamp",
        "enableEnhancedCivicAnswers",
    ),
    *("routingConfig", "modelSelectionConfig"),
)
_NO_EQUIVALENT = {
    **dict.fromkeys(("logit_bias", "store", "metadata", "user", "prediction", "verbosity"), ""),
    **dict.fromkeys(("audio", "modalities"), "use responseModalities and speechConfig"),
    "web_search_options": 'use tools=[{"google_search": {}}]',
    "functions": "use tools=",
    "function_call": "use tool_choice=",
}
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""What ``reasoning_effort`` means to models before Gemini 3, in tokens."""
_LEVELS = ("minimal", "low", "medium", "high")


def translate_options(options: dict[str, Any], model: str) -> dict[str, Any]:
    """Return the fields of the body for options in OpenAI's names and forms, or Gemini's own."""
    options = dict(options)
    if (options.get("n") or 1) != 1:
        raise InvalidRequestError("n must be 1: a stream carries one answer; send several requests")
    if options.get("stream") is False:
        raise InvalidRequestError("stream=False cannot be honoured: this address always streams")
    refuse(options, _NO_EQUIVALENT, _PROTOCOL)
    if options.pop("parallel_tool_calls", None) is False:
        raise InvalidRequestError(f"parallel_tool_calls=False cannot be honoured by {_PROTOCOL}")
    config: dict[str, Any] = {}
    _translate_format(options, config)
    if (effort := options.pop("reasoning_effort", None)) is not None:
        config["thinkingConfig"] = _thinking(effort, model)
    for name, value in _NAMES.items():
        if (given := options.pop(name, None)) is not None:
            config[value] = given
    stop = options.pop("stop", None)
    if stop is not None:
        config["stopSequences"] = [stop] if isinstance(stop, str) else list(stop)
    config.update((name, options.pop(name)) for name in _OWN_NAMES if name in options)
    given = options.pop("generationConfig", None) or {}
    thinking = {**config.get("thinkingConfig", {}), **(given.get("thinkingConfig") or {})}
    config = {**config, **given, **({"thinkingConfig": thinking} if thinking else {})}
    if config:
        options["generationConfig"] = config
    _translate_tools(options)
    take(options, "n", "stream", "stream_options", *_NO_EQUIVALENT)
    return options


def _thinking(effort: object, model: str) -> dict[str, Any]:
    if effort not in _BUDGETS:
        raise InvalidRequestError(
            f"reasoning_effort must be one of {', '.join(_BUDGETS)} for {_PROTOCOL}"
        )
    if "gemini-3" in model and effort in _LEVELS:
        return {"thinkingLevel": effort, "includeThoughts": True}
    budget = _BUDGETS[str(effort)]
    return {"thinkingBudget": budget, "includeThoughts": budget > 0}


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
    if choice is not None:
        mode = {"required": "ANY"}.get(choice.mode, choice.mode.upper())
        calling = {"mode": mode, **({"allowedFunctionNames": [choice.name]} if choice.name else {})}
        given = options.get("toolConfig") or {}
        options["toolConfig"] = {**given, "functionCallingConfig": calling}
    elif options.get("tool_choice") is not None:
        raise InvalidRequestError(
            f"tool_choice of this form cannot be honoured by {_PROTOCOL}: use toolConfig="
        )
    options.pop("tool_choice", None)


def _declaration(function: Function) -> dict[str, Any]:
    declared = {"name": function.name}
    if function.description is not None:
        declared["description"] = function.description
    return {**declared, "parametersJsonSchema": function.parameters}


def _own_tool(tool: Any, name: str) -> Any:
    if "type" in tool:
        raise InvalidRequestError(
            f"{name} is of type {tool['type']!r}, which {_PROTOCOL} does not have; its own tools "
            'look like {"google_search": {}}'
        )
    return tool
