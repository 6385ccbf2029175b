"""Who reads: the stream's thread for the main thread, a waiting reader elsewhere for itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

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


def opened(url: str, **settings: Any) -> Stream:
    return OpenAICompatible("m", base_url=url, **settings).stream("Hi")


def in_a_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start ``work`` in a thread; return what waits for its result or raises its error."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:  # noqa: BLE001 (raised again by who waits)
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> Any:
        thread.join(10)
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    return result


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def is_in_source(stream: Stream) -> bool:
    return bool(stream._channel._is_reading)  # type: ignore[attr-defined]


def steps(stream: Stream) -> int:
    return int(stream._channel._steps)  # type: ignore[attr-defined]


def lent(*rest: Any) -> tuple[list[Any], Callable[[Stream], None]]:
    """Return a script, and what waits until a reader has borrowed the source within it."""
    go = threading.Event()

    def lend(stream: Stream) -> None:
        until(lambda: is_in_source(stream) or bool(stream._channel._is_wanted))  # type: ignore[attr-defined]
        go.set()
        until(lambda: stream.text == "ab" and is_in_source(stream))

    return [text("a"), wait(go), text("b"), *rest], lend


@pytest.mark.parametrize("is_main", [True, False])
def test_waiting_reader_reads_for_itself_but_for_the_main_thread(is_main: bool) -> None:
    """Word by word it takes them from the source, and the answer is whole."""
    with serve([text("a"), pause(0.02), text("b"), pause(0.02), text("c")]) as server:
        stream = opened(server.url)
        read = stream.read() if is_main else in_a_thread(stream.read)()
        assert read == "abc"
        assert (steps(stream) > 0) != is_main
        assert stream.outcome is Outcome.COMPLETE


def test_cancel_frees_a_reader_in_the_source() -> None:
    """From another thread, at once, with all text in hand."""
    script, lend = lent(stall())
    with serve(script) as server:
        stream = opened(server.url)
        result = in_a_thread(lambda: list(stream))
        lend(stream)
        began = time.monotonic()
        stream.cancel()
        with pytest.raises(StreamCancelled) as caught:
            result()
        assert time.monotonic() - began < 0.25
        assert caught.value.partial == stream.text == "ab"


@pytest.mark.parametrize(
    ("clock", "outcome"), [("idle", Outcome.STALLED), ("total", Outcome.DEADLINE)]
)
def test_clocks_fire_on_a_reader_in_the_source(clock: str, outcome: Outcome) -> None:
    """The thread that has lent the source keeps them."""
    script, lend = lent(stall())
    with serve(script) as server:
        began = time.monotonic()
        stream = opened(server.url, timeouts=Timeouts(**{clock: 0.3}))
        result = in_a_thread(lambda: list(stream))
        lend(stream)
        with pytest.raises(APITimeoutError) as caught:
            result()
        assert 0.3 <= time.monotonic() - began < 0.55
        assert (caught.value.clock, caught.value.outcome) == (clock, outcome)
        assert caught.value.partial == "ab"


def test_reader_that_stays_away_is_read_for_and_loses_no_time() -> None:
    """The thread takes the source back; ``idle`` stands still for a reader that is away."""
    go = threading.Event()
    with serve([text("a"), text("b"), wait(go), text("c"), stall()]) as server:
        stream = opened(server.url, timeouts=Timeouts(idle=5, total=20))
        assert in_a_thread(lambda: [next(stream), next(stream)])() == ["a", "b"]
        size = stream.stats.bytes
        go.set()
        until(lambda: stream.stats.bytes > size)
        stream.close()
        assert stream.text == "abc"


def test_reader_that_finds_a_crowd_gives_the_source_back() -> None:
    """Where one read brings many events, the thread's batches carry them."""
    go = threading.Event()
    script, lend = lent(wait(go), repeat(text("x"), times=2000))
    with serve(script) as server:
        stream = opened(server.url)
        result = in_a_thread(stream.read)
        lend(stream)
        go.set()
        assert result() == "ab" + "x" * 2000
        assert steps(stream) < 1000


def test_cut_before_a_reader_in_the_source_is_told_once() -> None:
    """Nothing is asked again, and no text comes twice."""
    go = threading.Event()
    script, lend = lent(wait(go), text("c"), cut())
    with serve(script) as server:
        stream = opened(server.url)
        result = in_a_thread(lambda: list(stream))
        lend(stream)
        go.set()
        with pytest.raises(StreamCut) as caught:
            result()
        assert caught.value.partial == "abc"
        assert len(server.requests) == 1


def test_main_thread_that_goes_on_need_not_wait_for_the_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has the thread read for it, however long that would wait for the reader that left."""
    monkeypatch.setattr(direct_channel, "READER_AWAY_S", 5.0)
    go = threading.Event()
    script, lend = lent(wait(go), text("c"), wait(go), text("d"), pause(0.02), text("e"))
    with serve(script) as server:
        stream = opened(server.url)
        result = in_a_thread(lambda: [next(stream) for _ in range(3)])
        lend(stream)
        go.set()
        assert result() == ["a", "b", "c"]
        began = time.monotonic()
        assert stream.read() == "de"
        assert time.monotonic() - began < 1


def test_first_text_after_thoughts_is_timed() -> None:
    """Also where the reader itself reads it."""
    go = threading.Event()
    with serve([reasoning("a"), wait(go), reasoning("b"), pause(0.02), text("c")]) as server:
        stream = opened(server.url)
        result = in_a_thread(stream.read)
        until(lambda: is_in_source(stream) or bool(stream._channel._is_wanted))  # type: ignore[attr-defined]
        go.set()
        assert result() == "c"
        assert steps(stream) > 0
        assert stream.stats.first_chunk_s is not None
