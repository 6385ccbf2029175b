"""Rows for the Responses API, Gemini and Ollama only: how their answers end, and do not."""

from __future__ import annotations

from typing import Any

from providers_sync import ServerError, StreamCut, StreamTruncated, Timeouts
from providers_sync.testing import (
    answer,
    cut,
    done,
    error,
    event,
    finish,
    json_body,
    pause,
    ping,
    raw,
    reset,
    stall,
)

from .row import BOTH, GEMINI, OLLAMA, RESPONSES, Row

IDLE = Timeouts(connect=2, first_token=2, idle=0.3, total=4)
TOTAL = Timeouts(connect=2, first_token=2, idle=0.3, total=0.6)
REASON = {"finish_reason": "STOP"}
MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}
FAILED = {"status": "failed", "error": {"code": "server_error", "message": "Broke down"}}


def part(**fields: Any) -> Any:
    """Return an event of Gemini's protocol with this part."""
    return event({"candidates": [{"content": {"parts": [fields]}}]})


RESPONSES_ROWS = [
    Row(
        "Responses: `[DONE]` without an end of the response",
        answer("Hello", b"data: [DONE]\n\n", end=False), StreamTruncated, "truncated", "Hello",
        kinds=RESPONSES, schemes=BOTH, message=("response.completed",),
    ),
    Row(
        "Responses: the whole text, and no end of the response",
        answer("Hello", finish(), end=False), StreamTruncated, "truncated", "Hello",
        kinds=RESPONSES,
    ),
    Row(
        "Responses: reset after `response.completed`", ["Hello", done(), pause(0.05), reset()],
        text="Hello", kinds=RESPONSES, schemes=BOTH,
    ),
    Row(
        "Responses: a response that is incomplete", ["Hello", finish("max_output_tokens")],
        text="Hello", kinds=RESPONSES, attributes={"finish_reason": "max_output_tokens"},
    ),
    Row(
        "Responses: a response that has failed",
        ["Hel", event({"type": "response.failed", "response": FAILED})],
        ServerError, "failed", "Hel", kinds=RESPONSES, message=("Broke down",),
        attributes={"code": "server_error"},
    ),
    Row(
        "Responses: a response that has failed before its first event, then a good answer",
        [answer(event({"type": "response.failed", "response": FAILED})), answer("Hello")],
        text="Hello", requests=2, kinds=RESPONSES,
    ),
    Row(
        "Responses: a JSON answer that still runs",
        json_body({"object": "response", "status": "in_progress", "output": [MESSAGE]}),
        StreamTruncated, "truncated", "Hello", kinds=RESPONSES, message=("in_progress",),
    ),
]  # fmt: skip

GEMINI_ROWS = [
    Row(
        "Gemini: reset after the finish reason", ["Hello", finish(), pause(0.05), reset()],
        text="Hello", kinds=GEMINI, schemes=BOTH, attributes=REASON,
    ),
    Row(
        "Gemini: server silent after the finish reason, connection open",
        ["Hello", finish(), stall()],
        text="Hello", kinds=GEMINI, timeouts=IDLE, takes=0.3, attributes=REASON,
    ),
    Row(
        "Gemini: endless keep-alives after the finish reason", ["Hello", finish(), ping(0.05)],
        text="Hello", kinds=GEMINI, timeouts=TOTAL, takes=0.6, attributes=REASON,
    ),
    Row(
        "Gemini: text after the finish reason", answer("Hel", finish(), "lo", end=False),
        StreamTruncated, "truncated", "Hello", kinds=GEMINI, schemes=BOTH,
    ),
    Row(
        "Gemini: text after the finish reason, and another reason",
        answer("Hel", finish(), "lo", finish()), text="Hello", kinds=GEMINI, attributes=REASON,
    ),
    Row(
        "Gemini: reset after text after the finish reason", answer("Hel", finish(), "lo", reset()),
        StreamCut, "cut", "Hello", kinds=GEMINI,
    ),
    Row(
        "Gemini: a finish reason that is not specified",
        answer("Hello", finish("FINISH_REASON_UNSPECIFIED"), end=False),
        StreamTruncated, "truncated", "Hello", kinds=GEMINI,
    ),
    Row(
        "Gemini: a prompt that is blocked",
        answer(event({"promptFeedback": {"blockReason": "SAFETY"}}), end=False),
        kinds=GEMINI, attributes={"finish_reason": "SAFETY", "is_whole": False},
    ),
    Row(
        "Gemini: cut in a call that comes in parts",
        answer("Hel", part(functionCall={"name": "f", "willContinue": True}), end=False),
        StreamTruncated, "truncated", "Hel", kinds=GEMINI,
    ),
]  # fmt: skip

OLLAMA_ROWS = [
    Row(
        "Ollama: reset after the last line", ["Hello", done(), pause(0.05), reset()],
        text="Hello", kinds=OLLAMA, schemes=BOTH, attributes={"finish_reason": "stop"},
    ),
    Row(
        "Ollama: cut in the last line",
        answer("Hello", b'{"message": {"content": ""}, "done": tr', cut(), framing="close"),
        StreamTruncated, "truncated", "Hello", kinds=OLLAMA,
    ),
    Row(
        "Ollama: no line end after the last line",
        answer("Hello", raw(b'{"done": true, "done_reason": "stop"}'), end=False),
        text="Hello", kinds=OLLAMA,
    ),
    Row(
        "Ollama: error as the first line", error("model runner has stopped"), ServerError,
        "failed", kinds=OLLAMA, message=("model runner has stopped",),
    ),
    Row(
        "Ollama: error in the middle", ["Hel", error("model runner has stopped")], ServerError,
        "failed", "Hel", kinds=OLLAMA, schemes=BOTH, message=("model runner has stopped",),
    ),
    Row(
        "Ollama: an answer of no text that is done", answer(done()), kinds=OLLAMA,
        attributes={"finish_reason": "stop"},
    ),
]  # fmt: skip

OTHER_ROWS = [*RESPONSES_ROWS, *GEMINI_ROWS, *OLLAMA_ROWS]
