"""Runs in an event loop: the functions and ``approve`` in threads, the loop never blocked."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from providers_sync import (
    CancelToken,
    InvalidRequestError,
    OpenAICompatible,
    Outcome,
    Pause,
    StreamCut,
    TextDelta,
    ToolCall,
    ToolResult,
    aio,
)
from providers_sync.testing import answer, cut, serve, text, tool_call

WAIT_S = 10.0
CALL = tool_call("add", {"a": 1, "b": 2})
ROUNDS = [answer(text("Let me see. "), CALL), answer(text("It is 3."))]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def openai(url: str, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=url, retry=1, **settings)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine; fail on anything that asyncio reports to the exception handler."""
    errors: list[dict[str, Any]] = []

    async def watched() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, c: errors.append(c))
        result = await asyncio.wait_for(main, WAIT_S)
        assert len(asyncio.all_tasks()) == 1
        return result

    result = asyncio.run(watched())
    gc.collect()
    assert errors == []
    return result


class Question:
    """An ``approve`` that waits until the test has answered; it notes thread and context."""

    def __init__(self, decision: Any = True) -> None:
        self.decision = decision
        self.threads: list[threading.Thread] = []
        self.asked = threading.Event()
        self.answered = threading.Event()

    def __call__(self, call: ToolCall) -> Any:
        self.threads.append(threading.current_thread())
        self.asked.set()
        assert self.answered.wait(WAIT_S)
        return self.decision


def test_text_of_all_rounds_then_messages_and_rounds() -> None:
    """The chunks are those of all rounds; ``messages`` and ``rounds`` are those of the run."""

    async def main(url: str) -> None:
        stream = aio.run(openai(url), "1 + 2?", tools=[add])
        assert (stream.messages, stream.rounds, stream.text) == ([], [], "")
        assert [chunk async for chunk in stream] == ["Let me see. ", "It is 3."]
        assert stream.outcome is Outcome.COMPLETE
        assert [message["role"] for message in stream.messages] == [
            *("user", "assistant", "tool", "assistant"),
        ]
        assert [each.text for each in stream.rounds] == ["Let me see. ", "It is 3."]

    with serve(ROUNDS) as server:
        run(main(server.url))
        assert server.requests[1].json()["messages"][-1]["content"] == "3"


def test_events_have_the_results() -> None:
    """Beside the events of an ``AsyncStream`` there are the results."""

    async def main(url: str) -> list[Any]:
        return [event async for event in aio.run(openai(url), "Hi", tools=[add]).events()]

    with serve(ROUNDS) as server:
        events = run(main(server.url))
    kinds = [type(event) for event in events]
    assert kinds.index(ToolCall) < kinds.index(ToolResult)
    assert ToolResult("call_1", "add", "3") in events
    assert TextDelta("It is 3.") in events


def test_completion_reads_all_rounds() -> None:
    """It can be asked for at once, or after the first chunk, and again."""

    async def main(url: str) -> None:
        stream = aio.run(openai(url), "Hi", tools=[add])
        assert await stream.__anext__() == "Let me see. "
        for _ in range(2):
            assert (await stream.completion()).text == "Let me see. It is 3."

    with serve(ROUNDS) as server:
        run(main(server.url))


def test_completion_while_a_function_runs_does_not_block_the_loop() -> None:
    """Another call opens the answer again while its second round has not begun to answer."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        return str(go_on.wait(WAIT_S))

    async def main(url: str) -> None:
        stream = aio.run(openai(url), "Hi", tools=[slow])
        reading = asyncio.create_task(stream.completion())
        await asyncio.to_thread(begun.wait, WAIT_S)
        await asyncio.wait_for(_opened(stream), 1)
        go_on.set()
        assert (await reading).text == "Done."

    with serve([answer(tool_call("slow", {})), answer(text("Done."))]) as server:
        run(main(server.url))


async def _opened(stream: aio.AsyncStream) -> None:
    await stream


@pytest.mark.parametrize("way", ["chunks", "events", "completion"])
def test_approve_does_not_block_the_loop(way: str) -> None:
    """It is asked in a thread, in the context of the reading task; meanwhile the loop goes on."""
    question, main_thread = Question(), threading.current_thread()
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    seen: list[str] = []

    def approve(call: ToolCall) -> Any:
        seen.append(name.get())
        return question(call)

    async def main(url: str) -> str:
        name.set("of the task")
        stream = aio.run(openai(url), "Hi", tools=[add], approve=approve)

        async def read() -> None:
            if way == "chunks":
                async for _ in stream:
                    pass
            elif way == "events":
                async for _ in stream.events():
                    pass
            else:
                await stream.completion()

        reading = asyncio.create_task(read())
        await asyncio.to_thread(question.asked.wait, WAIT_S)  # the loop runs on
        assert not reading.done()
        question.answered.set()
        await reading
        return stream.text

    with serve(ROUNDS) as server:
        assert run(main(server.url)) == "Let me see. It is 3."
    assert question.threads != [main_thread]
    assert seen == ["of the task"]


def test_pause_and_resume() -> None:
    """A question that ends with open calls asks ``approve`` in a thread, too."""
    main_thread = threading.current_thread()
    threads: list[threading.Thread] = []

    def approve(call: ToolCall) -> bool:
        threads.append(threading.current_thread())
        return True

    async def main(url: str) -> None:
        paused = aio.run(openai(url), "Hi", tools=[add], approve=lambda call: Pause)
        await paused.completion()
        assert paused.outcome is Outcome.PAUSED
        resumed = aio.run(openai(url), paused.messages, tools=[add], approve=approve)
        async with resumed:
            assert [chunk async for chunk in resumed] == ["It is 3."]

    with serve(ROUNDS) as server:
        run(main(server.url))
    assert threads != [main_thread]
    assert len(threads) == 1


def test_cancelled_task_cancels_the_function_that_runs() -> None:
    """The function's token is cancelled, and nothing more is sent."""
    begun, ended = threading.Event(), threading.Event()
    tokens: list[CancelToken] = []

    def hang(cancel: CancelToken) -> None:
        tokens.append(cancel)
        begun.set()
        ended.wait(WAIT_S)

    async def main(url: str) -> None:
        stream = aio.run(openai(url), "Hi", tools=[hang])
        reading = asyncio.create_task(stream.completion())
        await asyncio.to_thread(begun.wait, WAIT_S)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert stream.outcome is Outcome.CANCELLED
        while not tokens[0].cancelled:
            await asyncio.sleep(0)
        ended.set()

    with serve([answer(tool_call("hang", {})), answer(text("never"))]) as server:
        run(main(server.url))
        assert len(server.requests) == 1


def test_cancelled_task_during_approve_calls_nothing() -> None:
    """The answer to the question comes too late."""
    question = Question()
    called: list[int] = []

    def add(a: int, b: int) -> None:
        called.append(a + b)

    async def main(url: str) -> None:
        stream = aio.run(openai(url), "Hi", tools=[add], approve=question)
        reading = asyncio.create_task(stream.completion())
        await asyncio.to_thread(question.asked.wait, WAIT_S)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert stream.outcome is Outcome.CANCELLED
        question.answered.set()

    with serve(ROUNDS) as server:
        run(main(server.url))
        assert len(server.requests) == 1
    assert called == []


def test_failures_raise_as_from_a_stream() -> None:
    """What ``approve`` raises, a cut in the second round, and bad arguments."""

    def broken(call: ToolCall) -> bool:
        raise LookupError("no policy")

    async def main(url: str) -> None:
        with pytest.raises(LookupError, match="no policy"):
            await aio.run(openai(url), "Hi", tools=[add], approve=broken).completion()
        with pytest.raises(StreamCut) as caught:
            await aio.run(openai(url), "Hi", tools=[add]).completion()
        assert caught.value.partial == "Let me see. It"
        stream = aio.run(openai(url), "Hi", tools=[add], max_rounds=0)
        with pytest.raises(InvalidRequestError, match="max_rounds"):
            await stream

    with serve([ROUNDS[0], ROUNDS[0], [text("It"), cut()]]) as server:
        run(main(server.url))
        assert len(server.requests) == 3


def test_a_journal_works(tmp_path: Path) -> None:
    """The options are those of ``provider.run``."""
    path = tmp_path / "run.jsonl"

    async def main(url: str) -> None:
        await aio.run(openai(url), "Hi", tools=[add], journal=path).completion()

    with serve(ROUNDS) as server:
        run(main(server.url))
    assert '"event":"end"' in path.read_text()


def test_typed_answer_of_a_run() -> None:
    """``into=`` gives ``value()``, and ``approve`` is asked in a thread there, too."""
    main_thread = threading.current_thread()
    threads: list[threading.Thread] = []

    def approve(call: ToolCall) -> bool:
        threads.append(threading.current_thread())
        return True

    async def main(url: str) -> None:
        stream = aio.run(openai(url), "Hi", tools=[add], approve=approve, into=dict[str, int])
        assert await stream.value() == {"sum": 3}
        assert len(stream.rounds) == 2

    with serve([answer(CALL), answer(text('{"sum": 3}'))]) as server:
        run(main(server.url))
    assert len(threads) == 1
    assert threads != [main_thread]
