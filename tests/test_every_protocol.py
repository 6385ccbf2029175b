"""What every provider class has in common: stopping, retries, failover, aio, batch, chats, …"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import pickle
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import tenacity
from faults.phases import ReusableEvent, fill, wait_until
from test_processes import FORK_WARNING, FORKS, in_child

from providers_sync import (
    APIStatusError,
    CancelToken,
    Chat,
    Completion,
    Failover,
    Finish,
    Outcome,
    Provider,
    RateLimitError,
    ReasoningDelta,
    Stream,
    StreamCancelled,
    StreamCut,
    StreamError,
    TextDelta,
    ToolCall,
    Usage,
    aio,
    batch,
)
from providers_sync.providers import CLASSES, get_provider
from providers_sync.testing import (
    Request,
    answer,
    cut,
    pause,
    reasoning,
    repeat,
    serve,
    signal,
    stall,
    status,
    text,
    tool_call,
    usage,
    wait,
)

KEY = "sk-never-shown-0123456789"
PLAIN = ("ai365vip",)
"""Without events and an end marker."""
SIMPLE = ("vitalentum", "codelinkava", *PLAIN)
"""Without tools and reasoning."""
RICH = [name for name in CLASSES if name not in SIMPLE]
ROUNDS = 5
MEDIAN_S = 0.05
WORST_S = 0.25
AT_ONCE = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
GOOD = answer("Hel", "lo")
FUNCTION = {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}
TOOL = {"type": "function", "function": FUNCTION}

every = pytest.mark.parametrize("name", CLASSES)
rich = pytest.mark.parametrize("name", RICH)


def make(name: str, url: str, **settings: Any) -> Provider:
    """Return a provider of this class, with the first of its models if it has a list of them."""
    model = None if name in SIMPLE else "m"
    return get_provider(name, model, base_url=url, **{"api_key": KEY, **settings})


def outcome_of(name: str) -> Outcome:
    """Return the outcome of a good answer."""
    return Outcome.UNVERIFIED if name in PLAIN else Outcome.COMPLETE


def prompt_of(request: Request) -> str:
    """Return the last prompt of a request, in whatever form the protocol has."""
    prompt: str = re.findall(r"prompt \d+", json.dumps(request.json()))[-1]
    return prompt


def echo(request: Request) -> Any:
    return ["You said: ", prompt_of(request)]


# --- stopping


class Stalled:
    """An answer that stops at a place, and what has come until then."""

    def __init__(self, place: str) -> None:
        self.reached = ReusableEvent()
        stop = (signal(self.reached.event), stall())
        self.text = "Hel" if place == "in the middle" else ""
        self.opens = place != "before the headers"
        self.script = answer(*stop) if self.opens else answer(before=stop)
        if self.text:
            self.script = answer("Hel", *stop)


def read_into(streams: list[Stream], provider: Provider, **options: Any) -> None:
    """Read an answer whose stream another thread can see."""
    streams.append(provider.stream("Hi", **options))
    streams[0].read()


PLACES = ["before the headers", "before the first event", "in the middle"]


@pytest.mark.parametrize(
    ("how", "place"),
    [*(("token", place) for place in PLACES), *(("stream", place) for place in PLACES[1:])],
)
@every
def test_cancel_from_another_thread_ends_the_wait(name: str, how: str, place: str) -> None:
    """At once, with the text that has come, and the connection is closed."""
    stalled, delays = Stalled(place), []
    with serve(stalled.script) as server:
        provider = make(name, server.url)
        for _ in range(ROUNDS):
            token, streams, at = CancelToken(), list[Stream](), [0.0]

            def act(token: CancelToken = token, streams: Any = streams, at: Any = at) -> None:
                stalled.reached.wait()
                wait_until(lambda: len(streams) == stalled.opens)
                if stalled.text:
                    wait_until(lambda: streams[0].text == stalled.text)
                at[0] = time.monotonic()
                token.cancel() if how == "token" else streams[0].cancel()

            thread = threading.Thread(target=act)
            thread.start()
            with pytest.raises(StreamCancelled) as caught:
                read_into(streams, provider, cancel=token)
            delays.append(time.monotonic() - at[0])
            thread.join()
            assert (caught.value.outcome, caught.value.partial) == ("cancelled", stalled.text)
            for stream in streams:
                assert (stream.outcome, stream.text) == (Outcome.CANCELLED, stalled.text)
        server.wait_closed(ROUNDS, timeout=2)
    assert statistics.median(delays) < MEDIAN_S
    assert max(delays) < WORST_S


@every
def test_cancel_of_a_full_stream_keeps_its_text(name: str) -> None:
    """What has come and was not read is in ``.partial``."""
    with serve([repeat(text("x" * 1000))]) as server:
        stream = make(name, server.url).stream("Hi")
        assert next(stream)
        fill(stream)
        stream.cancel()
        with pytest.raises(StreamCancelled) as caught:
            next(stream)
        server.wait_closed(1, timeout=1)
    assert caught.value.partial == stream.text
    assert len(stream.text) > 50_000
    assert set(stream.text) == {"x"}


def by_closing(stream: Stream) -> None:
    next(stream)
    stream.close()


def by_leaving_the_with(stream: Stream) -> None:
    with stream:
        next(stream)


def by_an_exception_in_the_with(stream: Stream) -> None:
    with contextlib.suppress(KeyError), stream:
        next(stream)
        raise KeyError


def by_closing_before_the_first_event(stream: Stream) -> None:
    stream.close()


STOPS = {
    stop.__name__.removeprefix("by_"): stop
    for stop in (
        by_closing,
        by_leaving_the_with,
        by_an_exception_in_the_with,
        by_closing_before_the_first_event,
    )
}


@pytest.mark.parametrize("stop", STOPS)
@every
def test_stopped_stream_is_cancelled_and_its_connection_closed(name: str, stop: str) -> None:
    """Without an error; after it ``next()`` is at its end."""
    with serve(["Hel", stall()]) as server:
        stream = make(name, server.url).stream("Hi")
        STOPS[stop](stream)
        server.wait_closed(1, timeout=1)
        assert stream.outcome is Outcome.CANCELLED
        assert next(stream, None) is None


@pytest.mark.parametrize("events", [False, True])
@every
def test_abandoned_iterator_closes_its_connection(name: str, events: bool) -> None:
    """``break`` in a loop over a stream that nobody else holds."""
    with serve(["Hel", stall()]) as server:
        stream = make(name, server.url).stream("Hi")
        iterator: Iterator[Any] = stream.events() if events else iter(stream)
        del stream
        for chunk in iterator:
            if chunk in ("Hel", TextDelta("Hel")):
                break
        del iterator
        gc.collect()
        server.wait_closed(1, timeout=1)


@every
def test_text_and_outcome_while_running(name: str) -> None:
    """``text`` grows with what has come, and the outcome is none yet."""
    go = threading.Event()
    with serve(["Hel", wait(go), "lo"]) as server:
        stream = make(name, server.url).stream("Hi")
        assert next(stream) == "Hel"
        assert (stream.text, stream.outcome, stream.is_whole) == ("Hel", None, False)
        go.set()
        assert stream.wait(5)
        assert stream.read() == "lo"
        assert (stream.text, stream.outcome) == ("Hello", outcome_of(name))
        assert stream.stats.attempts == 1
        assert stream.stats.bytes > 0


# --- retries


@pytest.mark.parametrize("code", [408, 409, 429, 500, 503, 529])
@every
def test_retry_of_a_status(name: str, code: int) -> None:
    """Another attempt is made, and the answer has nothing of the first one."""
    with serve([status(code), GOOD]) as server:
        stream = make(name, server.url, retry=AT_ONCE).stream("Hi")
        assert (stream.read(), stream.stats.attempts) == ("Hello", 2)
        first, second = server.requests
        assert first.json() == second.json()


@every
def test_retry_after_is_obeyed(name: str) -> None:
    """The wait is what the server asks for."""
    busy = status(429, headers={"Retry-After": "0.2"})
    with serve([busy, GOOD]) as server:
        start = time.monotonic()
        assert make(name, server.url).complete("Hi").text == "Hello"
        assert 0.2 <= time.monotonic() - start < 1.0
    with serve(status(429, headers={"Retry-After": "3600"})) as server:
        with pytest.raises(RateLimitError) as caught:
            make(name, server.url).complete("Hi")
        assert (caught.value.retry_after, len(server.requests)) == (3600.0, 1)


@pytest.mark.parametrize("code", [400, 401, 404, 422])
@every
def test_no_retry_of_a_mistake(name: str, code: int) -> None:
    """One request, and the server's words are told."""
    with serve(status(code, "You are wrong")) as server:
        with pytest.raises(APIStatusError, match="You are wrong") as caught:
            make(name, server.url, retry=AT_ONCE).complete("Hi")
        assert (caught.value.status_code, len(server.requests)) == (code, 1)
        assert KEY not in repr(caught.value) + str(vars(caught.value))


@every
def test_retry_before_the_first_text_and_not_after_it(name: str) -> None:
    """A cut answer is tried again as long as it has said nothing."""
    with serve([answer(cut()), GOOD]) as server:
        assert make(name, server.url, retry=AT_ONCE).complete("Hi").text == "Hello"
        assert len(server.requests) == 2
    with serve([answer("Hel", cut()), GOOD]) as server:
        stream = make(name, server.url, retry=AT_ONCE).stream("Hi")
        with pytest.raises(StreamCut) as caught:
            stream.read()
        assert (caught.value.partial, stream.text, len(server.requests)) == ("Hel", "Hel", 1)


@rich
def test_no_retry_after_reasoning_or_a_call(name: str) -> None:
    """They are events like text."""
    for step in (reasoning("Hm."), tool_call("add", {"a": 1})):
        with serve([answer(step, cut()), GOOD]) as server:
            with pytest.raises(StreamError):
                make(name, server.url, retry=AT_ONCE).complete("Hi")
            assert len(server.requests) == 1


@every
def test_key_from_a_function_is_asked_for_before_each_attempt(name: str) -> None:
    """A token that renews itself."""
    keys = iter(["first-key", "second-key"])
    with serve([status(503), GOOD]) as server:
        make(name, server.url, retry=AT_ONCE, api_key=lambda: next(keys)).complete("Hi")
        sent = [json.dumps(request.headers.pairs) for request in server.requests]
    assert ["first-key" in sent[0], "second-key" in sent[1]] == [True, True]
    assert "first-key" not in sent[1]


# --- failover


@pytest.mark.parametrize("second", CLASSES)
@pytest.mark.parametrize("first", CLASSES)
def test_failover_from_each_to_each(first: str, second: str) -> None:
    """Before the first event; the failure is recorded. After it the answer stays cut."""
    with serve([status(503), answer("Hel", cut())]) as bad, serve(GOOD) as good:
        providers = [make(first, bad.url, retry=None), make(second, good.url)]
        stream = Failover(providers).stream("Hi")
        assert (stream.read(), stream.outcome) == ("Hello", outcome_of(second))
        [attempt] = stream.attempts
        assert attempt.provider is providers[0]
        assert isinstance(attempt.error, APIStatusError)
        with pytest.raises(StreamCut) as caught:
            Failover(providers).complete("Hi")
        assert (caught.value.partial, len(good.requests)) == ("Hel", 1)


@pytest.mark.parametrize("second", RICH)
@pytest.mark.parametrize("first", RICH)
def test_message_of_each_can_be_sent_to_each(first: str, second: str) -> None:
    """With its reasoning and its call; the protocol's own fields go to the same one only."""
    call = tool_call("add", {"a": 1}, id="call_1")
    script = answer(reasoning("Hm."), "Let me see.", call)
    with serve(script) as one, serve("It is 2") as two:
        completion = make(first, one.url).complete("1 + 1?", tools=[TOOL])
        message = json.loads(json.dumps(completion.message))
        call_id = completion.tool_calls[0].id
        result = {"role": "tool", "tool_call_id": call_id, "content": "2"}
        messages = [{"role": "user", "content": "1 + 1?"}, message, result]
        assert make(second, two.url).complete(messages, tools=[TOOL]).text == "It is 2"
        sent = json.dumps(two.requests[0].json())
    assert "Let me see." in sent
    assert '"add"' in sent
    assert "providers_sync" not in sent


# --- aio


@every
def test_aio_streams_and_completes(name: str) -> None:
    """The same chunks, outcome and events as without it."""

    async def main(url: str) -> None:
        provider = make(name, url)
        stream = aio.stream(provider, "Hi")
        assert "".join([chunk async for chunk in stream]) == "Hello"
        assert (stream.text, stream.outcome) == ("Hello", outcome_of(name))
        completion = await aio.complete(provider, "Hi")
        assert (completion.text, completion.outcome) == ("Hello", outcome_of(name))
        events = [event async for event in aio.stream(provider, "Hi").events()]
        texts = [event.text for event in events if isinstance(event, TextDelta)]
        assert "".join(texts) == "Hello"
        assert isinstance(events[-1], Finish) or name in PLAIN
        many = await asyncio.gather(*(aio.complete(provider, "Hi") for _ in range(8)))
        assert [each.text for each in many] == ["Hello"] * 8

    with serve(GOOD) as server:
        asyncio.run(main(server.url))


@pytest.mark.parametrize("how", ["task", "aclose", "token"])
@every
def test_aio_is_cancelled_at_once(name: str, how: str) -> None:
    """The connection is closed, and the loop is free."""

    async def main(url: str) -> None:
        token = CancelToken()
        stream = aio.stream(make(name, url), "Hi", cancel=token)
        assert await stream.__anext__() == "Hel"
        if how == "aclose":
            await stream.aclose()
        else:
            task = asyncio.ensure_future(stream.__anext__())
            await asyncio.sleep(0.02)
            start = time.monotonic()
            token.cancel() if how == "token" else task.cancel()
            with pytest.raises(StreamCancelled if how == "token" else asyncio.CancelledError):
                await task
            assert time.monotonic() - start < WORST_S
        assert (stream.text, stream.outcome) == ("Hel", Outcome.CANCELLED)

    with serve(["Hel", stall()]) as server:
        asyncio.run(main(server.url))
        server.wait_closed(1, timeout=1)


# --- batch


PROMPTS = [f"prompt {number}" for number in range(10, 22)]


@every
def test_batch_gives_each_input_its_answer(name: str) -> None:
    """Nothing is mixed, and a failed row has its error."""

    def script(request: Request) -> Any:
        return status(400, "No") if prompt_of(request) == PROMPTS[3] else echo(request)

    with serve(script) as server:
        results = list(batch.map(make(name, server.url), PROMPTS, concurrency=4, ordered=True))
    assert [result.input for result in results] == PROMPTS
    failed = results.pop(3)
    assert isinstance(failed.error, APIStatusError)
    for result in results:
        assert (result.text, result.error) == (f"You said: {result.input}", None)
        assert result.outcome is outcome_of(name)


@every
def test_batch_goes_on_where_its_ledger_ends(name: str, tmp_path: Path) -> None:
    """Only what has failed is sent again."""
    path, broken = tmp_path / "answers.jsonl", {*PROMPTS[5:7]}

    def script(request: Request) -> Any:
        prompt = prompt_of(request)
        return [f"half {prompt}", cut()] if prompt in broken else echo(request)

    with serve(script) as server:
        provider = make(name, server.url, retry=None)
        first = list(batch.map(provider, PROMPTS, ledger=path, ordered=True))
        assert [result.error is None for result in first].count(False) == 2
        count = len(server.requests)
        broken.clear()
        again = list(batch.map(provider, PROMPTS, ledger=path, ordered=True))
        assert {prompt_of(request) for request in server.requests[count:]} == {*PROMPTS[5:7]}
        assert len(server.requests) == count + 2
    assert [result.text for result in again] == [f"You said: {prompt}" for prompt in PROMPTS]
    assert [result.recorded for result in again].count(True) == len(PROMPTS) - 2


@rich
def test_batch_keeps_calls_and_counts_in_its_ledger(name: str, tmp_path: Path) -> None:
    """What is read from it is what the first run returned."""
    path = tmp_path / "answers.jsonl"
    script = answer(reasoning("Hm."), "Well.", tool_call("add", {"a": 1}, id="t1"), usage(3, 4))
    with serve(script) as server:
        provider = make(name, server.url)
        runs = [list(batch.map(provider, ["prompt 1"], ledger=path)) for _ in range(2)]
        assert len(server.requests) == 1
    [first], [second] = runs
    assert (first.usage, second.recorded) == (Usage(3, 4, 7), True)
    for part in ("text", "outcome", "finish_reason", "usage", "message"):
        assert getattr(first, part) == getattr(second, part), part


# --- chats


@every
def test_chat_has_a_history(name: str, tmp_path: Path) -> None:
    """Finished answers enter it and the next request; a broken one does not; it can be saved."""
    script = [answer("One."), answer("Half", cut()), answer("Two."), answer("Three.")]
    with serve(script) as server:
        chat = Chat(make(name, server.url, retry=None), system="Count.")
        assert chat.send("First?").read() == "One."
        with pytest.raises(StreamCut):
            chat.send("Broken?").read()
        assert chat.interrupted is not None
        chat.discard()
        assert chat.send("Second?").read() == "Two."
        sent = json.dumps(server.requests[-1].json())
        chat.save(tmp_path / "chat.json")
        loaded = Chat.load(tmp_path / "chat.json", make(name, server.url))
        assert loaded.history == chat.history
        assert loaded.send("Third?").read() == "Three."
    assert [part in sent for part in ("Count.", "First?", "One.", "Second?", "Half")] == [
        *(True, True, True, True, False)
    ]
    contents = [message["content"] for message in chat.history]
    assert contents == ["First?", "One.", "Second?", "Two."]


@rich
def test_chat_returns_the_message_of_the_answer(name: str) -> None:
    """The next request has what the protocol wants back."""
    with serve([answer(reasoning("Hm."), "One."), answer("Two.")]) as server:
        chat = Chat(make(name, server.url))
        stream = chat.send("First?")
        assert (stream.read(), stream.reasoning) == ("One.", "Hm.")
        assert chat.history[-1] == stream.message
        chat.send("Second?").read()
        sent = json.dumps(server.requests[-1].json())
    assert "One." in sent
    returned = stream.message.get("providers_sync", {}).get("fields")
    assert ("Hm." in sent) == ("Hm." in json.dumps(returned))


# --- connections, threads, processes


@every
def test_connections_are_used_again(name: str) -> None:
    """After an answer that was read to its end, and after an error status."""
    script = [GOOD, status(400), GOOD, answer("Hel", "lo", framing="length"), GOOD]
    with serve(script) as server:
        provider = make(name, server.url)
        for number in range(len(script)):
            with contextlib.suppress(APIStatusError):
                assert provider.complete("Hi").text == "Hello", number
        assert len(server.connections) == 1
        provider.close()
        server.wait_closed(1, timeout=1)


@every
def test_threads_share_a_provider(name: str) -> None:
    """Each gets its own answer."""
    with serve(echo) as server, make(name, server.url) as provider:
        with ThreadPoolExecutor(8) as pool:
            prompts = [f"prompt {number}" for number in range(100, 148)]
            texts = [each.text for each in pool.map(provider.complete, prompts)]
        assert texts == [f"You said: {prompt}" for prompt in prompts]
        assert len(server.connections) <= 8


@every
def test_own_session_carries_the_calls(name: str) -> None:
    """What it sends along reaches the server."""
    with requests.Session() as session, serve(GOOD) as server:
        session.headers["X-Team"] = "sea"
        assert make(name, server.url, session=session).complete("Hi").text == "Hello"
        assert server.requests[0].headers["X-Team"] == "sea"


@every
def test_proxy_carries_the_calls(name: str) -> None:
    """It is asked for the full address, and the key goes through it."""
    with serve(GOOD, protocol=name) as proxy:
        provider = make(name, "http://127.0.0.1:9", proxy=proxy.url)
        assert provider.complete("Hi").text == "Hello"
        [request] = proxy.requests
    assert request.path.startswith("http://127.0.0.1:9/")
    assert KEY in json.dumps(request.headers.pairs)


@every
def test_provider_and_completion_can_be_pickled(name: str) -> None:
    """And errors, with their text."""
    with serve([GOOD, answer("Hel", cut())]) as server:
        provider = pickle.loads(pickle.dumps(make(name, server.url, retry=None)))
        assert KEY not in repr(provider)
        completion = provider.complete("Hi")
        copy: Completion = pickle.loads(pickle.dumps(completion))
        assert (copy.text, copy.outcome, copy.stats) == (
            "Hello",
            outcome_of(name),
            completion.stats,
        )
        assert copy.message == completion.message
        with pytest.raises(StreamCut) as caught:
            provider.complete("Hi")
        error = pickle.loads(pickle.dumps(caught.value))
        assert (error.partial, error.outcome) == ("Hel", "cut")


@rich
def test_rich_completion_can_be_pickled(name: str) -> None:
    """With its reasoning, calls, counts and message."""
    script = answer(reasoning("Hm."), "Well.", tool_call("add", {"a": 1}, id="t1"), usage(3, 4))
    with serve(script) as server:
        completion = make(name, server.url).complete("Hi")
    copy = pickle.loads(pickle.dumps(completion))
    for each in (completion, copy):
        assert (each.text, each.reasoning, each.usage) == ("Well.", "Hm.", Usage(3, 4, 7))
        assert each.tool_calls == (ToolCall("t1", "add", {"a": 1}, each.tool_calls[0].raw),)
        assert json.loads(each.tool_calls[0].raw) == {"a": 1}
    assert copy.message == completion.message
    assert json.loads(json.dumps(copy.message)) == completion.message


@FORKS
@FORK_WARNING
@every
def test_provider_works_before_and_after_a_fork(name: str) -> None:
    """The child makes its own connection."""
    with serve(echo) as server:
        provider = make(name, server.url)
        assert provider.complete("prompt 1").text == "You said: prompt 1"
        assert in_child(lambda: provider.complete("prompt 2").text) == "You said: prompt 2"
        assert provider.complete("prompt 3").text == "You said: prompt 3"
        users = Counter(request.connection for request in server.requests)
        assert sorted(users.values()) == [1, 2]


# --- events and the log


@rich
def test_events_come_typed(name: str) -> None:
    """Reasoning, text, the call, the counts and the reason, whatever the protocol."""
    script = answer(reasoning("Hm."), "We", "ll.", tool_call("add", {"a": 1}, id="t1"), usage(3, 4))
    with serve(script) as server:
        stream = make(name, server.url).stream("Hi")
        events = list(stream.events())
    assert [event for event in events if isinstance(event, (TextDelta, ReasoningDelta))] == [
        ReasoningDelta("Hm."), TextDelta("We"), TextDelta("ll.")
    ]  # fmt: skip
    [call] = [event for event in events if isinstance(event, ToolCall)]
    assert (call.id, call.name, call.arguments) == ("t1", "add", {"a": 1})
    assert [event for event in events if isinstance(event, Usage)][-1] == Usage(3, 4, 7)
    assert isinstance(events[-1], Finish)
    assert stream.is_whole


@every
def test_log_tells_retries_and_outcomes_and_no_secrets(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the key nor the prompt nor the answer."""
    caplog.set_level(logging.DEBUG, "providers_sync")
    with serve([status(503), GOOD]) as server:
        make(name, server.url, retry=AT_ONCE).complete("a secret prompt")
        ending = f"outcome {outcome_of(name).value}"
        wait_until(lambda: ending in caplog.text)  # it is logged after the end
    said = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert [message for level, message in said if level == logging.INFO and "503" in message]
    for secret in (KEY, "secret prompt", "Hello"):
        assert secret not in caplog.text


@every
def test_hooks_of_a_subclass_are_called(name: str) -> None:
    """``body()`` for the body, and ``headers=`` for one call."""
    base = type(make(name, "http://127.0.0.1:9"))

    def body(self: Any, *arguments: Any) -> Any:
        return {**base.body(self, *arguments), "team": "sea"}

    own: Callable[..., Provider] = type("Own", (base,), {"body": body})
    with serve(GOOD) as server:
        provider = own(None if name in SIMPLE else "m", base_url=server.url, api_key=KEY)
        assert provider.complete("Hi", headers={"X-Call": "1"}).text == "Hello"
    [request] = server.requests
    assert request.json()["team"] == "sea"
    assert request.headers["X-Call"] == "1"


@every
def test_slow_answer_is_handed_out_as_it_comes(name: str) -> None:
    """No chunk waits for the next one."""
    words = [f"word{number} " for number in range(5)]
    steps = [step for word in words for step in (word, pause(0.1))]
    with serve(steps) as server:
        start, chunks = time.monotonic(), []
        for chunk in make(name, server.url).stream("Hi"):
            chunks.append((chunk, time.monotonic() - start))
    assert [chunk for chunk, _ in chunks] == words
    assert chunks[-1][1] - chunks[0][1] > 0.3
