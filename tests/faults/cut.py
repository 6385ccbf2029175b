"""Rows for answers that are interrupted, stall or never end."""

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

from .row import ALL, BOTH, CHUNKS, DONE_ONLY, EVENTS, MARKED, OPENAI, PLAIN, SSE, TLS, Row

GOOD = answer("Hel", "lo")
FIRST_TOKEN = Timeouts(connect=2, first_token=0.3, idle=2, total=4)
IDLE = Timeouts(connect=2, first_token=2, idle=0.3, total=4)
TOTAL = Timeouts(connect=2, first_token=2, idle=0.3, total=0.6)

BROKEN = [
    Row(
        "cut inside an event", ["Hel", part("lo"), cut()], StreamCut, "cut", "Hel",
        kinds=EVENTS, schemes=BOTH,
    ),
    Row("cut between events", ["Hel", cut()], StreamCut, "cut", "Hel", kinds=ALL, schemes=BOTH),
    Row(
        "cut in a chunk size line", ["Hel", wire(b"1f"), cut()], StreamCut, "cut", "Hel",
        schemes=BOTH,
    ),
    Row(
        "cut in a chunk size line, after a 0", ["Hel", wire(b"0"), cut()],
        StreamCut, "cut", "Hel", schemes=BOTH,
    ),
    Row(
        "cut after a chunk size line", ["Hel", wire(b"1f\r\n"), cut()], StreamCut, "cut", "Hel",
    ),
    *(
        Row(
            f"invalid chunk size, {size or 'empty'}",
            ["Hel", wire(size.encode() + b"\r\n" + b"x" * 16 + b"\r\n")],
            StreamCut, "cut", "Hel",
        )
        for size in ("zz", "+10", "0x10", "1_0", "")
    ),
    Row("chunk longer than its size", ["Hel", wire(b"1\r\nxyz\r\n")], StreamCut, "cut",
        re.compile("Helx?")),
    Row("text after the last chunk", ["Hel", wire(b"0\r\nlo\r\n\r\n")], StreamCut, "cut", "Hel"),
    Row(
        "endless chunk size line",
        ["Hel", wire(b"5;" + b"x" * 200_000), stall()], StreamCut, "cut", "Hel",
    ),
    Row(
        "endless trailer line",
        ["Hel", wire(b"0\r\nX: " + b"x" * 200_000), stall()], StreamCut, "cut", "Hel",
    ),
    Row(
        "endless trailers", ["Hel", wire(b"0\r\n"), repeat(wire(b"X-Pad: 1\r\n" * 100))],
        StreamCut, "cut", "Hel",
    ),
    Row("reset in the middle", ["Hel", reset()], StreamCut, "cut", "Hel", schemes=BOTH),
    *(
        Row(
            f"reset in the middle of a body delimited by {name}",
            answer("Hel", reset(), framing=framing, length=10_000), StreamCut, "cut", "Hel",
            schemes=BOTH,
        )
        for framing, name in (("close", "connection close"), ("length", "Content-Length"))
    ),
    Row(
        "fewer bytes than Content-Length", answer("Hel", cut(), framing="length", length=10_000),
        StreamCut, "cut", "Hel", schemes=BOTH,
    ),
    Row(
        "cut inside a large chunk", answer("Hel", cut(), framing="one-chunk", length=10_000),
        StreamCut, "cut", "Hel", schemes=BOTH,
    ),
    Row(
        "fewer bytes than Content-Length, but the end marker arrived",
        answer("Hello", finish(), done(), cut(), framing="length", length=10_000),
        text="Hello", kinds=EVENTS, schemes=BOTH,
    ),
    Row(
        "reset after the end marker", ["Hello", finish(), done(), reset()], text="Hello",
        kinds=EVENTS, schemes=BOTH,
    ),
    Row(
        "reset after the finish reason", ["Hello", finish(), pause(0.05), reset()], text="Hello",
        kinds=CHUNKS, schemes=BOTH, attributes={"finish_reason": "stop"},
    ),
    Row(
        "cut before the first event in every attempt", cut(), StreamCut, "cut", requests=3,
        schemes=BOTH,
    ),
    Row(
        "reset before the first event in every attempt", [pause(0.02), reset()], StreamCut, "cut",
        requests=3, schemes=BOTH,
    ),
    Row(
        "cut before the first event, then a good answer", [answer(cut()), GOOD], text="Hello",
        requests=2, schemes=BOTH,
    ),
    Row(
        "cut inside the first event, then a good answer",
        [answer(part("lo"), cut()), GOOD], text="Hello", requests=2, kinds=EVENTS,
    ),
    Row(
        "finish reason and overload, then a cut answer",
        [answer(finish(), error("Overloaded", "overloaded_error")), answer("Hel", cut())],
        StreamCut, "cut", "Hel", requests=2, kinds=SSE,
    ),
    Row(
        "cut before the first event, then cut after it", [answer(cut()), answer("Hel", cut())],
        StreamCut, "cut", "Hel", requests=2, schemes=BOTH,
    ),
    Row(
        "incomplete UTF-8 character at the end", answer("Hel", raw(b"\xe2\x82"), end=False),
        StreamCut, "cut", "Hel", schemes=BOTH,
    ),
    Row(
        "incomplete UTF-8 character when the connection closes",
        answer("Hel", raw(b"\xe2\x82"), cut(), framing="close"),
        StreamCut, "cut", "Hel", kinds=PLAIN, schemes=BOTH,
    ),
]  # fmt: skip

CLEAN = [
    Row(
        "clean end without an end marker", answer("Hello", end=False), StreamTruncated, "truncated",
        "Hello", kinds=EVENTS, schemes=BOTH,
    ),
    Row(
        "clean end in a protocol without an end marker", answer("Hello", end=False),
        text="Hello", kinds=PLAIN, schemes=BOTH,
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
        StreamTruncated, "truncated", "Hello", kinds=EVENTS,
    ),
    Row(
        "clean end before the empty line of the end marker",
        answer("Hel", part(done(), -1), end=False), text="Hel", kinds=EVENTS,
    ),
    Row(
        "body delimited by connection close, without an end marker",
        answer("Hello", end=False, framing="close"), StreamTruncated, "truncated", "Hello",
        kinds=EVENTS, schemes=BOTH,
    ),
    Row(
        "plain text delimited by connection close",
        answer("Hello", framing="close"), text="Hello", kinds=PLAIN,
        schemes=BOTH,
    ),
    Row(
        "body delimited by connection close, without close_notify",
        answer("Hello", cut(), framing="close"), StreamCut, "cut", "Hello", schemes=TLS,
    ),
    Row(
        "clean end with a finish reason only", answer("Hello", finish("stop"), end=False),
        text="Hello", kinds=CHUNKS, schemes=BOTH, attributes={"finish_reason": "stop"},
    ),
    Row(
        "clean end with the end marker only", answer("Hello", done()), text="Hello",
        kinds=DONE_ONLY, schemes=BOTH, attributes={"finish_reason": None},
    ),
    Row(
        "end marker without text", answer(done()), StreamTruncated, "truncated",
        kinds=DONE_ONLY, requests=3,
    ),
    *(
        Row(
            f"gzip without its trailer, {name}",
            answer("Hello", framing=framing, gzip=True, trailer=False, end=False),
            StreamCut, "cut", "Hello", schemes=BOTH if framing == "close" else ("http",),
        )
        for framing, name in (
            ("chunked", "chunked"), ("close", "delimited by connection close"),
            ("length", "with Content-Length"),
        )
    ),
    Row(
        "gzip without its trailer after the end marker",
        answer("Hello", gzip=True, trailer=False), text="Hello", kinds=EVENTS,
    ),
    Row(
        "gzip cut in the middle", answer("Hel", "lo", cut(), gzip=True), StreamCut, "cut", "Hello",
        schemes=BOTH,
    ),
    Row(
        "gzip corrupted in the middle",
        answer("Hel", wire(b"4\r\n\xff\xff\xff\xff\r\n"), "lo", gzip=True),
        MalformedStream, "failed", "Hel",
    ),
]  # fmt: skip

SILENT = [
    Row(
        "server silent before the first event", stall(), APITimeoutError, "stalled",
        timeouts=FIRST_TOKEN, clock="first_token", schemes=BOTH,
    ),
    Row(
        "server silent in the middle", ["Hel", stall()], APITimeoutError, "stalled", "Hel",
        timeouts=IDLE, clock="idle", schemes=BOTH,
    ),
    Row(
        "server silent inside an event", ["Hel", part("lo"), stall()],
        APITimeoutError, "stalled", "Hel", timeouts=IDLE, clock="idle", kinds=EVENTS,
    ),
    Row(
        "server silent inside a character", ["Hel", raw(b"\xe2\x82"), stall()],
        APITimeoutError, "stalled", "Hel", timeouts=IDLE, clock="idle", kinds=PLAIN,
    ),
    Row(
        "server silent in the middle, shorter total timeout", ["Hel", stall()],
        APITimeoutError, "deadline", "Hel", timeouts=Timeouts(2, 2, 2, 0.4), clock="total",
    ),
    Row(
        "server silent after the end marker, connection open", ["Hello", done(), stall()],
        text="Hello", kinds=MARKED, schemes=BOTH,
    ),
    Row(
        "server silent after a finish reason, connection open", ["Hello", finish(), stall()],
        text="Hello", kinds=CHUNKS, timeouts=IDLE, takes=0.3,
        attributes={"finish_reason": "stop"},
    ),
    Row(
        "server silent inside the last chunk", ["Hello", wire(b"0\r\n"), stall()],
        APITimeoutError, "stalled", "Hello", timeouts=IDLE, clock="idle", kinds=PLAIN,
    ),
]  # fmt: skip

SLOW = [
    Row(
        "endless comment, byte by byte", ["Hel", repeat(drip(b": no end", every=0.05))],
        APITimeoutError, "deadline", "Hel", timeouts=TOTAL, clock="total", kinds=EVENTS,
        schemes=BOTH,
    ),
    Row(
        "endless text, byte by byte", ["Hel", repeat(drip(b"x", every=0.05))],
        APITimeoutError, "deadline", re.compile("Helx{4,13}"), timeouts=TOTAL, clock="total",
        kinds=PLAIN, schemes=BOTH,
    ),
    Row(
        "endless first line, byte by byte", repeat(drip(b"data: no end", every=0.05)),
        APITimeoutError, "stalled", timeouts=FIRST_TOKEN, clock="first_token", kinds=EVENTS,
        schemes=BOTH,
    ),
    Row(
        "endless text in one chunk, byte by byte",
        answer("Hel", repeat(drip(b"x", every=0.05)), framing="one-chunk"),
        APITimeoutError, "deadline", re.compile("Helx{4,13}"), timeouts=TOTAL, clock="total",
        kinds=PLAIN,
    ),
    Row(
        "endless keep-alives before the first event", ping(0.05), APITimeoutError, "stalled",
        timeouts=FIRST_TOKEN, clock="first_token", kinds=EVENTS, schemes=BOTH,
    ),
    Row(
        "endless keep-alives after the first event", ["Hel", ping(0.05)],
        APITimeoutError, "deadline", "Hel", timeouts=TOTAL, clock="total", kinds=EVENTS,
        schemes=BOTH,
    ),
    Row(
        "endless empty deltas before the first event",
        repeat(text(""), pause(0.05)), APITimeoutError, "stalled",
        timeouts=FIRST_TOKEN, clock="first_token", kinds=EVENTS,
    ),
    Row(
        "endless keep-alives after a finish reason", ["Hello", finish(), ping(0.05)],
        text="Hello", timeouts=TOTAL, takes=0.6, kinds=CHUNKS,
    ),
    Row(
        "endless comments at full speed", ["Hel", repeat(b": ping\n\n" * 1000)],
        APITimeoutError, "deadline", "Hel", timeouts=TOTAL, clock="total", kinds=OPENAI,
    ),
    Row(
        "endless text at full speed", ["Hel", repeat(text("x" * 1000))],
        APITimeoutError, "deadline", re.compile("Helx+"), timeouts=TOTAL, clock="total",
    ),
    Row(
        "pauses shorter than the idle timeout",
        ["Hel", pause(0.2), comment(), pause(0.2), "lo"], text="Hello",
        timeouts=IDLE, takes=0.4, kinds=EVENTS,
    ),
    Row(
        "pause before the first text, longer than the idle timeout", [pause(0.5), "Hello"],
        text="Hello", timeouts=IDLE, takes=0.5, kinds=EVENTS,
    ),
]  # fmt: skip

CUT = [*BROKEN, *CLEAN, *SILENT, *SLOW]
