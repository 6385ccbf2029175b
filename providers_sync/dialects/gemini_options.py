"""Reads the options and tools of Gemini's requests into OpenAI's form.

Source: Gemini API reference, ``GenerationConfig``, ``Tool``, ``ToolConfig``; guides "Structured
output", "Thinking".
"""

from __future__ import annotations

from typing import Any

from . import validation
from .gemini_fields import read_enum, read_fields
from .gemini_schemas import read_schema
from .types import RequestError

NAMES = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
}
"""Options with another name in OpenAI's protocol; ``top_k`` is that of other servers."""
FORMAT = ("responseMimeType", "responseSchema", "responseJsonSchema")
UNSUPPORTED = (
    *("responseLogprobs", "logprobs", "speechConfig", "imageConfig", "mediaResolution"),
    *("enableEnhancedCivicAnswers", "audioTimestamp", "routingConfig", "modelSelectionConfig"),
    *("audioTranscriptionConfig", "modelArmorConfig", "responseFormat", "generationOutputConfig"),
)
OTHER_TOOLS = (
    *("googleSearch", "googleSearchRetrieval", "codeExecution", "urlContext", "googleMaps"),
    *("fileSearch", "computerUse", "retrieval", "enterpriseWebSearch", "parallelAiSearch"),
    *("exaAiSearch", "mcpServers"),
)
"""What only Google's service can execute."""
MODES = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}
LEVELS = ("MINIMAL", "LOW", "MEDIUM", "HIGH")


def read_config(value: Any) -> tuple[dict[str, Any], bool]:
    """Return the options of ``generationConfig``, and whether the client wants to see thoughts.

    >>> read_config({"topP": 0.5, "thinkingConfig": {"thinkingBudget": 0}})
    ({'top_p': 0.5, 'reasoning_effort': 'none'}, True)
    """
    name = "generationConfig"
    known = (*NAMES, *FORMAT, "candidateCount", "responseModalities", "thinkingConfig")
    config = read_fields({} if value is None else value, name, known, UNSUPPORTED)
    options = {NAMES[key]: _option(config[key], key, name) for key in NAMES if key in config}
    if config.get("candidateCount", 1) != 1:
        raise RequestError(f"{name}.candidateCount must be 1: this gateway returns one candidate")
    modalities = validation.check_list(
        config.get("responseModalities", []), f"{name}.responseModalities"
    )
    if any(each != "TEXT" for each in modalities):
        raise RequestError(
            f"{name}.responseModalities must be TEXT: this gateway returns text only"
        )
    response_format = _response_format(config, name)
    thinking, shows = _thinking(config.get("thinkingConfig", {}), f"{name}.thinkingConfig")
    return {**options, **response_format, **thinking}, shows


def _option(value: Any, key: str, name: str) -> Any:
    """Return the value of an option: a list of texts, or a number."""
    name = f"{name}.{key}"
    if key == "stopSequences":
        numbered = enumerate(validation.check_list(value, name))
        return [validation.check_text(each, f"{name}[{i}]") for i, each in numbered]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RequestError(f"{name} must be a number, not {validation.json_type(value)}")
    # Clients send 40.0 as topK.
    number = int(value) if value == int(value) else value
    if key == "maxOutputTokens" and (number < 1 or not isinstance(number, int)):
        raise RequestError(f"{name} must be a whole number above 0")
    return number


def _response_format(config: dict[str, Any], name: str) -> dict[str, Any]:
    kind = config.get("responseMimeType") or "text/plain"
    schema = None
    if "responseSchema" in config:
        schema = read_schema(config["responseSchema"], f"{name}.responseSchema")
    if "responseJsonSchema" in config:
        if schema is not None:
            raise RequestError(f"{name} must not have both responseSchema and responseJsonSchema")
        schema = validation.check_object(config["responseJsonSchema"], f"{name}.responseJsonSchema")
    if kind == "application/json":
        if schema is None:
            return {"response_format": {"type": "json_object"}}
        wrapper = {"name": "response", "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": wrapper}}
    if kind != "text/plain":
        raise RequestError(f"{name}.responseMimeType must be text/plain or application/json")
    if schema is not None:
        raise RequestError(f"{name}.responseMimeType must be application/json, with a schema")
    return {}


def _thinking(value: Any, name: str) -> tuple[dict[str, Any], bool]:
    """Return the effort under OpenAI's name, and whether thoughts are shown."""
    config = read_fields(value, name, ("includeThoughts", "thinkingBudget", "thinkingLevel"))
    validation.check_flag(config, "includeThoughts")
    shows = config.get("includeThoughts") is not False
    if level := read_enum(
        config.get("thinkingLevel", "LEVEL_UNSPECIFIED"), f"{name}.thinkingLevel", LEVELS
    ):
        return {"reasoning_effort": level.lower()}, shows
    budget = config.get("thinkingBudget", -1)
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < -1:
        raise RequestError(f"{name}.thinkingBudget must be a whole number, or -1 for any")
    if budget == -1:  # the model decides
        return {}, shows
    return {"reasoning_effort": validation.effort_for(budget)}, shows


# --- tools


def read_tools(tools: Any, config: Any) -> dict[str, Any]:
    """Return ``tools`` and ``tool_choice`` for Gemini's tools and its ``toolConfig``."""
    functions = _functions(tools)
    settings = read_fields(
        {} if config is None else config,
        "toolConfig",
        ("functionCallingConfig",),
        ("retrievalConfig", "includeServerSideToolInvocations"),
    )
    name = "toolConfig.functionCallingConfig"
    calling = read_fields(
        settings.get("functionCallingConfig", {}),
        name,
        ("mode", "allowedFunctionNames"),
        ("streamFunctionCallArguments",),
    )
    mode = read_enum(calling.get("mode", "AUTO"), f"{name}.mode", MODES) or "AUTO"
    allowed = _allowed(calling.get("allowedFunctionNames", []), functions, mode, name)
    choice: Any = MODES[mode]
    if allowed:
        functions = {key: functions[key] for key in allowed}
        if mode == "ANY" and len(functions) == 1:
            choice = {"type": "function", "function": {"name": allowed[0]}}
    if mode == "VALIDATED":
        functions = {key: {**each, "strict": True} for key, each in functions.items()}
    options: dict[str, Any] = {}
    if functions:
        options["tools"] = [{"type": "function", "function": each} for each in functions.values()]
    elif mode == "ANY":
        raise RequestError(f"{name}.mode is ANY, but no functions are declared")
    return {**options, "tool_choice": choice} if "mode" in calling and functions else options


def _allowed(value: Any, functions: dict[str, Any], mode: str, name: str) -> list[str]:
    name = f"{name}.allowedFunctionNames"
    allowed = validation.check_list(value, name)
    if allowed and mode not in ("ANY", "VALIDATED"):
        raise RequestError(f"{name} must be empty unless the mode is ANY or VALIDATED")
    for i, each in enumerate(allowed):
        if validation.check_text(each, f"{name}[{i}]") not in functions:
            raise RequestError(f"{name}[{i}] must be the name of a declared function")
    return allowed


def _functions(value: Any) -> dict[str, dict[str, Any]]:
    """Return the declared functions in OpenAI's form, by name."""
    functions = {}
    for i, tool in enumerate(validation.check_list([] if value is None else value, "tools")):
        fields = read_fields(tool, f"tools[{i}]", ("functionDeclarations", *OTHER_TOOLS))
        if others := sorted(fields.keys() - {"functionDeclarations"}):
            # Even an empty object asks for one of these.
            raise RequestError(
                f"tools[{i}].{others[0]} is not supported by this gateway: declare functions"
            )
        name = f"tools[{i}].functionDeclarations"
        for j, each in enumerate(
            validation.check_list(fields.get("functionDeclarations", []), name)
        ):
            function = _function(each, f"{name}[{j}]")
            if function["name"] in functions:
                raise RequestError(f"{name}[{j}].name is already the name of another function")
            functions[function["name"]] = function
    return functions


def _function(value: Any, name: str) -> dict[str, Any]:
    known = ("name", "description", "parameters", "parametersJsonSchema")
    # What a function returns is told to the model by Google's service alone.
    fields = read_fields(value, name, (*known, "response", "responseJsonSchema"), ("behavior",))
    function = {"name": validation.check_name(fields.get("name"), f"{name}.name", "a function")}
    if "description" in fields:
        function["description"] = validation.check_text(
            fields["description"], f"{name}.description"
        )
    parameters: dict[str, Any] = {"type": "object", "properties": {}}
    if "parameters" in fields:
        if "parametersJsonSchema" in fields:
            raise RequestError(f"{name} must not have both parameters and parametersJsonSchema")
        parameters = read_schema(fields["parameters"], f"{name}.parameters")
    elif "parametersJsonSchema" in fields:
        parameters = validation.check_object(
            fields["parametersJsonSchema"], f"{name}.parametersJsonSchema"
        )
    return {**function, "parameters": parameters}
