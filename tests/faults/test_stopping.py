"""Stopping a call in every phase: from a thread, a signal handler, a finalizer, and by Ctrl-C."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from providers_sync import CancelToken, OpenAICompatible, Provider, Stream, StreamCancelled
from providers_sync.testing import serve, text

from .phases import CASES, PHASES, Phase, fill, wait_until

ROUNDS = 20
MEDIAN_S = 0.05
WORST_S = 0.25


class Stop:
    """A moment, and what is done in it."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.at = 0.0

    def __call__(self, *_: Any) -> None:
        self.at = time.monotonic()
        self.act()


class Dropped:
    """Garbage in a cycle, with a finalizer."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.me = self

    def __del__(self) -> None:
        self.act()


def from_thread(stop: Stop) -> Callable[[], None]:
    return stop


def from_signal_handler(stop: Stop) -> Callable[[], None]:
    """In the main thread, which is the one that waits."""
    signal.signal(signal.SIGUSR1, stop)
    return send_signal


def from_finalizer(stop: Stop) -> Callable[[], None]:
    """In whatever thread collects the garbage: here one that has nothing to do with the call."""

    def drop() -> None:
        Dropped(stop)
        gc.collect()

    return drop


def from_finalizer_in_the_waiting_thread(stop: Stop) -> Callable[[], None]:
    Dropped(stop)
    signal.signal(signal.SIGUSR1, lambda *_: gc.collect())
    return send_signal


def send_signal() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


WAYS: dict[str, Callable[[Stop], Callable[[], None]]] = {
    way.__name__.removeprefix("from_"): way
    for way in (
        from_thread,
        from_signal_handler,
        from_finalizer,
        from_finalizer_in_the_waiting_thread,
    )
}


@pytest.fixture
def _signals() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    gc.collect()
    gc.freeze()  # the other tests' modules, which take the collector 0.1 s each time
    yield
    gc.unfreeze()
    signal.signal(signal.SIGUSR1, before)


@contextlib.contextmanager
def once_ready(phase: Phase, streams: list[Stream], act: Callable[[], None]) -> Iterator[None]:
    """Act from another thread as soon as the call has come to its phase."""
    failures: list[BaseException] = []

    def wait_and_act() -> None:
        try:
            phase.ready()
            wait_until(lambda: len(streams) == phase.opens)
            if phase.text:
                wait_until(lambda: streams[0].text == phase.text)
            act()
        except BaseException as error:  # noqa: BLE001 (shown below)
            failures.append(error)

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    yield
    thread.join(10)
    assert not failures
    assert not thread.is_alive()


def ask(phase: Phase, streams: list[Stream], over: Callable[[], bool], **named: Any) -> None:
    """Read an answer as a user does; where the buffer is full, the user is elsewhere."""
    with phase.provider.stream("Hi", **named) as stream:
        if not phase.reads:
            fill(stream)
            streams.append(stream)
            wait_until(over)
        streams.append(stream)
        stream.read()


def assert_fast(delays: list[float]) -> None:
    assert statistics.median(delays) < MEDIAN_S
    assert max(delays) < WORST_S


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("phase", "wire"), CASES)
@pytest.mark.usefixtures("_signals")
def test_token_frees_the_reader_at_once(
    phase: str, wire: str, way: str, request: pytest.FixtureRequest
) -> None:
    """Median of 20 under 50 ms, worst under 250 ms; nothing is left behind."""
    delays = []
    with PHASES[phase](request, wire) as held:
        for _ in range(ROUNDS):
            token, streams = CancelToken(), []
            stop = Stop(token.cancel)
            with (
                once_ready(held, streams, WAYS[way](stop)),
                pytest.raises(StreamCancelled) as caught,
            ):
                ask(held, streams, lambda stop=stop: stop.at > 0, cancel=token)
            delays.append(time.monotonic() - stop.at)
            assert caught.value.outcome == "cancelled"
            if held.reads:
                assert caught.value.partial == held.text
        if held.server is not None and held.closes:
            held.server.wait_closed(ROUNDS, timeout=2)
    assert_fast(delays)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "phase", ["before the first event", "in the middle", "back-off from a cut"]
)
@pytest.mark.usefixtures("_signals")
def test_cancel_of_a_stream_frees_its_reader_at_once(
    phase: str, way: str, request: pytest.FixtureRequest
) -> None:
    """``stream.cancel()`` does what the token does, while another thread waits in ``next()``."""
    delays = []
    with PHASES[phase](request, "http") as held:
        for _ in range(ROUNDS):
            streams: list[Stream] = []
            stop = Stop(lambda streams=streams: streams[0].cancel())
            with (
                once_ready(held, streams, WAYS[way](stop)),
                pytest.raises(StreamCancelled) as caught,
            ):
                ask(held, streams, lambda: False)
            delays.append(time.monotonic() - stop.at)
            assert (caught.value.outcome, caught.value.partial) == ("cancelled", held.text)
    assert_fast(delays)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("_signals")
def test_cancel_of_a_full_stream_keeps_its_text(way: str, request: pytest.FixtureRequest) -> None:
    """``.partial`` has what nobody had read."""
    delays = []
    with PHASES["buffer full"](request, "http") as held:
        for _ in range(ROUNDS):
            stream = held.provider.stream("Hi")
            read = [next(stream), next(stream)]
            fill(stream)
            stop = Stop(stream.cancel)
            with once_ready(held, [stream], WAYS[way](stop)):
                wait_until(lambda stop=stop: stop.at > 0)
            with pytest.raises(StreamCancelled) as caught:
                next(stream)
            delays.append(time.monotonic() - stop.at)
            assert caught.value.partial == stream.text
            assert len(stream.text) > 100_000
            assert stream.text.startswith("".join(read))
            assert stream.outcome == "cancelled"
        held.server.wait_closed(ROUNDS, timeout=2)
    assert_fast(delays)


@pytest.mark.parametrize(("phase", "wire"), CASES)
def test_ctrl_c_frees_the_reader_at_once(
    phase: str, wire: str, request: pytest.FixtureRequest
) -> None:
    """``KeyboardInterrupt`` comes through in every phase, and the connection is closed."""
    delays = []
    with PHASES[phase](request, wire) as held:
        for _ in range(ROUNDS):
            stop = Stop(lambda: os.kill(os.getpid(), signal.SIGINT))
            streams: list[Stream] = []
            with once_ready(held, streams, stop), pytest.raises(KeyboardInterrupt):
                ask(held, streams, lambda: False)
            delays.append(time.monotonic() - stop.at)
            for stream in streams:
                assert stream.outcome == "cancelled"
                assert next(stream, None) is None
        if held.server is not None and held.closes:
            held.server.wait_closed(ROUNDS, timeout=2)
    assert_fast(delays)


WORDS = [f"word {i} " for i in range(2000)]
WHOLE = "".join(WORDS)


@contextlib.contextmanager
def at_random(handler: Callable[[int, Any], Any]) -> Iterator[None]:
    """Have a signal handler run once, in the main thread, within the next 30 ms."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.03))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


Handler = Callable[[int, Any], Any]


def read_busily(
    provider: Provider, handler: Handler, chunks: list[str], **named: Any
) -> Iterator[Stream]:
    """Read an answer of many small chunks under a signal; yield the stream, whatever happens."""
    # Not sooner: an interrupt inside Thread.start() leaves threading's own books in disorder.
    with provider.stream("Hi", **named) as stream:
        yield stream
        with at_random(handler):
            chunks.extend(stream)
            time.sleep(0.05)


def test_ctrl_c_at_any_moment_of_a_busy_stream_loses_nothing() -> None:
    """Only ``KeyboardInterrupt`` comes out, ``.text`` has all that was handed over."""
    with serve([text(word) for word in WORDS]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        for _ in range(80):
            chunks: list[str] = []
            call = read_busily(provider, signal.default_int_handler, chunks)
            stream = next(call)
            with pytest.raises(KeyboardInterrupt):
                next(call)
            assert_whole_so_far(stream, chunks)


def test_cancel_by_a_signal_at_any_moment_of_a_busy_stream_loses_nothing() -> None:
    """``.partial`` and ``.text`` agree, wherever the handler came in."""
    with serve([text(word) for word in WORDS]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        for _ in range(80):
            token, chunks = CancelToken(), []
            call = read_busily(provider, Stop(token.cancel), chunks, cancel=token)
            stream = next(call)
            try:
                next(call, None)
            except StreamCancelled as error:
                partial = error.partial
            else:
                partial = WHOLE
            assert partial == stream.text
            assert_whole_so_far(stream, chunks)


def assert_whole_so_far(stream: Stream, chunks: list[str]) -> None:
    assert stream.outcome in ("cancelled", "complete")
    assert stream.text.startswith("".join(chunks))
    assert WHOLE.startswith(stream.text)
