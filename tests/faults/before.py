"""Rows for faults before the answer: no connection, no headers, an error status."""

from __future__ import annotations

import email.utils
import time
import zlib
from typing import Any

from providers_sync import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    MalformedStream,
    RateLimitError,
    StreamCut,
    StreamTruncated,
    Timeouts,
)
from providers_sync.testing import (
    answer,
    cut,
    drip,
    pause,
    redirect,
    repeat,
    reset,
    stall,
    status,
    wire,
)

from .row import BOTH, EVENTS, HTTP, NAMED, OPENAI, TLS, Row

GOOD = answer("Hel", "lo")
CONNECT = Timeouts(connect=0.2, first_token=2, idle=2, total=4)
FIRST_TOKEN = Timeouts(connect=2, first_token=0.3, idle=2, total=4)
TOTAL = Timeouts(connect=2, first_token=2, idle=2, total=0.4)


def http_date(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def busy(retry_after: str, code: int = 429) -> Any:
    return status(code, "Slow down", headers={"Retry-After": retry_after})


EARLY_HINTS = wire(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")

CONNECTION = [
    Row(
        "connection refused", None, APIConnectionError, "failed",
        target="refused", requests=0, opens=False, schemes=BOTH, message=("the server running?",),
    ),
    Row(
        "unknown host name", None, APIConnectionError, "failed",
        target="unknown", requests=0, opens=False, schemes=BOTH, message=("DNS",),
    ),
    Row(
        "DNS never answers", None, APITimeoutError, "failed",
        target="silent-dns", requests=0, opens=False, timeouts=CONNECT, clock="connect",
    ),
    Row(
        "DNS never answers, only the total timeout is set", None, APITimeoutError, "deadline",
        target="silent-dns", requests=0, opens=False, timeouts=Timeouts(None, None, None, 0.3),
        clock="total",
    ),
    Row(
        "packets to the address are dropped", None, APITimeoutError, "failed",
        target="blackhole", requests=0, opens=False, schemes=BOTH, timeouts=CONNECT,
        clock="connect",
    ),
    Row(
        "packets to the address are dropped, shorter total timeout", None, APITimeoutError,
        "deadline", target="blackhole", requests=0, opens=False, timeouts=TOTAL, clock="total",
    ),
    Row(
        "self-signed certificate", GOOD, APIConnectionError, "failed",
        target="self-signed", schemes=TLS, requests=0, opens=False,
        message=("certificate", "verify="), attributes={"retryable": False},
    ),
    Row(
        "certificate for another host", GOOD, APIConnectionError, "failed",
        target="wrong-host", schemes=TLS, requests=0, opens=False, message=("certificate",),
        attributes={"retryable": False},
    ),
    Row(
        "TLS handshake never answered", answer(connect=[stall()]), APITimeoutError, "failed",
        schemes=TLS, requests=0, opens=False, timeouts=CONNECT, clock="connect",
    ),
    Row(
        "TLS handshake cut", answer(connect=[cut()]), APIConnectionError, "failed",
        schemes=TLS, requests=0, opens=False,
    ),
    Row(
        "plain HTTP instead of TLS", answer(connect=[wire(b"HTTP/1.1 400 Bad\r\n\r\n"), cut()]),
        APIConnectionError, "failed", schemes=TLS, requests=0, opens=False, message=("TLS",),
    ),
    Row(
        "connection reset when accepted", answer(connect=[reset()]),
        APIConnectionError, "failed", requests=0, opens=False,
    ),
    Row(
        "TLS handshake reset", answer(connect=[pause(0.02), reset()]), APIConnectionError, "failed",
        schemes=TLS, requests=0, opens=False,
    ),
    Row(
        "connection closed when accepted", answer(connect=[cut()]),
        APIConnectionError, "failed", requests=0, opens=False,
    ),
    Row(
        "connection reset once, then a good answer", [answer(before=[reset()]), GOOD],
        text="Hello", requests=2, schemes=BOTH,
    ),
]  # fmt: skip

HEADERS = [
    Row(
        "headers never arrive", answer(before=[stall()]), APITimeoutError, "stalled",
        opens=False, schemes=BOTH, timeouts=FIRST_TOKEN, clock="first_token",
    ),
    Row(
        "headers never arrive, shorter total timeout", answer(before=[stall()]),
        APITimeoutError, "deadline", opens=False, timeouts=TOTAL, clock="total",
    ),
    Row(
        "headers sent byte by byte", answer("Hello", head_every=0.05), APITimeoutError, "stalled",
        opens=False, schemes=BOTH, timeouts=FIRST_TOKEN, clock="first_token",
    ),
    Row(
        "endless headers, byte by byte", answer(inside=[repeat(drip(b"X-Pad: 1\r\n", every=0.02))]),
        APITimeoutError, "stalled", opens=False, timeouts=FIRST_TOKEN, clock="first_token",
    ),
    Row(
        "endless headers at full speed", answer(inside=[repeat(wire(b"X-Pad: 1\r\n" * 100))]),
        APIConnectionError, "failed", opens=False, requests=3,
    ),
    Row(
        "endless interim responses", answer(before=[
            repeat(wire(b"HTTP/1.1 100 Continue\r\n\r\n"), pause(0.02))
        ]),
        APITimeoutError, "stalled", opens=False, timeouts=FIRST_TOKEN, clock="first_token",
    ),
    Row(
        "interim responses, then a good answer",
        answer("Hel", "lo", before=[
            EARLY_HINTS, wire(b"HTTP/1.1 100 Continue\r\n\r\n"), pause(0.05),
            wire(b"HTTP/1.1 102 Processing\r\n\r\n"),
        ]),
        text="Hello", schemes=BOTH,
    ),
    Row(
        "endless interim responses at full speed", answer(before=[
            repeat(wire(b"HTTP/1.1 102 Processing\r\n\r\n" * 100))
        ]),
        APIConnectionError, "failed", opens=False, requests=3,
    ),
    Row(
        "interim response sent byte by byte",
        answer(before=[repeat(drip(b"HTTP/1.1 103 Hi", every=0.02))]),
        APITimeoutError, "stalled", opens=False, timeouts=FIRST_TOKEN, clock="first_token",
    ),
    Row(
        "connection closed after an interim response", answer(before=[EARLY_HINTS, cut()]),
        APIConnectionError, "failed", opens=False, requests=3, schemes=BOTH,
    ),
    Row(
        "connection closed inside an interim response",
        answer(before=[wire(b"HTTP/1.1 103 Early Hints\r\nLink: </a"), cut()]),
        APIConnectionError, "failed", opens=False, requests=3,
    ),
    Row(
        "switch to another protocol", answer(before=[
            wire(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n"), stall()
        ]),
        APIStatusError, "failed", opens=False, message=("101",), attributes={"status_code": 101},
    ),
    Row(
        "two different Content-Length headers",
        answer("Hello", framing="length", inside=[wire(b"Content-Length: 1\r\n")]),
        MalformedStream, "failed", opens=False, schemes=BOTH, message=("contradict",),
    ),
    Row(
        "two different lengths in one Content-Length header",
        answer("Hello", framing="close", inside=[wire(b"Content-Length: 1, 2\r\n")]),
        MalformedStream, "failed", opens=False, message=("contradict",),
    ),
    Row(
        "the same Content-Length twice",
        answer(b"", framing="length", end=False, inside=[wire(b"Content-Length: 0\r\n")]),
        StreamTruncated, "truncated", requests=3,
    ),
    Row(
        "the same length twice in one Content-Length header",
        answer(b"", framing="close", end=False, inside=[wire(b"Content-Length: 0, 0\r\n")]),
        StreamTruncated, "truncated", requests=3,
    ),
    Row(
        "Content-Length that is not a number",
        answer("Hello", framing="close", inside=[wire(b"Content-Length: 0x5\r\n")]),
        MalformedStream, "failed", opens=False, message=("0x5",),
    ),
    Row(
        "header line without a colon, which hides those after it",
        answer("Hello", framing="close", inside=[wire(b"oops\r\nContent-Length: 5000\r\n")]),
        MalformedStream, "failed", opens=False, schemes=BOTH, message=("colon",),
    ),
    *(
        Row(
            f"transfer coding {coding}",
            answer("Hello", framing="close", headers={"Transfer-Encoding": coding}),
            MalformedStream, "failed", opens=False, message=(f"coding: '{coding}'",),
        )
        for coding in ("gzip, chunked", "chunked, chunked")
    ),
    Row(
        "status 206: a part of the answer", answer("Hello", status=206),
        MalformedStream, "failed", opens=False, message=("206",),
    ),
    Row(
        "Content-Length together with chunked encoding",
        answer("Hel", "lo", inside=[wire(b"Content-Length: 3\r\n")]), text="Hello", schemes=BOTH,
    ),
    Row(
        "connection closed instead of an answer", answer(before=[cut()]),
        APIConnectionError, "failed", opens=False, requests=3, schemes=BOTH,
    ),
    Row(
        "connection reset instead of an answer", answer(before=[reset()]),
        APIConnectionError, "failed", opens=False, requests=3, schemes=BOTH,
    ),
    Row(
        "connection closed inside the status line", answer(before=[wire(b"HTTP/1.1 20"), cut()]),
        APIConnectionError, "failed", opens=False, requests=3,
    ),
    Row(
        "answer that is not HTTP", answer(before=[wire(b"SSH-2.0-OpenSSH_9.6\r\n"), cut()]),
        APIConnectionError, "failed", opens=False, requests=3, message=("HTTP",),
    ),
    Row(
        "connection closed inside a header", answer(inside=[wire(b"X-Half: on"), cut()]),
        APIConnectionError, "failed", opens=False, requests=3, schemes=BOTH,
    ),
    Row(
        "connection closed between two headers", answer(inside=[cut()], framing="close"),
        APIConnectionError, "failed", opens=False, requests=3, schemes=BOTH,
    ),
    Row(
        "connection reset inside the headers", answer(inside=[wire(b"X-Half: on"), reset()]),
        APIConnectionError, "failed", opens=False, requests=3,
    ),
]  # fmt: skip


def refusal(code: int, kind: type[APIStatusError], requests: int = 1) -> Row:
    """Return a row for a status that every request gets; only some are retried."""
    return Row(
        f"status {code} for every request", status(code, f"No, says {code}"), kind, "failed",
        opens=False, requests=requests, message=(str(code), f"No, says {code}"),
        attributes={"status_code": code},
    )  # fmt: skip


STATUS = [
    refusal(400, APIStatusError),
    refusal(401, AuthenticationError),
    refusal(403, AuthenticationError),
    refusal(404, APIStatusError),
    refusal(408, APIStatusError, requests=3),
    refusal(409, APIStatusError, requests=3),
    refusal(413, APIStatusError),
    refusal(422, APIStatusError),
    refusal(429, RateLimitError, requests=3),
    refusal(500, APIStatusError, requests=3),
    refusal(503, APIStatusError, requests=3),
    refusal(529, APIStatusError, requests=3),
    Row(
        "status 400 with the protocol's error object",
        status(400, "bad model", type="invalid_request_error", error_code="model_not_found"),
        APIStatusError, "failed", opens=False, kinds=EVENTS, schemes=BOTH,
        message=("400", "bad model"), attributes={"status_code": 400, "retry_after": None},
    ),
    Row("status 500, then a good answer", [status(500), GOOD], text="Hello", requests=2),
    Row(
        "status 500, then 503, then a good answer", [status(500), status(503), GOOD],
        text="Hello", requests=3,
    ),
    Row(
        "status 500, then an answer cut after its first event", [status(500), answer("Hel", cut())],
        StreamCut, "cut", "Hel", requests=2,
    ),
    Row(
        "status 500, then 400", [status(500), status(400, "Never")], APIStatusError, "failed",
        opens=False, requests=2, attributes={"status_code": 400},
    ),
    Row(
        "status 429 with Retry-After for every request", busy("0.1"), RateLimitError, "failed",
        opens=False, requests=3, takes=0.22, attributes={"status_code": 429, "retry_after": 0.1},
    ),
    Row(
        "Retry-After in whole seconds", [busy("1"), GOOD], text="Hello", requests=2, takes=1.1,
        kinds=OPENAI,
    ),
    Row(
        "Retry-After in fractions of a second", [busy("0.2"), GOOD], text="Hello", requests=2,
        takes=0.22,
    ),
    Row(
        "Retry-After as a date", lambda: [busy(http_date(1.5)), GOOD], text="Hello", requests=2,
        takes=1.65, kinds=OPENAI,
    ),
    Row(
        "Retry-After as a past date", lambda: [busy(http_date(-90)), GOOD],
        text="Hello", requests=2,
    ),
    Row(
        "retry-after-ms", [status(429, headers={"retry-after-ms": "200"}), GOOD], text="Hello",
        requests=2, takes=0.22, kinds=OPENAI,
    ),
    Row(
        "status 429 for an exhausted quota", status(429, "No credit", type="insufficient_quota"),
        RateLimitError, "failed", opens=False, message=("No credit", "add credit"), kinds=NAMED,
    ),
    Row(
        "status 503 with x-should-retry: false", status(503, headers={"x-should-retry": "false"}),
        APIStatusError, "failed", opens=False, kinds=OPENAI,
    ),
    Row("Retry-After that is not a number or date", [busy("soon"), GOOD], text="Hello", requests=2),
    Row("negative Retry-After", [busy("-5"), GOOD], text="Hello", requests=2),
    Row("Retry-After NaN", [busy("nan"), GOOD], text="Hello", requests=2),
    Row(
        "Retry-After above the maximum", busy("3600"), RateLimitError, "failed",
        opens=False, message=("3600",), attributes={"retry_after": 3600.0},
    ),
    Row(
        "Retry-After of a 503 above the maximum", busy("61", 503), APIStatusError, "failed",
        opens=False, message=("61",), attributes={"retry_after": 61.0},
    ),
    Row(
        "Retry-After as a date above the maximum", lambda: busy(http_date(7200)),
        RateLimitError, "failed", opens=False, message=("wait",),
    ),
    Row(
        "Retry-After longer than the total timeout", busy("30"), RateLimitError, "failed",
        opens=False, message=("30",), attributes={"retry_after": 30.0},
    ),
    Row(
        "endless error body", answer(
            repeat(b"sorry ", pause(0.02)), status=400, content_type="text/plain"
        ),
        APIStatusError, "failed", opens=False, schemes=BOTH, timeouts=FIRST_TOKEN, takes=0.3,
        message=("400", "sorry"),
    ),
    Row(
        "endless error body at full speed", answer(
            repeat(b"sorry " * 10_000), status=400, content_type="text/plain"
        ),
        APIStatusError, "failed", opens=False, schemes=BOTH, message=("400", "sorry"),
    ),
    Row(
        "error body stalls", answer(b"oops", stall(), status=400, content_type="text/plain"),
        APIStatusError, "failed", opens=False, schemes=BOTH, timeouts=FIRST_TOKEN, takes=0.3,
        message=("400", "oops"),
    ),
    *(
        Row(
            f"error body whose {name} is sent byte by byte", answer(
                wire(prefix), repeat(drip(wire_bytes, every=0.02)), status=401, framing="close",
                headers={"Transfer-Encoding": "chunked"},
            ),
            AuthenticationError, "failed", opens=False, schemes=BOTH, timeouts=FIRST_TOKEN,
            takes=0.3, message=("401",),
        )
        for name, prefix, wire_bytes in (
            ("chunk extension", b"5;", b"x"), ("trailer", b"0\r\nX: ", b"x"),
            ("first chunk size", b"", b"0"),
        )
    ),
    Row(
        "compressed error body sent byte by byte", answer(
            repeat(drip(b"x", every=0.02)), status=401, headers={"Content-Encoding": "br"}
        ),
        AuthenticationError, "failed", opens=False, timeouts=FIRST_TOKEN, takes=0.3,
        message=("401",),
    ),
    Row(
        "error status with an unknown transfer coding",
        answer(b"oops", status=400, framing="close", headers={"Transfer-Encoding": "gzip"}),
        APIStatusError, "failed", opens=False, message=("400",),
        attributes={"status_code": 400},
    ),
    Row(
        "error status with two different Content-Length headers",
        answer(b"oops", cut(), status=400, framing="length", inside=[
            wire(b"Content-Length: 1\r\n")
        ]),
        APIStatusError, "failed", opens=False, message=("400",),
        attributes={"status_code": 400},
    ),
    Row(
        "error body compressed with deflate", answer(
            zlib.compress(b'{"error": {"message": "No such key"}}'), status=401, end=False,
            headers={"Content-Encoding": "deflate"}, content_type="application/json",
        ),
        AuthenticationError, "failed", opens=False, message=("401", "No such key"),
    ),
    Row(
        "connection reset inside the error body",
        answer(b"oops", reset(), status=400, content_type="text/plain"),
        APIStatusError, "failed", opens=False, message=("400",),
    ),
    Row(
        "error body is a web page", answer(
            b"<html><body>Bad gateway</body></html>", status=502, content_type="text/html"
        ),
        APIStatusError, "failed", opens=False, requests=3, attributes={"status_code": 502},
    ),
    Row(
        "error body is a gzip bomb", answer(
            repeat(bytes(60_000)), status=400, content_type="text/plain", gzip=True
        ),
        APIStatusError, "failed", opens=False, message=("400",), kinds=OPENAI,
    ),
    *(
        Row(
            f"redirect {code} to another host", redirect("http://192.0.2.1/v1", code),
            APIStatusError, "failed", opens=False, message=(str(code), "http://192.0.2.1/v1"),
            attributes={"status_code": code}, schemes=BOTH if code == 307 else HTTP,
        )
        for code in (301, 302, 303, 307, 308)
    ),
]  # fmt: skip

BEFORE = [*CONNECTION, *HEADERS, *STATUS]
