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

Not expressible, and refused: ``not``, ``if``, ``contains``, ``dependentRequired``,
``propertyNames`` other than a list of names or a pattern, look-around in ``pattern``, and ``oneOf``
with options that may overlap. ``uniqueItems`` is not expressible, either: it is refused where the
request has ``strict: true``, and else left out, since a Python set accepts the same item twice. A
``format`` that llguidance does not know is an annotation, as it is in JSON Schema itself.
Sources: llguidance, docs/syntax.md and docs/json_schema.md; llama.cpp, common/llguidance.cpp; JSON
Schema 2020-12, Validation, section 7.2.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import InvalidRequestError, ProviderError
from .types import Event, Finish, Message, Messages, TextDelta, ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MAX_CALLS = 4
"""Calls in one answer: a small model may repeat the same one until its limit."""
EXACT_INTEGER = 2**53 - 1
"""Limit of integers without bounds (RFC 7493); a small model may go on to write digits."""
FRACTION = 1e-6
"""Step of numbers with neither a step nor narrow bounds, for the same reason."""
FORMATS = ("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid")
"""The formats that llguidance knows."""
LONGEST = {"date-time": 27, "time": 16, "duration": 8, "email": 64, "hostname": 64}
"""Characters of formats that could go on and on; seconds have at most six decimals."""
URI = r"^https?://[a-z0-9-]+(\.[a-z0-9-]+)+(/[A-Za-z0-9._~-]+)*/?$"
"""What ``format: uri`` is held to: the addresses of web pages, as most schemas mean them."""
URI_LENGTH = 80
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
    has_text: bool
    """Whether the answer may be any text."""
    has_json: bool
    """Whether it may be JSON that is no call."""

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
    return f"{_literal(start)} {_json(schema, is_strict)} {_literal(_CALL_END)}"


def _literal(text: str) -> str:
    return json.dumps(text)


def _json(schema: Any, is_strict: bool) -> str:
    """Return the rule for JSON that fits a schema."""
    if isinstance(schema, dict):
        schema = _expressible(schema, schema, is_strict)
        if not _combines_objects(schema):
            schema = _narrowed(schema, schema)
        schema = {"x-guidance": _SPACES, **schema}
    return f"%json {json.dumps(schema)}"


def _expressible(schema: Any, root: Mapping[str, Any], is_strict: bool) -> Any:
    """Return a schema with keywords that llguidance does not know put in words that it knows."""
    if not isinstance(schema, dict):
        return schema
    schema = _with_each(schema, lambda inner: _expressible(inner, root, is_strict))
    if isinstance(schema.get("anyOf"), list):  # a number or a text, as pydantic writes Decimal
        options = [each for each in schema["anyOf"] if not _looks_around(each)]
        schema["anyOf"] = options or schema["anyOf"]
    kind = schema.get("format")
    if isinstance(kind, str) and kind not in FORMATS:
        del schema["format"]
        if kind == "uri" and "pattern" not in schema:
            schema = {**_without_bounds(schema), "pattern": URI}
            if "minLength" not in schema:
                schema.setdefault("maxLength", URI_LENGTH)
    if schema.get("uniqueItems") is False or not is_strict:
        schema.pop("uniqueItems", None)
    return _with_names(schema, root)


def _looks_around(schema: Any) -> bool:
    """Return whether a schema has a pattern that llguidance does not know."""
    pattern = schema.get("pattern") if isinstance(schema, dict) else None
    return isinstance(pattern, str) and bool(re.search(r"\(\?<?[=!]", pattern))


def _without_bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a string's schema without limits of length that every short address keeps."""
    least, most = schema.get("minLength", 0), schema.get("maxLength", URI_LENGTH)
    is_wide = least in range(11) and isinstance(most, int) and most >= URI_LENGTH
    dropped = ("minLength", "maxLength") if is_wide else ()
    return {key: value for key, value in schema.items() if key not in dropped}


def _with_names(schema: dict[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with its ``propertyNames`` as properties, if these say the same."""
    if "propertyNames" not in schema or schema.keys() & {"properties", "patternProperties"}:
        return schema
    names, value = _resolved(schema["propertyNames"], root), schema.get("additionalProperties", {})
    found = _values(names)
    made = {key: each for key, each in schema.items() if key != "propertyNames"}
    if all(isinstance(name, str) for name in found or [0]):
        return {**made, "properties": dict.fromkeys(found, value), "additionalProperties": False}
    if isinstance(names, dict) and names.keys() - {"type", "title"} == {"pattern"}:
        patterns = {names["pattern"]: value}
        return {**made, "patternProperties": patterns, "additionalProperties": False}
    return schema


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """Return the definition that a schema refers to, if it does."""
    reference = schema.get("$ref") if isinstance(schema, dict) else None
    match = re.fullmatch(r"#/(\$defs|definitions)/([^/~%]+)", str(reference))
    definitions = root.get(match[1]) if match else None
    return definitions.get(match[2]) if match and isinstance(definitions, dict) else schema


def _values(schema: Any) -> list[Any]:
    """Return the values that a schema lists; none if it lists none."""
    if not isinstance(schema, dict):
        return []
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return values if isinstance(values, list) else []


def _combines_objects(schema: Any) -> bool:
    """Return whether one object has to fit several schemas, which then allow each other's keys."""
    if isinstance(schema, list):
        return any(map(_combines_objects, schema))
    if not isinstance(schema, dict):
        return False
    keys = schema.keys()
    combines = "properties" in keys and keys & {"anyOf", "oneOf", "$ref"}
    return bool(combines or "allOf" in keys or any(map(_combines_objects, schema.values())))


def _narrowed(schema: Any, root: Mapping[str, Any]) -> Any:
    """Return a schema without what makes a small model go on and on; what fits it fits ``schema``.

    Keys that no property names, unless the schema allows them itself, and endless numbers and
    formats. A constant is required, as it may tell the options of ``oneOf`` apart.
    """
    if not isinstance(schema, dict):
        return schema
    schema = _with_each(schema, lambda inner: _narrowed(inner, root))
    properties, required = schema.get("properties"), schema.get("required", [])
    if isinstance(properties, dict) and isinstance(required, list):
        constants = [name for name, each in properties.items() if _is_constant(each)]
        if constants:
            required = [*required, *(name for name in constants if name not in required)]
            schema["required"] = required
        if "patternProperties" not in schema and all(name in [*properties] for name in required):
            schema.setdefault("additionalProperties", False)
    if _are_apart(schema.get("oneOf"), root):
        schema["anyOf"] = schema.pop("oneOf")
    longest = LONGEST.get(str(schema.get("format")))
    if longest and schema.keys().isdisjoint(("minLength", "pattern")):
        schema.setdefault("maxLength", longest)
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "number" in kinds and _is_wide(schema):
        schema.setdefault("multipleOf", FRACTION)
    if "number" in kinds or "integer" in kinds:
        for name, limit in (("inimum", -EXACT_INTEGER), ("aximum", EXACT_INTEGER)):
            if f"exclusiveM{name}" not in schema:
                schema.setdefault(f"m{name}", limit)
    return schema


def _is_constant(schema: Any) -> bool:
    return isinstance(schema, dict) and "const" in schema


def _is_wide(schema: Mapping[str, Any]) -> bool:
    """Return whether a number's bounds are further apart than ``FRACTION``.

    llguidance finds no number at all where a step meets bounds below zero.
    """
    lows = [schema[name] for name in ("minimum", "exclusiveMinimum") if name in schema]
    highs = [schema[name] for name in ("maximum", "exclusiveMaximum") if name in schema]
    if not all(type(each) in (int, float) for each in [*lows, *highs]):
        return False
    highest = min(highs, default=EXACT_INTEGER)
    return highest > 0 and highest - max(lows, default=-EXACT_INTEGER) > 2 * FRACTION


def _are_apart(options: Any, root: Mapping[str, Any]) -> bool:
    """Return whether a required property has other values in each of the options of ``oneOf``.

    llguidance finds that out by itself for some schemas, but not for those that ``$ref`` names.
    """
    found = [_resolved(each, root) for each in options] if isinstance(options, list) else []
    if not found or not all(isinstance(each, dict) for each in found):
        return False
    return any(_differ([_tags(each).get(name) for each in found]) for name in _tags(found[0]))


def _tags(schema: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values of each property that is required, or a constant, and lists them."""
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return {}
    sure = required if isinstance(required, list) else []
    return {
        name: _values(each)
        for name, each in properties.items()
        if _values(each) and (name in sure or _is_constant(each))
    }


def _differ(options: list[list[Any] | None]) -> bool:
    """Return whether no two options share a value; numbers may be equal in other words."""
    values = [value for each in options for value in each or [None]]
    is_known = all(each and len(set(map(str, each))) == len(each) for each in options)
    return is_known and all(isinstance(v, str) for v in values) and len(set(values)) == len(values)


def _with_each(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a schema with each schema in it changed."""
    made = dict(schema)
    for key in schema.keys() & {"properties", "patternProperties", "$defs", "definitions"}:
        if isinstance(schema[key], dict):
            made[key] = {name: change(each) for name, each in schema[key].items()}
    for key in schema.keys() & {"anyOf", "oneOf", "allOf", "prefixItems"}:
        if isinstance(schema[key], list):
            made[key] = [change(each) for each in schema[key]]
    for key in schema.keys() & {"items", "additionalProperties"}:
        made[key] = change(schema[key])
    return made


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
                    f"{grammar.subject}: llama.cpp has given up holding the answer to this JSON "
                    "schema: check that some JSON can fit it, and shorten its patterns"
                )
        yield event


def _keeps_to_json(text: str, is_whole: bool) -> bool:
    """Return whether a text is JSON, or may be the beginning of it, but not JSON and more."""
    try:
        end = json.JSONDecoder().raw_decode(text)[1]
    except ValueError:
        return not is_whole
    return end == len(text) or (not is_whole and text[0] not in "{[")


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
