"""Rows for Anthropic's protocol only: its event types and its single end marker."""

from __future__ import annotations

import re
from typing import Any

from providers_sync import (
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

from .odd import FULL, WORDS, Modified
from .row import ANTHROPIC, BOTH, Row

GOOD = answer("Hel", "lo")
IDLE = Timeouts(connect=2, first_token=2, idle=0.3, total=4)
TOTAL = Timeouts(connect=2, first_token=2, idle=0.3, total=0.6)
PING = ping(0, times=1)
STOP = event({"type": "content_block_stop", "index": 0})
HEAD = {"type": "content_block_delta", "index": 0}


def block_start(block: Any, index: int = 0) -> Any:
    return event({"type": "content_block_start", "index": index, "content_block": block})


def delta_event(delta: Any, **rest: Any) -> Any:
    return event({**HEAD, "delta": delta, **rest})


def text_delta(text: Any, **rest: Any) -> Any:
    return delta_event({"type": "text_delta", "text": text}, **rest)


ENDS = [
    Row(
        "clean end with a stop reason only", answer("Hello", finish(), end=False),
        text="Hello", kinds=ANTHROPIC, schemes=BOTH,
    ),
    Row(
        "reset after the stop reason", ["Hello", finish(), pause(0.05), reset()],
        text="Hello", kinds=ANTHROPIC, schemes=BOTH,
    ),
    Row(
        "server silent after the stop reason", ["Hello", finish(), stall()],
        text="Hello", kinds=ANTHROPIC, timeouts=IDLE, takes=0.3,
    ),
    Row(
        "endless pings after the stop reason", ["Hello", finish(), ping(0.05)],
        text="Hello", kinds=ANTHROPIC, timeouts=TOTAL, takes=0.3,
    ),
    Row("cut between two blocks", ["Hel", STOP, cut()], StreamCut, "cut", "Hel", kinds=ANTHROPIC),
    Row(
        "cut after message_start, then a good answer", [
            answer(event({"type": "message_start", "message": {}}), PING, cut()), GOOD
        ],
        text="Hello", requests=2, kinds=ANTHROPIC, schemes=BOTH,
    ),
    Row("cut after reasoning", [reasoning("Hm"), cut()], StreamCut, "cut", kinds=ANTHROPIC),
    Row(
        "cut inside a tool call", [tool_call("look", {"up": 1}), cut()],
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
        "error event without an event name",
        ["Hel", raw(b'data: {"type": "error", "error": {"message": "Broke down"}}\n\n')],
        ServerError, "failed", "Hel", kinds=ANTHROPIC, message=("Broke down",),
    ),
    Row(
        "error event with the event name only",
        ["Hel", raw(b'event: error\ndata: {"message": "Broke down"}\n\n')],
        ServerError, "failed", "Hel", kinds=ANTHROPIC, message=("Broke down",),
    ),
    Row(
        "error in OpenAI's format", ["Hel", event({"error": {"message": "Broke down"}})],
        ServerError, "failed", "Hel", kinds=ANTHROPIC, message=("Broke down",),
    ),
    Row(
        "answer in OpenAI's format",
        answer(event({"choices": [{"delta": {"content": "Hello"}}]}), event("[DONE]")),
        StreamTruncated, "truncated", kinds=ANTHROPIC, requests=3,
        message=("the server said", "Hello"),
    ),
]  # fmt: skip

SHAPES = {
    "an array": event([1, 2]),
    "a string": event('"Hello"'),
    "a number": event("42"),
    "message_start without a message": event({"type": "message_start"}),
    "a message that is a string": event({"type": "message_start", "message": "Hello"}),
    "a delta event without a delta": event(HEAD),
    "a delta that is null": delta_event(None),
    "a delta that is a string": delta_event("Hello"),
    "a delta without a type": delta_event({"text": "Hello"}),
    "text that is a number": text_delta(42),
    "text that is an array": text_delta(["Hello"]),
    "reasoning that is a number": delta_event({"type": "thinking_delta", "thinking": 42}),
    "a block that is a string": block_start("Hello"),
    "a block without a type": block_start({"text": "Hello"}),
    "text of a block that is a number": block_start({"type": "text", "text": 42}),
    "reasoning of a block that is an array": block_start({"type": "thinking", "thinking": [42]}),
}

WRONG = [
    Row(f"unexpected structure: {name}", ["Hel", step], MalformedStream, "failed", "Hel",
        kinds=ANTHROPIC)
    for name, step in SHAPES.items()
]  # fmt: skip

UNKNOWN = [
    event({"type": "news", "of": "tomorrow"}),
    event({}),
    event({"choices": []}),
    block_start({"type": "hologram", "text": "no"}, 7),
    block_start({"type": "redacted_thinking", "data": "no"}, 8),
    delta_event({"type": "hologram_delta", "text": "no"}),
    delta_event({"type": "signature_delta", "signature": "no"}),
    delta_event({"type": "citations_delta", "citation": {"cited_text": "no"}}),
]

ODD = [
    Row(
        "events without event names", Modified(lambda data: re.sub(rb"event: \w+\n", b"", data)),
        text=FULL, kinds=ANTHROPIC,
    ),
    Row(
        "events with the event names only",
        Modified(lambda data: re.sub(rb'"type":"(message|content_block)_\w+",?', b"", data)),
        text=FULL, kinds=ANTHROPIC,
    ),
    Row(
        "pings between all events", [each for word in WORDS for each in (PING, word, PING)],
        text=FULL, kinds=ANTHROPIC,
    ),
    Row(
        "unknown events, blocks and deltas",
        [*UNKNOWN, *(each for word in WORDS for each in (word, *UNKNOWN))], text=FULL,
        kinds=ANTHROPIC,
    ),
    Row(
        "deltas only", answer(text_delta("Hel"), text_delta("lo"), done()), text="Hello",
        kinds=ANTHROPIC,
    ),
    Row(
        "text in content_block_start",
        [block_start({"type": "text", "text": "Hel"}), text_delta("lo")],
        text="Hello", kinds=ANTHROPIC,
    ),
    Row(
        "text in two blocks",
        [text_delta("Hel"), STOP, block_start({"type": "text", "text": ""}, 1),
         text_delta("lo", index=1)],
        text="Hello", kinds=ANTHROPIC,
    ),
    Row(
        "lone surrogate at the end of a block",
        [text_delta("a\ud83d"), STOP, text_delta("b", index=1)],
        text="a\ufffdb", kinds=ANTHROPIC,
    ),
    Row("reasoning before the text", [reasoning("Hm"), "Hello"], text="Hello", kinds=ANTHROPIC),
    Row(
        "null usage and null stop reason", answer(
            event({"type": "message_start", "message": {"usage": None, "model": None}}),
            text_delta("Hello"),
            event({"type": "message_delta", "delta": {"stop_reason": None}, "usage": None}), done(),
        ),
        text="Hello", kinds=ANTHROPIC, attributes={"finish_reason": None, "usage": None},
    ),
    Row(
        "unknown fields in a delta", [text_delta("Hello", x=[None], y={}, error=None)],
        text="Hello", kinds=ANTHROPIC,
    ),
    *(
        Row(f"stop reason {reason}", [*WORDS, finish(reason)], text=FULL, kinds=ANTHROPIC,
            attributes={"finish_reason": reason})
        for reason in ("max_tokens", "stop_sequence", "refusal", "pause_turn")
    ),
]  # fmt: skip

ANTHROPIC_ROWS = [*ENDS, *ERRORS, *WRONG, *ODD]
