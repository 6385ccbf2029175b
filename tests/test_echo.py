"""The echo engine: what it says to which question."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync import echo
from providers_sync.echo import EchoEngine
from providers_sync.engines import StopSequence, Yield
from providers_sync.errors import InvalidRequestError
from providers_sync.stream import CancelToken
from providers_sync.types import Finish, ReasoningDelta, ToolCall, Usage


def tool(name: str, **properties: Any) -> dict[str, Any]:
    """Return a tool whose arguments have these properties."""
    schema = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


TOOLS = [tool("add", a={"type": "integer"}), tool("look", what={"type": "string"})]


def ask(*messages: Any, **options: Any) -> list[Yield]:
    """Return everything the echo says; a bare string is a user message."""
    turns = [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
    return list(EchoEngine().answer(turns, options, CancelToken()))


def text(pieces: list[Yield]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def calls(pieces: list[Yield]) -> list[tuple[str, Any]]:
    return [(each.name, each.arguments) for each in pieces if isinstance(each, ToolCall)]


def test_echo_text() -> None:
    """Words, counted; the size of the question comes first."""
    assert ask("Hello you") == [
        Usage(2, 0, 2),
        *("You ", "said: ", "Hello ", "you"),
        Usage(2, 4, 6),
        Finish("stop"),
    ]


def test_echo_calls_tools() -> None:
    """One call a line, in their order, each with an id of its own, of offered tools only."""
    said = ask('call add {"a": 1}\ncall look\ncall gone {}\n  call add', tools=TOOLS)
    assert calls(said) == [("add", {"a": 1}), ("look", {})]
    assert text(said) == ""
    ids = [each.id for each in said if isinstance(each, ToolCall)]
    assert len(set(ids)) == 2
    assert said[-2:] == [Usage(11, 3, 14), Finish("tool_calls")]
    assert text(ask("call gone {}", tools=TOOLS)) == "You said: call gone {}"
    assert text(ask("call add {}")) == "You said: call add {}"


def test_echo_calls_with_broken_arguments() -> None:
    """What is no JSON object stays as it was written."""
    for raw in ('{"a":', "[1]", "[" * 99_999):
        (_, call, *_) = ask(f"call add {raw}", tools=TOOLS)
        assert isinstance(call, ToolCall)
        assert (call.arguments, call.raw) == (None, raw)


def test_echo_obeys_tool_choice() -> None:
    """A call that is wanted comes, its arguments made for the schema; an unwanted one does not."""
    named = {"type": "function", "function": {"name": "look"}}
    assert calls(ask("Rome", tools=TOOLS, tool_choice="required")) == [("add", {"a": 0})]
    assert calls(ask("Rome", tools=TOOLS, tool_choice=named)) == [("look", {"what": "Rome"})]
    given = ask('call add {"a": 1}\ncall look {"what": 2}', tools=TOOLS, tool_choice=named)
    assert calls(given) == [("look", {"what": 2})]
    assert calls(ask("call add {}", tools=TOOLS, tool_choice="none")) == []


def test_echo_tells_tool_results() -> None:
    """Results at the end are told; the question is not asked again."""
    turns = [
        "call look",
        {"role": "assistant", "content": None, "tool_calls": [{}]},
        {"role": "tool", "tool_call_id": "1", "content": "sun"},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "snow"}]},
    ]
    assert text(ask(*turns, tools=TOOLS)) == "The tool said: sun\nsnow"
    assert calls(ask(*turns, "call look", tools=TOOLS)) == [("look", {})]


def test_echo_thinks() -> None:
    """Thoughts come before the text, and count."""
    said = ask("Think twice")
    thoughts = [piece.text for piece in said if isinstance(piece, ReasoningDelta)]
    assert "".join(thoughts) == "Thinking: Think twice"
    assert text(said) == "You said: Think twice"
    assert said[-2] == Usage(2, 7, 9)
    short = ask("Think twice", max_tokens=4)
    assert (text(short), short[-1]) == ("You ", Finish("length"))


def test_echo_stops() -> None:
    """The first stop sequence in the text ends it, and is named."""
    said = ask("one two three", stop=["three", "two"])
    assert (text(said), said[-1]) == ("You said: one ", StopSequence(sequence="two"))
    assert text(ask("one two", stop="You")) == ""
    limited = ask("one two three", stop=["three"], max_tokens=2)
    assert (text(limited), limited[-1]) == ("You said: ", Finish("length"))


def test_echo_ends_when_cancelled() -> None:
    """Nothing follows once nobody listens."""
    cancel = CancelToken()
    said = EchoEngine().answer([{"role": "user", "content": "Hi"}], {}, cancel)
    assert [next(said), next(said)] == [Usage(1, 0, 1), "You "]
    cancel.cancel()
    assert list(said) == []


def test_echo_ends_when_cancelled_between_calls() -> None:
    """Calls stop as words do."""
    cancel = CancelToken()
    turns = [{"role": "user", "content": "call add\n" * 3}]
    said = EchoEngine().answer(turns, {"tools": TOOLS}, cancel)
    assert [type(next(said)), type(next(said))] == [Usage, ToolCall]
    cancel.cancel()
    assert list(said) == []


def test_echo_refuses_many_calls() -> None:
    """As many calls as a large request has lines take minutes to write."""
    assert len(calls(ask("call add\n" * echo.MAX_CALLS, tools=TOOLS))) == echo.MAX_CALLS
    with pytest.raises(InvalidRequestError, match="1001 tool calls are asked for; 1000 is the"):
        ask("call add\n" * (echo.MAX_CALLS + 1), tools=TOOLS)


SPACES = " \t" * 100_000


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("call add x" + SPACES + "y", "x" + SPACES + "y"),
        ("call add" + SPACES + "x" + SPACES, "x"),
        ("call add" + SPACES, "{}"),
    ],
)
def test_echo_reads_calls_in_linear_time(text: str, raw: str) -> None:
    """White space without end costs what its length costs; squared, this would take minutes."""
    (_, call, *_) = ask(text, tools=TOOLS)
    assert isinstance(call, ToolCall)
    assert call.raw == raw


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, {"answer": "Hi"}),
        ({"type": "object"}, {"answer": "Hi"}),
        ({"type": ["string", "null"]}, "Hi"),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "number"}, 0.0),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": 7}, 7),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": "array", "items": {"type": "string"}}, ["Hi"]),
        ({"type": "object", "properties": {"x": {"type": "boolean"}}}, {"x": False}),
        ({"$ref": "#/$defs/Name"}, "Hi"),
        ({"$ref": "#/$defs/Nothing"}, "Hi"),
        (True, "Hi"),
    ],
)
def test_echo_answers_in_json(schema: Any, value: Any) -> None:
    """The answer is JSON of the schema, with the question wherever text may stand."""
    if value != {"answer": "Hi"}:
        names = {"Name": {"type": "string"}}
        schema = {"type": "object", "properties": {"it": schema}, "$defs": names}
        value = {"it": value}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    assert json.loads(text(ask("Hi", response_format=wanted))) == value


REFERENCES = {str(i): {"$ref": "#/$defs/a"} for i in range(60)}
FEW = {str(i): {"$ref": "#/$defs/a"} for i in range(40)}
LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    ("properties", "part"),
    [
        (REFERENCES, {"properties": REFERENCES}),
        ({str(i): {} for i in range(echo.MAX_VALUES)}, {}),
        (FEW, {"const": LONG}),
        (FEW, {"enum": [[LONG]]}),
        (FEW, {"type": "integer", "minimum": LONG}),
        (FEW, {"properties": {LONG: {}}}),
        (FEW, {"$ref": "#/" + LONG}),
    ],
    ids=["references", "properties", "const", "enum", "minimum", "name", "reference"],
)
def test_echo_refuses_large_schema(properties: Any, part: Any) -> None:
    """A small schema that asks for gigabytes is refused, and so is one that repeats large parts."""
    schema = {"properties": properties, "$defs": {"a": part}}
    wanted = {"type": "json_schema", "json_schema": {"schema": schema}}
    with pytest.raises(InvalidRequestError, match="asks for more than 10000 values or 16777216"):
        ask("Hi", response_format=wanted)
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    with pytest.raises(InvalidRequestError, match="refer to fewer parts"):
        ask("Hi", tools=tools, tool_choice="required")


def test_echo_refuses_long_text_everywhere() -> None:
    """The question stands wherever text may; so a long one may not stand everywhere."""
    schema = {"properties": {str(i): {} for i in range(40)}}
    wanted = {"type": "json_schema", "json_schema": {"schema": schema}}
    with pytest.raises(InvalidRequestError, match="asks for more than"):
        ask(LONG, response_format=wanted)


@pytest.mark.parametrize("kind", [{"a": 1}, [{}], []])
def test_echo_with_a_type_that_is_none(kind: Any) -> None:
    """A type that is no word means text."""
    wanted = {
        "type": "json_schema",
        "json_schema": {"schema": {"properties": {"a": {"type": kind}}}},
    }
    assert json.loads(text(ask("Hi", response_format=wanted))) == {"a": "Hi"}


def test_echo_refuses_deep_schema() -> None:
    """A value that JSON cannot be made of is the client's mistake."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    wanted = {
        "type": "json_schema",
        "json_schema": {"schema": {"properties": {"a": {"const": deep}}}},
    }
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        ask("Hi", response_format=wanted)


def test_echo_json_without_end() -> None:
    """A schema that refers to itself still gets an answer; so does plain JSON, and plain text."""
    endless = {"properties": {"more": {"$ref": "#"}}}
    wanted = {"type": "json_schema", "json_schema": {"schema": endless}}
    assert "more" in json.loads(text(ask("Hi", response_format=wanted)))
    assert json.loads(text(ask("Hi", response_format={"type": "json_object"}))) == {"answer": "Hi"}
    assert text(ask("Hi", response_format={"type": "text"})) == "You said: Hi"
