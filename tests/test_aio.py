"""The async adapter: one event loop, no waiting threads, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from providers_sync import (
    CancelToken,
    Finish,
    InvalidRequestError,
    OpenAICompatible,
    Outcome,
    StreamCancelled,
    StreamCut,
    TextDelta,
    Timeouts,
    aio,
)
from providers_sync.testing import answer, cut, serve, stall, text, wait

WORDS = [text("Hel"), text("lo "), text("wörld")]


def openai(url: str, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=url, **settings)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine; whatever asyncio complains of fails the test."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, c: complaints.append(c))
        result = await main
        assert len(asyncio.all_tasks()) == 1
        return result

    result = asyncio.run(watched())
    gc.collect()
    assert complaints == []
    return result


def test_stream_gives_the_chunks_and_the_verdict() -> None:
    """The same chunks as the sync iterator, then the outcome."""

    async def main(url: str) -> None:
        stream = aio.stream(openai(url), "Hi")
        assert (stream.text, stream.outcome) == ("", None)
        assert [chunk async for chunk in stream] == ["Hel", "lo ", "wörld"]
        assert (stream.text, stream.outcome) == ("Hello wörld", Outcome.COMPLETE)
        assert stream.finish_reason == "stop"
        assert stream.stats is not None
        assert stream.stats.chunks == 3

    with serve(WORDS) as server:
        run(main(server.url))


def test_complete_and_events() -> None:
    """``complete`` returns the ``Completion``; events come typed."""

    async def main(url: str) -> None:
        completion = await aio.complete(openai(url), "Hi")
        assert (completion.text, completion.outcome) == ("Hello wörld", "complete")
        events = [event async for event in aio.stream(openai(url), "Hi").events()]
        assert events == [TextDelta("Hel"), TextDelta("lo "), TextDelta("wörld"), Finish("stop")]

    with serve(WORDS) as server:
        run(main(server.url))


def test_events_and_chunks_share_the_cursor() -> None:
    """Whichever of the two stood still, it goes on where the other one has come to."""
    go = threading.Event()
    event = b'data: {"choices": [{"delta": {"content": "%b"}}]}\n\n'
    more = b"".join(event % word for word in (b"b", b"c", b"d"))

    async def main(url: str) -> None:
        stream = aio.stream(openai(url), "Hi")
        events = stream.events()
        assert await events.__anext__() == TextDelta("a")
        go.set()
        assert await stream.__anext__() == "b"
        assert await events.__anext__() == TextDelta("c")
        assert [chunk async for chunk in stream] == ["d"]
        assert [event async for event in events] == []

    with serve(["a", wait(go), more]) as server:
        run(main(server.url))


def test_everything_raises_at_the_first_await() -> None:
    """Making the stream raises nothing and sends nothing."""

    async def main(url: str) -> None:
        bad = aio.stream(openai(url), [])
        with pytest.raises(InvalidRequestError, match="messages is empty"):
            await bad
        refused = aio.stream(openai("http://127.0.0.1:9", retry=None), "Hi")
        with pytest.raises(ConnectionError):
            async for _ in refused:
                pass

    with serve(WORDS) as server:
        run(main(server.url))
        assert server.connections == []


def test_fault_comes_after_the_text() -> None:
    """All that was received is handed over, then the error with the same text in it."""

    async def main(url: str) -> None:
        got = []
        stream = aio.stream(openai(url), "Hi")
        with pytest.raises(StreamCut) as caught:  # noqa: PT012
            async for chunk in stream:
                got.append(chunk)
        assert "".join(got) == caught.value.partial == stream.text == "Hello wörld"
        assert stream.outcome is Outcome.CUT

    with serve([*WORDS, cut()]) as server:
        run(main(server.url))


@pytest.mark.parametrize("clock", ["first_token", "idle", "total"])
def test_clocks_hold_without_a_thread_that_waits(clock: str) -> None:
    """Silence ends by the clock, within a quarter of a second."""

    async def main(url: str) -> None:
        provider = openai(url, timeouts=Timeouts(**{clock: 0.2}))
        began = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            await aio.complete(provider, "Hi")
        assert caught.value.clock == clock  # type: ignore[attr-defined]
        assert time.monotonic() - began < 0.45

    with serve([stall()] if clock == "first_token" else [*WORDS, stall()]) as server:
        run(main(server.url))


async def leave_by_break(stream: aio.AsyncStream) -> None:
    async for _ in stream:
        break


async def leave_by_aclose(stream: aio.AsyncStream) -> None:
    await stream.__anext__()
    await stream.aclose()
    assert [chunk async for chunk in stream] == []


async def leave_by_cancelling(stream: aio.AsyncStream) -> None:
    heard = asyncio.Event()

    async def read() -> None:
        async for _ in stream:
            heard.set()

    task = asyncio.create_task(read())
    await heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stream.outcome is Outcome.CANCELLED


async def leave_by_wait_for(stream: aio.AsyncStream) -> None:
    async def read() -> None:
        async for _ in stream:
            pass

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(read(), 0.1)
    assert stream.text == "a"


async def leave_by_with(stream: aio.AsyncStream) -> None:
    async with stream:
        await stream.__anext__()


async def leave_by_waiting_elsewhere(stream: aio.AsyncStream) -> None:
    """Another task closes the stream under the reader's wait: the reader is at its end."""
    task = asyncio.create_task(_join(stream))
    while stream.text != "a":
        await asyncio.sleep(0)
    await stream.aclose()
    assert await task == "a"


async def _join(stream: AsyncIterator[str]) -> str:
    return "".join([chunk async for chunk in stream])


@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
def test_leaving_before_it_begins_sends_nothing(reads: bool) -> None:
    """Unread, or while its question is made ready for another task: closed is closed."""
    begun, go = threading.Event(), threading.Event()

    class Slow(OpenAICompatible):
        def prepare(self, *args: Any, **options: Any) -> Any:
            begun.set()
            assert go.wait(10)
            return super().prepare(*args, **options)

    async def main(url: str) -> None:
        stream = aio.stream(Slow("m", base_url=url), "Hi")
        task = asyncio.create_task(_join(stream)) if reads else None
        if task:
            await asyncio.to_thread(begun.wait, 10)
        await stream.aclose()
        assert stream.outcome is Outcome.CANCELLED
        go.set()
        assert (await task if task else "") == ""
        assert await stream is stream
        assert [chunk async for chunk in stream] == []

    with serve(WORDS) as server:
        run(main(server.url))
        assert server.requests == []


@pytest.mark.parametrize("turns", range(4))
def test_leaving_about_when_it_begins_stops_it(turns: int) -> None:
    """Turn after turn of the loop: whoever has come first, the reader is at its end."""

    async def main(url: str) -> None:
        stream = aio.stream(openai(url), "Hi")
        task = asyncio.create_task(_join(stream))
        for _ in range(turns):
            await asyncio.sleep(0)
        await stream.aclose()
        assert stream.outcome is Outcome.CANCELLED
        assert await task == ""

    with serve([stall()]) as server:
        run(main(server.url))
        for request in server.requests:
            server.wait_closed(request.connection, timeout=1)


WAYS = [
    leave_by_break,
    leave_by_aclose,
    leave_by_cancelling,
    leave_by_wait_for,
    leave_by_with,
    leave_by_waiting_elsewhere,
]


@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__)
def test_leaving_stops_the_stream_at_once(
    leave: Callable[[aio.AsyncStream], Coroutine[Any, Any, None]],
) -> None:
    """However the reader leaves, the server sees the close, and asyncio has no complaint."""

    async def main(url: str) -> None:
        await leave(aio.stream(openai(url), "Hi"))
        await asyncio.to_thread(server.wait_closed, 1, 1.0)

    with serve([text("a"), stall()]) as server:
        run(main(server.url))


@pytest.mark.parametrize("script", ["headers", "body"])
def test_cancelling_returns_at_once(script: str) -> None:
    """Median of 20 under 50 ms, waiting for headers and for text."""

    async def main(url: str) -> list[float]:
        delays = []
        for round_ in range(1, 21):
            task = asyncio.create_task(aio.complete(openai(url), "Hi"))
            await asyncio.to_thread(server.wait_request, round_)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            delays.append(time.monotonic() - began)
        return delays

    with serve(answer(before=[stall()]) if script == "headers" else [stall()]) as server:
        assert statistics.median(run(main(server.url))) < 0.05
        server.wait_closed(20, timeout=1)


def test_loop_that_ends_takes_its_streams_along() -> None:
    """``asyncio.run`` returns while a stream is open: the server sees the close."""

    async def main(url: str) -> None:
        global kept
        kept = aio.stream(openai(url), "Hi")
        assert await kept.__anext__() == "a"

    with serve([text("a"), stall()]) as server:
        asyncio.run(main(server.url))
        server.wait_closed(1, timeout=1)
        assert kept.outcome is Outcome.CANCELLED


kept: aio.AsyncStream


def test_token_cancels_from_a_thread() -> None:
    """A ``CancelToken`` works as it does for the sync stream."""

    async def main(url: str) -> None:
        token = CancelToken()
        task = asyncio.create_task(aio.complete(openai(url), "Hi", cancel=token))
        await asyncio.to_thread(server.wait_request, 1)
        threading.Thread(target=token.cancel).start()
        with pytest.raises(StreamCancelled):
            await task

    with serve([text("a"), stall()]) as server:
        run(main(server.url))


def test_hundred_silent_streams_leave_the_executor_free() -> None:
    """An unrelated ``to_thread`` call is as quick as ever while a hundred streams wait."""

    async def main(url: str) -> float:
        provider = openai(url)
        tasks = [asyncio.create_task(aio.complete(provider, "Hi")) for _ in range(100)]
        await asyncio.to_thread(server.wait_request, 100)
        delays = []
        for _ in range(20):
            began = time.monotonic()
            await asyncio.to_thread(lambda: None)
            delays.append(time.monotonic() - began)
        go.set()
        assert {each.text for each in await asyncio.gather(*tasks)} == {"ab"}
        return statistics.median(delays)

    go = threading.Event()
    with serve([text("a"), wait(go), text("b")]) as server:
        assert run(main(server.url)) < 0.02


def test_burst_costs_at_most_twice_the_sync_iterator() -> None:
    """CPU per chunk of a coalesced burst, median of interleaved rounds."""
    burst = [text("word")] * 5000

    async def read(url: str) -> int:
        return len([chunk async for chunk in aio.stream(openai(url), "Hi")])

    def cost(what: Callable[[], int]) -> float:
        began = time.process_time()
        assert what() == 5000
        return time.process_time() - began

    with serve(burst) as server:
        ratios = []
        for _ in range(5):
            sync = cost(lambda: len(list(openai(server.url).stream("Hi"))))
            ratios.append(cost(lambda: asyncio.run(read(server.url))) / sync)
    assert statistics.median(ratios) < 2
