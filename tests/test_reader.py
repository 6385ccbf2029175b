"""The reader thread: what it does first, whose fault ends which stream, and when it ends itself."""

from __future__ import annotations

import gc
import os
import random
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from providers_sync import (
    Failover,
    OpenAICompatible,
    Outcome,
    ProviderError,
    StreamCut,
    Timeouts,
)
from providers_sync.decoding import OpenAIDecoder
from providers_sync.stream import call, channel, channel_of, reader, wakeup, workers
from providers_sync.stream.call import Call
from providers_sync.testing import answer, cut, finish, pause, ping, raw, serve, stall, text, wait
from providers_sync.testing import signal as reached
from providers_sync.types import Decoder, Delta

OPENAI_EVENT = b'data: {"choices": [{"delta": {"content": "%b"}}]}\n\n'


class Hooked(OpenAICompatible):
    """A provider whose decoder calls ``hook`` before it decodes."""

    def __init__(self, url: str, hook: Callable[[], object], **settings: Any) -> None:
        super().__init__("m", base_url=url, **settings)
        self.hook = hook

    def decoder(self, content_type: str = "") -> Decoder:
        """Return a decoder with the hook."""
        return HookedDecoder(self.hook)


class HookedDecoder(OpenAIDecoder):
    """Calls ``hook`` before it decodes."""

    def __init__(self, hook: Callable[[], object]) -> None:
        super().__init__("text/event-stream")
        self.hook = hook

    def feed(self, data: bytes) -> list[Delta]:
        """Call the hook; decode."""
        self.hook()
        return super().feed(data)


@pytest.mark.parametrize("wrap", [lambda provider: provider, lambda provider: Failover([provider])])
def test_what_has_arrived_comes_before_the_timeout_that_has_passed(
    wrap: Callable[[OpenAICompatible], OpenAICompatible],
) -> None:
    """The first event is late by ``first_token`` only because the reader was busy: it counts."""
    busy, free, go, sent = (threading.Event() for _ in range(4))

    def occupy() -> None:
        busy.set()
        assert free.wait(10)

    with (
        serve([wait(go), text("other")]) as first,
        serve([wait(busy), text("Hello"), reached(sent), text("!")]) as second,
    ):
        other = Hooked(first.url, occupy).prepare("x").begin()
        provider = OpenAICompatible(
            "m", base_url=second.url, timeouts=Timeouts(first_token=0.3), retry=None
        )
        stream = wrap(provider).prepare("x").begin()
        first.wait_request()
        second.wait_request()
        go.set()
        assert busy.wait(10)
        assert sent.wait(10)
        threading.Event().wait(0.4)  # until ``first_token`` has passed
        free.set()
        assert (stream.read(), stream.outcome) == ("Hello!", Outcome.COMPLETE)
        assert other.read() == "other"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_decoder_that_raises_ends_its_own_stream_only(error: type[BaseException]) -> None:
    """Also with an exception that would end a thread."""
    go = threading.Event()

    def fail() -> None:
        raise error("no")

    with serve([text("a"), wait(go), text("b")]) as server:
        good = OpenAICompatible("m", base_url=server.url).stream("x")
        with serve([pause(0.02), text("c")]) as other, pytest.raises(ProviderError) as caught:
            Hooked(other.url, fail).complete("x")
        assert type(caught.value.__cause__) is error
        go.set()
        assert good.read() == "ab"


def test_more_streams_than_select_can_wait_for_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With an error that says why; the open ones go on."""
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)
    monkeypatch.setattr(reader, "SELECT_SOCKETS", 3)
    go = threading.Event()
    with serve([text("a"), wait(go), text("b")]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        streams = [provider.stream("x") for _ in range(3)]
        with pytest.raises(ProviderError, match=r"more than 3 streams .* read or close some"):
            provider.complete("x")
        go.set()
        assert [stream.read() for stream in streams] == ["ab"] * 3
        assert provider.complete("x").text == "ab"


def test_stream_that_is_dropped_under_a_held_lock_is_closed_by_the_reader() -> None:
    """A finalizer must not wait: its thread may hold what the lock's holder waits for."""
    with serve([text("a"), stall()]) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("x")
        assert next(stream) == "a"
        held, free = threading.Event(), threading.Event()
        lock = channel_of(stream).lock

        def hold() -> None:
            with lock:
                held.set()
                assert free.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(10)
        start = time.monotonic()
        del stream
        gc.collect()
        assert time.monotonic() - start < 5
        free.set()
        thread.join()
        server.wait_closed(1)


def test_calls_that_begin_while_the_idle_reader_ends_are_served() -> None:
    """With deadlines kept: each call meets a reader in another moment of its end."""
    generator = random.Random(14)
    with serve([text("a"), pause(0.001), text("b")]) as server:
        provider = OpenAICompatible("m", base_url=server.url, timeouts=Timeouts(first_token=5))
        for _ in range(100):
            assert provider.complete("x").text == "ab"
            threading.Event().wait(reader.IDLE_THREAD_S * generator.uniform(0.8, 1.2))


def test_retry_without_a_thread_fails_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt failed in the reader thread, which sends no request itself."""
    go = threading.Event()
    with serve([[wait(go), cut()], ["Hello"]]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        stream = provider.stream("x")

        def refuse(*arguments: object) -> None:
            raise ProviderError("no thread can be started")

        monkeypatch.setattr(workers, "run", refuse)
        go.set()
        with pytest.raises(ProviderError, match="no thread can be started"):
            stream.read()
        monkeypatch.undo()
        assert provider.complete("x").text == "Hello"


def test_reader_without_descriptors_is_an_error_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is sent, and the next call works."""

    def no_descriptors() -> Any:
        raise OSError(24, "Too many open files")

    with serve(["Hello"]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        monkeypatch.setattr(selectors, "DefaultSelector", no_descriptors)
        with pytest.raises(ProviderError, match=r"Too many open files.*ulimit -n"):
            provider.stream("x")
        monkeypatch.undo()
        assert not server.requests
        assert provider.complete("x").text == "Hello"


def test_error_of_our_own_ends_one_call_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread goes on with the others."""
    go = threading.Event()
    with serve([text("a"), wait(go), text("b")]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        good, bad = provider.stream("x"), provider.stream("x")
        assert (next(good), next(bad)) == ("a", "a")
        turn, broken = Call.turn, channel_of(bad)

        def failing(call: Call) -> bool:
            if call.channel is broken:
                raise LookupError("ours")
            return turn(call)

        monkeypatch.setattr(Call, "turn", failing)
        go.set()
        with pytest.raises(ProviderError, match="unexpected LookupError") as caught:
            bad.read()
        assert caught.value.partial == "a"
        assert good.read() == "b"


def test_tls_records_that_have_arrived_are_read_together(tls: Any, ca: str) -> None:
    """One read of OpenSSL returns one record, which is often one event: others wait behind it."""
    sent = threading.Event()
    feeds: list[bool] = []

    def hook() -> None:
        feeds.append(sent.is_set())
        assert sent.wait(10)

    script = [*[text("a") for _ in range(100)], reached(sent)]
    with serve(script, tls=tls) as server:
        completion = Hooked(server.url, hook, verify=ca).complete("Hi")
    assert completion.text == "a" * 100
    assert len(feeds) < 10


def test_broken_tls_record_after_good_ones_cuts_the_answer(tls: ssl.SSLContext, ca: str) -> None:
    """It is found while the good ones are read, and nothing more arrives that would tell of it."""
    first, second, sent, more = (threading.Event() for _ in range(4))
    feeds = iter([first.set, lambda: [second.set(), sent.wait(10)], bool])
    event = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'

    def respond() -> None:
        with tls.wrap_socket(listener.accept()[0], server_side=True) as sock:
            while not sock.recv(65536).endswith(b"}"):
                pass
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            sock.sendall(event)
            first.wait(10)
            sock.sendall(event)
            second.wait(10)
            sock.sendall(event)
            os.write(sock.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
            sent.set()
            more.wait(20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=respond)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        provider = Hooked(url, lambda: next(feeds)(), verify=ca, timeouts=Timeouts(idle=5))
        started = time.monotonic()
        with provider, pytest.raises(StreamCut) as caught:
            provider.complete("Hi")
        assert time.monotonic() - started < 4  # not only when ``idle`` has passed
        more.set()
        thread.join(10)
    assert caught.value.partial == "aaa"


def test_failure_that_has_arrived_before_the_timeout_is_retried() -> None:
    """The reader saw it late only because it was busy: ``first_token`` does not end the call."""
    busy, free, go, sent = (threading.Event() for _ in range(4))

    def occupy() -> None:
        busy.set()
        assert free.wait(10)

    with (
        serve([wait(go), text("other")]) as first,
        serve([[wait(busy), reached(sent), cut()], ["Hello"]]) as second,
    ):
        other = Hooked(first.url, occupy).prepare("x").begin()
        provider = OpenAICompatible("m", base_url=second.url, timeouts=Timeouts(first_token=0.3))
        stream = provider.prepare("x").begin()
        first.wait_request()
        second.wait_request()
        go.set()
        assert busy.wait(10)
        assert sent.wait(10)
        threading.Event().wait(0.4)  # until ``first_token`` has passed
        free.set()
        assert (stream.read(), stream.stats.attempts) == ("Hello", 2)
        assert other.read() == "other"


def test_selector_that_fails_ends_the_open_calls_and_no_later_one() -> None:
    """Nobody waits for a thread that has ended, not even before the headers."""
    release = threading.Event()
    with (
        serve([[text("a"), stall()], ["Hello"]]) as server,
        serve(answer(before=[wait(release)])) as silent,
    ):
        provider = OpenAICompatible("m", base_url=server.url)
        stream = provider.stream("x")
        waiting = OpenAICompatible("m", base_url=silent.url).prepare("x").begin()
        silent.wait_request()
        assert next(stream) == "a"
        current = reader._current
        assert current is not None

        def fail(seconds: float) -> Any:
            raise OSError(9, "Bad file descriptor")

        current._selector.select = fail
        current._waker.wake()
        for each in (stream, waiting):
            with pytest.raises(ProviderError, match="unexpected OSError"):
                each.read()
        assert stream.text == "a"
        server.wait_closed(1)
        silent.wait_closed(1)
        release.set()
        assert provider.complete("x").text == "Hello"


def test_stream_whose_data_is_at_hand_gets_one_turn_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Although its socket is readable, too; else it gets more turns than others."""
    body = b"".join(OPENAI_EVENT % (b"y" * 1000) for _ in range(20_000))
    turns: list[int] = []
    read = reader.Reader._read

    def counting(self: reader.Reader, calls: list[Call]) -> None:
        turns.append(len(calls))
        read(self, calls)

    monkeypatch.setattr(reader.Reader, "_read", counting)
    with serve(answer(raw(body), gzip=True)) as server:
        answered = OpenAICompatible("m", base_url=server.url).complete("x")
    assert len(answered.text) == 20_000_000
    assert max(turns) == 1


def test_call_that_ends_with_a_full_buffer_does_not_wait_for_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer is complete; only the end of the body is missing, and does not come."""
    monkeypatch.setattr(call, "DRAIN_S", 0.5)
    event = OPENAI_EVENT % (b"y" * 300_000)
    with serve([raw(event + b"data: [DONE]\n\n"), stall()]) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("x")
        assert stream.wait(5)
        started = time.monotonic()
        assert len(stream.read()) == 300_000
        assert time.monotonic() - started < 2


def test_pings_do_not_postpone_the_end_of_a_complete_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the end of the stream is missing; a server that pings may never send it."""
    monkeypatch.setattr(channel, "AFTER_FINISH_S", 0.3)
    with serve([text("Hello"), finish(), ping(every=0.05)]) as server:
        provider = OpenAICompatible("m", base_url=server.url, timeouts=Timeouts(total=5))
        started = time.monotonic()
        answered = provider.complete("x")
        assert (answered.text, answered.outcome) == ("Hello", Outcome.COMPLETE)
        assert time.monotonic() - started < 3


def test_threads_that_wait_for_a_stream_leave_the_news_to_its_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of them is woken first, and does not take the text."""
    monkeypatch.setattr(wakeup, "THREAD_WAIT_S", 60)
    go = threading.Event()
    with serve([wait(go), text("a"), stall()]) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("x")
        texts: list[str] = []
        reading = threading.Thread(target=lambda: texts.append(next(stream)))
        waiting = [threading.Thread(target=stream.wait, args=(60,)) for _ in range(8)]
        threads = [*waiting[:4], reading, *waiting[4:]]
        for thread in threads:
            thread.start()
        go.set()
        reading.join(5)
        assert texts == ["a"]
        stream.close()
        for thread in threads:
            thread.join(5)


def test_waking_the_reader_uses_nothing_that_eventlet_replaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its ``os.write`` waits for the hub, and refuses a second writer: a worker would end."""

    def refuse(*arguments: object) -> None:
        raise RuntimeError("Second simultaneous write on fileno 5 detected")

    go = threading.Event()
    with serve([text("a"), wait(go), text("b")]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        monkeypatch.setattr("os.write", refuse)
        monkeypatch.setattr("os.read", refuse)
        streams = [provider.stream("x") for _ in range(3)]
        go.set()
        assert [stream.read() for stream in streams] == ["ab"] * 3


def test_call_posted_just_before_the_reader_waits_is_looked_at_first() -> None:
    """Nobody wakes a reader that is awake; it looks once more after it has said that it waits."""
    waiting = reader.Reader()
    later = Call(channel.Channel(Timeouts()), lambda _: iter(()), copy_context())  # type: ignore[arg-type, return-value]
    waiting._calls[later.number] = later
    waiting.post(later, channel.NOW)
    assert waiting._wait_s() == 0
    waiting._selector.close()
