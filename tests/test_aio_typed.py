"""Typed answers in an event loop: values, items and partial objects, repairs, and stopping."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pydantic import BaseModel
from test_aio import openai, run

from providers_sync import (
    CancelToken,
    InvalidAnswer,
    InvalidRequestError,
    OpenAICompatible,
    Outcome,
    StreamCancelled,
    StreamCut,
    StreamTruncated,
    Timeouts,
    TypedCompletion,
    Usage,
    aio,
)
from providers_sync.testing import (
    ScriptedProvider,
    Server,
    answer,
    cut,
    finish,
    pause,
    serve,
    stall,
    text,
    usage,
    wait,
)


class Recipe(BaseModel):
    name: str
    minutes: int


PANCAKES, SOUP = Recipe(name="Pancakes", minutes=10), Recipe(name="Soup", minutes=30)
GOOD, SECOND = PANCAKES.model_dump_json(), SOUP.model_dump_json()
WRONG = GOOD.replace("10", '"ten"')
WRONG_PLAIN = {"name": "Pancakes", "minutes": "ten"}
Read = Callable[["aio.AsyncTypedStream[Any]"], Coroutine[Any, Any, Any]]


async def value(stream: aio.AsyncTypedStream[Any]) -> Any:
    return await stream.value()


async def completion(stream: aio.AsyncTypedStream[Any]) -> Any:
    return (await stream.completion()).value


async def items(stream: aio.AsyncTypedStream[Any]) -> Any:
    return [item async for item in stream.items()]


async def partials(stream: aio.AsyncTypedStream[Any]) -> Any:
    return [partial async for partial in stream.partials()][-1]


# --- the object


def test_complete_gives_the_object() -> None:
    """Also of an answer that was asked again, with the tokens and requests of both rounds."""
    provider = ScriptedProvider([answer(WRONG, usage(3, 4)), answer(GOOD, usage(20, 4))])

    async def main() -> None:
        found = await aio.complete(provider, "Q", into=Recipe)
        assert isinstance(found, TypedCompletion)
        assert (found.value, found.text) == (PANCAKES, GOOD)
        assert (found.usage, found.stats.attempts) == (Usage(23, 8, 31), 2)
        assert (found.outcome, found.is_whole) == ("complete", True)

    run(main())
    _, turn, question = json.loads(provider.requests[1].body)["messages"]
    assert turn == {"role": "assistant", "content": WRONG}
    assert "minutes: Input should be a valid integer" in question["content"]


def test_value_can_be_asked_for_again() -> None:
    """It is the same object, and no further request."""
    provider = ScriptedProvider([answer(WRONG), answer(GOOD)])

    async def main() -> None:
        async with aio.stream(provider, "Q", into=Recipe) as stream:
            first = await stream.value()
            assert await stream.value() is first
            assert (await stream.completion()).value is first
        assert (stream.text, stream.outcome) == (GOOD, Outcome.COMPLETE)
        assert stream.stats is not None
        assert stream.stats.attempts == 2

    run(main())
    assert len(provider.requests) == 2


def test_items_and_partials_come_while_the_answer_runs() -> None:
    """The second one is sent only after the first has been handed over."""
    script = [text(f'{{"items": [{GOOD},'), None, text(f"{SECOND}]}}")]

    async def main(url: str, go: threading.Event) -> None:
        found = []
        async for item in aio.stream(openai(url), "Q", into=list[Recipe]).items():
            found.append(item)
            go.set()
        assert found == [PANCAKES, SOUP]

    async def partial_main(url: str, go: threading.Event) -> None:
        stream = aio.stream(openai(url), "Q", into=list[Recipe])
        found = []
        async for partial in stream.partials():
            found.append(partial)
            go.set()
        plain = [PANCAKES.model_dump(), SOUP.model_dump()]
        assert (found[0], found[-1]) == (plain[:1], plain)
        assert await stream.value() == [PANCAKES, SOUP]

    for each in (main, partial_main):
        go = threading.Event()
        with serve([script[0], wait(go), script[2]]) as server:
            run(each(server.url, go))
            assert len(server.requests) == 1


def test_skip_invalid_collects_the_wrong_items() -> None:
    provider = ScriptedProvider(f"[{GOOD}, {WRONG}, {SECOND}]")

    async def main() -> None:
        stream = aio.stream(provider, "Q", into=list[Recipe], skip_invalid=True)
        assert stream.invalid == []
        assert await items(stream) == [PANCAKES, SOUP]
        assert [each.partial_value for each in stream.invalid] == [WRONG_PLAIN]

    run(main())


def test_text_comes_too() -> None:
    """The chunks are those of any stream; nothing is validated or asked again."""
    provider = ScriptedProvider(answer(text(WRONG[:5]), text(WRONG[5:])))

    async def main() -> None:
        stream = aio.stream(provider, "Q", into=Recipe)
        assert [chunk async for chunk in stream] == [WRONG[:5], WRONG[5:]]
        with pytest.raises(InvalidAnswer):
            await stream.value()

    run(main())
    assert len(provider.requests) == 1


# --- errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"into": object()}, "no JSON schema for into="),
        ({"into": Recipe, "repairs": -1}, "repairs"),
        ({"into": Recipe, "skip_invalid": True}, "Recipe is not a list"),
        ({"repairs": 1}, "need into="),
    ],
)
def test_bad_input_is_raised_at_the_first_await(options: dict[str, Any], words: str) -> None:
    provider = ScriptedProvider(GOOD)

    async def main() -> None:
        stream = aio.stream(provider, "Q", **options)
        with pytest.raises(InvalidRequestError, match=words):
            await stream.completion()

    run(main())
    assert provider.requests == []


def test_items_of_no_list_are_refused_and_the_answer_stays_readable() -> None:
    async def main() -> None:
        stream = aio.stream(ScriptedProvider(GOOD), "Q", into=Recipe)
        with pytest.raises(InvalidRequestError, match="Recipe is not a list"):
            await items(stream)
        assert await stream.value() == PANCAKES

    run(main())


@pytest.mark.parametrize("read", [value, completion])
def test_answer_that_stays_wrong_raises(read: Read) -> None:
    provider = ScriptedProvider(lambda _: [text(WRONG)])

    async def main() -> None:
        stream = aio.stream(provider, "Q", into=Recipe)
        with pytest.raises(InvalidAnswer, match="minutes") as caught:
            await read(stream)
        failure = caught.value
        assert (failure.partial, failure.partial_value) == (WRONG, WRONG_PLAIN)
        assert (failure.outcome, failure.errors[0]["loc"]) == ("complete", ("minutes",))
        with pytest.raises(InvalidAnswer):
            await read(stream)

    run(main())
    assert len(provider.requests) == 2


@pytest.mark.parametrize("read", [value, completion, items, partials])
@pytest.mark.parametrize(
    ("end", "kind"),
    [([cut()], StreamCut), (None, StreamTruncated), ([finish("length")], InvalidAnswer)],
    ids=["cut", "truncated", "limit"],
)
def test_broken_answer_never_validates(read: Read, end: Any, kind: type[Exception]) -> None:
    """Even if its JSON is whole; what had arrived is in the error."""
    said = f"[{GOOD}]"
    script = answer(said, end=False) if end is None else [text(said), *end]
    provider = ScriptedProvider(script)

    async def main() -> None:
        stream = aio.stream(provider, "Q", into=list[Recipe], retry=1)
        with pytest.raises(kind) as caught:
            await read(stream)
        assert caught.value.partial == stream.text == said  # type: ignore[attr-defined]
        assert caught.value.partial_value == [PANCAKES.model_dump()]  # type: ignore[attr-defined]

    run(main())
    assert len(provider.requests) == 1


def test_failure_of_the_second_round_is_raised_as_it_is() -> None:
    provider = ScriptedProvider([answer(WRONG), [text(GOOD[:9]), cut()]])

    async def main() -> None:
        with pytest.raises(StreamCut) as caught:
            await aio.complete(provider, "Q", into=Recipe, retry=1)
        assert caught.value.partial == GOOD[:9]

    run(main())


# --- the event loop


def test_second_round_blocks_neither_the_loop_nor_uses_its_thread() -> None:
    """The loop runs while the server thinks, and the request is made in other threads."""
    go, made_in = threading.Event(), []

    class Watched(OpenAICompatible):
        def body(self, *args: Any) -> Any:
            made_in.append(threading.current_thread())
            return super().body(*args)

    async def main(url: str) -> None:
        task = asyncio.create_task(aio.complete(Watched("m", base_url=url), "Q", into=Recipe))
        await asyncio.to_thread(server.wait_request, 2)
        assert not task.done()
        go.set()
        assert (await task).value == PANCAKES

    with serve([answer(WRONG), answer(GOOD, before=[wait(go)])]) as server:
        run(main(server.url))
    assert len(made_in) == 2
    assert threading.main_thread() not in made_in


@pytest.mark.parametrize("silent", ["headers", "body"])
@pytest.mark.parametrize("read", [value, completion])
def test_cancelled_task_stops_the_second_round_at_once(read: Read, silent: str) -> None:
    """While it waits for headers and for text: the server sees the close."""
    second = answer(before=[stall()]) if silent == "headers" else answer("{", stall())

    async def main(url: str) -> None:
        stream = aio.stream(openai(url), "Q", into=Recipe)
        task = asyncio.create_task(read(stream))
        await asyncio.to_thread(server.wait_request, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.outcome is Outcome.CANCELLED
        await asyncio.to_thread(server.wait_closed, len(server.connections), 1.0)

    with serve([answer(WRONG), second]) as server:
        run(main(server.url))
        assert len(server.requests) == 2


async def by_aclose(stream: aio.AsyncTypedStream[Any], token: CancelToken) -> None:
    await stream.aclose()


async def by_token(stream: aio.AsyncTypedStream[Any], token: CancelToken) -> None:
    await asyncio.to_thread(token.cancel)


@pytest.mark.parametrize("stop", [by_aclose, by_token])
def test_stopping_from_outside_ends_the_second_round(
    stop: Callable[[aio.AsyncTypedStream[Any], CancelToken], Coroutine[Any, Any, None]],
) -> None:
    """Another task closes the stream, or another thread cancels it: there is no object."""

    async def main(url: str) -> None:
        token = CancelToken()
        stream = aio.stream(openai(url), "Q", into=Recipe, cancel=token)
        task = asyncio.create_task(stream.value())
        await asyncio.to_thread(server.wait_request, 2)
        await stop(stream, token)
        with pytest.raises(StreamCancelled):
            await task
        await asyncio.to_thread(server.wait_closed, len(server.connections), 1.0)

    with serve([answer(WRONG), answer(before=[stall()])]) as server:
        run(main(server.url))


def test_total_goes_on_over_both_rounds() -> None:
    """The second round has only the rest of it."""

    async def main(server: Server) -> None:
        provider = openai(server.url, timeouts=Timeouts(total=0.3), retry=1)
        start = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            await aio.complete(provider, "Q", into=Recipe)
        assert caught.value.clock == "total"  # type: ignore[attr-defined]
        assert time.monotonic() - start < 0.45
        assert len(server.requests) == 2

    with serve([answer(pause(0.2), WRONG), [stall()]]) as server:
        run(main(server))


@pytest.mark.parametrize("second", [value, completion, items, partials])
@pytest.mark.parametrize("first", [value, items, partials])
def test_second_reader_is_refused(first: Read, second: Read) -> None:
    """And the first one goes on."""
    go = threading.Event()

    async def main(url: str) -> None:
        stream = aio.stream(openai(url), "Q", into=list[Recipe])
        task = asyncio.create_task(first(stream))
        await asyncio.to_thread(server.wait_request, 1)
        with pytest.raises(InvalidRequestError, match="already being read by another task"):
            await second(stream)
        go.set()
        assert await task

    with serve([wait(go), text(f"[{GOOD}]")]) as server:
        run(main(server.url))


@pytest.mark.parametrize("read", ["items", "partials"])
def test_leaving_the_loop_stops_the_answer(read: str) -> None:
    async def main(url: str) -> None:
        stream = aio.stream(openai(url), "Q", into=list[Recipe])
        async for _ in getattr(stream, read)():
            break
        await asyncio.to_thread(server.wait_closed, 1, 1.0)

    with serve([text(f"[{GOOD},"), stall()]) as server:
        run(main(server.url))


def test_many_answers_of_one_loop() -> None:
    """Each has its own rounds."""

    def script(request: Any) -> Any:
        turns = request.json()["messages"]
        return text(WRONG if len(turns) == 1 else GOOD)

    async def main(url: str) -> None:
        provider = openai(url)
        asked = [aio.complete(provider, "Q", into=Recipe) for _ in range(20)]
        assert [each.value for each in await asyncio.gather(*asked)] == [PANCAKES] * 20

    with serve(script) as server:
        run(main(server.url))
        assert len(server.requests) == 40
