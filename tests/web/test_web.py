"""Tests of the WSGI bodies: what they send, how they report errors, and how they are closed."""

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


def open_stream(server: Server, **settings: Any) -> Stream:
    return OpenAICompatible("m", base_url=server.url, api_key=SECRET, **settings).stream("Hi")


def prepare(server: Server, **settings: Any) -> PreparedCall:
    return OpenAICompatible("m", base_url=server.url, api_key=SECRET, **settings).prepare("Hi")


def test_sse_sends_every_event_and_the_outcome() -> None:
    """Each event is sent by name, in order; usage and finish reason are part of ``done``."""
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
        *sent, (last, outcome) = events(sse(open_stream(server)))
    assert sent == [
        ("reasoning", {"text": "hm"}),
        ("delta", {"text": "Hel"}),
        ("delta", {"text": "lo"}),
        ("refusal", {"text": "no"}),
        ("tool_call", {"id": "c1", "name": "f", "raw": '{"a": 1}'}),
    ]
    stats = outcome.pop("stats")
    assert (stats["chunks"], stats["attempts"]) == (2, 1)
    assert (last, outcome) == (
        "done",
        {
            "outcome": "complete",
            "finish_reason": "tool_calls",
            "is_whole": False,
            "note": "the answer is a refusal (finish reason tool_calls)",
            "model": "test-model",
            "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
        },
    )


@pytest.mark.parametrize(
    ("script", "is_whole", "note"),
    [
        (["Hi"], True, None),
        (
            ["Hel", finish("length")],
            False,
            "the answer was cut off by a limit on its length (finish reason length)",
        ),
        (
            [reasoning("hm"), finish("<b>\n</b>")],
            False,
            "the answer is empty: it has only reasoning, and ended for an unknown reason "
            "(finish reason <b> </b>)",
        ),
        ([finish("stop")], True, "the answer is empty (finish reason stop)"),
        (["Hel", cut()], False, None),
    ],
)
def test_sse_tells_whether_the_answer_is_whole(
    script: list[Any], is_whole: bool, note: str | None
) -> None:
    """``done`` has it, and why not in words; a failed answer has an ``error`` event instead."""
    with serve(script) as server:
        *_, (last, done) = events(sse(open_stream(server)))
    assert (last, done["is_whole"], done["note"]) == ("done", is_whole, note)


def test_sse_preserves_any_text() -> None:
    """Line breaks of every kind, event-stream syntax, markup and joined emoji stay text."""
    texts = ["a\nb\r\nc\rd", "\u2028\u2029\x85", "\n\ndata: x\n\n: y", "<b>\0</b>", "дом 👩‍👩‍👧"]
    with serve([*map(text, texts)]) as server:
        sent = events(sse(open_stream(server)))
    assert [data["text"] for name, data in sent if name == "delta"] == texts


def test_sse_starts_at_once_and_sends_keep_alives() -> None:
    """The first bytes come before the model answers; then a comment at least twice a second."""
    with serve([stall()]) as server:
        body, start = sse(prepare(server)), time.monotonic()
        assert next(body) == b":\n\n"
        server.wait_request()
        assert [next(body), next(body)] == [b":\n\n"] * 2
        assert 0.2 < time.monotonic() - start < 1
        body.close()
        server.wait_closed(timeout=1)


@pytest.mark.parametrize("make", [open_stream, prepare])
def test_sse_reports_a_cut_and_ends(make: Callable[[Server], Any]) -> None:
    """The text so far, the error and the outcome are sent; the iterator itself ends normally."""
    with serve([text("Hel"), cut()]) as server:
        sent = events(sse(make(server)))
    assert [name for name, _ in sent] == ["delta", "error", "done"]
    error, done = sent[1][1], sent[2][1]
    assert (error["kind"], error["outcome"], done["outcome"]) == ("StreamCut", "cut", "cut")
    assert "broke" in error["message"]


def test_sse_of_a_prepared_call_reports_a_refused_key() -> None:
    """What ``stream()`` would have raised is sent as an event, which contains no secret."""
    with serve(status(401, f"the key {SECRET} is wrong")) as server:
        body = b"".join(sse(prepare(server)))
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
def test_no_fault_looks_like_a_complete_answer(name: str) -> None:
    """For each kind of fault, ``sse`` sends ``error`` and a bad outcome, and ``plain`` raises."""
    with serve(FAULTS[name]) as server:
        sent = events(sse(prepare(server, retry=1, timeouts=0.3)))
        with pytest.raises(ProviderError) as caught:
            list(plain(prepare(server, retry=1, timeouts=0.3)))
    assert [name for name, _ in sent][-2:] == ["error", "done"]
    assert sent[-1][1]["outcome"] == caught.value.outcome != "complete"
    error = caught.value.__cause__ if type(caught.value) is ProviderError else caught.value
    assert sent[-2][1]["kind"] == type(error).__name__


def test_sse_reports_a_cancelled_stream() -> None:
    """An answer that the app cancels, by a token or by ``close()``, does not look complete."""
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


def test_plain_sends_the_text_as_it_arrives() -> None:
    """Each chunk from the server becomes one chunk of the body."""
    with serve([text("Hel"), text("lo wörld")]) as server:
        assert list(plain(open_stream(server))) == [b"Hel", "lo wörld".encode()]


def test_plain_raises_when_the_answer_is_cut() -> None:
    """The iterator raises the error, and again at each further step: it never ends normally."""
    with serve([text("Hel"), cut()]) as server:
        body = plain(open_stream(server))
        assert next(body) == b"Hel"
        for _ in range(2):
            with pytest.raises(StreamCut):
                next(body)


@pytest.mark.parametrize("fault", ["refused", "stall"])
def test_a_failed_plain_body_ends_the_response_of_werkzeug(
    fault: str, refused: tuple[str, int]
) -> None:
    """The client is not left waiting: it learns that the body is incomplete."""
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


def test_plain_of_a_closed_stream_does_not_end_normally() -> None:
    """If the app closed the stream itself, the client must not take the text for complete."""
    with serve([text("Hel"), stall()]) as server:
        stream = open_stream(server)
        body = plain(stream)
        next(body)
        stream.close()
        with pytest.raises(StreamCancelled):
            next(body)


@pytest.mark.parametrize("make", [sse, plain])
@pytest.mark.parametrize("read", [0, 1, 2])
@pytest.mark.parametrize("end", ["close", "drop"])
def test_closing_or_dropping_cancels_the_call(
    make: Callable[[Any], WSGIBody], read: int, end: str
) -> None:
    """Before or after the first byte, the connection to the model's server is closed at once."""
    with serve([text("Hel"), text("lo"), stall()]) as server:
        body = make(open_stream(server))
        for _ in range(read):
            next(body)
        if end == "close":
            body.close()
            assert list(body) == []
        del body
        gc.collect()
        server.wait_closed(timeout=1)


def test_closing_from_another_thread_releases_the_reading_thread() -> None:
    """A WSGI server that closes bodies from a separate thread need not wait for the model."""
    with serve([stall()]) as server:
        body = plain(prepare(server))
        reader = threading.Thread(target=lambda: list(body))
        reader.start()
        server.wait_request()
        body.close()
        reader.join(1)
        assert not reader.is_alive()
        server.wait_closed(timeout=1)


@pytest.mark.parametrize("make", [sse, plain])
def test_a_prepared_call_is_not_sent_before_the_body_is_read(
    make: Callable[[Any], WSGIBody],
) -> None:
    """A body that is never read sends no request."""
    with serve() as server:
        make(prepare(server)).close()
        assert list(make(prepare(server))) != []
        assert len(server.requests) == 1


@pytest.mark.parametrize(("make", "headers"), [(sse, SSE_HEADERS), (plain, PLAIN_HEADERS)])
def test_a_body_is_valid_wsgi(make: Callable[[Any], WSGIBody], headers: dict[str, str]) -> None:
    """The standard library's validator finds nothing wrong with body and headers."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(headers.items()))
        return make(open_stream(server))

    def start_response(status: str, headers: list[Any], exc_info: Any = None) -> Any:
        return lambda data: None

    environ: dict[str, Any] = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    with serve([text("Hel"), pause(0.4), text("lo")]) as server:
        body: Any = validator(app)(environ, start_response)
        assert b"lo" in b"".join(body)
        body.close()


def test_headers_disable_proxy_buffering() -> None:
    """They address nginx and caches."""
    for headers in (SSE_HEADERS, PLAIN_HEADERS):
        assert headers["X-Accel-Buffering"] == "no"
        assert "no-cache" in headers["Cache-Control"]


def test_any_other_argument_is_refused_at_once() -> None:
    """A view that passes text gets a ``TypeError``, rather than a failure in the browser."""
    with pytest.raises(TypeError, match=r"provider\.stream"):
        sse("Hello")  # type: ignore[arg-type]
