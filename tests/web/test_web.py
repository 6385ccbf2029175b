"""Answers as WSGI bodies: what is sent, how failures show, and that closing stops the model."""

from __future__ import annotations

import gc
import http.client
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from running import events

from providers_sync import CancelToken, OpenAICompatible, ProviderError, StreamCancelled, StreamCut
from providers_sync.stream import PreparedCall, Stream
from providers_sync.testing import (
    FAULTS,
    Server,
    cut,
    finish,
    pause,
    reasoning,
    refusal,
    serve,
    stall,
    status,
    text,
    tool_call,
    usage,
)
from providers_sync.web import PLAIN_HEADERS, SSE_HEADERS, WSGIBody, plain, sse

SECRET = "sk-very-secret"


def ask(server: Server, **settings: Any) -> Stream:
    return OpenAICompatible("m", base_url=server.url, api_key=SECRET, **settings).stream("Hi")


def opening(server: Server, **settings: Any) -> PreparedCall:
    return OpenAICompatible("m", base_url=server.url, api_key=SECRET, **settings).prepare("Hi")


def test_sse_tells_everything_and_the_verdict() -> None:
    """Every kind of event by its name, in order; usage and finish reason with the verdict."""
    script = [
        reasoning("hm"),
        text("Hel"),
        text("lo"),
        refusal("no"),
        tool_call("f", {"a": 1}, id="c1"),
        usage(3, 4),
        finish("tool_calls"),
    ]
    with serve(script) as server:
        *told, (last, verdict) = events(sse(ask(server)))
    assert told == [
        ("reasoning", {"text": "hm"}),
        ("delta", {"text": "Hel"}),
        ("delta", {"text": "lo"}),
        ("refusal", {"text": "no"}),
        ("tool_call", {"id": "c1", "name": "f", "raw": '{"a": 1}'}),
    ]
    stats = verdict.pop("stats")
    assert (stats["chunks"], stats["attempts"]) == (2, 1)
    assert (last, verdict) == (
        "done",
        {
            "outcome": "complete",
            "finish_reason": "tool_calls",
            "model": "test-model",
            "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
        },
    )


def test_sse_carries_any_text() -> None:
    """Line breaks of every kind, event-stream syntax, markup, half an emoji: all stay text."""
    pieces = ["a\nb\r\nc\rd", "\u2028\u2029\x85", "\n\ndata: x\n\n: y", "<b>\0</b>", "дом 👩‍👩‍👧"]
    with serve([*map(text, pieces)]) as server:
        told = events(sse(ask(server)))
    assert [data["text"] for name, data in told if name == "delta"] == pieces


def test_sse_begins_at_once_and_shows_that_it_lives() -> None:
    """The first bytes come before the model speaks, and a comment at least twice a second."""
    with serve([stall()]) as server:
        body, began = sse(opening(server)), time.monotonic()
        assert next(body) == b":\n\n"
        server.wait_request()
        assert [next(body), next(body)] == [b":\n\n"] * 2
        assert 0.2 < time.monotonic() - began < 1
        body.close()
        server.wait_closed(timeout=1)


@pytest.mark.parametrize("make", [ask, opening])
def test_sse_tells_a_cut_and_ends(make: Callable[[Server], Any]) -> None:
    """The text that came, the error, the verdict; the iterator itself ends well."""
    with serve([text("Hel"), cut()]) as server:
        told = events(sse(make(server)))
    assert [name for name, _ in told] == ["delta", "error", "done"]
    error, verdict = told[1][1], told[2][1]
    assert (error["kind"], error["outcome"], verdict["outcome"]) == ("StreamCut", "cut", "cut")
    assert "broke" in error["message"]


def test_sse_of_an_opening_tells_a_refusal() -> None:
    """What ``stream()`` would have raised is an event, and no secret is in it."""
    with serve(status(401, f"the key {SECRET} is wrong")) as server:
        body = b"".join(sse(opening(server)))
    assert b'"kind":"AuthenticationError"' in body
    assert b'"outcome":"failed"' in body
    assert SECRET.encode() not in body
    assert b"the key" not in body


BAD = [
    *("connect-reset", "500", "redirect", "html", "empty", "garbage", "error-event", "overload"),
    *("cut", "cut-in-event", "reset", "truncated", "short", "gzip-cut", "half-character"),
    *("stall", "keep-alive-later", "trickle", "fast-forever"),
]


@pytest.mark.parametrize("name", BAD)
def test_no_fault_looks_like_a_whole_answer(name: str) -> None:
    """Canned faults of each kind: ``error`` and a bad verdict here, an exception there."""
    with serve(FAULTS[name]) as server:
        told = events(sse(opening(server, retry=1, timeouts=0.3)))
        with pytest.raises(ProviderError) as caught:
            list(plain(opening(server, retry=1, timeouts=0.3)))
    assert [name for name, _ in told][-2:] == ["error", "done"]
    assert told[-1][1]["outcome"] == caught.value.outcome != "complete"
    error = caught.value.__cause__ if type(caught.value) is ProviderError else caught.value
    assert told[-2][1]["kind"] == type(error).__name__


def test_sse_tells_a_stream_that_was_stopped() -> None:
    """Stopped by the app itself, by a token or by ``close()``, it is not taken for whole."""
    with serve([text("Hel"), stall()]) as server:
        token, streams = CancelToken(), []
        provider = OpenAICompatible("m", base_url=server.url)
        for stop in (token.cancel, lambda: streams[-1].close()):
            streams.append(provider.stream("Hi", cancel=token if not streams else None))
            body = sse(streams[-1])
            assert b"".join([next(body), next(body)]).count(b"Hel") == 1
            stop()
            assert [(name, data["outcome"]) for name, data in events(body)] == [
                ("error", "cancelled"),
                ("done", "cancelled"),
            ]


def test_plain_is_the_text_as_it_comes() -> None:
    """One piece of the body for each of the server's."""
    with serve([text("Hel"), text("lo wörld")]) as server:
        assert list(plain(ask(server))) == [b"Hel", "lo wörld".encode()]


def test_plain_breaks_off_where_the_answer_does() -> None:
    """The error comes out of the iterator, at every further step too: never a clean end."""
    with serve([text("Hel"), cut()]) as server:
        body = plain(ask(server))
        assert next(body) == b"Hel"
        for _ in range(2):
            with pytest.raises(StreamCut):
                next(body)


@pytest.mark.parametrize("fault", ["refused", "stall"])
def test_plain_that_fails_ends_on_werkzeugs_server(fault: str, refused: tuple[str, int]) -> None:
    """The reader does not wait: it hears that the body is not whole."""
    from werkzeug.serving import make_server

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(PLAIN_HEADERS.items()))
        url = "http://{}:{}".format(*refused) if fault == "refused" else server.url
        provider = OpenAICompatible("m", base_url=url, retry=1, timeouts=0.3)
        return plain(provider.prepare("Hi"))

    with serve([text("Hel"), stall()]) as server:
        site = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            client = http.client.HTTPConnection("127.0.0.1", site.server_port, timeout=5)
            client.request("GET", "/")
            answer = client.getresponse()
            if fault == "refused":
                assert (answer.status, b"127.0.0.1" in answer.read()) == (500, False)
            else:
                with pytest.raises(http.client.IncompleteRead) as cut_off:
                    answer.read()
                assert cut_off.value.partial == b"Hel"
            client.close()
        finally:
            site.shutdown()
            thread.join()
            site.server_close()


def test_plain_of_a_closed_stream_is_no_clean_end() -> None:
    """Where the app has closed the stream itself, the client must not take the text for whole."""
    with serve([text("Hel"), stall()]) as server:
        stream = ask(server)
        body = plain(stream)
        next(body)
        stream.close()
        with pytest.raises(StreamCancelled):
            next(body)


@pytest.mark.parametrize("make", [sse, plain])
@pytest.mark.parametrize("read", [0, 1, 2])
@pytest.mark.parametrize("end", ["close", "drop"])
def test_closing_or_dropping_stops_the_model(
    make: Callable[[Any], WSGIBody], read: int, end: str
) -> None:
    """Before the first byte or after it, the connection to the model's server ends at once."""
    with serve([text("Hel"), text("lo"), stall()]) as server:
        body = make(ask(server))
        for _ in range(read):
            next(body)
        if end == "close":
            body.close()
            assert list(body) == []
        del body
        gc.collect()
        server.wait_closed(timeout=1)


def test_closing_from_another_thread_frees_the_reader() -> None:
    """A server that closes bodies from a thread of its own does not wait for the model."""
    with serve([stall()]) as server:
        body = plain(opening(server))
        reader = threading.Thread(target=lambda: list(body))
        reader.start()
        server.wait_request()
        body.close()
        reader.join(1)
        assert not reader.is_alive()
        server.wait_closed(timeout=1)


@pytest.mark.parametrize("make", [sse, plain])
def test_an_opening_is_not_asked_before_the_body_is_read(make: Callable[[Any], WSGIBody]) -> None:
    """A body that nobody wants costs nothing."""
    with serve() as server:
        make(opening(server)).close()
        assert list(make(opening(server))) != []
        assert len(server.requests) == 1


@pytest.mark.parametrize(("make", "headers"), [(sse, SSE_HEADERS), (plain, PLAIN_HEADERS)])
def test_a_body_is_valid_wsgi(make: Callable[[Any], WSGIBody], headers: dict[str, str]) -> None:
    """The standard library's validator finds nothing wrong with body and headers."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(headers.items()))
        return make(ask(server))

    def start_response(status: str, headers: list[Any], exc_info: Any = None) -> Any:
        return lambda data: None

    environ: dict[str, Any] = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    with serve([text("Hel"), pause(0.4), text("lo")]) as server:
        body: Any = validator(app)(environ, start_response)
        assert b"lo" in b"".join(body)
        body.close()


def test_headers_keep_proxies_from_buffering() -> None:
    """They say so to nginx and to caches."""
    for headers in (SSE_HEADERS, PLAIN_HEADERS):
        assert headers["X-Accel-Buffering"] == "no"
        assert "no-cache" in headers["Cache-Control"]


def test_anything_else_is_refused_where_it_is_given() -> None:
    """A view that hands over text hears of it at once, not in the browser."""
    with pytest.raises(TypeError, match=r"provider\.stream"):
        sse("Hello")  # type: ignore[arg-type]
