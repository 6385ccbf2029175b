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

Sources: llguidance, docs/syntax.md; llama.cpp, common/llguidance.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import InvalidRequestError
from .local_calls import CALL_END, OPEN
from .local_schemas import held_schema
from .types import Event, Finish, TextDelta, ToolCall

MAX_CALLS = 4
"""Calls in one answer: a small model may repeat the same one until its limit."""
PROBE = "~"
"""What an answer begins with under a probe; a model would not write it by itself."""

_SPACES = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Where spaces are. Where llguidance allows any, a small model may write them up to its limit."""
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
_TEXT = rf"TEXT: /(.|\n)*/ & ~/(.|\n)*{OPEN}(.|\n)*/"


@dataclass(frozen=True)
class Grammar:
    """A grammar; ``subject`` names the options it comes from, for errors."""

    rules: str
    subject: str
    has_text: bool
    """Whether the answer may be any text."""
    has_json: bool
    """Whether it may be JSON that is not a call."""

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
    functions = offered_tools(options)
    schema, is_strict = _answer_schema(options.get("response_format"))
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
        rules.append(f"json: {_json(schema, is_strict)}")
        subjects.append("response_format")
    text = "\n".join([f"answer: {answer}", *rules])
    has_json = schema is not None
    has_text = bool(functions) and not has_json and not must_call(options)
    return Grammar(text, " or ".join(subjects), has_text, has_json)


def _answer_schema(response_format: Mapping[str, Any] | None) -> tuple[Any, bool]:
    """Return the schema of the answer, if it has one, and whether it is strict."""
    kind = (response_format or {"type": "text"})["type"]
    if kind == "json_schema" and response_format is not None:
        detail = response_format["json_schema"]
        return detail.get("schema", {}), detail.get("strict") is True
    if kind == "json_object":
        return {"type": "object"}, False
    if kind == "text":
        return None, False
    raise InvalidRequestError(
        f"response_format.type {kind!r} is unknown: use text, json_object or json_schema"
    )


def _call(function: Mapping[str, Any]) -> str:
    name = json.dumps(function["name"], ensure_ascii=False)
    schema = function.get("parameters") or _NO_ARGUMENTS
    is_strict = function.get("strict") is True
    start = f'{{"name": {name}, "arguments": '
    return f"{_literal(start)} {_json(schema, is_strict)} {_literal(CALL_END)}"


def _literal(text: str) -> str:
    return json.dumps(text)


def _json(schema: Any, is_strict: bool) -> str:
    """Return the rule for JSON that fits a schema."""
    if isinstance(schema, dict):
        schema = {"x-guidance": _SPACES, **held_schema(schema, is_strict)}
    return f"%json {json.dumps(schema)}"


# --- answers


def check_form(events: Iterable[Event], grammar: Grammar) -> Iterator[Event]:
    """Yield an answer's events; raise ``InvalidRequestError`` if they do not keep to the grammar.

    Where llguidance finds nothing to go on with, or gives up, llama.cpp only logs that, and the
    rest of the answer has no grammar. ``events`` are those of ``read_calls``, if there are tools.
    """
    text, calls = "", 0
    for event in events:
        if isinstance(event, TextDelta):
            text += event.text
        calls += isinstance(event, ToolCall) and event.arguments is not None
        if isinstance(event, Finish) and not grammar.has_text:
            is_whole = event.reason in ("stop", "tool_calls")
            if grammar.has_json and text:
                is_held = _keeps_to_json(text, is_whole)
            else:
                is_held = not is_whole or bool(calls and not text)
            if not is_held:
                raise InvalidRequestError(
                    f"{grammar.subject}: llama.cpp could not enforce this JSON schema: "
                    "check that some JSON can match it, and shorten its patterns"
                )
        yield event


def _keeps_to_json(text: str, is_whole: bool) -> bool:
    """Return whether a text is JSON, or may be the beginning of it, but not JSON and more."""
    try:
        end = json.JSONDecoder().raw_decode(text)[1]
    except ValueError:
        return not is_whole
    return end == len(text) or (not is_whole and text[0] not in "{[")
