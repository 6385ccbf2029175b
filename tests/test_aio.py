"""The async adapter: streaming in one event loop, without blocked threads or leaks."""

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
    """Run a coroutine; fail on anything that asyncio reports to the exception handler."""
    errors: list[dict[str, Any]] = []

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, c: errors.append(c))
        result = await main
        assert len(asyncio.all_tasks()) == 1
        return result

    result = asyncio.run(watched())
    gc.collect()
    assert errors == []
    return result


def test_stream_yields_the_chunks_and_sets_the_outcome() -> None:
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
    """Each of the two continues where the other one stopped."""
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


def test_errors_are_raised_at_the_first_await() -> None:
    """Creating the stream raises nothing and sends nothing."""

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


def test_error_is_raised_after_the_text() -> None:
    """All received text is handed over, then the error is raised with the same text in it."""

    async def main(url: str) -> None:
        chunks = []
        stream = aio.stream(openai(url), "Hi")
        with pytest.raises(StreamCut) as caught:  # noqa: PT012
            async for chunk in stream:
                chunks.append(chunk)
        assert "".join(chunks) == caught.value.partial == stream.text == "Hello wörld"
        assert stream.outcome is Outcome.CUT

    with serve([*WORDS, cut()]) as server:
        run(main(server.url))


@pytest.mark.parametrize("timeout", ["first_token", "idle", "total"])
def test_timeouts_expire_without_a_waiting_thread(timeout: str) -> None:
    """A silent stream ends within a quarter of a second after the timeout."""

    async def main(url: str) -> None:
        provider = openai(url, timeouts=Timeouts(**{timeout: 0.2}))
        start = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            await aio.complete(provider, "Hi")
        assert caught.value.clock == timeout  # type: ignore[attr-defined]
        assert time.monotonic() - start < 0.45

    with serve([stall()] if timeout == "first_token" else [*WORDS, stall()]) as server:
        run(main(server.url))


async def leave_by_break(stream: aio.AsyncStream) -> None:
    async for _ in stream:
        break


async def leave_by_aclose(stream: aio.AsyncStream) -> None:
    await stream.__anext__()
    await stream.aclose()
    assert [chunk async for chunk in stream] == []


async def leave_by_cancelling(stream: aio.AsyncStream) -> None:
    received = asyncio.Event()

    async def read() -> None:
        async for _ in stream:
            received.set()

    task = asyncio.create_task(read())
    await received.wait()
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


async def leave_by_aclose_in_another_task(stream: aio.AsyncStream) -> None:
    """Another task closes the stream while one waits for it: the waiting iteration ends."""
    task = asyncio.create_task(_join(stream))
    while stream.text != "a":
        await asyncio.sleep(0)
    await stream.aclose()
    assert await task == "a"


async def _join(stream: AsyncIterator[str]) -> str:
    return "".join([chunk async for chunk in stream])


@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
def test_closing_before_the_start_sends_nothing(reads: bool) -> None:
    """Unread, or while another task still prepares the request: the stream stays closed."""
    preparing, go = threading.Event(), threading.Event()

    class Slow(OpenAICompatible):
        def prepare(self, *args: Any, **options: Any) -> Any:
            preparing.set()
            assert go.wait(10)
            return super().prepare(*args, **options)

    async def main(url: str) -> None:
        stream = aio.stream(Slow("m", base_url=url), "Hi")
        task = asyncio.create_task(_join(stream)) if reads else None
        if task:
            await asyncio.to_thread(preparing.wait, 10)
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
def test_closing_around_the_start_stops_the_stream(turns: int) -> None:
    """After any number of event loop iterations, whichever task comes first: iteration ends."""

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


EXITS = [
    leave_by_break,
    leave_by_aclose,
    leave_by_cancelling,
    leave_by_wait_for,
    leave_by_with,
    leave_by_aclose_in_another_task,
]


@pytest.mark.parametrize("leave", EXITS, ids=lambda leave: leave.__name__)
def test_leaving_stops_the_stream_at_once(
    leave: Callable[[aio.AsyncStream], Coroutine[Any, Any, None]],
) -> None:
    """However the caller leaves, the server sees the close, and asyncio reports no error."""

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
            start = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            delays.append(time.monotonic() - start)
        return delays

    with serve(answer(before=[stall()]) if script == "headers" else [stall()]) as server:
        assert statistics.median(run(main(server.url))) < 0.05
        server.wait_closed(20, timeout=1)


def test_end_of_the_event_loop_closes_its_streams() -> None:
    """``asyncio.run`` returns while a stream is open: the server sees the close."""

    async def main(url: str) -> None:
        global open_stream
        open_stream = aio.stream(openai(url), "Hi")
        assert await open_stream.__anext__() == "a"

    with serve([text("a"), stall()]) as server:
        asyncio.run(main(server.url))
        server.wait_closed(1, timeout=1)
        assert open_stream.outcome is Outcome.CANCELLED


open_stream: aio.AsyncStream


def test_token_cancels_from_a_thread() -> None:
    """A ``CancelToken`` works as with the sync stream."""

    async def main(url: str) -> None:
        token = CancelToken()
        task = asyncio.create_task(aio.complete(openai(url), "Hi", cancel=token))
        await asyncio.to_thread(server.wait_request, 1)
        threading.Thread(target=token.cancel).start()
        with pytest.raises(StreamCancelled):
            await task

    with serve([text("a"), stall()]) as server:
        run(main(server.url))


def test_hundred_silent_streams_do_not_block_the_executor() -> None:
    """An unrelated ``to_thread`` call takes no longer while a hundred streams wait."""

    async def main(url: str) -> float:
        provider = openai(url)
        tasks = [asyncio.create_task(aio.complete(provider, "Hi")) for _ in range(100)]
        await asyncio.to_thread(server.wait_request, 100)
        delays = []
        for _ in range(20):
            start = time.monotonic()
            await asyncio.to_thread(lambda: None)
            delays.append(time.monotonic() - start)
        go.set()
        assert {completion.text for completion in await asyncio.gather(*tasks)} == {"ab"}
        return statistics.median(delays)

    go = threading.Event()
    with serve([text("a"), wait(go), text("b")]) as server:
        assert run(main(server.url)) < 0.02


def test_burst_costs_at_most_twice_the_sync_iterator() -> None:
    """Compare CPU time per chunk of a coalesced burst: median of interleaved rounds."""
    burst = [text("word")] * 5000

    async def read(url: str) -> int:
        return len([chunk async for chunk in aio.stream(openai(url), "Hi")])

    def cost(read: Callable[[], int]) -> float:
        start = time.process_time()
        assert read() == 5000
        return time.process_time() - start

    with serve(burst) as server:
        ratios = []
        for _ in range(5):
            sync = cost(lambda: len(list(openai(server.url).stream("Hi"))))
            ratios.append(cost(lambda: asyncio.run(read(server.url))) / sync)
    assert statistics.median(ratios) < 2
