"""Faults and oddities that only Anthropic's protocol can have: its own events, and its one end."""

from __future__ import annotations

import re
from typing import Any

from providers_sync import (
    APITimeoutError,
    MalformedStream,
    ServerError,
    StreamCut,
    StreamTruncated,
    Timeouts,
)
from providers_sync.testing import (
    answer,
    cut,
    done,
    error,
    event,
    finish,
    pause,
    ping,
    raw,
    reasoning,
    reset,
    stall,
    tool_call,
)

from .odd import SAID, WORDS, Changed
from .row import ANTHROPIC, BOTH, Row

GOOD = answer("Hel", "lo")
IDLE = Timeouts(connect=2, first_token=2, idle=0.3, total=4)
TOTAL = Timeouts(connect=2, first_token=2, idle=0.3, total=0.6)
PING = ping(0, times=1)
STOP = event({"type": "content_block_stop", "index": 0})
HEAD = {"type": "content_block_delta", "index": 0}


def start(block: Any, index: int = 0) -> Any:
    return event({"type": "content_block_start", "index": index, "content_block": block})


def grown(delta: Any, **rest: Any) -> Any:
    return event({**HEAD, "delta": delta, **rest})


def said(text: Any, **rest: Any) -> Any:
    return grown({"type": "text_delta", "text": text}, **rest)


ENDS = [
    Row(
        "clean end with a stop reason only", answer("Hello", finish(), end=False),
        StreamTruncated, "truncated", "Hello", kinds=ANTHROPIC, wires=BOTH,
    ),
    Row(
        "reset after the stop reason", ["Hello", finish(), pause(0.05), reset()],
        StreamCut, "cut", "Hello", kinds=ANTHROPIC, wires=BOTH,
    ),
    Row(
        "silence after the stop reason", ["Hello", finish(), stall()],
        APITimeoutError, "stalled", "Hello", kinds=ANTHROPIC, timeouts=IDLE, clock="idle",
    ),
    Row(
        "pings for ever after the stop reason", ["Hello", finish(), ping(0.05)],
        APITimeoutError, "deadline", "Hello", kinds=ANTHROPIC, timeouts=TOTAL, clock="total",
    ),
    Row("cut between two blocks", ["Hel", STOP, cut()], StreamCut, "cut", "Hel", kinds=ANTHROPIC),
    Row(
        "cut after message_start, then a good answer", [
            answer(event({"type": "message_start", "message": {}}), PING, cut()), GOOD
        ],
        text="Hello", requests=2, kinds=ANTHROPIC, wires=BOTH,
    ),
    Row("cut after a thought", [reasoning("Hm"), cut()], StreamCut, "cut", kinds=ANTHROPIC),
    Row(
        "cut when a tool call has begun", [tool_call("look", {"up": 1}), cut()],
        StreamCut, "cut", kinds=ANTHROPIC,
    ),
]  # fmt: skip

ERRORS = [
    Row(
        "overload after a ping, then a good answer",
        [answer(PING, error("Overloaded", "overloaded_error")), GOOD],
        text="Hello", requests=2, kinds=ANTHROPIC,
    ),
    Row(
        "error event without its name",
        ["Hel", raw(b'data: {"type": "error", "error": {"message": "Broke down"}}\n\n')],
        ServerError, "failed", "Hel", kinds=ANTHROPIC, says=("Broke down",),
    ),
    Row(
        "error event with its name only",
        ["Hel", raw(b'event: error\ndata: {"message": "Broke down"}\n\n')],
        ServerError, "failed", "Hel", kinds=ANTHROPIC, says=("Broke down",),
    ),
    Row(
        "error of OpenAI's form", ["Hel", event({"error": {"message": "Broke down"}})],
        ServerError, "failed", "Hel", kinds=ANTHROPIC, says=("Broke down",),
    ),
    Row(
        "answer of OpenAI's form",
        answer(event({"choices": [{"delta": {"content": "Hello"}}]}), event("[DONE]")),
        MalformedStream, "failed", kinds=ANTHROPIC, says=("JSON",),
    ),
]  # fmt: skip

SHAPES = {
    "an array": event([1, 2]),
    "a string": event('"Hello"'),
    "a number": event("42"),
    "null": event("null"),
    "message_start without a message": event({"type": "message_start"}),
    "a message that is a string": event({"type": "message_start", "message": "Hello"}),
    "a delta event without a delta": event(HEAD),
    "a delta that is null": grown(None),
    "a delta that is a string": grown("Hello"),
    "a delta without a type": grown({"text": "Hello"}),
    "text that is a number": said(42),
    "text that is null": said(None),
    "text that is an array": said(["Hello"]),
    "a thought that is a number": grown({"type": "thinking_delta", "thinking": 42}),
    "a delta event without an index": event({"type": HEAD["type"], "delta": {"type": "x"}}),
    "a block that is a string": start("Hello"),
    "a block without a type": start({"text": "Hello"}),
    "a block's text that is a number": start({"type": "text", "text": 42}),
    "a block's thought that is an array": start({"type": "thinking", "thinking": [42]}),
    "a tool call without an id": start({"type": "tool_use", "name": "look"}),
    "message_delta without a delta": event({"type": "message_delta", "usage": {}}),
}

WRONG = [
    Row(f"event of the wrong shape: {name}", ["Hel", step], MalformedStream, "failed", "Hel",
        kinds=ANTHROPIC)
    for name, step in SHAPES.items()
]  # fmt: skip

UNKNOWN = [
    event({"type": "news", "of": "tomorrow"}),
    event({}),
    event({"choices": []}),
    start({"type": "hologram", "text": "no"}, 7),
    start({"type": "redacted_thinking", "data": "no"}, 8),
    grown({"type": "hologram_delta", "text": "no"}),
    grown({"type": "signature_delta", "signature": "no"}),
    grown({"type": "citations_delta", "citation": {"cited_text": "no"}}),
]

ODD = [
    Row(
        "events without their names", Changed(lambda data: re.sub(rb"event: \w+\n", b"", data)),
        text=SAID, kinds=ANTHROPIC,
    ),
    Row(
        "events with their names only",
        Changed(lambda data: re.sub(rb'"type":"(message|content_block)_\w+",?', b"", data)),
        text=SAID, kinds=ANTHROPIC,
    ),
    Row(
        "pings everywhere", [each for word in WORDS for each in (PING, word, PING)], text=SAID,
        kinds=ANTHROPIC,
    ),
    Row(
        "unknown events, blocks and deltas",
        [*UNKNOWN, *(each for word in WORDS for each in (word, *UNKNOWN))], text=SAID,
        kinds=ANTHROPIC,
    ),
    Row("deltas alone", answer(said("Hel"), said("lo"), done()), text="Hello", kinds=ANTHROPIC),
    Row(
        "text in the start of its block", [start({"type": "text", "text": "Hel"}), said("lo")],
        text="Hello", kinds=ANTHROPIC,
    ),
    Row(
        "text in two blocks", [said("Hel"), STOP, start({"type": "text", "text": ""}, 1),
                               said("lo", index=1)],
        text="Hello", kinds=ANTHROPIC,
    ),
    Row(
        "lone surrogate at the end of a block", [said("a\ud83d"), STOP, said("b", index=1)],
        text="a\ufffdb", kinds=ANTHROPIC,
    ),
    Row("thoughts before the text", [reasoning("Hm"), "Hello"], text="Hello", kinds=ANTHROPIC),
    Row(
        "null usage and null stop reason", answer(
            event({"type": "message_start", "message": {"usage": None, "model": None}}),
            said("Hello"),
            event({"type": "message_delta", "delta": {"stop_reason": None}, "usage": None}), done(),
        ),
        text="Hello", kinds=ANTHROPIC, attributes={"finish_reason": None, "usage": None},
    ),
    Row(
        "unknown fields of a delta", [said("Hello", x=[None], y={}, error=None)], text="Hello",
        kinds=ANTHROPIC,
    ),
    *(
        Row(f"stop reason {reason}", [*WORDS, finish(reason)], text=SAID, kinds=ANTHROPIC,
            attributes={"finish_reason": reason})
        for reason in ("max_tokens", "stop_sequence", "refusal", "pause_turn")
    ),
]  # fmt: skip

OWN = [*ENDS, *ERRORS, *WRONG, *ODD]
