r"""What the local model may answer, as a grammar: tool calls, and JSON that fits a schema.

llama.cpp's own ``tool_choice="required"`` lets a model write text first, and has no effect with a
chat template that knows no tools; its ``response_format`` ignores keywords such as ``multipleOf``.
Therefore the engine sends a ``grammar`` in the language of llguidance, which xllamacpp contains,
and tells the tools in the system message. A call is the text between two tags, as Qwen and Hermes
write it::

    <tool_call>
    {"name": "add", "arguments": {"a": 1, "b": 2}}
    </tool_call>

Every call fits its tool's schema, with ``tool_choice="auto"`` too. There is one call, or up to
``MAX_CALLS`` if the request has ``parallel_tool_calls: true``. Together with tools,
``response_format`` applies to answers that are not calls, and a required call takes its place.

Not expressible, and refused: ``not``, ``if``, ``uniqueItems``, ``contains``, ``propertyNames``,
``dependentRequired``, unknown formats, look-around in ``pattern``, and ``oneOf`` with options that
overlap. Sources: llguidance, docs/syntax.md and docs/json_schema.md; llama.cpp,
common/llguidance.cpp.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import InvalidRequestError, ProviderError
from .types import Event, Finish, Message, Messages, TextDelta, ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MAX_CALLS = 4
"""Calls in one answer: a small model may repeat the same one until its limit."""
EXACT_INTEGER = 2**53 - 1
"""Limit of integers without bounds (RFC 7493); a small model may go on to write digits."""
PROBE = "~"
"""What an answer begins with under a probe; a model would not write it by itself."""

_CALL_START = re.compile(OPEN + r'\n\{"name": ("(?:[^"\\]|\\.)*"), "arguments": ')
_CALL_END = "}\n" + CLOSE
_SPACES = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Where spaces are. Where llguidance allows any, a small model may write them up to its limit."""
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
_TEXT = rf"TEXT: /(.|\n)*/ & ~/(.|\n)*{OPEN}(.|\n)*/"
_INSTRUCTION = """You can call these tools:
{tools}
To call one, answer only:
<tool_call>
{{"name": "NAME", "arguments": {{"KEY": "VALUE"}}}}
</tool_call>"""


@dataclass(frozen=True)
class Grammar:
    """A grammar; ``subject`` names the options it comes from, for errors."""

    rules: str
    subject: str

    @property
    def text(self) -> str:
        """The grammar of the answer."""
        return f"%llguidance {{}}\nstart: answer\n{self.rules}"

    @property
    def probe(self) -> str:
        """A grammar that is valid if ``text`` is; its answers begin with ``PROBE``.

        llama.cpp only logs that a grammar is invalid, and then answers without one.
        """
        return f'%llguidance {{}}\nstart: "{PROBE}" answer\n{self.rules}'


def offered_tools(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the functions that the model may call in its answer: of a named one only that one."""
    functions = [tool["function"] for tool in options.get("tools", ())]
    choice = options.get("tool_choice", "auto")
    if isinstance(choice, dict):
        return [each for each in functions if each["name"] == choice["function"]["name"]][:1]
    return [] if choice == "none" else functions


def must_call(options: Mapping[str, Any]) -> bool:
    """Return whether the answer has to be a call."""
    return bool(options.get("tools")) and options.get("tool_choice", "auto") not in ("auto", "none")


def grammar_for(options: Mapping[str, Any]) -> Grammar | None:
    """Return the grammar that a request's options demand; ``None`` if every text is allowed.

    Raises ``InvalidRequestError`` for an unknown ``response_format``.
    """
    functions, schema = offered_tools(options), _answer_schema(options.get("response_format"))
    rules, subjects = [], []
    if functions:
        several = options.get("parallel_tool_calls") is True
        several = several and not isinstance(options.get("tool_choice"), dict)
        most = MAX_CALLS if several else 1
        if must_call(options):
            answer, schema = f"call{{1,{most}}}", None
        elif schema is not None:
            answer = f"call{{1,{most}}} | json"
        else:
            answer = f"TEXT call{{0,{most}}}"
            rules.append(_TEXT)
        tools = {f"tool_{i}": each for i, each in enumerate(functions)}
        rules.append(f"call: {_literal(OPEN + chr(10))} ({' | '.join(tools)})")
        rules += [f"{name}: {_call(each)}" for name, each in tools.items()]
        subjects.append("tools")
    elif schema is not None:
        answer = "json"
    else:
        return None
    if schema is not None:
        rules.append(f"json: {_json(schema)}")
        subjects.append("response_format")
    return Grammar("\n".join([f"answer: {answer}", *rules]), " or ".join(subjects))


def _answer_schema(response_format: Mapping[str, Any] | None) -> Any:
    kind = (response_format or {"type": "text"})["type"]
    if kind == "json_schema" and response_format is not None:
        return response_format["json_schema"].get("schema", {})
    if kind == "json_object":
        return {"type": "object"}
    if kind == "text":
        return None
    raise InvalidRequestError(
        f"response_format.type {kind!r} is unknown: use text, json_object or json_schema"
    )


def _call(function: Mapping[str, Any]) -> str:
    name = json.dumps(function["name"], ensure_ascii=False)
    schema = function.get("parameters") or _NO_ARGUMENTS
    start = f'{{"name": {name}, "arguments": '
    return f"{_literal(start)} {_json(schema)} {_literal(_CALL_END)}"


def _literal(text: str) -> str:
    return json.dumps(text)


def _json(schema: Any) -> str:
    """Return the rule for JSON that fits a schema."""
    if isinstance(schema, dict):
        if not _combines_objects(schema):
            schema = _narrowed(schema)
        schema = {"x-guidance": _SPACES, **schema}
    return f"%json {json.dumps(schema)}"


def _combines_objects(schema: Any) -> bool:
    """Return whether one object has to fit several schemas, which then allow each other's keys."""
    if isinstance(schema, list):
        return any(map(_combines_objects, schema))
    if not isinstance(schema, dict):
        return False
    keys = schema.keys()
    combines = "properties" in keys and keys & {"anyOf", "oneOf", "$ref"}
    return bool(combines or "allOf" in keys or any(map(_combines_objects, schema.values())))


def _narrowed(schema: Any) -> Any:
    """Return a schema without what makes a small model go on and on; what fits it fits ``schema``.

    Keys that no property names, unless the schema allows them itself, and endless integers.
    """
    if not isinstance(schema, dict):
        return schema
    schema = {key: _narrowed_within(key, value) for key, value in schema.items()}
    properties, required = schema.get("properties"), schema.get("required", [])
    if (
        isinstance(properties, dict)
        and "patternProperties" not in schema
        and all(name in properties for name in required)
    ):
        schema.setdefault("additionalProperties", False)
    kinds = schema.get("type")
    if kinds == "integer" or (isinstance(kinds, list) and "integer" in kinds):
        for name, limit in (("inimum", -EXACT_INTEGER), ("aximum", EXACT_INTEGER)):
            if f"exclusiveM{name}" not in schema:
                schema.setdefault(f"m{name}", limit)
    return schema


def _narrowed_within(key: str, value: Any) -> Any:
    """Return a keyword's value with the schemas in it narrowed."""
    if key in ("properties", "$defs", "definitions") and isinstance(value, dict):
        return {name: _narrowed(each) for name, each in value.items()}
    if key in ("anyOf", "oneOf", "prefixItems") and isinstance(value, list):
        return [_narrowed(each) for each in value]
    return _narrowed(value) if key == "items" else value


# --- messages


def rendered(messages: Messages, functions: Sequence[Mapping[str, Any]]) -> Messages:
    """Return the messages as every chat template can show them: with tools and calls as text.

    The tools are told in the system message; earlier calls stand in the assistant's text as the
    model writes them, and results in messages of the user.
    """
    turns: Messages = []
    after_result = False
    for message in messages:
        is_result = message["role"] == "tool"
        if is_result:
            text = f"<tool_response>\n{_text(message)}\n</tool_response>"
            if after_result:
                turns[-1]["content"] += "\n" + text
            else:
                turns.append({"role": "user", "content": text})
        elif message.get("tool_calls"):
            turns.append({"role": "assistant", "content": _with_calls(message)})
        elif message["role"] == "assistant":
            rest = {name: each for name, each in message.items() if name != "refusal"}
            turns.append({**rest, "content": _text(message)})
        else:
            turns.append(message)
        after_result = is_result
    if not functions:
        return turns
    told = _INSTRUCTION.format(tools="\n".join(map(_told, functions)))
    if turns[0]["role"] not in ("system", "developer"):
        return [{"role": "system", "content": told}, *turns]
    return [{**turns[0], "content": f"{_text(turns[0])}\n\n{told}"}, *turns[1:]]


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
        texts.append(f'{OPEN}\n{{"name": {name}, "arguments": {arguments}{_CALL_END}')
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
        at, number = at + len(_CALL_END), number + 1
    if text[at:]:
        yield TextDelta(text[at:])
