"""Tool calls as the text that a local model reads and writes: messages, and answers with calls.

A call is the text between two tags, as Qwen and Hermes write it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from .errors import ProviderError
from .types import Event, Finish, Message, Messages, TextDelta, ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"
CALL_END = "}\n" + CLOSE

_CALL_START = re.compile(OPEN + r'\n\{"name": ("(?:[^"\\]|\\.)*"), "arguments": ')
_INSTRUCTION = """You can call these tools:
{tools}
To call one, answer only:
<tool_call>
{{"name": "NAME", "arguments": {{"KEY": "VALUE"}}}}
</tool_call>"""

_AFTER_RESULTS = "Answer the question in your own words."
"""Without it the model calls again; results between tags, as Hermes has them, it writes itself."""


def rendered(messages: Messages, functions: Sequence[Mapping[str, Any]]) -> Messages:
    """Return the messages as every chat template can show them: with tools and calls as text.

    The tools are told in the system message; earlier calls stand in the assistant's text as the
    model writes them, and results in messages of the user.
    """
    turns: Messages = []
    for is_result, run in groupby(messages, key=lambda message: message["role"] == "tool"):
        if is_result:
            results = [f"The tool returned:\n{_text(each)}" for each in run]
            turns.append({"role": "user", "content": "\n\n".join([*results, _AFTER_RESULTS])})
        else:
            turns += map(_rendered_turn, run)
    if not functions:
        return turns
    told = _INSTRUCTION.format(tools="\n".join(map(_told, functions)))
    if turns[0]["role"] not in ("system", "developer"):
        return [{"role": "system", "content": told}, *turns]
    return [{**turns[0], "content": f"{_text(turns[0])}\n\n{told}"}, *turns[1:]]


def _rendered_turn(message: Message) -> Message:
    if message.get("tool_calls"):
        return {"role": "assistant", "content": _with_calls(message)}
    if message["role"] == "assistant":
        rest = {name: each for name, each in message.items() if name != "refusal"}
        return {**rest, "content": _text(message)}
    return message


def _told(function: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in function.items() if key != "strict"}
    return json.dumps(shown, ensure_ascii=False)


def _text(message: Message) -> str:
    """Return the text of a message; an assistant's refusal is text for the model, too."""
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part[part["type"]] for part in content)
    return content + (message.get("refusal") or "")


def _with_calls(message: Message) -> str:
    texts = [_text(message)] if _text(message) else []
    for call in message["tool_calls"]:
        name = json.dumps(call["function"]["name"], ensure_ascii=False)
        arguments = call["function"]["arguments"] or "{}"
        texts.append(f'{OPEN}\n{{"name": {name}, "arguments": {arguments}{CALL_END}')
    return "\n".join(texts)


# --- answers


def read_calls(events: Iterable[Event], key: str) -> Iterator[Event]:
    """Yield an answer's events, with ``ToolCall`` events in place of the calls in its text.

    A call that the token limit or a fault has cut off has no ``arguments``; all that the model
    wrote of them is in ``raw``. Ids begin with ``key``.
    """
    held = ""
    calls = 0
    try:
        for event in events:
            if isinstance(event, TextDelta):
                text, held = _split(held + event.text)
                if text:
                    yield TextDelta(text)
                continue
            if isinstance(event, Finish):
                for each in _calls(held, key):
                    calls += isinstance(each, ToolCall)
                    yield each
                held = ""
                if calls and event.reason == "stop":
                    event = replace(event, reason="tool_calls")
            yield event
    except ProviderError:
        yield from _calls(held, key)
        raise


def _split(text: str) -> tuple[str, str]:
    """Return what is text, and the rest from the first call on, or what may begin one.

    >>> _split("So: <tool_"), _split("a < b")
    (('So: ', '<tool_'), ('a < b', ''))
    """
    at = text.find(OPEN)
    if at < 0:
        sizes = range(min(len(OPEN) - 1, len(text)), 0, -1)
        at = len(text) - next((size for size in sizes if text.endswith(OPEN[:size])), 0)
    return text[:at], text[at:]


def _calls(text: str, key: str) -> Iterator[Event]:
    """Yield the calls in a text; what is not even the beginning of a named call stays text."""
    at, number = 0, 0
    while match := _CALL_START.match(text, at):
        name, start = json.loads(match[1]), match.end()
        try:
            arguments, at = json.JSONDecoder().raw_decode(text, start)
        except ValueError:
            yield ToolCall(f"{key}_{number}", name, None, text[start:])
            return
        is_object = isinstance(arguments, dict)
        yield ToolCall(f"{key}_{number}", name, arguments if is_object else None, text[start:at])
        at, number = at + len(CALL_END), number + 1
    if text[at:]:
        yield TextDelta(text[at:])
