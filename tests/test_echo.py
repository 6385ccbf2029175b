"""Tests of the echo engine: its answer to each kind of request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync import echo
from providers_sync.echo import EchoEngine
from providers_sync.engines import EngineEvent, StopSequence
from providers_sync.errors import InvalidRequestError
from providers_sync.stream import CancelToken
from providers_sync.types import Finish, ReasoningDelta, ToolCall, Usage


def tool(name: str, **properties: Any) -> dict[str, Any]:
    """Return a tool whose arguments have these properties."""
    schema = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


TOOLS = [tool("add", a={"type": "integer"}), tool("look", what={"type": "string"})]


def ask(*messages: Any, **options: Any) -> list[EngineEvent]:
    """Return all events of the echo's answer; a bare string is a user message."""
    turns = [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
    return list(EchoEngine().answer(turns, options, CancelToken()))


def text(events: list[EngineEvent]) -> str:
    return "".join(event for event in events if isinstance(event, str))


def calls(events: list[EngineEvent]) -> list[tuple[str, Any]]:
    return [(each.name, each.arguments) for each in events if isinstance(each, ToolCall)]


def test_echo_text() -> None:
    """The words are counted; the prompt's count comes first."""
    assert ask("Hello you") == [
        Usage(2, 0, 2),
        *("You ", "said: ", "Hello ", "you"),
        Usage(2, 4, 6),
        Finish("stop"),
    ]


def test_echo_calls_tools() -> None:
    """One call per line, in order, each with its own id, and only to offered tools."""
    answer = ask('call add {"a": 1}\ncall look\ncall gone {}\n  call add', tools=TOOLS)
    assert calls(answer) == [("add", {"a": 1}), ("look", {})]
    assert text(answer) == ""
    ids = [each.id for each in answer if isinstance(each, ToolCall)]
    assert len(set(ids)) == 2
    assert answer[-2:] == [Usage(11, 3, 14), Finish("tool_calls")]
    assert text(ask("call gone {}", tools=TOOLS)) == "You said: call gone {}"
    assert text(ask("call add {}")) == "You said: call add {}"


def test_echo_calls_with_broken_arguments() -> None:
    """Arguments that are not a JSON object are kept unchanged."""
    for raw in ('{"a":', "[1]", "[" * 99_999):
        (_, call, *_) = ask(f"call add {raw}", tools=TOOLS)
        assert isinstance(call, ToolCall)
        assert (call.arguments, call.raw) == (None, raw)


def test_echo_obeys_tool_choice() -> None:
    """A required call is made, with arguments that fit the schema; a forbidden one is not."""
    named = {"type": "function", "function": {"name": "look"}}
    assert calls(ask("Rome", tools=TOOLS, tool_choice="required")) == [("add", {"a": 0})]
    assert calls(ask("Rome", tools=TOOLS, tool_choice=named)) == [("look", {"what": "Rome"})]
    answer = ask('call add {"a": 1}\ncall look {"what": 2}', tools=TOOLS, tool_choice=named)
    assert calls(answer) == [("look", {"what": 2})]
    assert calls(ask("call add {}", tools=TOOLS, tool_choice="none")) == []
    answer = ask("call add {}\ncall look", tools=TOOLS, parallel_tool_calls=False)
    assert calls(answer) == [("add", {})]


def test_echo_repeats_tool_results() -> None:
    """Results at the end are repeated; the calls are not made again."""
    turns = [
        "call look",
        {"role": "assistant", "content": None, "tool_calls": [{}]},
        {"role": "tool", "tool_call_id": "1", "content": "sun"},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "snow"}]},
    ]
    assert text(ask(*turns, tools=TOOLS)) == "The tool said: sun\nsnow"
    assert calls(ask(*turns, "call look", tools=TOOLS)) == [("look", {})]


def test_echo_reasons() -> None:
    """Reasoning comes before the text, and counts as output."""
    answer = ask("Think twice")
    reasoning = [event.text for event in answer if isinstance(event, ReasoningDelta)]
    assert "".join(reasoning) == "Thinking: Think twice"
    assert text(answer) == "You said: Think twice"
    assert answer[-2] == Usage(2, 7, 9)
    short = ask("Think twice", max_tokens=4)
    assert (text(short), short[-1]) == ("You ", Finish("length"))


def test_echo_stops() -> None:
    """The first stop sequence in the text ends the answer, and is reported."""
    answer = ask("one two three", stop=["three", "two"])
    assert (text(answer), answer[-1]) == ("You said: one ", StopSequence(sequence="two"))
    assert text(ask("one two", stop="You")) == ""
    limited = ask("one two three", stop=["three"], max_tokens=2)
    assert (text(limited), limited[-1]) == ("You said: ", Finish("length"))


def test_echo_ends_when_cancelled() -> None:
    """Nothing follows after a cancellation."""
    cancel = CancelToken()
    answer = EchoEngine().answer([{"role": "user", "content": "Hi"}], {}, cancel)
    assert [next(answer), next(answer)] == [Usage(1, 0, 1), "You "]
    cancel.cancel()
    assert list(answer) == []


def test_echo_ends_when_cancelled_between_calls() -> None:
    """A cancellation also stops the calls."""
    cancel = CancelToken()
    turns = [{"role": "user", "content": "call add\n" * 3}]
    answer = EchoEngine().answer(turns, {"tools": TOOLS}, cancel)
    assert [type(next(answer)), type(next(answer))] == [Usage, ToolCall]
    cancel.cancel()
    assert list(answer) == []


def test_echo_refuses_many_calls() -> None:
    """More calls than ``MAX_CALLS`` are refused: those of a large request would take minutes."""
    assert len(calls(ask("call add\n" * echo.MAX_CALLS, tools=TOOLS))) == echo.MAX_CALLS
    with pytest.raises(InvalidRequestError, match="1001 tool calls requested; the limit is 1000"):
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
    """Long white space is parsed in linear time; in quadratic time this would take minutes."""
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
    """The answer is JSON that fits the schema, with the prompt wherever text is allowed."""
    if value != {"answer": "Hi"}:
        names = {"Name": {"type": "string"}}
        schema = {"type": "object", "properties": {"it": schema}, "$defs": names}
        value = {"it": value}
    response_format = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    assert json.loads(text(ask("Hi", response_format=response_format))) == value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "items": {"type": "string"}}, ["Hi"]),
        ({"enum": ["a", "b"]}, "a"),
        ({"type": "string"}, "Hi"),
        ({"type": "integer"}, 0),
    ],
)
def test_echo_answers_in_json_that_is_no_object(schema: Any, value: Any) -> None:
    """Gemini's and Ollama's clients ask for lists and other values, too."""
    response_format = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    assert json.loads(text(ask("Hi", response_format=response_format))) == value


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
    """A small schema that expands to gigabytes is refused, also one that repeats large parts."""
    schema = {"properties": properties, "$defs": {"a": part}}
    response_format = {"type": "json_schema", "json_schema": {"schema": schema}}
    with pytest.raises(InvalidRequestError, match="expands to more than 10000 values or 16777216"):
        ask("Hi", response_format=response_format)
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    with pytest.raises(InvalidRequestError, match="use fewer properties and references"):
        ask("Hi", tools=tools, tool_choice="required")


def test_echo_refuses_long_text_everywhere() -> None:
    """The prompt fills every text value, so a long prompt with many values is refused."""
    schema = {"properties": {str(i): {} for i in range(40)}}
    response_format = {"type": "json_schema", "json_schema": {"schema": schema}}
    with pytest.raises(InvalidRequestError, match="expands to more than"):
        ask(LONG, response_format=response_format)


@pytest.mark.parametrize("kind", [{"a": 1}, [{}], []])
def test_echo_with_an_invalid_type(kind: Any) -> None:
    """A type that is not a string is treated as text."""
    response_format = {
        "type": "json_schema",
        "json_schema": {"schema": {"properties": {"a": {"type": kind}}}},
    }
    assert json.loads(text(ask("Hi", response_format=response_format))) == {"a": "Hi"}


def test_echo_refuses_deep_schema() -> None:
    """A value that is nested too deeply to write is the client's mistake."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    response_format = {
        "type": "json_schema",
        "json_schema": {"schema": {"properties": {"a": {"const": deep}}}},
    }
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        ask("Hi", response_format=response_format)


def test_echo_with_a_recursive_schema() -> None:
    """A recursive schema gets an answer; so do ``json_object`` and ``text``."""
    endless = {"properties": {"more": {"$ref": "#"}}}
    response_format = {"type": "json_schema", "json_schema": {"schema": endless}}
    assert "more" in json.loads(text(ask("Hi", response_format=response_format)))
    assert json.loads(text(ask("Hi", response_format={"type": "json_object"}))) == {"answer": "Hi"}
    assert text(ask("Hi", response_format={"type": "text"})) == "You said: Hi"
