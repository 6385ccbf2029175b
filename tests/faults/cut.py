"""Answers that break off, fall silent or never end."""

from __future__ import annotations

import re

from providers_sync import APITimeoutError, MalformedStream, StreamCut, StreamTruncated, Timeouts
from providers_sync.testing import (
    answer,
    comment,
    cut,
    done,
    drip,
    error,
    finish,
    part,
    pause,
    ping,
    raw,
    repeat,
    reset,
    stall,
    text,
    wire,
)

from .row import ALL, BOTH, CHUNKS, EVENTS, OPENAI, PLAIN, TLS, Row

GOOD = answer("Hel", "lo")
FIRST_TOKEN = Timeouts(connect=2, first_token=0.3, idle=2, total=4)
IDLE = Timeouts(connect=2, first_token=2, idle=0.3, total=4)
TOTAL = Timeouts(connect=2, first_token=2, idle=0.3, total=0.6)

BROKEN = [
    Row(
        "cut inside an event", ["Hel", part("lo"), cut()], StreamCut, "cut", "Hel",
        kinds=EVENTS, wires=BOTH,
    ),
    Row("cut between events", ["Hel", cut()], StreamCut, "cut", "Hel", kinds=ALL, wires=BOTH),
    Row(
        "cut in a chunk size line", ["Hel", wire(b"1f"), cut()], StreamCut, "cut", "Hel",
        wires=BOTH,
    ),
    Row(
        "cut in a chunk size line, after a zero", ["Hel", wire(b"0"), cut()],
        StreamCut, "cut", "Hel", wires=BOTH,
    ),
    Row(
        "cut after the size of a chunk", ["Hel", wire(b"1f\r\n"), cut()], StreamCut, "cut", "Hel",
    ),
    Row(
        "junk in place of a chunk size", ["Hel", wire(b"zz\r\n"), cut()], StreamCut, "cut", "Hel",
    ),
    Row(
        "chunk size line without an end",
        ["Hel", wire(b"5;" + b"x" * 200_000), stall()], StreamCut, "cut", "Hel",
    ),
    Row(
        "trailer line without an end",
        ["Hel", wire(b"0\r\nX: " + b"x" * 200_000), stall()], StreamCut, "cut", "Hel",
    ),
    Row(
        "trailers for ever", ["Hel", wire(b"0\r\n"), repeat(wire(b"X-Pad: 1\r\n" * 100))],
        StreamCut, "cut", "Hel",
    ),
    Row("reset in the middle", ["Hel", reset()], StreamCut, "cut", "Hel", wires=BOTH),
    *(
        Row(
            f"reset in the middle of a body framed by {name}",
            answer("Hel", reset(), framing=framing, length=10_000), StreamCut, "cut", "Hel",
            wires=BOTH,
        )
        for framing, name in (("close", "the connection"), ("length", "its length"))
    ),
    Row(
        "short Content-Length", answer("Hel", cut(), framing="length", length=10_000),
        StreamCut, "cut", "Hel", wires=BOTH,
    ),
    Row(
        "cut inside one big chunk", answer("Hel", cut(), framing="one-chunk", length=10_000),
        StreamCut, "cut", "Hel", wires=BOTH,
    ),
    Row(
        "short Content-Length after the end marker",
        answer("Hello", finish(), done(), cut(), framing="length", length=10_000),
        text="Hello", kinds=EVENTS, wires=BOTH,
    ),
    Row(
        "reset after the end marker", ["Hello", finish(), done(), reset()], text="Hello",
        kinds=EVENTS, wires=BOTH,
    ),
    Row(
        "reset after the finish reason", ["Hello", finish(), pause(0.05), reset()], text="Hello",
        kinds=CHUNKS, wires=BOTH, attributes={"finish_reason": "stop"},
    ),
    Row(
        "cut before the first event, for ever", cut(), StreamCut, "cut", requests=3, wires=BOTH,
    ),
    Row(
        "reset before the first event, for ever", [pause(0.02), reset()], StreamCut, "cut",
        requests=3, wires=BOTH,
    ),
    Row(
        "cut before the first event, then a good answer", [answer(cut()), GOOD], text="Hello",
        requests=2, wires=BOTH,
    ),
    Row(
        "cut inside the first event, then a good answer",
        [answer(part("lo"), cut()), GOOD], text="Hello", requests=2, kinds=EVENTS,
    ),
    Row(
        "finish reason and overload, then a cut answer",
        [answer(finish(), error("Overloaded", "overloaded_error")), answer("Hel", cut())],
        StreamCut, "cut", "Hel", requests=2, kinds=EVENTS,
    ),
    Row(
        "cut before the first event, then cut after it", [answer(cut()), answer("Hel", cut())],
        StreamCut, "cut", "Hel", requests=2, wires=BOTH,
    ),
    Row(
        "half a character at the end", answer("Hel", raw(b"\xe2\x82"), end=False),
        StreamCut, "cut", "Hel", wires=BOTH,
    ),
    Row(
        "half a character when the connection closes",
        answer("Hel", raw(b"\xe2\x82"), cut(), framing="close"),
        StreamCut, "cut", "Hel", kinds=PLAIN, wires=BOTH,
    ),
]  # fmt: skip

CLEAN = [
    Row(
        "clean end without an end marker", answer("Hello", end=False), StreamTruncated, "truncated",
        "Hello", kinds=EVENTS, wires=BOTH,
    ),
    Row(
        "clean end of a protocol without an end marker", answer("Hello", end=False),
        text="Hello", kinds=PLAIN, wires=BOTH,
    ),
    Row(
        "clean end after half a surrogate pair", answer("Hel", "lo\ud83d", end=False),
        StreamTruncated, "truncated", "Hello\ufffd", kinds=EVENTS,
    ),
    Row(
        "clean end inside an event", answer("Hel", part("lo"), end=False),
        StreamTruncated, "truncated", "Hel", kinds=EVENTS,
    ),
    Row(
        "clean end before the empty line of the last event",
        answer("Hel", part("lo", -1), end=False),
        StreamTruncated, "truncated", "Hel", kinds=EVENTS,
    ),
    Row(
        "clean end before the empty line of the end marker",
        answer("Hel", part(done(), -1), end=False),
        StreamTruncated, "truncated", "Hel", kinds=EVENTS,
    ),
    Row(
        "connection closed, which is the framing, without an end marker",
        answer("Hello", end=False, framing="close"), StreamTruncated, "truncated", "Hello",
        kinds=EVENTS, wires=BOTH,
    ),
    Row(
        "connection closed, which is the framing of plain text",
        answer("Hello", framing="close"), text="Hello", kinds=PLAIN,
        wires=BOTH,
    ),
    Row(
        "connection closed without close_notify, which is the framing",
        answer("Hello", cut(), framing="close"), StreamCut, "cut", "Hello", wires=TLS,
    ),
    Row(
        "clean end with a finish reason only", answer("Hello", finish("stop"), end=False),
        text="Hello", kinds=CHUNKS, wires=BOTH, attributes={"finish_reason": "stop"},
    ),
    Row(
        "clean end with the end marker only", answer("Hello", done()), text="Hello",
        kinds=EVENTS, wires=BOTH, attributes={"finish_reason": None},
    ),
    Row(
        "end marker and no text", answer(done()), text="", kinds=EVENTS,
    ),
    *(
        Row(
            f"gzip without its trailer, framed by {framing}",
            answer("Hello", framing=framing, gzip=True, trailer=False, end=False),
            StreamCut, "cut", "Hello", wires=BOTH if framing == "close" else ("http",),
        )
        for framing in ("chunked", "close", "length")
    ),
    Row(
        "gzip without its trailer after the end marker",
        answer("Hello", gzip=True, trailer=False), text="Hello", kinds=EVENTS,
    ),
    Row(
        "gzip cut in the middle", answer("Hel", "lo", cut(), gzip=True), StreamCut, "cut", "Hello",
        wires=BOTH,
    ),
    Row(
        "gzip damaged in the middle",
        answer("Hel", wire(b"4\r\n\xff\xff\xff\xff\r\n"), "lo", gzip=True),
        MalformedStream, "failed", "Hel",
    ),
]  # fmt: skip

SILENT = [
    Row(
        "silence before the first event", stall(), APITimeoutError, "stalled",
        timeouts=FIRST_TOKEN, clock="first_token", wires=BOTH,
    ),
    Row(
        "silence in the middle", ["Hel", stall()], APITimeoutError, "stalled", "Hel",
        timeouts=IDLE, clock="idle", wires=BOTH,
    ),
    Row(
        "silence inside an event", ["Hel", part("lo"), stall()], APITimeoutError, "stalled", "Hel",
        timeouts=IDLE, clock="idle", kinds=EVENTS,
    ),
    Row(
        "silence inside a character", ["Hel", raw(b"\xe2\x82"), stall()],
        APITimeoutError, "stalled", "Hel", timeouts=IDLE, clock="idle", kinds=PLAIN,
    ),
    Row(
        "silence in the middle and the total clock is shorter", ["Hel", stall()],
        APITimeoutError, "deadline", "Hel", timeouts=Timeouts(2, 2, 2, 0.4), clock="total",
    ),
    Row(
        "silence after the end marker with the connection open", ["Hello", done(), stall()],
        text="Hello", kinds=EVENTS, wires=BOTH,
    ),
    Row(
        "silence after a finish reason with the connection open", ["Hello", finish(), stall()],
        text="Hello", kinds=CHUNKS, timeouts=IDLE, takes=0.3,
        attributes={"finish_reason": "stop"},
    ),
    Row(
        "silence after the zero chunk's size", ["Hello", wire(b"0\r\n"), stall()],
        APITimeoutError, "stalled", "Hello", timeouts=IDLE, clock="idle", kinds=PLAIN,
    ),
]  # fmt: skip

SLOW = [
    Row(
        "dripped bytes for ever", ["Hel", repeat(drip(b": no end", every=0.05))],
        APITimeoutError, "deadline", "Hel", timeouts=TOTAL, clock="total", kinds=EVENTS, wires=BOTH,
    ),
    Row(
        "dripped text for ever", ["Hel", repeat(drip(b"x", every=0.05))],
        APITimeoutError, "deadline", re.compile("Helx{4,13}"), timeouts=TOTAL, clock="total",
        kinds=PLAIN, wires=BOTH,
    ),
    Row(
        "dripped bytes for ever before the first event", repeat(drip(b"data: no end", every=0.05)),
        APITimeoutError, "stalled", timeouts=FIRST_TOKEN, clock="first_token", kinds=EVENTS,
        wires=BOTH,
    ),
    Row(
        "one chunk's bytes dripped for ever",
        answer("Hel", repeat(drip(b"x", every=0.05)), framing="one-chunk"),
        APITimeoutError, "deadline", re.compile("Helx{4,13}"), timeouts=TOTAL, clock="total",
        kinds=PLAIN,
    ),
    Row(
        "keep-alives for ever before the first event", ping(0.05), APITimeoutError, "stalled",
        timeouts=FIRST_TOKEN, clock="first_token", kinds=EVENTS, wires=BOTH,
    ),
    Row(
        "keep-alives for ever after the first event", ["Hel", ping(0.05)],
        APITimeoutError, "deadline", "Hel", timeouts=TOTAL, clock="total", kinds=EVENTS, wires=BOTH,
    ),
    Row(
        "empty deltas for ever before the first event",
        repeat(text(""), pause(0.05)), APITimeoutError, "stalled",
        timeouts=FIRST_TOKEN, clock="first_token", kinds=EVENTS,
    ),
    Row(
        "keep-alives for ever after a finish reason", ["Hello", finish(), ping(0.05)],
        text="Hello", timeouts=TOTAL, takes=0.6, kinds=CHUNKS,
    ),
    Row(
        "comments at full speed for ever", ["Hel", repeat(b": ping\n\n" * 1000)],
        APITimeoutError, "deadline", "Hel", timeouts=TOTAL, clock="total", kinds=OPENAI,
    ),
    Row(
        "text at full speed for ever", ["Hel", repeat(text("x" * 1000))],
        APITimeoutError, "deadline", re.compile("Helx+"), timeouts=TOTAL, clock="total",
    ),
    Row(
        "pauses shorter than the idle clock",
        ["Hel", pause(0.2), comment(), pause(0.2), "lo"], text="Hello",
        timeouts=IDLE, takes=0.4, kinds=EVENTS,
    ),
    Row(
        "slow first word, slower than the idle clock", [pause(0.5), "Hello"], text="Hello",
        timeouts=IDLE, takes=0.5, kinds=EVENTS,
    ),
]  # fmt: skip

CUT = [*BROKEN, *CLEAN, *SILENT, *SLOW]
