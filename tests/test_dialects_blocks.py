"""Tests of writing answers in Anthropic's protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_kit import events

from providers_sync.dialects import ANTHROPIC, AnswerInfo, Ending, RequestError, error_body
from providers_sync.types import ReasoningDelta, Refusal, ToolCall, Usage

INFO = AnswerInfo("1", 1700000000, "echo")
CALL = ToolCall("c1", "add", {"a": 1, "b": 2}, '{"a": 1, "b": 2}')
BROKEN = ToolCall("c2", "add", None, '{"a": ')


def streamed(*deltas: Any, ending: Ending | None = None) -> list[Any]:
    """Return the events of a complete stream."""
    writer = ANTHROPIC.writer(INFO)
    body = writer.start(Usage(3)) + b"".join(map(writer.delta, deltas))
    body += writer.end(ending or Ending(usage=Usage(3, 2, 5)))
    for event in body.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        kind = json.loads(data.removeprefix("data: "))["type"]
        assert name == f"event: {kind}", "the name and the type of an event differ"
    return events(body)


def test_write_text() -> None:
    """One block of text between ``message_start`` and ``message_stop``, usage at both ends."""
    start, ping, block_start, one, two, block_stop, delta, stop = streamed("Да\n", "😀")
    assert start["message"]["id"] == "msg_1"
    assert (start["message"]["role"], start["message"]["content"]) == ("assistant", [])
    assert start["message"]["usage"] == {"input_tokens": 3, "output_tokens": 0}
    assert ping == {"type": "ping"}
    assert block_start["content_block"] == {"type": "text", "text": ""}
    assert one["delta"] == {"type": "text_delta", "text": "Да\n"}
    assert two["delta"]["text"] == "😀"
    assert {event["index"] for event in (block_start, one, two, block_stop)} == {0}
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert delta["usage"] == {"input_tokens": 3, "output_tokens": 2}
    assert stop == {"type": "message_stop"}


def test_write_one_block_after_the_other() -> None:
    """Each kind has a separate block, closed before the next one starts."""
    sent = streamed(ReasoningDelta("H"), ReasoningDelta("m."), "Hi", CALL, BROKEN, "Bye")
    blocks = [e["content_block"]["type"] for e in sent if e["type"] == "content_block_start"]
    assert blocks == ["thinking", "text", "tool_use", "tool_use", "text"]
    opened: list[int] = []
    for event in sent:
        if event["type"] == "content_block_start":
            opened.append(event["index"])
        elif event["type"] == "content_block_stop":
            assert opened[-1] == event["index"]
    assert opened == [0, 1, 2, 3, 4]
    deltas = [(e["index"], e["delta"]) for e in sent if e["type"] == "content_block_delta"]
    reasoning = [delta.get("thinking", "") for index, delta in deltas if index == 0]
    assert "".join(reasoning) == "Hm."
    assert deltas[2][1]["type"] == "signature_delta"
    for index, call in ((2, CALL), (3, BROKEN)):
        raw = [delta["partial_json"] for at, delta in deltas if at == index]
        assert "".join(raw) == call.raw, "arguments that are not valid JSON must be sent unchanged"


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (Ending("stop"), "end_turn"),
        (Ending("length"), "max_tokens"),
        (Ending("tool_calls"), "tool_use"),
        (Ending("content_filter"), "refusal"),
        (Ending("stop", stop_sequence="x"), "stop_sequence"),
        (Ending("function_call"), "tool_use"),
        (Ending("pause_turn"), "pause_turn"),
        (Ending("end_turn"), "end_turn"),
        (Ending("model_context_window_exceeded"), "model_context_window_exceeded"),
    ],
)
def test_write_stop_reason(ending: Ending, reason: str) -> None:
    """OpenAI's finish reason becomes Anthropic's stop reason, streamed or not."""
    assert streamed("Hi", ending=ending)[-2]["delta"]["stop_reason"] == reason
    assert complete("Hi", ending=ending)["stop_reason"] == reason
    assert complete("Hi", ending=ending)["stop_sequence"] == ending.stop_sequence


def complete(*deltas: Any, ending: Ending | None = None) -> Any:
    return json.loads(ANTHROPIC.writer(INFO).complete(deltas, ending or Ending()))


def test_write_complete_answer() -> None:
    """The answer is one message; consecutive deltas of a kind form one block."""
    body = complete(ReasoningDelta("H"), ReasoningDelta("m."), "H", "i", CALL, CALL)
    thinking, text, one, two = body["content"]
    assert (thinking["type"], thinking["thinking"]) == ("thinking", "Hm.")
    assert text == {"type": "text", "text": "Hi"}
    assert one == two == {"type": "tool_use", "id": "c1", "name": "add", "input": CALL.arguments}
    assert body["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert (body["type"], body["model"]) == ("message", "echo")


def test_write_refusal() -> None:
    """The protocol represents a refusal only as text and stop reason."""
    assert complete(Refusal("No."))["content"] == [{"type": "text", "text": "No."}]
    assert complete(Refusal("No."))["stop_reason"] == "refusal"
    assert streamed(Refusal("No."))[-2]["delta"]["stop_reason"] == "refusal"


def test_write_broken_call_in_complete_answer() -> None:
    """Arguments that are not a JSON object are sent as text; the rest of the answer is kept."""
    text, call = complete("Hi", BROKEN)["content"]
    assert text == {"type": "text", "text": "Hi"}
    assert call == {"type": "tool_use", "id": "c2", "name": "add", "input": BROKEN.raw}


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (
            Usage(100, 30, 130, 60, 15, 20),
            {
                **{"input_tokens": 25, "output_tokens": 30},
                **{"cache_read_input_tokens": 60, "cache_creation_input_tokens": 15},
                "output_tokens_details": {"thinking_tokens": 20},
            },
        ),
        (
            Usage(5, 30, cached_tokens=60),
            {"input_tokens": 5, "output_tokens": 30, "cache_read_input_tokens": 60},
        ),
        (
            Usage(60, 0, cached_tokens=60),
            {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 60},
        ),
    ],
)
def test_write_counts(usage: Usage, counts: dict[str, Any]) -> None:
    """Input read from and written to a cache is counted beside ``input_tokens``, not in it."""
    assert complete("Hi", ending=Ending(usage=usage))["usage"] == counts
    assert streamed("Hi", ending=Ending(usage=usage))[-2]["usage"] == counts
    start = events(ANTHROPIC.writer(INFO).start(usage))[0]
    assert start["message"]["usage"] == counts


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_write_error(status: int, kind: str) -> None:
    """The type of an error depends on its status, in a body and in an event."""
    error = RequestError("no", status=status)
    expected = {"type": "error", "error": {"type": kind, "message": "no"}}
    for path in ("/anthropic", "/anthropic/v1/messages", "/anthropic/nothing"):
        assert json.loads(error_body(error, path)) == expected
    assert "param" in json.loads(error_body(error, "/anthropics"))["error"]
    assert events(ANTHROPIC.writer(INFO).error(error) or b"") == [expected]
