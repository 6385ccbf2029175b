"""Direct reading: a waiting caller reads the source itself, except in the main thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from faults.phases import wait_until

from providers_sync import (
    APITimeoutError,
    OpenAICompatible,
    Outcome,
    Stream,
    StreamCancelled,
    StreamCut,
    Timeouts,
)
from providers_sync.stream import direct_channel
from providers_sync.testing import cut, pause, reasoning, repeat, serve, stall, text, wait


def open_stream(url: str, **settings: Any) -> Stream:
    return OpenAICompatible("m", base_url=url, **settings).stream("Hi")


def run_in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start ``work`` in a thread; return a function that waits for it and returns its result."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 (raised again by ``result``)
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> Any:
        thread.join(10)
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    return result


def is_reading_directly(stream: Stream) -> bool:
    return bool(stream._channel._is_reading)  # type: ignore[attr-defined]


def direct_reads(stream: Stream) -> int:
    return int(stream._channel._steps)  # type: ignore[attr-defined]


def direct_script(*rest: Any) -> tuple[list[Any], Callable[[Stream], None]]:
    """Return a script, and a function that waits until a caller reads directly within it."""
    go = threading.Event()

    def wait_for_caller(stream: Stream) -> None:
        wait_until(lambda: is_reading_directly(stream) or bool(stream._channel._caller_waits))  # type: ignore[attr-defined]
        go.set()
        wait_until(lambda: stream.text == "ab" and is_reading_directly(stream))

    return [text("a"), wait(go), text("b"), *rest], wait_for_caller


@pytest.mark.parametrize("is_main", [True, False])
def test_waiting_caller_reads_directly_except_in_the_main_thread(is_main: bool) -> None:
    """It reads event by event from the source, and the answer is complete."""
    with serve([text("a"), pause(0.02), text("b"), pause(0.02), text("c")]) as server:
        stream = open_stream(server.url)
        read = stream.read() if is_main else run_in_thread(stream.read)()
        assert read == "abc"
        assert (direct_reads(stream) > 0) != is_main
        assert stream.outcome is Outcome.COMPLETE


def test_cancel_unblocks_a_direct_read() -> None:
    """From another thread, at once, with all text that had arrived."""
    script, wait_for_caller = direct_script(stall())
    with serve(script) as server:
        stream = open_stream(server.url)
        result = run_in_thread(lambda: list(stream))
        wait_for_caller(stream)
        start = time.monotonic()
        stream.cancel()
        with pytest.raises(StreamCancelled) as caught:
            result()
        assert time.monotonic() - start < 0.25
        assert caught.value.partial == stream.text == "ab"


@pytest.mark.parametrize(
    ("timeout", "outcome"), [("idle", Outcome.STALLED), ("total", Outcome.DEADLINE)]
)
def test_timeouts_expire_during_a_direct_read(timeout: str, outcome: Outcome) -> None:
    """The worker thread enforces them."""
    script, wait_for_caller = direct_script(stall())
    with serve(script) as server:
        start = time.monotonic()
        stream = open_stream(server.url, timeouts=Timeouts(**{timeout: 0.3}))
        result = run_in_thread(lambda: list(stream))
        wait_for_caller(stream)
        with pytest.raises(APITimeoutError) as caught:
            result()
        assert 0.3 <= time.monotonic() - start < 0.55
        assert (caught.value.clock, caught.value.outcome) == (timeout, outcome)
        assert caught.value.partial == "ab"


def test_worker_thread_reads_on_when_the_caller_stops_reading() -> None:
    """The worker thread reads again; ``idle`` is paused while the caller does not read."""
    go = threading.Event()
    with serve([text("a"), text("b"), wait(go), text("c"), stall()]) as server:
        stream = open_stream(server.url, timeouts=Timeouts(idle=5, total=20))
        assert run_in_thread(lambda: [next(stream), next(stream)])() == ["a", "b"]
        size = stream.stats.bytes
        go.set()
        wait_until(lambda: stream.stats.bytes > size)
        stream.close()
        assert stream.text == "abc"


def test_many_events_in_one_read_end_direct_reading() -> None:
    """If one read brings many events, the worker thread hands them over in batches."""
    go = threading.Event()
    script, wait_for_caller = direct_script(wait(go), repeat(text("x"), times=2000))
    with serve(script) as server:
        stream = open_stream(server.url)
        result = run_in_thread(stream.read)
        wait_for_caller(stream)
        go.set()
        assert result() == "ab" + "x" * 2000
        assert direct_reads(stream) < 1000


def test_cut_during_a_direct_read_is_raised_once() -> None:
    """The request is not repeated, and no text comes twice."""
    go = threading.Event()
    script, wait_for_caller = direct_script(wait(go), text("c"), cut())
    with serve(script) as server:
        stream = open_stream(server.url)
        result = run_in_thread(lambda: list(stream))
        wait_for_caller(stream)
        go.set()
        with pytest.raises(StreamCut) as caught:
            result()
        assert caught.value.partial == "abc"
        assert len(server.requests) == 1


def test_main_thread_can_continue_a_stream_that_was_read_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker thread reads for it at once, without waiting until the first caller is idle."""
    monkeypatch.setattr(direct_channel, "CALLER_IDLE_S", 5.0)
    go = threading.Event()
    script, wait_for_caller = direct_script(
        wait(go), text("c"), wait(go), text("d"), pause(0.02), text("e")
    )
    with serve(script) as server:
        stream = open_stream(server.url)
        result = run_in_thread(lambda: [next(stream) for _ in range(3)])
        wait_for_caller(stream)
        go.set()
        assert result() == ["a", "b", "c"]
        start = time.monotonic()
        assert stream.read() == "de"
        assert time.monotonic() - start < 1


def test_first_text_after_reasoning_is_timed() -> None:
    """Even if the caller reads it directly."""
    go = threading.Event()
    with serve([reasoning("a"), wait(go), reasoning("b"), pause(0.02), text("c")]) as server:
        stream = open_stream(server.url)
        result = run_in_thread(stream.read)
        wait_until(lambda: is_reading_directly(stream) or bool(stream._channel._caller_waits))  # type: ignore[attr-defined]
        go.set()
        assert result() == "c"
        assert direct_reads(stream) > 0
        assert stream.stats.first_chunk_s is not None
