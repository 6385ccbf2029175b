"""``FAULTS``: canned faults by name, for tests and for trying an app by hand."""

from __future__ import annotations

from typing import Any

from .answers import Fault, answer, empty, html, redirect, status, whole
from .steps import (
    cut,
    done,
    drip,
    error,
    finish,
    garbage,
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

GOOD = (text("Hello"), text(", "), text("world"), text("!"))
SOME_TEXT = GOOD[:2]
BLOCK = 64 * 1024

_BEFORE: dict[str, tuple[str, Any]] = {
    "silent": (
        "accepts the connection and sends nothing, not even TLS",
        answer(connect=[stall()]),
    ),
    "hang-up": ("closes the connection as soon as it is accepted", answer(connect=[cut()])),
    "connect-reset": ("resets the connection as soon as it is accepted", answer(connect=[reset()])),
}

_HEADERS: dict[str, tuple[str, Any]] = {
    "headers-never": ("reads the request and never answers", answer(before=[stall()])),
    "headers-drip": (
        "sends header after header forever, a byte every 50 ms",
        answer(inside=[repeat(drip(b"X-Pad: 1\r\n"))]),
    ),
    "headers-cut": (
        "closes the connection inside a header line",
        answer(inside=[wire(b"X-Half: o"), cut()]),
    ),
    "headers-reset": ("resets the connection instead of answering", answer(before=[reset()])),
}

_STATUS: dict[str, tuple[str, Any]] = {
    "400": ("answers 400 with the protocol's error body", status(400, "messages is missing")),
    "401": ("answers 401: wrong key", status(401, "Incorrect API key")),
    "403": ("answers 403: not allowed", status(403, "Not allowed in your region")),
    "404": ("answers 404: no such model", status(404, "The model does not exist")),
    "408": ("answers 408: the request took too long", status(408, "Request timeout")),
    "409": ("answers 409: a conflict", status(409, "Conflict")),
    "413": ("answers 413: the prompt is too large", status(413, "Request too large")),
    "422": ("answers 422: the body is invalid", status(422, "Unprocessable")),
    "429": (
        "answers every request with 429 and Retry-After: 1",
        status(429, "Slow down", headers={"Retry-After": "1"}),
    ),
    "429-then-good": (
        "answers 429 with Retry-After: 0.2 once, then normally",
        [status(429, "Slow down", headers={"Retry-After": "0.2"}), answer(*GOOD)],
    ),
    "429-for-an-hour": (
        "answers 429 with Retry-After: 3600",
        status(429, "Quota used up", headers={"Retry-After": "3600"}),
    ),
    "500": ("answers every request with 500", status(500, "Internal error")),
    "500-then-good": ("answers 500 once, then normally", [status(500), answer(*GOOD)]),
    "503": ("answers every request with 503", status(503, "Service unavailable")),
    "503-then-good": ("answers 503 once, then normally", [status(503), answer(*GOOD)]),
    "529": ("answers every request with 529: overloaded", status(529, "Overloaded")),
    "endless-error": (
        "answers 500 with a body that never ends",
        answer(repeat(b"sorry ", pause(0.01)), status=500, content_type="text/plain"),
    ),
    "redirect": ("redirects the client to another host", redirect("http://elsewhere.example/")),
}

_WRONG: dict[str, tuple[str, Any]] = {
    "html": ("answers 200 with a web page", html()),
    "html-hidden": (
        "answers 200 with a web page and no content type",
        answer(b"<!doctype html><title>Sign in</title>", content_type=None, end=False),
    ),
    "whole-json": ("answers with one JSON document instead of a stream", whole("Hello, world!")),
    "empty": ("answers 200 with an empty body", empty()),
    "garbage": ("sends broken JSON (or broken UTF-8) after some text", [*SOME_TEXT, garbage()]),
    "garbage-first": ("sends broken JSON (or broken UTF-8) first", [garbage()]),
    "wrong-shape": (
        "sends events of valid JSON with the wrong structure",
        [raw(b'data: [1, 2]\n\ndata: {"choices": 7}\n\n')],
    ),
    "deep-json": (
        "sends an event of JSON nested 100,000 deep",
        [
            b"data: ",
            repeat(b"[" * 1000, times=100),
            repeat(b"]" * 1000, times=100),
            b"\n\n",
        ],
    ),
    "long-line": (
        "sends 20 MB in one event, then the end",
        [b'data: "', repeat(b"x" * BLOCK, times=320), b'"\n\n'],
    ),
    "many-lines": (
        "sends an event of 100,000 lines",
        [repeat(b"data: x\n" * 1000, times=100), b"\n"],
    ),
    "endless-line": ("sends a line that never ends", [b"data: ", repeat(b"x" * BLOCK)]),
    "gzip-bomb": (
        "sends zeros forever, compressed a thousand times",
        answer(b"data: ", repeat(bytes(BLOCK)), gzip=True),
    ),
    "error-event": ("reports an error after some text (event streams)", [*SOME_TEXT, error()]),
    "error-first": ("reports an error as the first event (event streams)", [error()]),
    "overload": (
        "reports an overload as the first event (event streams)",
        [error("Overloaded", "overloaded_error")],
    ),
    "overload-later": (
        "reports an overload after some text (event streams)",
        [*SOME_TEXT, error("Overloaded", "overloaded_error")],
    ),
}

_CUT: dict[str, tuple[str, Any]] = {
    "cut": ("closes the connection after some text", [*SOME_TEXT, cut()]),
    "cut-first": ("closes the connection after the headers", [cut()]),
    "cut-in-event": ("closes the connection inside an event", [*SOME_TEXT, part("world"), cut()]),
    "cut-in-chunk": ("closes the connection inside a chunk size", [*SOME_TEXT, wire(b"1f"), cut()]),
    "reset": ("resets the connection after some text", [*SOME_TEXT, reset()]),
    "truncated": ("ends cleanly without an end marker", answer(*SOME_TEXT, end=False)),
    "no-done": ("ends with a finish reason only", answer(*GOOD, finish(), end=False)),
    "no-finish": ("ends with the end marker only", [*GOOD, done()]),
    "short": (
        "sends fewer bytes than its Content-Length",
        answer(*SOME_TEXT, cut(), framing="length"),
    ),
    "gzip-cut": (
        "ends cleanly inside a gzip stream",
        answer(*SOME_TEXT, framing="close", gzip=True, trailer=False, end=False),
    ),
    "half-character": (
        "ends cleanly inside a character",
        answer(*SOME_TEXT, part("é", b"\xc3"), end=False),
    ),
}

_SLOW: dict[str, tuple[str, Any]] = {
    "slow": (
        "pauses a second before each chunk of text",
        [each for t in GOOD for each in (pause(1), t)],
    ),
    "drip": ("sends a good answer byte by byte, 100 a second", [drip(t, every=0.01) for t in GOOD]),
    "stall": ("sends nothing more after some text", [*SOME_TEXT, stall()]),
    "stall-first": ("sends nothing after the headers", [stall()]),
    "stall-after-done": (
        "keeps the connection open after the end marker",
        [*GOOD, finish(), done(), stall()],
    ),
    "trickle": (
        "sends some text, then an empty line every second forever",
        [*SOME_TEXT, repeat(b"\n", pause(1))],
    ),
    "keep-alive-forever": ("sends nothing but keep-alives, forever (event streams)", [ping(1)]),
    "keep-alive-later": (
        "sends some text, then keep-alives forever (event streams)",
        [*SOME_TEXT, ping(1)],
    ),
    "fast-forever": (
        "sends text forever, as fast as it is read",
        [repeat(text("All work and no play. "))],
    ),
}

FAULTS: dict[str, Fault] = {
    name: Fault(name, about, script)
    for name, (about, script) in {
        "good": ("answers normally, in four chunks", GOOD),
        **_BEFORE,
        **_HEADERS,
        **_STATUS,
        **_WRONG,
        **_CUT,
        **_SLOW,
    }.items()
}
"""Every canned fault by name: ``serve(FAULTS["cut"])``, ``FAULTS["cut"].about``."""
