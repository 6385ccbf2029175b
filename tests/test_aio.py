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
    AuthenticationError,
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
from providers_sync.testing import answer, cut, pause, serve, stall, status, text, wait

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


# --- several tasks


@pytest.mark.parametrize("second", ["await", "read", "events", "completion"])
def test_two_openers_send_one_request(second: str) -> None:
    """One task awaits the stream while another awaits or reads it: both get the same answer."""

    async def main(url: str) -> None:
        stream = aio.stream(openai(url), "Hi")
        others: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "await": lambda: _awaited(stream),
            "read": lambda: _join(stream),
            "events": lambda: _join_events(stream),
            "completion": lambda: _completion_text(stream),
        }
        first, result = await asyncio.gather(_awaited(stream), others[second]())
        assert first is stream
        assert result in (stream, "Hello wörld")
        assert "".join([chunk async for chunk in stream]) == (
            "" if second != "await" else stream.text
        )
        assert stream.outcome is Outcome.COMPLETE

    with serve(WORDS) as server:
        run(main(server.url))
        assert len(server.requests) == 1


async def _awaited(stream: aio.AsyncStream) -> aio.AsyncStream:
    return await stream


async def _join_events(stream: aio.AsyncStream) -> str:
    return "".join([event.text async for event in stream.events() if isinstance(event, TextDelta)])


async def _completion_text(stream: aio.AsyncStream) -> str:
    return (await stream.completion()).text


@pytest.mark.parametrize("reads", [False, True], ids=["awaits", "reads"])
def test_cancelling_the_opener_cancels_the_answer_for_all(reads: bool) -> None:
    """A task that waits for the same stream gets ``StreamCancelled`` and never a good end."""

    async def main(url: str) -> None:
        stream = aio.stream(openai(url), "Hi")
        opener = asyncio.create_task(_join(stream) if reads else _awaited(stream))
        await asyncio.to_thread(server.wait_request)
        waiting = [asyncio.create_task(_awaited(stream)) for _ in range(2)]
        if not reads:
            waiting.append(asyncio.create_task(_join(stream)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        opener.cancel()
        results = await asyncio.gather(opener, *waiting, return_exceptions=True)
        assert [type(result) for result in results[1:]] == [StreamCancelled] * len(waiting)
        assert isinstance(results[0], asyncio.CancelledError)
        assert stream.outcome is Outcome.CANCELLED

    with serve(answer(before=[stall()])) as server:
        run(main(server.url))
        server.wait_closed(1, timeout=1)
        assert len(server.requests) == 1


def test_cancelling_the_opener_before_it_has_sent_lets_another_send() -> None:
    """Nothing is lost then: the other task sends the request."""
    preparing, go = threading.Event(), threading.Event()

    class Slow(OpenAICompatible):
        def prepare(self, *args: Any, **options: Any) -> Any:
            preparing.set()
            assert go.wait(10)
            return super().prepare(*args, **options)

    async def main(url: str) -> None:
        stream = aio.stream(Slow("m", base_url=url), "Hi")
        opener = asyncio.create_task(_awaited(stream))
        await asyncio.to_thread(preparing.wait, 10)
        other = asyncio.create_task(_join(stream))
        await asyncio.sleep(0)
        opener.cancel()
        go.set()
        assert await other == "Hello wörld"
        assert opener.cancelled()

    with serve(WORDS) as server:
        run(main(server.url))
        assert len(server.requests) == 1


def test_two_openers_of_a_failing_answer_get_the_same_error() -> None:
    """Before anything is sent, and after."""

    async def main(url: str, messages: Any, error: type[Exception]) -> None:
        stream = aio.stream(openai(url), messages)
        results = await asyncio.gather(
            _awaited(stream), _awaited(stream), _join(stream), return_exceptions=True
        )
        assert [type(result) for result in results] == [error] * 3

    with serve(status(401)) as server:
        run(main(server.url, "Hi", AuthenticationError))
        assert len(server.requests) == 1
        run(main(server.url, [], InvalidRequestError))
        assert len(server.requests) == 1


SECOND_READERS: dict[str, Callable[[aio.AsyncStream, Any], Any]] = {
    "next": lambda stream, events: stream.__anext__(),
    "new events": lambda stream, events: stream.events().__anext__(),
    "the same events": lambda stream, events: events.__anext__(),
    "asend": lambda stream, events: events.asend(None),
    "completion": lambda stream, events: stream.completion(),
}
FIRST_READERS = ["next", "the same events", "completion"]


@pytest.mark.parametrize("first", FIRST_READERS)
@pytest.mark.parametrize("second", SECOND_READERS)
def test_second_reader_is_refused_and_the_first_reads_on(first: str, second: str) -> None:
    """Both wait at the same time; the answer itself is not affected."""
    go = threading.Event()

    async def main(url: str) -> None:
        stream = aio.stream(openai(url), "Hi")
        await stream
        events = stream.events()
        reader = asyncio.ensure_future(SECOND_READERS[first](stream, events))
        late = SECOND_READERS[second](stream, events)  # made before, awaited after
        await asyncio.sleep(0)
        for attempt in (late, SECOND_READERS[second](stream, events)):
            with pytest.raises(InvalidRequestError, match="already being read by another task"):
                await attempt
        go.set()
        result = await reader
        assert first == "completion" or result in ("Hel", TextDelta("Hel"))
        assert (await stream.completion()).text == "Hello"

    with serve([wait(go), text("Hel"), text("lo")]) as server:
        run(main(server.url))
        assert len(server.requests) == 1


def test_tasks_may_read_one_after_another() -> None:
    """Each continues where the last has stopped, by any way of reading."""

    async def main(url: str) -> None:
        stream = aio.stream(openai(url), "Hi")
        events = stream.events()
        assert await asyncio.create_task(stream.__anext__()) == "Hel"
        assert await asyncio.create_task(events.__anext__()) == TextDelta("lo ")
        assert await asyncio.create_task(stream.__anext__()) == "wörld"
        assert (await asyncio.create_task(stream.completion())).text == "Hello wörld"
        assert [event async for event in events][-1:] in ([], [Finish("stop")])

    with serve([step for each in WORDS for step in (each, pause(0.05))]) as server:
        run(main(server.url))


@pytest.mark.parametrize("how", ["stream", "events"])
@pytest.mark.parametrize("reading", ["next", "events", "completion"])
def test_closing_in_another_task_ends_the_reader(reading: str, how: str) -> None:
    """Whatever it waits with, and whether the stream or its events are closed."""

    async def main(url: str) -> None:
        stream = aio.stream(openai(url), "Hi")
        events = stream.events()
        assert await events.__anext__() == TextDelta("a")
        readers: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "next": lambda: _join(stream),
            "events": lambda: _rest(events),
            "completion": lambda: _completion_text(stream),
        }
        task = asyncio.create_task(readers[reading]())
        await asyncio.sleep(0.01)
        await (stream if how == "stream" else events).aclose()
        assert await task == ("a" if reading == "completion" else "")
        assert stream.outcome is Outcome.CANCELLED

    with serve([text("a"), stall()]) as server:
        run(main(server.url))
        server.wait_closed(1, timeout=1)


async def _rest(events: AsyncIterator[Any]) -> str:
    return "".join([event.text async for event in events])


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
