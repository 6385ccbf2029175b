"""Messages and options for Ollama's chat protocol.

A server of Ollama's ignores what it does not know, so everything else is an error here.

Source: Ollama API, "Generate a chat completion"; Modelfile reference, "Valid parameters and
values"; guides "Thinking", "Structured outputs", "Tool calling".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequestError
from ..files import File, load_file
from ..option_hints import similar_option
from ..options import OllamaFields, OllamaModelOptions
from ..types import Messages
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
from .parts import SYSTEM_ROLES, calls_of, cannot_carry, parts_of, read_part, translatable

_PROTOCOL = "Ollama's protocol"
_LIMITS = ("num_predict", "max_tokens", "max_completion_tokens")
_FIELDS = tuple(sorted(OllamaFields.__optional_keys__))
"""Options that stand beside the messages."""
_MODEL_OPTIONS = ("temperature", "top_p", *sorted(OllamaModelOptions.__optional_keys__))
"""Options of the model, which stand in ``options``."""
_NO_EQUIVALENT = {
    **dict.fromkeys(("logit_bias", "store", "metadata", "user", "prediction", "verbosity"), ""),
    **dict.fromkeys(("audio", "modalities", "service_tier", "web_search_options"), ""),
    "functions": "use tools=",
    "function_call": "use tool_choice=",
}


def to_turns(messages: Messages) -> list[dict[str, Any]]:
    """Return the messages in Ollama's form.

    >>> to_turns([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
    [{'role': 'user', 'content': 'Hi'}]

    Ollama's own form is accepted too: ``images`` beside the text (base64, path objects or bytes),
    calls without ids whose arguments are an object, results with ``tool_name``.

    Raises ``InvalidRequestError`` for a part that the protocol cannot carry, an incomplete tool
    call, and a file that cannot be read.
    """
    names: dict[str, str] = {}
    turns = []
    for name, message in translatable(messages, own="images"):
        texts: list[str] = []
        images: list[str] = []
        for part, place in parts_of(message, name):
            value = read_part(part, place)
            if isinstance(value, str):
                texts.append(value)
            else:
                images.append(_image(value, part, place))
        images += _own_images(message, name)
        role = "system" if message["role"] in SYSTEM_ROLES else message["role"]
        turn: dict[str, Any] = {"role": role, "content": "".join(texts)}
        if images:
            turn["images"] = images
        if thinking := message.get("thinking"):
            turn["thinking"] = thinking
        if calls := _calls(message, name):
            names.update((call["id"], call["function"]["name"]) for call in calls if "id" in call)
            turn["tool_calls"] = calls
        if role == "tool":
            call_id = message.get("tool_call_id")
            tool_name = message.get("tool_name") or names.get(str(call_id), message.get("name"))
            result = {"tool_call_id": call_id and str(call_id), "tool_name": tool_name}
            turn |= {key: value for key, value in result.items() if value}
        turns.append(turn)
    return turns


def _calls(message: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the calls of a message, whose arguments are objects here."""
    calls = message.get("tool_calls") or []
    if calls and isinstance(calls, (list, tuple)) and all(map(_is_own_call, calls)):
        return [
            {**({"id": str(call["id"])} if call.get("id") else {}), "function": call["function"]}
            for call in calls
        ]
    return [
        {"id": call.id, "function": {"name": call.name, "arguments": call.object()}}
        for call in calls_of(message, name)
    ]


def _is_own_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, Mapping) else None
    return (
        isinstance(function, Mapping)
        and isinstance(function.get("name"), str)
        and isinstance(function.get("arguments"), Mapping)
    )


def _own_images(message: Mapping[str, Any], name: str) -> list[str]:
    """Return the base64 of the images beside the text of a message; a string is base64."""
    images = message.get("images") or []
    if not isinstance(images, (list, tuple)):
        raise InvalidRequestError(f"{name}['images'] must be a list")
    found = []
    for index, image in enumerate(images):
        place = f"{name}['images'][{index}]"
        if isinstance(image, str):
            try:
                image = base64.b64decode(image, validate=True)
            except ValueError:
                raise InvalidRequestError(
                    f"{place} must be base64, a pathlib.Path or bytes"
                ) from None
        found.append(_image(load_file(image, place), {"type": "images"}, place))
    return found


def _image(file: File | None, part: Mapping[str, Any], name: str) -> str:
    """Return the base64 of an image, the only file that a message carries."""
    if file is None or file.kind not in ("image", "") or (file.data and not file.kind):
        raise cannot_carry(part, name, _PROTOCOL, "it takes text and images")
    if file.data is None:
        raise InvalidRequestError(
            f"{name}: Ollama does not accept the URL of an image; download it, and pass it as a "
            "pathlib.Path or bytes"
        )
    return file.data


def translate_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the body for options in OpenAI's names and forms, or Ollama's own.

    Raises ``InvalidRequestError`` for any other: Ollama ignores what it does not know.
    """
    options = {name: value for name, value in options.items() if value is not None}
    check_one_answer(options)
    refuse(options, _NO_EQUIVALENT, _PROTOCOL)
    take(options, "n", "stream_options", *_NO_EQUIVALENT)
    body: dict[str, Any] = {}
    if "stream" in options:
        body["stream"] = options.pop("stream")
    translated = {"num_predict": one_of(options, *_LIMITS), "stop": stop_sequences(options)}
    options |= {name: value for name, value in translated.items() if value is not None}
    _translate_effort(options)
    _translate_format(options)
    if options.get("top_logprobs") and not options.get("logprobs"):
        raise InvalidRequestError("top_logprobs= needs logprobs=True as well")
    body |= _tools(options)
    body |= {name: options.pop(name) for name in _FIELDS if name in options}
    model_options = {name: options.pop(name) for name in _MODEL_OPTIONS if name in options}
    own = options.pop("options", {})
    if not isinstance(own, Mapping):
        raise InvalidRequestError("options must be a dict of model options")
    for name in own.keys() & model_options.keys():
        if own[name] != model_options[name]:
            raise contradiction(f"options['{name}']", name)
    model_options |= own
    if model_options:
        body["options"] = model_options
    if options:
        name = min(options)
        meant = similar_option(name, "OllamaOptions")
        raise InvalidRequestError(
            f"{name}= is not an option of {_PROTOCOL}; "
            + (f"did you mean {meant!r}? A" if meant else "a")
            + " model option goes into options={…}, a field of the body into extra_body={…}"
        )
    return body


def _tools(options: dict[str, Any]) -> dict[str, Any]:
    """Return the tools, none of them if the model must not call any."""
    tools = [_tool(*each) for each in tools_of(options)]
    choice, given = tool_choice_of(options), options.pop("tool_choice", None)
    options.pop("tools", None)
    mode = choice.mode if choice else None
    if given is not None and mode not in ("auto", "none"):
        raise InvalidRequestError(
            f"tool_choice={given!r} is not supported by {_PROTOCOL}: use 'auto' or 'none'"
        )
    if options.pop("parallel_tool_calls", True) is False and tools:
        raise InvalidRequestError(f"parallel_tool_calls=False is not supported by {_PROTOCOL}")
    return {"tools": tools} if tools and mode != "none" else {}


def _tool(function: Function | None, tool: Any, name: str) -> dict[str, Any]:
    if function is None:
        raise InvalidRequestError(
            f"{name} is not a function, and {_PROTOCOL} has no other tools: use "
            '{"type": "function", "function": {…}}'
        )
    if function.strict:
        raise InvalidRequestError(
            f"{name}['function']['strict'] is not supported by {_PROTOCOL}: leave it out"
        )
    return {"type": "function", "function": tool["function"]}


def _translate_effort(options: dict[str, Any]) -> None:
    """Translate ``reasoning_effort`` to ``think``, which is a level, or whether to think."""
    effort = options.pop("reasoning_effort", None)
    if effort is None:
        return
    level = False if effort == "none" else effort
    think = options.get("think")
    if think is not None and think != level and (think is not True or level is False):
        raise contradiction("reasoning_effort", "think")
    options["think"] = level


def _translate_format(options: dict[str, Any]) -> None:
    answer = response_format_of(options)
    if answer is None:
        return
    del options["response_format"]
    if answer.kind == "text":
        return
    made = "json" if answer.kind == "json_object" else answer.described_schema()
    if options.get("format") not in (None, "", made):
        raise contradiction("response_format", "format")
    options["format"] = made
