"""Tests of cancelling a call in every phase: from a thread, signal handler, finalizer, Ctrl-C."""

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


class TimedAction:
    """An action that records in ``at`` when it ran; 0 before that."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.at = 0.0

    def __call__(self, *_: Any) -> None:
        self.at = time.monotonic()
        self.act()


class Garbage:
    """An object with a finalizer in a reference cycle."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.cycle = self

    def __del__(self) -> None:
        self.act()


def from_thread(action: TimedAction) -> Callable[[], None]:
    return action


def from_signal_handler(action: TimedAction) -> Callable[[], None]:
    """Cancel in the main thread, which is the waiting one."""
    signal.signal(signal.SIGUSR1, action)
    return send_signal


def from_finalizer(action: TimedAction) -> Callable[[], None]:
    """Cancel in the thread that collects garbage, here one that is not involved in the call."""

    def drop() -> None:
        Garbage(action)
        gc.collect()

    return drop


def from_finalizer_in_the_waiting_thread(action: TimedAction) -> Callable[[], None]:
    Garbage(action)
    signal.signal(signal.SIGUSR1, lambda *_: gc.collect())
    return send_signal


def send_signal() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


TRIGGERS: dict[str, Callable[[TimedAction], Callable[[], None]]] = {
    trigger.__name__.removeprefix("from_"): trigger
    for trigger in (
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
    gc.freeze()  # a collection that includes all modules would take 0.1 s
    yield
    signal.signal(signal.SIGUSR1, before)


@contextlib.contextmanager
def once_ready(phase: Phase, streams: list[Stream], act: Callable[[], None]) -> Iterator[None]:
    """Run ``act`` in another thread as soon as the call is in its phase."""
    failures: list[BaseException] = []

    def wait_and_act() -> None:
        try:
            phase.ready()
            wait_until(lambda: len(streams) == phase.opens)
            if phase.text:
                wait_until(lambda: streams[0].text == phase.text)
            act()
        except BaseException as error:  # noqa: BLE001 (checked below)
            failures.append(error)

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    yield
    thread.join(10)
    assert not failures
    assert not thread.is_alive()


def call(phase: Phase, streams: list[Stream], is_over: Callable[[], bool], **options: Any) -> None:
    """Read an answer to its end; in the phase with a full buffer, wait without reading first."""
    with phase.provider.stream("Hi", **options) as stream:
        if not phase.reads:
            fill(stream)
            streams.append(stream)
            wait_until(is_over)
        streams.append(stream)
        stream.read()


def assert_fast(delays: list[float]) -> None:
    assert statistics.median(delays) < MEDIAN_S
    assert max(delays) < WORST_S


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize(("phase", "scheme"), CASES)
@pytest.mark.usefixtures("_signals")
def test_token_ends_the_call_immediately(
    phase: str, scheme: str, trigger: str, request: pytest.FixtureRequest
) -> None:
    """Median of 20 below 50 ms, worst below 250 ms; no connection stays open."""
    delays = []
    with PHASES[phase](request, scheme) as stalled:
        for _ in range(ROUNDS):
            token, streams = CancelToken(), []
            action = TimedAction(token.cancel)
            with (
                once_ready(stalled, streams, TRIGGERS[trigger](action)),
                pytest.raises(StreamCancelled) as caught,
            ):
                call(stalled, streams, lambda action=action: action.at > 0, cancel=token)
            delays.append(time.monotonic() - action.at)
            assert caught.value.outcome == "cancelled"
            if stalled.reads:
                assert caught.value.partial == stalled.text
        if stalled.server is not None and stalled.closes:
            stalled.server.wait_closed(ROUNDS, timeout=2)
    assert_fast(delays)


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize(
    "phase", ["before the first event", "in the middle", "back-off from a cut"]
)
@pytest.mark.usefixtures("_signals")
def test_cancel_of_a_stream_ends_its_next_immediately(
    phase: str, trigger: str, request: pytest.FixtureRequest
) -> None:
    """``stream.cancel()`` does the same as the token while another thread waits in ``next()``."""
    delays = []
    with PHASES[phase](request, "http") as stalled:
        for _ in range(ROUNDS):
            streams: list[Stream] = []
            action = TimedAction(lambda streams=streams: streams[0].cancel())
            with (
                once_ready(stalled, streams, TRIGGERS[trigger](action)),
                pytest.raises(StreamCancelled) as caught,
            ):
                call(stalled, streams, lambda: False)
            delays.append(time.monotonic() - action.at)
            assert (caught.value.outcome, caught.value.partial) == ("cancelled", stalled.text)
    assert_fast(delays)


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.usefixtures("_signals")
def test_cancel_of_a_full_stream_keeps_its_text(
    trigger: str, request: pytest.FixtureRequest
) -> None:
    """``.partial`` includes the text that had not been read yet."""
    delays = []
    with PHASES["buffer full"](request, "http") as stalled:
        for _ in range(ROUNDS):
            stream = stalled.provider.stream("Hi")
            read = [next(stream), next(stream)]
            fill(stream)
            action = TimedAction(stream.cancel)
            with once_ready(stalled, [stream], TRIGGERS[trigger](action)):
                wait_until(lambda action=action: action.at > 0)
            with pytest.raises(StreamCancelled) as caught:
                next(stream)
            delays.append(time.monotonic() - action.at)
            assert caught.value.partial == stream.text
            assert len(stream.text) > 100_000
            assert stream.text.startswith("".join(read))
            assert stream.outcome == "cancelled"
        stalled.server.wait_closed(ROUNDS, timeout=2)
    assert_fast(delays)


@pytest.mark.parametrize(("phase", "scheme"), CASES)
def test_ctrl_c_ends_the_call_immediately(
    phase: str, scheme: str, request: pytest.FixtureRequest
) -> None:
    """``KeyboardInterrupt`` is raised in every phase, and the connection is closed."""
    delays = []
    with PHASES[phase](request, scheme) as stalled:
        for _ in range(ROUNDS):
            action = TimedAction(lambda: os.kill(os.getpid(), signal.SIGINT))
            streams: list[Stream] = []
            with once_ready(stalled, streams, action), pytest.raises(KeyboardInterrupt):
                call(stalled, streams, lambda: False)
            delays.append(time.monotonic() - action.at)
            for stream in streams:
                assert stream.outcome == "cancelled"
                assert next(stream, None) is None
        if stalled.server is not None and stalled.closes:
            stalled.server.wait_closed(ROUNDS, timeout=2)
    assert_fast(delays)


WORDS = [f"word {i} " for i in range(2000)]
FULL_TEXT = "".join(WORDS)


@contextlib.contextmanager
def at_random(handler: Callable[[int, Any], Any]) -> Iterator[None]:
    """Run a signal handler once, in the main thread, within the next 30 ms."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.03))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


Handler = Callable[[int, Any], Any]


def read_under_signal(
    provider: Provider, handler: Handler, chunks: list[str], **options: Any
) -> Iterator[Stream]:
    """Yield the stream, then read its many small chunks while a signal arrives."""
    # No signal before: an interrupt inside Thread.start() corrupts the threading module's state.
    with provider.stream("Hi", **options) as stream:
        yield stream
        with at_random(handler):
            chunks.extend(stream)
            time.sleep(0.05)


def test_ctrl_c_at_any_moment_of_a_fast_stream_loses_nothing() -> None:
    """Only ``KeyboardInterrupt`` is raised, and ``.text`` has every chunk that was returned."""
    with serve([text(word) for word in WORDS]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        for _ in range(80):
            chunks: list[str] = []
            reading = read_under_signal(provider, signal.default_int_handler, chunks)
            stream = next(reading)
            with pytest.raises(KeyboardInterrupt):
                next(reading)
            assert_text_is_consistent(stream, chunks)


def test_cancel_by_a_signal_at_any_moment_of_a_fast_stream_loses_nothing() -> None:
    """``.partial`` and ``.text`` agree at whatever point the handler runs."""
    with serve([text(word) for word in WORDS]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        for _ in range(80):
            token, chunks = CancelToken(), []
            reading = read_under_signal(provider, TimedAction(token.cancel), chunks, cancel=token)
            stream = next(reading)
            try:
                next(reading, None)
            except StreamCancelled as error:
                partial = error.partial
            else:
                partial = FULL_TEXT
            assert partial == stream.text
            assert_text_is_consistent(stream, chunks)


def assert_text_is_consistent(stream: Stream, chunks: list[str]) -> None:
    assert stream.outcome in ("cancelled", "complete")
    assert stream.text.startswith("".join(chunks))
    assert FULL_TEXT.startswith(stream.text)
