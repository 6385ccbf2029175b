"""Tool calls are put together by meaning: servers number and name their pieces in many ways."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from decode_kit import decode

from providers_sync import MalformedStream, ToolCall
from providers_sync.decoding import OpenAIDecoder

Piece = tuple[Any, Any, Any, Any]
"""Index, id, name and arguments; ``...`` leaves a field out."""


def piece(index: Any, call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not ...}
    call = {"index": index, "id": call_id, "function": function}
    return {key: value for key, value in call.items() if value is not ...}


def body(deltas: list[dict[str, Any]]) -> bytes:
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)


def calls(*pieces: Piece) -> list[tuple[str, str, str]]:
    """Return id, name and raw arguments of the calls that pieces make, one piece per event."""
    data = body([{"tool_calls": [piece(*each)]} for each in pieces])
    deltas = decode(OpenAIDecoder("text/event-stream"), [data])
    found = [each for each in deltas if isinstance(each, ToolCall)]
    return [(call.id, call.name, call.raw) for call in found]


X1, X2 = '{"x":1}', '{"x":2}'
KINDS: dict[str, tuple[list[Piece], list[tuple[str, str, str]]]] = {
    "no arguments at first": ([(0, "a", "f", ...), (0, ..., ..., X1)], [("a", "f", X1)]),
    "null arguments at first": ([(0, "a", "f", None), (0, None, None, X1)], [("a", "f", X1)]),
    "no index": ([(..., "a", "f", ""), (..., ..., ..., '{"x"'), (..., ..., ..., ":1}")],
                 [("a", "f", X1)]),
    "a last piece without index and arguments": ([(0, "a", "f", X1), (..., ..., ..., ...)],
                                                 [("a", "f", X1)]),
    "an index that begins at 1": ([(1, "a", "f", ""), (1, ..., ..., X1)], [("a", "f", X1)]),
    "the name last": ([(0, "a", "", ""), (0, ..., "f", X1)], [("a", "f", X1)]),
    "id and name apart": ([(0, "a", ..., ""), (0, ..., "f", ""), (0, ..., ..., X1)],
                          [("a", "f", X1)]),
    "a bare piece first": ([(0, ..., ..., ...), (0, "a", "f", ""), (0, ..., ..., X1)],
                           [("a", "f", X1)]),
    "the name in every piece": ([(0, "a", "f", '{"x"'), (0, "a", "f", ":1"), (0, ..., "f", "}")],
                                [("a", "f", X1)]),
    "another id in every piece": ([(0, "a", "f", ""), (0, "b", ..., '{"x"'), (0, "c", ..., ":1}")],
                                  [("a", "f", X1)]),
    "another id and the name in every piece": ([(0, "a", "f", '{"x"'), (0, "b", "f", ":1}")],
                                               [("a", "f", X1)]),
    "two calls under one index, by id": ([(0, "a", "f", X1), (0, "b", "f", X2)],
                                         [("a", "f", X1), ("b", "f", X2)]),
    "two calls under one index, by name": ([(0, "", "f", X1), (0, "", "g", X2)],
                                           [("", "f", X1), ("", "g", X2)]),
    "two calls under one index, by object": ([(0, ..., "f", X1), (0, ..., "f", X2)],
                                             [("", "f", X1), ("", "f", X2)]),
    "two calls under one index, in pieces": (
        [(0, "a", "f", ""), (0, "", ..., X1), (0, "b", "g", ""), (0, "", ..., X2)],
        [("a", "f", X1), ("b", "g", X2)]),
    "two calls without arguments under one index": ([(0, "a", "f", ""), (0, "b", "g", "")],
                                                    [("a", "f", ""), ("b", "g", "")]),
    "two calls without an index": ([(..., "a", "f", X1), (..., "b", "g", X2)],
                                   [("a", "f", X1), ("b", "g", X2)]),
    "pieces of two calls in turn": (
        [(0, "a", "f", '{"x"'), (1, "b", "g", '{"x"'), (0, ..., ..., ":1}"), (1, ..., ..., ":2}")],
        [("a", "f", X1), ("b", "g", X2)]),
    "braces in a string": ([(0, "a", "f", '{"x":"}'), (0, "b", "f", '\\"{"'), (0, "c", "f", "}")],
                           [("a", "f", '{"x":"}\\"{"}')]),
    "an object in place of text": ([(0, "a", "f", {"x": 1})], [("a", "f", '{"x": 1}')]),
    "the name in parts": ([(0, "a", "get_", ""), (0, ..., "x", ""), (0, ..., ..., X1)],
                          [("a", "get_x", X1)]),
    "more of the name each time": ([(0, "a", "get_", ""), (0, ..., "get_x", ""), (0, ..., ..., X1)],
                                   [("a", "get_x", X1)]),
    "pieces of two calls under one index, by id": (
        [(0, "a", "f", ""), (0, "b", "g", ""), (0, "a", ..., X1), (0, "b", ..., X2)],
        [("a", "f", X1), ("b", "g", X2)]),
    "the index is left out later": ([(0, "a", "f", ""), (..., "a", "f", X1)], [("a", "f", X1)]),
    "the index comes later": ([(..., "a", "f", ""), (0, ..., ..., X1)], [("a", "f", X1)]),
    "two calls without an index under one id": ([(..., "a", "f", X1), (..., "a", "f", X2)],
                                                [("a", "f", X1 + X2)]),
    "the arguments twice": ([(0, "a", "f", ""), (0, ..., ..., X1), (0, ..., ..., X1)],
                            [("a", "f", X1)]),
    "the arguments again as a string": ([(0, "a", "f", X1), (0, "a", "f", json.dumps(X1))],
                                        [("a", "f", X1)]),
    "all arguments so far each time": ([(0, "a", "f", '{"x"'), (0, ..., ..., X1)],
                                       [("a", "f", X1)]),
    "two objects that differ stay as they came": ([(0, "a", "f", X1), (0, "a", "f", X2)],
                                                  [("a", "f", X1 + X2)]),
    "an empty call at the end": ([(0, "a", "f", X1), (1, ..., ..., ...)], [("a", "f", X1)]),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_calls_are_put_together(name: str) -> None:
    """Each kind was seen at a real server."""
    pieces, expected = KINDS[name]
    assert calls(*pieces) == expected


def test_call_without_a_name_is_an_error_with_everything_that_came() -> None:
    """The calls that have one are handed over."""
    with pytest.raises(MalformedStream, match="secret_argument"):
        calls((0, "a", "f", X1), (1, "b", ..., '{"secret_argument": 1}'))


def test_one_call_may_stand_in_place_of_the_list() -> None:
    """TGI; OpenAI's older ``function_call``; calls without ``function``."""
    for deltas in (
        [{"tool_calls": piece(0, "", "f", X1)}],
        [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": X1}}],
        [{"tool_calls": [{"name": "f", "arguments": X1}]}],
    ):
        found = decode(OpenAIDecoder("text/event-stream"), [body(deltas)])
        assert ToolCall("", "f", {"x": 1}, X1) in found


def test_calls_that_begin_together_under_one_index_are_two() -> None:
    """Each has an id: vLLM and others number all calls 0, or send them in a whole message."""
    first, second = piece(0, "a", "f", ""), piece(0, "b", "f", "")
    end = [piece(0, "b", ..., X2), piece(0, "a", ..., X1)]
    streamed = body([{"tool_calls": [first, second]}, *({"tool_calls": [each]} for each in end)])
    found = list(decode(OpenAIDecoder("text/event-stream"), [streamed]))
    assert ToolCall("a", "f", {"x": 1}, X1) in found
    assert ToolCall("b", "f", {"x": 2}, X2) in found
    whole = {"choices": [{"message": {"tool_calls": [first, second]}, "finish_reason": "stop"}]}
    found = list(decode(OpenAIDecoder("application/json"), [json.dumps(whole).encode()]))
    assert [each.id for each in found if isinstance(each, ToolCall)] == ["a", "b"]


@pytest.mark.parametrize(
    "deltas",
    [
        [{"index": 0, "id": "a", "name": "f", "arguments": ""}, {"index": 0, "arguments": X1}],
        [{"index": 0, "id": "a", "function": {"name": "f", "input": {"x": 1}}}],
        [{"index": 0, "id": "a", "function": {"name": "f", "parameters": X1}}],
        [None, {"index": 0, "id": "a", "function": {"name": "f", "arguments": X1}}],
    ],
    ids=["no function", "input", "parameters", "null"],
)
def test_arguments_stand_in_other_places(deltas: list[Any]) -> None:
    """They are read there too."""
    data = body([{"tool_calls": [each]} for each in deltas])
    [call] = [e for e in decode(OpenAIDecoder(""), [data]) if isinstance(e, ToolCall)]
    assert (call.id, call.name, call.arguments) == ("a", "f", {"x": 1})


def test_white_space_is_no_arguments() -> None:
    """It says as much as none."""
    data = body([{"tool_calls": [piece(0, "a", "f", " \n")]}])
    assert ToolCall("a", "f", {}, " \n") in decode(OpenAIDecoder(""), [data])


def test_custom_call_has_its_input_in_raw() -> None:
    """It is text, also where it looks like JSON."""
    pieces = [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "run", "input": "{"}},
              {"index": 0, "type": "custom", "custom": {"input": "}"}}]  # fmt: skip
    found = decode(
        OpenAIDecoder("text/event-stream"), [body([{"tool_calls": [each]} for each in pieces])]
    )
    assert ToolCall("a", "run", None, "{}") in found


def test_name_of_many_parts_is_refused() -> None:
    """Joining them would take quadratic time."""
    pieces: list[Piece] = [(0, "a", "x", ""), *[(0, ..., "p", ""), (0, ..., "q", "")] * 20_000]
    started = time.process_time()
    with pytest.raises(MalformedStream, match="name of a tool"):
        calls(*pieces)
    assert time.process_time() - started < 5


def test_id_that_is_no_text_is_shown_as_text() -> None:
    """Also beside another call."""
    both = [piece(0, each, "f", X1) for each in ({"n": 1}, {"n": 2})]
    found = decode(OpenAIDecoder(""), [body([{"tool_calls": both}])])
    ids = [each.id for each in found if isinstance(each, ToolCall)]
    assert ids == ["{'n': 1}", "{'n': 2}"]


def test_many_pieces_with_names_take_linear_time() -> None:
    """Whether the arguments are complete is not asked from their start each time."""
    count = 20_000
    pieces = [{"tool_calls": [piece(0, str(n), "f", '"{}"')]} for n in range(count)]
    pieces.insert(0, {"tool_calls": [piece(0, "a", "f", "{")]})
    [call] = [each for each in decode(OpenAIDecoder("text/event-stream"), [body(pieces)])
              if isinstance(each, ToolCall)]  # fmt: skip
    assert len(call.raw) == 4 * count + 1
