"""Messages and options for Anthropic's Messages protocol.

Source: Anthropic API reference, "Messages"; guides "Vision", "PDF support", "Tool use",
"Structured outputs".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    stop_sequences,
    take,
    tool_choice_of,
    tools_of,
)
from .parts import calls_of, cannot_carry, parts_of, read_part, split_system, text_of_parts

_PROTOCOL = "Anthropic's protocol"
_FOREIGN_PARTS = ("file", "input_audio", "video_url")
"""Parts of OpenAI's form that have no equivalent; unknown ones may be Anthropic's own."""
_NO_EQUIVALENT = {
    **dict.fromkeys(("seed", "frequency_penalty", "presence_penalty", "logit_bias"), ""),
    **dict.fromkeys(("logprobs", "top_logprobs", "store", "prediction"), ""),
    **dict.fromkeys(("audio", "modalities"), ""),
    "user": 'use metadata={"user_id": …}',
    "verbosity": 'use output_config={"effort": …}',
    "functions": "use tools=",
    "function_call": "use tool_choice=",
    "web_search_options": "use tools= with Anthropic's own web search",
    "reasoning_effort": 'use output_config={"effort": …}',
}


_CHOICES = ("auto", "any", "tool", "none")
"""Types of Anthropic's own ``tool_choice``."""
_CACHE = "cache_control"


def split_messages(messages: Messages) -> tuple[str | list[Mapping[str, Any]], Messages]:
    """Return the text of the system messages, and the other messages as turns with blocks.

    Parts of system messages that say more than their text (``cache_control``) stay parts. That of a
    whole message, as some relays take it, goes to its last part.

    >>> split_messages([{"role": "system", "content": "Be brief."}])
    ('Be brief.', [])

    Raises ``InvalidRequestError`` for a system message that is not text, an incomplete tool call,
    and a file that cannot be read or carried.
    """
    system, turns = split_system(messages)
    return _system(system), _turns(turns)


def _system(messages: list[tuple[str, Any]]) -> str | list[Mapping[str, Any]]:
    texts = [text_of_parts(message, name, "a system message") for name, message in messages]
    parts = [
        part
        for name, message in messages
        for part in _marked([_block(*each) for each in parts_of(message, name)], message)
    ]
    if any(part.keys() - {"type", "text"} for part in parts):
        return [part for part in parts if part["text"]]
    return "\n\n".join(texts)


def _turns(messages: list[tuple[str, Any]]) -> Messages:
    """Return the turns; the results of several tools go into one.

    >>> call = {"id": "1", "function": {"name": "add", "arguments": '{"a": 1}'}}
    >>> calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    >>> result = {"role": "tool", "tool_call_id": "1", "content": "2"}
    >>> first, second = _turns([("messages[0]", calling), ("messages[1]", result)])
    >>> first["content"]
    [{'type': 'tool_use', 'id': '1', 'name': 'add', 'input': {'a': 1}}]
    >>> second
    {'role': 'user', 'content': [{'type': 'tool_result', 'tool_use_id': '1', 'content': '2'}]}
    """
    turns: Messages = []
    results: list[Any] | None = None
    for number, (name, message) in enumerate(messages, 1):
        if message["role"] == "assistant" and number < len(messages) and _is_blank(message):
            continue  # the protocol refuses it
        if message["role"] != "tool":
            turns.append(_turn(message, name))
            results = None
            continue
        if not isinstance(call_id := message.get("tool_call_id"), str) or not call_id:
            raise InvalidRequestError(f"{name}['tool_call_id'] must be the id of a tool call")
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": call_id}
        block["content"] = _content(message, name)
        if message.get("is_error"):
            block["is_error"] = True
        [block] = _marked([block], message)
        if results is None:
            results = []
            turns.append({"role": "user", "content": results})
        results.append(block)
    return turns


def _is_blank(message: Mapping[str, Any]) -> bool:
    content = message.get("content") or ""
    return not message.get("tool_calls") and isinstance(content, str) and not content.strip()


def _turn(message: Mapping[str, Any], name: str) -> dict[str, Any]:
    content = _content(message, name)
    if calls := calls_of(message, name):
        if isinstance(content, str):
            content = [{"type": "text", "text": content}] if content.strip() else []
        for call in calls:
            use = {"type": "tool_use", "id": call.id, "name": call.name, "input": call.object()}
            content = [*(content or ()), *_marked([use], call.call)]
    if message.get(_CACHE) and content:
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        content = _marked(blocks, message)
    return {"role": message["role"], "content": content}


def _marked(blocks: list[Any], source: Mapping[str, Any]) -> list[Any]:
    """Return blocks, the last one with the ``cache_control`` of what they were made of."""
    if not blocks or not source.get(_CACHE):
        return blocks
    return [*blocks[:-1], {_CACHE: source[_CACHE], **blocks[-1]}]


def _content(message: Mapping[str, Any], name: str) -> Any:
    content = message.get("content")
    if not isinstance(content, list):
        return content
    return [_block(part, f"{name}['content'][{i}]") for i, part in enumerate(content)]


def _block(part: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if part["type"] == "text":
        return part
    value = read_part(part, name)
    if isinstance(value, str):  # a refusal
        return {"type": "text", "text": value}
    if isinstance(value, File):
        return dict(_marked([_file_block(value, part, name)], part)[0])
    if part["type"] in _FOREIGN_PARTS:
        raise cannot_carry(part, name, _PROTOCOL)
    return part


def _file_block(file: File, part: Mapping[str, Any], name: str) -> dict[str, Any]:
    if file.kind == "audio":
        raise cannot_carry(part, name, _PROTOCOL, "transcribe the audio and send its text")
    if not file.kind:
        raise InvalidRequestError(
            f"{name}: neither the extension nor the type shows that it is an image or a PDF; pass "
            "the file as a pathlib.Path or bytes"
        )
    kind = "image" if file.kind == "image" else "document"
    if file.url is not None:
        return {"type": kind, "source": {"type": "url", "url": file.url}}
    source = {"type": "base64", "media_type": file.media_type, "data": file.data}
    return {"type": kind, "source": source}


def translate_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with OpenAI's names and forms translated; others unchanged."""
    options = dict(options)
    check_one_answer(options)
    refuse(options, _NO_EQUIVALENT, _PROTOCOL)
    take(options, "n", "stream_options", *_NO_EQUIVALENT)
    if (stop := stop_sequences(options)) is not None:
        if options.get("stop_sequences") not in (None, stop):
            raise contradiction("stop", "stop_sequences")
        options["stop_sequences"] = stop
    if (limit := one_of(options, "max_tokens", "max_completion_tokens")) is not None:
        options["max_tokens"] = limit
    if options.get("tools") is not None:
        options["tools"] = [_tool(*each) for each in tools_of(options)]
    _translate_tool_choice(options)
    _translate_format(options)
    return options


def _tool(function: Function | None, tool: Any, name: str) -> Any:
    if function is None:
        if tool.get("type") == "function" or isinstance(tool.get("custom"), Mapping):
            raise InvalidRequestError(
                f"{name} is a tool of type {tool['type']!r} in a form that {_PROTOCOL} does not "
                'have: use {"type": "function", "function": {…}}'
            )
        return tool
    more = {key: value for key, value in tool.items() if key not in ("type", "function")}
    made = {"name": function.name, "description": function.description, "strict": function.strict}
    return {
        **{key: value for key, value in made.items() if value is not None},
        "input_schema": function.parameters,
        **more,
    }


def _translate_tool_choice(options: dict[str, Any]) -> None:
    choice = tool_choice_of(options)
    if choice is not None:
        kind = {"required": "any"}.get(choice.mode, choice.mode)
        named = {"type": "tool", "name": choice.name}
        options["tool_choice"] = named if choice.name else {"type": kind}
    elif (own := options.get("tool_choice")) is not None and (
        not isinstance(own, Mapping) or own.get("type") not in _CHOICES
    ):
        raise InvalidRequestError(
            f"tool_choice of this form is not supported by {_PROTOCOL}: use 'auto', 'none', "
            "'required', or name a function"
        )
    parallel = options.pop("parallel_tool_calls", None)
    if parallel is False and options.get("tools"):
        value = options.get("tool_choice") or {"type": "auto"}
        if value.get("type") != "none":
            options["tool_choice"] = {**value, "disable_parallel_tool_use": True}


def _translate_format(options: dict[str, Any]) -> None:
    answer = response_format_of(options)
    if answer is None:
        return
    if answer.kind == "json_object":
        raise InvalidRequestError(
            f"response_format of type 'json_object' is not supported by {_PROTOCOL}: use "
            "'json_schema' with a schema"
        )
    del options["response_format"]
    if answer.kind == "json_schema":
        made = {"type": "json_schema", "schema": answer.described_schema()}
        given = options.get("output_config") or {}
        if not isinstance(given, Mapping):
            raise InvalidRequestError("output_config must be a dict")
        if given.get("format") not in (None, made):
            raise contradiction("response_format", "output_config")
        options["output_config"] = {**given, "format": made}
