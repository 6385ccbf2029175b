"""Tests of the local model under a grammar: tools and JSON schemas, with the real model."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from gateway_kit import Recording

from providers_sync import (
    Anthropic,
    APIStatusError,
    Completion,
    InvalidRequestError,
    OpenAICompatible,
    ServerError,
    StreamCut,
)
from providers_sync.gateway import Gateway
from providers_sync.local_calls import read_calls, rendered
from providers_sync.local_grammar import check_form, grammar_for
from providers_sync.types import Event, Finish, TextDelta, ToolCall

QUESTIONS = ["2+3?", "Write a poem <tool_call>", "こんにちは", "{"]


def tool(name: str, **schema: Any) -> dict[str, Any]:
    function = {"name": name, "description": "A tool."}
    if schema:
        function["parameters"] = schema  # type: ignore[assignment]
    return {"type": "function", "function": function}


def choice(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


LINE = {
    "type": "object",
    "properties": {
        "sku": {"type": "string", "pattern": "^[A-Z]{2}[0-9]$"},
        "count": {"type": "integer", "minimum": 1, "maximum": 12},
    },
    "required": ["sku", "count"],
}
ORDER = tool(
    "order",
    type="object",
    properties={
        "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}, "minItems": 1, "maxItems": 2},
        "to": {"anyOf": [{"type": "null"}, {"enum": ["Rome", "Köln"]}]},
        "price": {"type": "number", "minimum": 0, "multipleOf": 5, "maximum": 50},
        "note": {"type": "boolean"},
    },
    required=["lines", "to", "price"],
    **{"$defs": {"Line": LINE}},
)
BOTH = tool(
    "both",
    allOf=[
        {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
        {"type": "object", "properties": {"b": {"const": "x"}}, "required": ["b"]},
    ],
)
SIZE = tool("größe_😀", type="object", properties={"ö": {"enum": ["ä", "б"]}}, required=["ö"])
TOOLS = [ORDER, BOTH, SIZE, tool("now")]


def fits(name: str, value: Any) -> bool:
    """Return whether a call's arguments fit the schema of its tool, checked word by word."""
    if name == "order":
        lines = value["lines"]
        return (
            value.keys() - {"note"} == {"lines", "to", "price"}
            and 1 <= len(lines) <= 2
            and all(re.fullmatch("[A-Z]{2}[0-9]", line["sku"]) for line in lines)
            and all(line["count"] in range(1, 13) for line in lines)
            and all(line.keys() == {"sku", "count"} for line in lines)
            and value["to"] in (None, "Rome", "Köln")
            and value["price"] in range(0, 51, 5)
            and value.get("note") in (None, True, False)
        )
    if name == "both":
        return bool(value["a"] == 1 and value["b"] == "x")
    return value == {} if name == "now" else value in ({"ö": "ä"}, {"ö": "б"})


def ask(local: tuple[Gateway, Recording], question: str = "Hi", **options: Any) -> Completion:
    provider = OpenAICompatible("any", base_url=local[0].url("openai"))
    return provider.complete(question, **{"max_tokens": 150, "seed": 1, **options})


# --- tools


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "question", "temperature"),
    [("order", "こんにちは", 2), ("both", "2+3?", 1), ("größe_😀", "{", 0), ("now", "Why?", 2)],
)
def test_named_tool_is_called(
    local: tuple[Gateway, Recording], name: str, question: str, temperature: float
) -> None:
    """Whatever is asked, the answer is one call to the named tool, and fits its schema."""
    answer = ask(local, question, tools=TOOLS, tool_choice=choice(name), temperature=temperature)
    (call,) = answer.tool_calls
    assert (call.name, answer.text, answer.finish_reason) == (name, "", "tool_calls")
    assert fits(name, call.arguments)


@pytest.mark.model
def test_required_tool_is_called(local: tuple[Gateway, Recording]) -> None:
    """One of the tools is called; with ``parallel_tool_calls``, perhaps several times."""
    options = {"tools": TOOLS[2:], "tool_choice": "required", "stop": ["{", "name"]}
    for seed, question in enumerate(QUESTIONS[:3]):
        several = seed > 1
        answer = ask(local, question, seed=seed, parallel_tool_calls=several, **options)
        assert (answer.text, answer.finish_reason) == ("", "tool_calls")
        assert 1 <= len(answer.tool_calls) <= (4 if several else 1)
        assert len({call.id for call in answer.tool_calls}) == len(answer.tool_calls)
        assert all(fits(call.name, call.arguments) for call in answer.tool_calls)


@pytest.mark.model
def test_anthropic_client_requires_a_tool(local: tuple[Gateway, Recording]) -> None:
    """The same holds over Anthropic's protocol, and for a stream."""
    claude = Anthropic("any", base_url=local[0].url("anthropic"))
    with claude.stream("Hi", tools=[SIZE], tool_choice="required", max_tokens=60) as stream:
        assert list(stream) == []
    (call,) = stream.tool_calls
    assert fits(call.name, call.arguments)
    assert stream.finish_reason == "tool_use"


@pytest.mark.model
def test_no_tool_is_called(local: tuple[Gateway, Recording]) -> None:
    """``none`` tells the model no tools, so the prompt is as long as without them."""
    with_tools = ask(local, tools=TOOLS, tool_choice="none", max_tokens=4, temperature=0)
    without = ask(local, max_tokens=4, temperature=0)
    assert not with_tools.tool_calls
    assert (with_tools.text, with_tools.usage) == (without.text, without.usage)


@pytest.mark.model
def test_tool_may_be_called(local: tuple[Gateway, Recording]) -> None:
    """``auto`` allows text, and calls that fit; the model is told the tools."""
    told, untold = (ask(local, max_tokens=4, temperature=0, tools=t) for t in ([SIZE], []))
    assert told.text
    assert not told.tool_calls
    assert told.usage is not None
    assert untold.usage is not None
    assert told.usage.input_tokens > untold.usage.input_tokens + 50
    options = {"tools": [SIZE], "response_format": {"type": "json_object"}, "max_tokens": 30}
    for seed in range(2):
        answer = ask(local, "Call the tool now", seed=seed, **options)
        assert all(fits(call.name, call.arguments) for call in answer.tool_calls)
        assert answer.tool_calls or answer.text.startswith("{")


@pytest.mark.model
def test_token_limit_in_a_call(local: tuple[Gateway, Recording]) -> None:
    """A call that the token limit cuts off is no valid call, and nothing of it is lost."""
    options = {"tools": [BOTH], "tool_choice": "required", "temperature": 0}
    (whole,) = ask(local, **options).tool_calls
    for limit in (5, 20):
        answer = ask(local, max_tokens=limit, **options)
        assert answer.finish_reason == "length"
        if answer.tool_calls:
            (call,) = answer.tool_calls
            assert (call.name, call.arguments) == ("both", None)
            assert whole.raw.startswith(call.raw)
        else:
            assert '<tool_call>\n{"name": "both", "arguments": '.startswith(answer.text)
    assert answer.tool_calls


@pytest.mark.model
def test_schema_that_cannot_hold(local: tuple[Gateway, Recording]) -> None:
    """A schema that llama.cpp would ignore is an error, which names the option."""
    unique = {"type": "array", "uniqueItems": True}
    schema = {"type": "object", "properties": {"a": unique}}
    detail = {"name": "n", "schema": schema, "strict": True}
    response_format = {"type": "json_schema", "json_schema": detail}
    function = {"name": "f", "parameters": schema, "strict": True}
    for name, options in {
        "tools": {"tools": [{"type": "function", "function": function}]},
        "response_format": {"response_format": response_format},
    }.items():
        with pytest.raises(APIStatusError, match=f": {name}: .*uniqueItems") as caught:
            ask(local, **options)
        assert caught.value.status_code == 400


# --- JSON


def as_json(schema: Any) -> dict[str, Any]:
    """Return the options for an answer that fits a schema."""
    detail = {"name": "n", "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": detail}}


@pytest.mark.model
def test_answer_that_the_grammar_lost(local: tuple[Gateway, Recording]) -> None:
    """llama.cpp goes on without the grammar where no text fits it: that is an error."""
    number = {"type": "number", "minimum": -9, "maximum": -3, "multipleOf": 0.5}
    schema = {"type": "object", "properties": {"x": number}, "required": ["x"]}
    with pytest.raises(ServerError, match=r"response_format: .*could not enforce"):
        ask(local, temperature=0, **as_json(schema))


CAT, DOG = (
    {"type": "object", "properties": {"kind": {"const": kind}, "n": {"type": "integer"}}}
    for kind in ("cat", "dog")
)
"""The options of a union that pydantic makes if the tag has a default: it is not required."""
PYDANTIC = {
    "type": "object",
    "properties": {
        "set": {"type": "array", "uniqueItems": True, "items": {"enum": [1, 2]}, "maxItems": 3},
        "file": {"type": "string", "format": "path", "maxLength": 6},
        "page": {"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083},
        "byColor": {
            "type": "object",
            "propertyNames": {"$ref": "#/$defs/Color"},
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "pet": {
            "discriminator": {"propertyName": "kind"},
            "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
        },
        "wait": {"type": "string", "format": "duration"},
        "at": {"type": "string", "format": "date-time"},
        "size": {"type": "number"},
        "price": {
            "anyOf": [
                {"type": "number"},
                {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"},
            ]
        },
        "loss": {"type": "number", "exclusiveMaximum": 0},
    },
    "$defs": {"Color": {"enum": ["red", "blue"]}, "Cat": CAT, "Dog": DOG},
}
PYDANTIC["required"] = list(PYDANTIC["properties"])  # type: ignore[call-overload]


@pytest.mark.model
def test_shapes_of_pydantic_hold(local: tuple[Gateway, Recording]) -> None:
    """What pydantic writes for sets, addresses, paths, keys and unions is accepted, and holds."""
    answer = ask(local, temperature=0, max_tokens=400, **as_json(PYDANTIC))
    value = json.loads(answer.text)
    assert list(value) == list(PYDANTIC["properties"])
    assert set(value["set"]) <= {1, 2}
    assert re.fullmatch(r"https?://\S{3,72}", value["page"])
    assert value["byColor"].keys() <= {"red", "blue"}
    assert value["pet"]["kind"] in ("cat", "dog")
    assert re.fullmatch(r"P\w{2,7}", value["wait"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}(\.\d{1,6})?(Z|[+-][\d:]{5})", value["at"], re.I)
    assert re.fullmatch(r".*\"size\": -?\d{1,16}(\.\d{1,6})?,.*", answer.text, re.DOTALL)
    assert isinstance(value["price"], (int, float))
    assert value["loss"] < 0


@pytest.mark.model
def test_json_schema_holds(local: tuple[Gateway, Recording]) -> None:
    """The answer fits the schema, with keywords that llama.cpp's ``response_format`` ignores."""
    order = {**ORDER["function"]["parameters"]}
    response_format = {"type": "json_schema", "json_schema": {"name": "n", "schema": order}}
    for question, temperature in zip(QUESTIONS, [0, 0.5, 1, 2], strict=True):
        answer = ask(local, question, response_format=response_format, temperature=temperature)
        assert answer.finish_reason == "stop"
        assert fits("order", json.loads(answer.text))


@pytest.mark.model
def test_json_is_not_padded(local: tuple[Gateway, Recording]) -> None:
    """There are no long runs of spaces, no keys without a name and no endless integers."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    response_format = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    for seed in range(3):
        answer = ask(local, "Give me JSON", response_format=response_format, seed=seed)
        assert re.fullmatch(r'\{"n": -?\d{1,16}\}', answer.text)


# --- without a model


def test_refusals_are_shown_as_text() -> None:
    """llama.cpp knows no refusals: the model reads them in the assistant's text."""
    parts = [{"type": "text", "text": "Hm. "}, {"type": "refusal", "refusal": "No."}]
    for message in (
        {"role": "assistant", "content": "Hm. ", "refusal": "No."},
        {"role": "assistant", "content": parts},
    ):
        assert rendered([message], []) == [{"role": "assistant", "content": "Hm. No."}]


def test_messages_with_calls_become_text() -> None:
    """Earlier calls and results are text for templates that know no tools."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "Go"}]},
        {"role": "assistant", "content": "So:", "tool_calls": [call, call]},
        {"role": "tool", "tool_call_id": "c", "content": "5"},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "6"}]},
        {"role": "user", "content": "Next"},
    ]
    said = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    results = (
        "The tool returned:\n5\n\nThe tool returned:\n6\n\nAnswer the question in your own words."
    )
    shown = rendered(turns, [])
    assert shown == [
        turns[0],
        {"role": "assistant", "content": f"So:\n{said}\n{said}"},
        {"role": "user", "content": results},
        turns[4],
    ]
    function = {"name": "f", "description": "Ä", "strict": True}
    system, *rest = rendered(turns, [function])
    assert rest == shown
    assert '\n{"name": "f", "description": "Ä"}\n' in system["content"]
    first, *_ = rendered([{"role": "system", "content": "Be brief."}, *turns], [function])
    assert first == {"role": "system", "content": f"Be brief.\n\n{system['content']}"}


def rule_of(schema: Any) -> Any:
    """Return the schema that llguidance gets in place of a schema."""
    grammar = grammar_for(as_json(schema))
    assert grammar is not None
    return json.loads(grammar.rules.partition("json: %json ")[2])


def test_schemas_that_break_the_rules_stay_as_they_are() -> None:
    """No wrong or rare keyword ends in an exception: llguidance reports what it cannot read."""
    wrong: list[dict[str, Any]] = [
        {"properties": {"a": {"const": 1}}, "required": 5},
        {"properties": {"a": 1}, "required": [[1]]},
        {"type": "number", "minimum": "x"},
        {"type": {}, "format": 3, "oneOf": [3]},
        {"propertyNames": 3, "enum": 3},
        {"propertyNames": {"$ref": "#/$defs/none"}, "$defs": []},
        {"oneOf": [{"properties": 3}, {}]},
        {"type": "integer", "format": "uri", "minLength": [], "maxLength": {}},
    ]
    for schema in wrong:
        assert rule_of(schema)
    same = {"oneOf": [{"properties": {"a": {"enum": ["x", "y"]}}}, {"properties": {}}]}
    assert "oneOf" in rule_of(same)
    names = {"type": "object", "propertyNames": {"maxLength": 3}}
    assert rule_of(names).items() >= names.items()


@pytest.mark.parametrize(
    ("text", "reason", "is_held"),
    [
        ('{"a": 1}', "stop", True),
        ('{"a": 1', "stop", False),
        ('{"a": 1}\n\nSo', "stop", False),
        ('{"a": 1', "length", True),
        ('{"a": 1}\n\nSo', "length", False),
        ("12.", "length", True),
        ("", "length", True),
        ("", "stop", False),
    ],
)
def test_lost_grammar_is_noticed(text: str, reason: str, is_held: bool) -> None:
    """An answer that is not JSON, or JSON and more, does not end well."""
    grammar = grammar_for(as_json({"type": "object"}))
    assert grammar is not None
    events = [TextDelta(text), Finish(reason)]
    if is_held:
        assert list(check_form(events, grammar)) == events
        return
    with pytest.raises(InvalidRequestError, match=r"response_format: .*could not enforce"):
        list(check_form(events, grammar))


def test_lost_call_is_noticed() -> None:
    """A required call must be there; an optional one need not."""
    call, text = ToolCall("k_0", "f", {}, "{}"), TextDelta("Hm")
    for choice, events, is_held in [
        ("required", [call, Finish("tool_calls")], True),
        ("required", [text, Finish("stop")], False),
        ("required", [text, Finish("length")], True),
        ("required", [text, call, Finish("tool_calls")], False),
        ("auto", [text, Finish("stop")], True),
    ]:
        grammar = grammar_for({"tools": [tool("f")], "tool_choice": choice})
        assert grammar is not None
        if is_held:
            assert list(check_form(events, grammar)) == events
        else:
            with pytest.raises(InvalidRequestError, match=r"tools: .*could not enforce"):
                list(check_form(events, grammar))


def test_grammar_is_needed() -> None:
    """There is no grammar where every text is allowed."""
    assert grammar_for({}) is None
    assert grammar_for({"response_format": {"type": "text"}}) is None
    assert grammar_for({"tools": TOOLS, "tool_choice": "none"}) is None


WHOLE = '<tool_call>\n{"name": "f", "arguments": {"a": "</tool_call>"}}\n</tool_call>'
CALL = ToolCall("k_0", "f", {"a": "</tool_call>"}, '{"a": "</tool_call>"}')


@pytest.mark.parametrize(
    ("text", "reason", "expected"),
    [
        ("a < b <tool", "stop", ["a < b <tool", "stop"]),
        (WHOLE, "stop", ["", CALL, "tool_calls"]),
        (f"So: {WHOLE}", "stop", ["So: ", CALL, "tool_calls"]),
        (
            WHOLE * 2,
            "stop",
            ["", CALL, ToolCall("k_1", "f", CALL.arguments, CALL.raw), "tool_calls"],
        ),
        (WHOLE[:-26], "length", ["", ToolCall("k_0", "f", None, '{"a": "</'), "length"]),
        (WHOLE[:20], "length", [WHOLE[:20], "length"]),
        (WHOLE[:-5], "length", ["", CALL, "length"]),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100])
def test_calls_are_read(text: str, reason: str, expected: list[Any], size: int) -> None:
    """Calls are found however the text is cut into chunks; what is no call stays text."""
    pieces = [TextDelta(text[at : at + size]) for at in range(0, len(text), size)]
    events = list(read_calls([*pieces, Finish(reason)], "k"))
    assert all(event.text for event in events if isinstance(event, TextDelta))
    merged: list[Any] = []
    for is_text, group in itertools.groupby(events, lambda event: isinstance(event, TextDelta)):
        found: list[Any] = list(group)
        merged += ["".join(each.text for each in found)] if is_text else found
    merged[-1] = merged[-1].reason
    assert merged == [each for each in expected if each != ""]


def test_call_before_a_fault_is_not_lost() -> None:
    """What had arrived of a call is handed on before the error."""

    def broken() -> Any:
        yield TextDelta(WHOLE[:-26])
        raise StreamCut("cut")

    events: list[Event] = []
    with pytest.raises(StreamCut):
        events.extend(read_calls(broken(), "k"))
    assert events == [ToolCall("k_0", "f", None, '{"a": "</')]
