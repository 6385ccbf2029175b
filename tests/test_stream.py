"""``Stream`` from the caller's side: iteration, state, cancellation, cleanup."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import ssl
import threading
import time
from collections.abc import Callable

import pytest
import requests

from providers_sync import (
    AI365VIP,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    CancelToken,
    Finish,
    OpenAICompatible,
    Outcome,
    Provider,
    ServerError,
    StreamCancelled,
    StreamCut,
    StreamTruncated,
    TextDelta,
    Timeouts,
    Usage,
    Vitalentum,
)
from providers_sync.testing import (
    answer,
    cut,
    done,
    finish,
    pause,
    raw,
    serve,
    signal,
    stall,
    status,
    text,
    usage,
    wait,
    wire,
)

WORDS = [text("Hel"), text("lo "), text("wörld")]


def openai(url: str, **settings: object) -> Provider:
    return OpenAICompatible("m", base_url=url, **settings)  # type: ignore[arg-type]


def test_iteration_yields_the_servers_chunks() -> None:
    """One chunk of text for each delta, then the outcome and all statistics."""
    script = [*WORDS, finish("length"), usage(3, 4)]
    with serve(answer(*script, headers={"X-Request-Id": "r1"})) as server:
        stream = openai(server.url).stream("Hi")
        assert stream.outcome is None
        assert stream.request_id == "r1"
        assert list(stream) == ["Hel", "lo ", "wörld"]
        assert (stream.text, stream.outcome) == ("Hello wörld", Outcome.COMPLETE)
        assert (stream.finish_reason, stream.usage) == ("length", Usage(3, 4, 7))
        stats = stream.stats
        assert (stats.chunks, stats.attempts) == (3, 1)
        assert 0 < (stats.first_chunk_s or 0) <= stats.duration_s
        assert stats.bytes > 0
        assert next(stream, None) is None
        assert stream.stats == stats


def test_header_names_are_case_insensitive() -> None:
    """In errors too, also after redaction and pickling."""
    with serve(answer(*WORDS, headers={"X-Spent": "3"})) as server:
        stream = openai(server.url).stream("Hi")
        assert (stream.headers["x-spent"], stream.headers["X-SPENT"]) == ("3", "3")
        stream.read()
    with serve(status(500, headers={"X-Left": "7", "X-Echo": "sk-123456"})) as server:
        with pytest.raises(APIStatusError) as caught:
            openai(server.url, retry=None, api_key="sk-123456").stream("Hi")
        for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
            assert (error.headers["x-left"], error.headers["x-echo"]) == ("7", "***")


def test_timeout_longer_than_a_socket_can_wait_does_not_expire() -> None:
    """In 32 bits of milliseconds these would be less than a second, or too much for Python."""
    for total in (4_294_967.5, 1e10):
        with serve(answer(*WORDS, before=[pause(0.6)])) as server:
            timeouts = Timeouts(connect=total, first_token=total, idle=total, total=total)
            assert openai(server.url, timeouts=timeouts, retry=None).complete("Hi").text


def test_cause_of_cut_headers_is_the_cut() -> None:
    """Not an error from closing the incomplete response."""
    script = answer(inside=[wire(b"X-Half: on"), cut()])
    with serve(script) as server, pytest.raises(APIConnectionError) as caught:
        openai(server.url, retry=None).stream("Hi")
    assert isinstance(caught.value.__cause__, requests.ConnectionError)


def test_text_grows_with_what_was_handed_over() -> None:
    """While the stream runs, ``.text`` is what the caller has received."""
    with serve(WORDS) as server:
        stream = openai(server.url).stream("Hi")
        assert (next(stream), stream.text) == ("Hel", "Hel")
        assert (next(stream), stream.text) == ("lo ", "Hello ")
        assert stream.stats.chunks == 2
        assert stream.read() == "wörld"
        assert stream.text == "Hello wörld"


def test_events_share_the_cursor_with_the_iterator() -> None:
    """Typed events continue where the iterator stopped, and the other way round."""
    with serve([*WORDS, finish("stop"), usage(1, 2)]) as server:
        stream = openai(server.url).stream("Hi")
        events = stream.events()
        assert next(events) == TextDelta("Hel")
        assert next(stream) == "lo "
        assert list(events) == [TextDelta("wörld"), Usage(1, 2, 3), Finish("stop")]
        assert stream.outcome is Outcome.COMPLETE


def test_suspended_events_continue_in_the_iterators_batch() -> None:
    """Events that arrived in the same read as the one that ``next()`` took are not lost."""
    go = threading.Event()
    choices = [{"delta": {"content": chunk}} for chunk in ("lo ", "wörld")]
    choices.append({"delta": {}, "finish_reason": "stop"})
    rest = "".join(f"data: {json.dumps({'choices': [choice]})}\n\n" for choice in choices)
    with serve(["Hel", wait(go), raw(f"{rest}data: [DONE]\n\n".encode())]) as server:
        stream = openai(server.url).stream("Hi")
        events = stream.events()
        assert next(events) == TextDelta("Hel")
        go.set()
        assert next(stream) == "lo "
        assert list(events) == [TextDelta("wörld"), Finish("stop")]


def test_complete_returns_the_full_answer() -> None:
    """``str()`` of a completion is its text."""
    with serve([*WORDS, usage(1, 2)]) as server:
        completion = openai(server.url).complete("Hi")
    assert str(completion) == completion.text == "Hello wörld"
    assert (completion.outcome, completion.finish_reason) == ("complete", "stop")
    assert pickle.loads(pickle.dumps(completion)) == completion


def test_clean_end_without_marker_is_never_complete() -> None:
    """AI365VIP's is ``unverified``; the others raise ``StreamTruncated`` with the partial text."""
    with serve(answer(*WORDS, end=False)) as server:
        assert AI365VIP(base_url=server.url).complete("Hi").outcome is Outcome.UNVERIFIED
        with pytest.raises(StreamTruncated) as caught:
            Vitalentum(base_url=server.url).complete("Hi")
    assert (caught.value.partial, caught.value.outcome) == ("Hello wörld", Outcome.TRUNCATED)


@pytest.mark.parametrize("framing", ["chunked", "length", "one-chunk"])
def test_cut_framing_never_looks_clean(framing: str) -> None:
    """If the framing reveals a cut, the plain-text provider reports it too."""
    with serve(answer(*WORDS, cut(), framing=framing, length=100)) as server:
        with pytest.raises(StreamCut) as caught:
            AI365VIP(base_url=server.url).complete("Hi")
        assert (caught.value.partial, caught.value.outcome) == ("Hello wörld", Outcome.CUT)


def test_next_after_an_error_raises_it_again() -> None:
    """The error stays; ``close()`` and ``cancel()`` after it change nothing."""
    with serve([*WORDS, cut()]) as server:
        stream = openai(server.url).stream("Hi")
        with pytest.raises(StreamCut) as first:
            stream.read()
        stream.cancel()
        stream.close()
        for read in (lambda: next(stream), stream.read, lambda: next(stream.events())):
            with pytest.raises(StreamCut) as second:
                read()
            assert second.value is first.value
        assert (stream.outcome, stream.text) == (Outcome.CUT, "Hello wörld")
        copy = pickle.loads(pickle.dumps(first.value))
        assert (copy.partial, copy.outcome, str(copy)) == (
            "Hello wörld",
            Outcome.CUT,
            str(first.value),
        )


def test_after_a_good_end_stopping_changes_nothing() -> None:
    """A complete stream stays complete."""
    with serve(WORDS) as server, openai(server.url).stream("Hi") as stream:
        stream.read()
        stream.cancel()
        stream.close()
        assert (stream.outcome, next(stream, "end")) == (Outcome.COMPLETE, "end")


def test_close_ends_the_iterator_and_the_connection() -> None:
    """Leaving a ``with`` block early is no error, and the server notices at once."""
    with serve([text("a"), text("b"), stall()]) as server:
        with openai(server.url).stream("Hi") as stream:
            assert next(stream) == "a"
        server.wait_closed(1, timeout=1)
        assert (stream.outcome, next(stream, "end")) == (Outcome.CANCELLED, "end")


def test_cancel_keeps_text_that_was_not_handed_over() -> None:
    """``.partial`` and ``.text`` hold what had arrived, read or not."""
    go = threading.Event()
    with serve([text("Hel"), wait(go), text("lo "), text("wörld"), stall()]) as server:
        stream = openai(server.url).stream("Hi")
        assert next(stream) == "Hel"
        go.set()
        while len(stream._channel.buffer) < 2:
            threading.Event().wait(0.001)  # the worker thread sends no signal for a further read
        stream.cancel()
        with pytest.raises(StreamCancelled) as caught:
            next(stream)
        assert caught.value.partial == stream.text == "Hello wörld"
        assert stream.outcome is Outcome.CANCELLED
        server.wait_closed(1, timeout=1)


def test_cancelled_token_stops_a_call_before_it_starts() -> None:
    """Nothing is sent if the token is already cancelled."""
    token = CancelToken()
    token.cancel()
    with serve(WORDS) as server:
        with pytest.raises(StreamCancelled):
            openai(server.url).stream("Hi", cancel=token)
        assert server.connections == []


PHASES: dict[str, Callable[[], object]] = {
    "headers": lambda: answer(before=[stall()]),
    "first-event": lambda: [stall()],
    "middle": lambda: [text("Hel"), stall()],
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("secure", [False, True], ids=["http", "tls"])
def test_cancel_unblocks_a_waiting_thread_at_once(
    phase: str, secure: bool, request: pytest.FixtureRequest
) -> None:
    """Before and after the headers, on HTTP and TLS: median of 20 under 50 ms, worst under 250."""
    tls = request.getfixturevalue("tls") if secure else None
    verify = request.getfixturevalue("ca") if secure else True
    delays = []
    with serve(PHASES[phase](), tls=tls) as server:  # type: ignore[arg-type]
        provider = openai(server.url, verify=verify)
        for round_ in range(1, 21):
            token = CancelToken()
            returned: list[float] = []

            def read(token: CancelToken = token, returned: list[float] = returned) -> None:
                with pytest.raises(StreamCancelled):
                    provider.stream("Hi", cancel=token).read()
                returned.append(time.monotonic())

            reader = threading.Thread(target=read)
            reader.start()
            server.wait_request(round_)
            start = time.monotonic()
            token.cancel()
            reader.join(5)
            delays.append(returned[0] - start)
        server.wait_closed(20, timeout=1)
    assert sorted(delays)[10] < 0.05
    assert max(delays) < 0.25


def test_wait_distinguishes_silence_from_events_and_the_end() -> None:
    """It takes the full time while the server is silent, and returns at once on an event."""
    go = threading.Event()
    with serve([text("Hel"), wait(go), text("lo")]) as server:
        stream = openai(server.url).stream("Hi")
        assert stream.wait(5)
        assert next(stream) == "Hel"
        assert not stream.wait(0.01)
        go.set()
        assert stream.wait(5)
        assert stream.read() == "lo"
        assert stream.wait(5)


def test_wait_enforces_the_timeouts() -> None:
    """A timeout that expires ends the wait; ``next()`` raises its error."""
    with serve([text("Hel"), stall()]) as server:
        stream = openai(server.url, timeouts=Timeouts(idle=0.05)).stream("Hi")
        assert next(stream) == "Hel"
        assert stream.wait(5)
        with pytest.raises(APITimeoutError, match="idle"):
            next(stream)


def test_dropping_the_iterator_closes_the_connection() -> None:
    """Without ``with`` or ``close()``: dropping the last reference is enough."""
    with serve([text("a"), stall()]) as server:
        for chunk in openai(server.url).stream("Hi"):
            assert chunk == "a"
            break
        gc.collect()
        server.wait_closed(1, timeout=1)


ENDINGS: dict[str, Callable[[Provider], object]] = {
    "read": lambda p: p.stream("Hi", temperature=0).read(),
    "close": lambda p: p.stream("Hi").close(),
    "cancel": lambda p: p.stream("Hi").cancel(),
    "drop": lambda p: next(p.stream("Hi")),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_fifty_streams_of_each_ending_leak_nothing(ending: str) -> None:
    """The leak check finds no thread and no socket after 50 streams of each ending."""
    end = ENDINGS[ending]
    with serve([*WORDS]) as server:
        provider = openai(server.url)
        for _ in range(50):
            end(provider)
    del provider


def test_connection_is_reused_after_a_complete_answer() -> None:
    """``[DONE]`` does not close the connection: consecutive streams share one."""
    with serve(WORDS) as server:
        provider = openai(server.url)
        for _ in range(10):
            provider.complete("Hi")
        assert len(server.connections) == 1


def test_stream_ends_at_the_marker_while_the_connection_stays_open() -> None:
    """The call does not wait for anything after ``[DONE]``."""
    with serve([*WORDS, finish(), done(), stall()]) as server:
        start = time.monotonic()
        assert openai(server.url).complete("Hi").outcome is Outcome.COMPLETE
        assert time.monotonic() - start < 1


def test_error_names_the_expired_timeout() -> None:
    """For silence before the answer, silence in the middle of it, and ``total``."""
    with serve([stall()]) as server, pytest.raises(TimeoutError) as caught:
        openai(server.url, timeouts=Timeouts(first_token=0.2)).complete("Hi")
    assert (caught.value.clock, caught.value.outcome) == ("first_token", "stalled")  # type: ignore[attr-defined]
    with serve([*WORDS, stall()]) as server, pytest.raises(TimeoutError) as caught:
        openai(server.url, timeouts=Timeouts(idle=0.2)).complete("Hi")
    assert (caught.value.clock, caught.value.partial) == ("idle", "Hello wörld")  # type: ignore[attr-defined]
    with serve([*WORDS, stall()]) as server, pytest.raises(TimeoutError) as caught:
        openai(server.url, timeouts=0.2).complete("Hi")
    assert (caught.value.clock, caught.value.outcome) == ("total", "deadline")  # type: ignore[attr-defined]


def test_error_in_the_same_read_as_the_first_event_is_not_retried() -> None:
    """Text that arrives together with the error is handed over."""
    chunk = b'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\n'
    failure = b'data: {"error": {"message": "Busy", "type": "overloaded_error"}}\n\n'
    with serve([[raw(chunk + failure)], ["other"]]) as server:
        with pytest.raises(ServerError) as caught:
            openai(server.url).complete("Hi")
        assert (caught.value.partial, len(server.requests)) == ("Hel", 1)


@pytest.mark.parametrize("zipped", [False, True])
def test_worker_thread_of_a_silent_server_ends_without_a_caller(zipped: bool) -> None:
    """The socket's own timeout is ``total``: no waiting caller enforces the deadline."""
    script = answer(text("a"), pause(0.02), text("b"), pause(0.02), text("c"), stall(), gzip=zipped)
    ended = threading.Event()
    with serve(script) as server:
        stream = openai(server.url, timeouts=Timeouts(total=0.3)).stream("Hi")
        stream._channel.on_end = ended.set
        assert ended.wait(5)
        with pytest.raises(APITimeoutError) as caught:
            stream.read()
    assert (caught.value.clock, caught.value.partial) == ("total", "abc")


def test_paused_caller_suspends_idle_and_slows_the_server() -> None:
    """A slow caller gets everything; memory holds a bounded part of it."""
    sent = threading.Event()
    chunks = [text("x" * 1000)] * 20_000
    with serve([*chunks, signal(sent)]) as server:
        stream = openai(server.url, timeouts=Timeouts(idle=0.3)).stream("Hi")
        next(stream)
        assert not sent.wait(1)
        assert len(stream.read()) == 20_000_000 - 1000


def test_stream_cannot_be_copied() -> None:
    """Dropping a partial copy would close the original's connection."""
    with serve([text("a"), wait(go := threading.Event()), text("b")]) as server:
        stream = openai(server.url).stream("Hi")
        for make_copy in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"completion\(\)"):
                make_copy(stream)
        assert next(stream) == "a"
        go.set()
        assert stream.read() == "b"


def test_provider_survives_copy_and_pickle() -> None:
    """A provider holds only configuration: a copy answers like the original."""
    with serve(WORDS) as server:
        provider = openai(server.url, api_key="k", temperature=0)
        provider.complete("Hi")
        for twin in (
            copy.copy(provider),
            copy.deepcopy(provider),
            pickle.loads(pickle.dumps(provider)),
        ):
            assert twin.complete("Hi").text == "Hello wörld"
    assert [r.headers["Authorization"] for r in server.requests] == ["Bearer k"] * 4
    assert all(r.json()["temperature"] == 0 for r in server.requests)


def test_broken_tls_connection_breaks_no_other(tls: ssl.SSLContext, ca: str) -> None:
    """Python leaves its error in a queue of the thread, where the next connection finds it."""
    first, go = threading.Event(), threading.Event()
    script = [answer(text("Hel"), signal(first), stall()), answer(text("Hel"), wait(go), "lo")]
    with serve(script, tls=tls) as server:
        provider = OpenAICompatible("m", base_url=server.url, verify=ca, retry=None)
        broken, other = provider.stream("Hi"), provider.stream("Hi")
        assert (next(broken), next(other)) == ("Hel", "Hel")
        assert first.wait(5)
        broken.cancel()
        with pytest.raises(StreamCancelled):
            broken.read()
        assert not other.wait(0.1)  # the reader thread has closed the first one
        go.set()
        assert other.read() == "lo"
