"""Rows for wrong answers with status 200: errors, unexpected content, too much data."""

from __future__ import annotations

from typing import Any

from providers_sync import MalformedStream, ServerError, StreamTruncated
from providers_sync.testing import (
    answer,
    comment,
    empty,
    error,
    event,
    garbage,
    html,
    json_body,
    raw,
    repeat,
    text,
    whole,
)

from .row import ALL, BOTH, CHUNKS, EVENTS, OPENAI, PLAIN, SSE, Row

GOOD = answer("Hel", "lo")
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
BLOCK = b"x" * 65_536
OVERLOAD = error("Overloaded", "overloaded_error")


def chunk(delta: Any, **rest: Any) -> Any:
    """Return an event with this ``delta``."""
    return event({"choices": [{"delta": delta, **rest}]})


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


PAGES = [
    Row("web page", html(), MalformedStream, "failed", opens=False, schemes=BOTH,
        message=("web page",)),
    Row("an answer with the type of a page",
        answer("Hello", content_type="text/html; charset=UTF-8"), text="Hello", kinds=EVENTS),
    Row(
        "web page without a content type", answer(PAGE, content_type=None, end=False),
        MalformedStream, "failed", message=("web page",),
    ),
    Row(
        "web page without a content type, byte by byte",
        answer(*(PAGE[i : i + 1] for i in range(len(PAGE))), content_type=None, end=False),
        MalformedStream, "failed", message=("web page",),
    ),
    Row(
        "image", answer(b"\x89PNG\r\n", content_type="image/png", end=False),
        MalformedStream, "failed", opens=False, message=("image/png",),
    ),
    Row("complete JSON instead of a stream", whole("Hello"), text="Hello", kinds=EVENTS),
    Row(
        "complete JSON instead of plain text",
        json_body({"choices": [{"message": {"content": "Hello"}}]}), outcome="complete",
        text="Hello", kinds=PLAIN,
    ),
    Row(
        "truncated JSON without Content-Length",
        answer(b'{"choices": [{"message": {"content": "Hel', content_type="application/json",
               framing="close", end=False),
        MalformedStream, "failed", kinds=SSE,
    ),
    Row(
        "JSON error object with status 200", json_body({"error": {"message": "No quota"}}),
        ServerError, "failed", message=("No quota",),
    ),
    Row("empty body", empty(), StreamTruncated, "truncated", requests=3, schemes=BOTH),
    Row(
        "empty body with Content-Length: 0", answer(end=False, framing="length"),
        StreamTruncated, "truncated", requests=3,
    ),
    Row(
        "empty body without a content type", answer(end=False, content_type=None),
        StreamTruncated, "truncated", requests=3,
    ),
    Row("empty body, then a good answer", [empty(), GOOD], text="Hello", requests=2),
    Row(
        "only comments", answer(b": hello\n\n: bye\n\n", end=False),
        StreamTruncated, "truncated", requests=3, kinds=EVENTS,
    ),
]  # fmt: skip

ERRORS = [
    Row(
        "server error as the first event in every attempt", error("Broke down"), ServerError,
        "failed", kinds=SSE, requests=3, message=("Broke down",),
    ),
    Row(
        "server error as the first event, then a good answer",
        [answer(error("Broke down")), GOOD], text="Hello", requests=2, kinds=SSE,
    ),
    Row(
        "invalid request as the first event", error("Too long", "invalid_request_error"),
        ServerError, "failed", kinds=SSE, message=("Too long",),
    ),
    Row(
        "exhausted quota as the first event", error("No credit", "insufficient_quota"),
        ServerError, "failed", kinds=SSE, message=("No credit", "add credit"),
    ),
    Row(
        "error in the middle", ["Hel", error("Broke down", "server_error")],
        ServerError, "failed", "Hel", kinds=SSE, schemes=BOTH, message=("Broke down",),
        attributes={"type": "server_error"},
    ),
    Row(
        "error with a code", ["Hel", error("Broke down", code="E42")], ServerError, "failed",
        "Hel", kinds=CHUNKS, attributes={"code": "E42"},
    ),
    Row(
        "error as a named event", ["Hel", event("Broke down", "error")],
        ServerError, "failed", "Hel", kinds=SSE, message=("Broke down",),
    ),
    Row(
        "error as a string", ["Hel", event({"error": "Broke down"})],
        ServerError, "failed", "Hel", kinds=EVENTS, message=("Broke down",),
    ),
    Row(
        "overload as the first event in every attempt", OVERLOAD, ServerError, "failed",
        kinds=SSE, requests=3, message=("Overloaded",), attributes={"type": "overloaded_error"},
    ),
    Row(
        "overload as the first event, then a good answer", [answer(OVERLOAD), GOOD],
        text="Hello", requests=2, kinds=SSE, schemes=BOTH,
    ),
    Row(
        "overload after a comment and no text, then a good answer",
        [answer(comment("hi"), text(""), OVERLOAD), GOOD],
        text="Hello", requests=2, kinds=SSE,
    ),
    Row(
        "overload in the middle", [answer("Hel", OVERLOAD), GOOD], ServerError, "failed", "Hel",
        kinds=SSE, message=("Overloaded",), attributes={"overloaded": True},
    ),
    Row(
        "rate limit as the first event, then a good answer",
        [answer(error("Slow down", "rate_limit_error")), GOOD],
        text="Hello", requests=2, kinds=SSE,
    ),
]  # fmt: skip

SHAPES = {
    "an array": event([1, 2]),
    "a string": event('"Hello"'),
    "a number": event("42"),
    "choices that are a number": event({"choices": 7}),
    "choices that are an object": event({"choices": {"delta": {"content": "x"}}}),
    "a choice that is null": event({"choices": [None]}),
    "a choice that is a string": event({"choices": ["Hello"]}),
    "a delta that is a string": event({"choices": [{"delta": "Hello"}]}),
    "content that is a number": chunk({"content": 42}),
    "content that is an object": chunk({"content": {"text": "Hello"}}),
}

JSON = [
    Row("broken JSON in the first event", garbage(), MalformedStream, "failed", kinds=EVENTS,
        message=("JSON",)),
    Row(
        "broken JSON in the middle", ["Hel", garbage()], MalformedStream, "failed", "Hel",
        kinds=EVENTS, schemes=BOTH, message=("JSON",),
    ),
    Row(
        "JSON and something else in an event", ["Hel", event('{"choices": []} {"type": ')],
        MalformedStream, "failed", "Hel", kinds=SSE, message=("JSON",),
    ),
    Row(
        "number of 10,000 digits", ["Hel", event('{"choices": [], "n": %s}' % ("9" * 10_000))],
        MalformedStream, "failed", "Hel", kinds=EVENTS,
    ),
    *(
        Row(f"unexpected JSON structure: {name}", ["Hel", step], MalformedStream, "failed", "Hel",
            kinds=OPENAI)
        for name, step in SHAPES.items()
    ),
    *(
        Row(f"JSON nested {depth} levels deep", ["Hel", raw(b"data: " + nested(depth) + b"\n\n")],
            MalformedStream, "failed", "Hel", kinds=EVENTS if depth == 100_000 else OPENAI)
        for depth in (100, 700, 900, 940, 960, 980, 1000, 10_000, 100_000)
    ),
    *(
        Row(
            f"error nested {depth} levels deep",
            ["Hel", raw(b'data: {"error": {"type": ' + nested(depth) + b"}}\n\n")],
            error_kind, "failed", "Hel", kinds=OPENAI,
        )
        for depth, error_kind in ((100, ServerError), (100_000, MalformedStream))
    ),
]  # fmt: skip

SIZE = [
    Row(
        "80 MB in one line", ["Hel", b'data: {"choices": [{"delta": {"content": "',
                            repeat(BLOCK, times=1280), b'"}}]}\n\n'],
        MalformedStream, "failed", "Hel", kinds=EVENTS, message=("MiB",), takes=2.0,
    ),
    Row(
        "20 MB in lines of 1 kB", ["Hel", repeat(b"data: %b\n" % (b"x" * 1000) * 65, times=320)],
        MalformedStream, "failed", "Hel", kinds=OPENAI, takes=2.0,
    ),
    Row(
        "100,000 data lines in one event", ["Hel", repeat(b"data: x\n" * 1000, times=100), b"\n"],
        MalformedStream, "failed", "Hel", kinds=SSE, message=("lines",), takes=2.0,
    ),
    Row(
        "endless line", ["Hel", b"data: ", repeat(BLOCK)], MalformedStream, "failed", "Hel",
        kinds=EVENTS, schemes=BOTH, message=("MiB",), takes=2.0,
    ),
    Row(
        "endless first line", [b"data: ", repeat(BLOCK)], MalformedStream, "failed",
        kinds=OPENAI, message=("MiB",), takes=2.0,
    ),
    Row(
        "endless comment", ["Hel", b": ", repeat(BLOCK)], MalformedStream, "failed", "Hel",
        kinds=OPENAI, message=("MiB",), takes=2.0,
    ),
    Row(
        "endless JSON",
        answer(b'{"choices": "', repeat(BLOCK), content_type="application/json"),
        MalformedStream, "failed", kinds=ALL, message=("MiB",), takes=2.0,
    ),
    Row(
        "gzip bomb", answer("Hel", b"data: ", repeat(bytes(65_536)), gzip=True),
        MalformedStream, "failed", "Hel", kinds=EVENTS, schemes=BOTH, message=("MiB",), takes=4.0,
    ),
    Row(
        "body declared as gzip that is neither gzip nor text",
        answer(raw(b"\0" * 100), headers={"Content-Encoding": "gzip"}),
        MalformedStream, "failed", message=("gzip",),
    ),
    *(
        Row(
            f"compression that nobody has asked for, {coding}",
            answer(raw(b"\x28\xb5\x2f\xfd\x24"), headers={"Content-Encoding": coding}),
            MalformedStream, "failed", message=(f"compressed with {coding},",),
        )
        for coding in ("br", "zstd", "gzip, gzip")
    ),
]  # fmt: skip

WRONG = [*PAGES, *ERRORS, *JSON, *SIZE]
