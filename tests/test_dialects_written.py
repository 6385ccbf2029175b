"""Tests of writing answers in OpenAI's and the historical protocols."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_kit import events

from providers_sync.dialects import (
    AI365VIP_DIALECT,
    ANTHROPIC,
    CODELINKAVA,
    DIALECTS,
    OPENAI,
    VITALENTUM,
    AnswerInfo,
    ChatRequest,
    Dialect,
    Ending,
    RequestError,
)
from providers_sync.types import ReasoningDelta, Refusal, ToolCall, Usage

INFO = AnswerInfo("1", 1700000000, "echo")
CALL = ToolCall("c1", "add", {"a": 1, "b": 2}, '{"a": 1, "b": 2}')
CHUNKED = [VITALENTUM, CODELINKAVA, OPENAI]


@pytest.mark.parametrize("dialect", CHUNKED, ids=lambda d: d.name)
def test_write_events(dialect: Dialect) -> None:
    """Text is sent in ``choices[0].delta.content``; a finish reason and ``[DONE]`` end it."""
    writer = dialect.writer(INFO)
    assert writer.content_type == "text/event-stream; charset=utf-8"
    body = writer.start(Usage()) + writer.delta("Да\n") + writer.delta("😀") + writer.end(Ending())
    start, one, two, finish, done = events(body)
    assert start["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [e["choices"][0]["delta"]["content"] for e in (one, two)] == ["Да\n", "😀"]
    assert finish["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert {e["object"] for e in (start, one, two, finish)} == {"chat.completion.chunk"}
    assert done == "[DONE]"


def test_write_events_with_usage() -> None:
    """On request, usage is sent in a chunk without choices, after the finish reason."""
    writer = OPENAI.writer(AnswerInfo("1", 0, "echo", ChatRequest([], include_usage=True)))
    finish, usage, done = events(writer.end(Ending("length", Usage(3, 4, 7))))
    assert finish["choices"][0]["finish_reason"] == "length"
    assert finish["usage"] is None
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert done == "[DONE]"


COUNTS = {
    **{"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 131},
    "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 20},
}


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (Usage(100, 30, 131, 60, 0, 20), COUNTS),
        (Usage(None, 5), {"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 5}),
        (Usage(), None),
    ],
)
def test_write_counts(usage: Usage, counts: Any) -> None:
    """Counts of caches and of reasoning have objects of their own; without counts there is none."""
    assert json.loads(OPENAI.writer(INFO).complete(["Hi"], Ending(usage=usage)))["usage"] == counts
    writer = OPENAI.writer(AnswerInfo("1", 0, "echo", ChatRequest([], include_usage=True)))
    found = [event["usage"] for event in events(writer.end(Ending(usage=usage)))[1:-1]]
    assert found == ([counts] if counts else [])


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
        ("length", "length"),
    ],
)
def test_write_finish_reason(reason: str, expected: str) -> None:
    """Anthropic's stop reason becomes OpenAI's finish reason, streamed or not."""
    finish, _ = events(OPENAI.writer(INFO).end(Ending(reason)))
    body = json.loads(OPENAI.writer(INFO).complete(["Hi"], Ending(reason)))
    assert finish["choices"][0]["finish_reason"] == expected
    assert body["choices"][0]["finish_reason"] == expected


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (ToolCall("c1", "now", {}, ""), "{}"),
        (ToolCall("c1", "run", None, "print(1)"), "print(1)"),
        (ToolCall("c1", "run", None, "[1]"), "[1]"),
    ],
)
def test_write_unusual_arguments(call: ToolCall, arguments: str) -> None:
    """No arguments are an empty object, which clients parse; other text is sent as it is."""
    sent = [
        e["choices"][0]["delta"]["tool_calls"][0] for e in events(OPENAI.writer(INFO).delta(call))
    ]
    assert "".join(each["function"]["arguments"] for each in sent) == arguments
    body = json.loads(OPENAI.writer(INFO).complete([call], Ending()))
    assert body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == arguments


def test_write_tool_calls_in_chunks() -> None:
    """A call starts with its name, its arguments follow; the next call has the next index."""
    writer = OPENAI.writer(INFO)
    sent = [e["choices"][0]["delta"]["tool_calls"][0] for e in events(writer.delta(CALL))]
    function = {"name": "add", "arguments": ""}
    assert sent[0] == {"index": 0, "id": "c1", "type": "function", "function": function}
    assert len(sent) > 2
    assert "".join(each["function"]["arguments"] for each in sent[1:]) == CALL.raw
    again = events(writer.delta(CALL))[0]
    assert again["choices"][0]["delta"]["tool_calls"][0]["index"] == 1


def test_write_reasoning_and_refusals_in_chunks() -> None:
    """Each has a separate field next to ``content``."""
    writer = OPENAI.writer(INFO)
    (reasoning,) = events(writer.delta(ReasoningDelta("Hm.")))
    (refusal,) = events(writer.delta(Refusal("No.")))
    assert reasoning["choices"][0]["delta"] == {"reasoning_content": "Hm."}
    assert refusal["choices"][0]["delta"] == {"refusal": "No."}


def test_write_error_event() -> None:
    """An error in a stream that has started is a separate event."""
    error = RequestError("no more", status=500, code="oops")
    (event,) = events(OPENAI.writer(INFO).error(error) or b"")
    detail = {"message": "no more", "type": "server_error", "param": None, "code": "oops"}
    assert event == {"error": detail}


def test_write_plain_text() -> None:
    """AI365VIP's answer is only the text; it cannot carry an error."""
    writer = AI365VIP_DIALECT.writer(INFO)
    deltas = [ReasoningDelta("Hm."), "Да\n", "😀", Refusal("!")]
    body = writer.start(Usage()) + b"".join(map(writer.delta, deltas)) + writer.end(Ending())
    assert (writer.content_type, body.decode()) == ("text/plain; charset=utf-8", "Да\n😀!")
    assert writer.error(RequestError("no more")) is None
    assert writer.complete(deltas, Ending()) == body


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_write_lone_surrogate(dialect: Dialect) -> None:
    """A lone surrogate, legal in JSON, does not break the answer's encoding."""
    assert "a?b" in dialect.writer(INFO).delta("a\ud83db").decode()


@pytest.mark.parametrize("dialect", CHUNKED, ids=lambda d: d.name)
def test_write_complete_answer(dialect: Dialect) -> None:
    """The body is one JSON object with message, finish reason and usage."""
    body = json.loads(dialect.writer(INFO).complete(["H", "i"], Ending("stop", Usage(1, 2))))
    message = {"role": "assistant", "content": "Hi", "refusal": None}
    assert body["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]
    assert body["usage"]["total_tokens"] == 3
    assert (body["object"], body["model"], body["id"]) == ("chat.completion", "echo", "chatcmpl-1")


def test_write_complete_answer_of_many_kinds() -> None:
    """Reasoning, refusals and calls have their own fields; text is null if there is none."""
    deltas = [ReasoningDelta("H"), ReasoningDelta("m."), CALL, Refusal("No."), CALL]
    body = json.loads(OPENAI.writer(INFO).complete(deltas, Ending("tool_calls")))
    message = body["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "No.")
    assert message["reasoning_content"] == "Hm."
    assert (
        message["tool_calls"]
        == [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": CALL.raw}}]
        * 2
    )


@pytest.mark.parametrize(
    ("reason", "expected"), [("stop", "tool_calls"), ("STOP", "tool_calls"), ("length", "length")]
)
def test_write_finish_reason_of_calls(reason: str, expected: str) -> None:
    """Calls of an engine that ends them with an ordinary reason get OpenAI's, streamed or not."""
    writer = OPENAI.writer(INFO)
    *_, finish, _ = events(writer.delta(CALL) + writer.end(Ending(reason)))
    body = json.loads(OPENAI.writer(INFO).complete([CALL], Ending(reason)))
    assert finish["choices"][0]["finish_reason"] == expected
    assert body["choices"][0]["finish_reason"] == expected


@pytest.mark.parametrize("reason", ["stop", "STOP", "end_turn"])
def test_calls_after_an_ordinary_reason_are_told_to_clients_of_anthropic(reason: str) -> None:
    """They run tools only where the stop reason is ``tool_use``."""
    writer = ANTHROPIC.writer(INFO)
    streamed = writer.delta(CALL) + writer.end(Ending(reason))
    [delta] = [e for e in events(streamed) if e["type"] == "message_delta"]
    whole = json.loads(ANTHROPIC.writer(INFO).complete([CALL], Ending(reason)))
    assert delta["delta"]["stop_reason"] == whole["stop_reason"] == "tool_use"
    assert json.loads(ANTHROPIC.writer(INFO).complete(["Hi"], Ending(reason)))["stop_reason"] == (
        "end_turn"
    )
