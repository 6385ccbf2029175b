"""The echo engine: what it says to which question."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync.echo import EchoEngine
from providers_sync.engines import StopSequence, Yield
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


def test_echo_json_without_end() -> None:
    """A schema that refers to itself still gets an answer; so does plain JSON, and plain text."""
    endless = {"properties": {"more": {"$ref": "#"}}}
    wanted = {"type": "json_schema", "json_schema": {"schema": endless}}
    assert "more" in json.loads(text(ask("Hi", response_format=wanted)))
    assert json.loads(text(ask("Hi", response_format={"type": "json_object"}))) == {"answer": "Hi"}
    assert text(ask("Hi", response_format={"type": "text"})) == "You said: Hi"
