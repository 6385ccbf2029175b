"""Anthropic's protocol from the server's side: answers written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_kit import events

from providers_sync.dialects import ANTHROPIC, AnswerInfo, Ending, RequestError, error_body
from providers_sync.types import ReasoningDelta, Refusal, ToolCall, Usage

ABOUT = AnswerInfo("1", 1700000000, "echo")
CALL = ToolCall("c1", "add", {"a": 1, "b": 2}, '{"a": 1, "b": 2}')
BROKEN = ToolCall("c2", "add", None, '{"a": ')


def told(*pieces: Any, ending: Ending | None = None) -> list[Any]:
    """Return the events of a whole stream."""
    writer = ANTHROPIC.writer(ABOUT)
    body = writer.start(Usage(3)) + b"".join(map(writer.piece, pieces))
    body += writer.end(ending or Ending(usage=Usage(3, 2, 5)))
    for event in body.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        kind = json.loads(data.removeprefix("data: "))["type"]
        assert name == f"event: {kind}", "the name and the type of an event differ"
    return events(body)


def test_write_text() -> None:
    """One block of text between ``message_start`` and ``message_stop``, usage at both ends."""
    start, ping, begun, one, two, stopped, delta, stop = told("Да\n", "😀")
    assert start["message"]["id"] == "msg_1"
    assert (start["message"]["role"], start["message"]["content"]) == ("assistant", [])
    assert start["message"]["usage"] == {"input_tokens": 3, "output_tokens": 0}
    assert ping == {"type": "ping"}
    assert begun["content_block"] == {"type": "text", "text": ""}
    assert one["delta"] == {"type": "text_delta", "text": "Да\n"}
    assert two["delta"]["text"] == "😀"
    assert {event["index"] for event in (begun, one, two, stopped)} == {0}
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert delta["usage"] == {"input_tokens": 3, "output_tokens": 2}
    assert stop == {"type": "message_stop"}


def test_write_one_block_after_the_other() -> None:
    """Each kind has a block of its own, closed before the next begins."""
    sent = told(ReasoningDelta("H"), ReasoningDelta("m."), "Hi", CALL, BROKEN, "Bye")
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
    thoughts = [delta.get("thinking", "") for index, delta in deltas if index == 0]
    assert "".join(thoughts) == "Hm."
    assert deltas[2][1]["type"] == "signature_delta"
    for index, call in ((2, CALL), (3, BROKEN)):
        raw = [delta["partial_json"] for at, delta in deltas if at == index]
        assert "".join(raw) == call.raw, "arguments that do not parse are sent as they are"


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (Ending("stop"), "end_turn"),
        (Ending("length"), "max_tokens"),
        (Ending("tool_calls"), "tool_use"),
        (Ending("content_filter"), "refusal"),
        (Ending("stop", stop_sequence="x"), "stop_sequence"),
        (Ending("pause_turn"), "pause_turn"),
    ],
)
def test_write_stop_reason(ending: Ending, reason: str) -> None:
    """OpenAI's reason becomes Anthropic's, streamed and whole."""
    assert told("Hi", ending=ending)[-2]["delta"]["stop_reason"] == reason
    assert whole("Hi", ending=ending)["stop_reason"] == reason
    assert whole("Hi", ending=ending)["stop_sequence"] == ending.stop_sequence


def whole(*pieces: Any, ending: Ending | None = None) -> Any:
    return json.loads(ANTHROPIC.writer(ABOUT).whole(pieces, ending or Ending()))


def test_write_whole_answer() -> None:
    """One message; pieces of a kind stand together in a block."""
    body = whole(ReasoningDelta("H"), ReasoningDelta("m."), "H", "i", CALL, CALL)
    thought, text, one, two = body["content"]
    assert (thought["type"], thought["thinking"]) == ("thinking", "Hm.")
    assert text == {"type": "text", "text": "Hi"}
    assert one == two == {"type": "tool_use", "id": "c1", "name": "add", "input": CALL.arguments}
    assert body["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert (body["type"], body["model"]) == ("message", "echo")


def test_write_refusal() -> None:
    """The protocol has no place for a refusal but the text and the reason."""
    assert whole(Refusal("No."))["content"] == [{"type": "text", "text": "No."}]
    assert whole(Refusal("No."))["stop_reason"] == "refusal"
    assert told(Refusal("No."))[-2]["delta"]["stop_reason"] == "refusal"


def test_write_broken_call_whole() -> None:
    """Arguments that do not parse have no place in a whole answer: an error shows them."""
    with pytest.raises(RequestError, match=r'called add with .*: \{"a": ') as caught:
        whole(BROKEN)
    assert caught.value.status == 500


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
    """The kind of an error follows from its status, in a body and in an event."""
    error = RequestError("no", status=status)
    shape = {"type": "error", "error": {"type": kind, "message": "no"}}
    for path in ("/anthropic", "/anthropic/v1/messages", "/anthropic/nothing"):
        assert json.loads(error_body(error, path)) == shape
    assert "param" in json.loads(error_body(error, "/anthropics"))["error"]
    assert events(ANTHROPIC.writer(ABOUT).error(error) or b"") == [shape]
