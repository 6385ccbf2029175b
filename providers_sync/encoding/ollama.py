"""Messages and options for Ollama's chat protocol.

Source: Ollama API, "Generate a chat completion"; Modelfile reference, "Valid parameters and
values"; guides "Thinking", "Structured outputs", "Tool calling".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequestError
from ..files import File
from ..types import Messages
from .options import refuse, response_format_of, tool_choice_of, tools_of
from .parts import SYSTEM_ROLES, calls_of, cannot_carry, named, parts_of, read_part

_PROTOCOL = "Ollama's protocol"
_FIELDS = ("think", "keep_alive", "format", "logprobs", "top_logprobs", "truncate", "shift")
"""Options that stand beside the messages."""
_MODEL_OPTIONS = (
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "tfs_z", "seed", "num_predict"),
    *("num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "low_vram", "numa"),
    *("use_mmap", "use_mlock", "vocab_only", "stop", "repeat_last_n", "repeat_penalty"),
    *("presence_penalty", "frequency_penalty", "penalize_newline"),
    *("mirostat", "mirostat_eta", "mirostat_tau", "draft_num_predict"),
)
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

    Raises ``InvalidRequestError`` for a part that the protocol cannot carry, an incomplete tool
    call, and a file that cannot be read.
    """
    names: dict[str, str] = {}
    turns = []
    for name, message in named(messages):
        texts: list[str] = []
        images: list[str] = []
        for part, place in parts_of(message, name):
            value = read_part(part, place)
            if isinstance(value, str):
                texts.append(value)
            else:
                images.append(_image(value, part, place))
        role = "system" if message["role"] in SYSTEM_ROLES else message["role"]
        turn: dict[str, Any] = {"role": role, "content": "".join(texts)}
        if images:
            turn["images"] = images
        if thinking := message.get("thinking"):
            turn["thinking"] = thinking
        calls = calls_of(message, name)
        names.update((call.id, call.name) for call in calls)
        if calls:
            turn["tool_calls"] = [
                {"id": call.id, "function": {"name": call.name, "arguments": call.object()}}
                for call in calls
            ]
        if role == "tool":
            call_id = str(message.get("tool_call_id") or "")
            turn["tool_call_id"] = call_id
            if tool_name := names.get(call_id, message.get("name")):
                turn["tool_name"] = tool_name
        turns.append(turn)
    return turns


def _image(file: File | None, part: Mapping[str, Any], name: str) -> str:
    """Return the base64 of an image, the only file that a message carries."""
    if file is None or file.kind not in ("image", ""):
        raise cannot_carry(part, name, _PROTOCOL, "it takes text and images")
    if file.data is None:
        raise InvalidRequestError(
            f"{name}: Ollama takes no address of an image; download it, and pass it as a "
            "pathlib.Path or bytes"
        )
    return file.data


def translate_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the body for options in OpenAI's names and forms, or Ollama's own.

    Raises ``InvalidRequestError`` for any other: Ollama ignores what it does not know.
    """
    options = {name: value for name, value in options.items() if value is not None}
    if options.pop("n", 1) != 1:
        raise InvalidRequestError("n must be 1: a stream carries one answer; send several requests")
    refuse(options, _NO_EQUIVALENT, _PROTOCOL)
    options.pop("stream_options", None)
    body: dict[str, Any] = {}
    if "stream" in options:
        body["stream"] = options.pop("stream")
    for name in ("max_tokens", "max_completion_tokens"):
        if (limit := options.pop(name, None)) is not None:
            options.setdefault("num_predict", limit)
    if (effort := options.pop("reasoning_effort", None)) is not None:
        options.setdefault("think", False if effort == "none" else effort)
    _translate_format(options)
    body |= _tools(options)
    body |= {name: options.pop(name) for name in _FIELDS if name in options}
    model_options = {name: options.pop(name) for name in _MODEL_OPTIONS if name in options}
    model_options |= options.pop("options", {})
    if model_options:
        body["options"] = model_options
    if options:
        raise InvalidRequestError(
            f"{min(options)}= is no option of {_PROTOCOL}; one of a model goes into options={{…}}, "
            "a field of the body into extra_body={…}"
        )
    return body


def _tools(options: dict[str, Any]) -> dict[str, Any]:
    """Return the tools, none of them if the model must not call any."""
    tools = [tool for _, tool, _ in tools_of(options)]
    choice, given = tool_choice_of(options), options.pop("tool_choice", None)
    options.pop("tools", None)
    mode = choice.mode if choice else None
    if given is not None and mode not in ("auto", "none"):
        raise InvalidRequestError(
            f"tool_choice={given!r} cannot be honoured by {_PROTOCOL}: only 'auto' and 'none' can"
        )
    if options.pop("parallel_tool_calls", True) is False and tools:
        raise InvalidRequestError(f"parallel_tool_calls=False cannot be honoured by {_PROTOCOL}")
    return {"tools": tools} if tools and mode != "none" else {}


def _translate_format(options: dict[str, Any]) -> None:
    answer = response_format_of(options)
    if answer is None:
        return
    del options["response_format"]
    if answer.kind != "text":
        options["format"] = "json" if answer.kind == "json_object" else dict(answer.schema or {})
