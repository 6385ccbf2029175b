"""Failover: who is asked, in which order, when it moves on, and that nothing is ever mixed."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import os
import pickle
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any

import pytest

from providers_sync import (
    AI365VIP,
    APITimeoutError,
    AuthenticationError,
    CancelToken,
    Failover,
    FailoverError,
    Finish,
    InvalidRequestError,
    ModelNotSupportedError,
    OpenAICompatible,
    Outcome,
    Provider,
    ProviderError,
    ReasoningDelta,
    ServerError,
    StreamCancelled,
    StreamCut,
    TextDelta,
    Timeouts,
    Vitalentum,
    aio,
)
from providers_sync.stream import Channel, PreparedCall
from providers_sync.testing import (
    FAULTS,
    Request,
    Server,
    answer,
    cut,
    finish,
    pause,
    reasoning,
    refusal,
    reset,
    serve,
    stall,
    status,
    text,
    tool_call,
    wait,
)
from providers_sync.types import Delta

STREAMS = int(os.environ.get("FAILOVER_STREAMS", "600"))
"""Of the random run; 10,000 for the full one."""
SHORT = Timeouts(connect=0.3, first_token=0.3, idle=0.3, total=10)
GOOD = "Hello, world!"


def openai(server: Server, **settings: Any) -> Provider:
    return OpenAICompatible("m", base_url=server.url, proxy=False, **settings)


@contextlib.contextmanager
def servers(*scripts: Any) -> Iterator[list[Server]]:
    """Serve several scripts at once."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(serve(script)) for script in scripts]


def asked(*all_servers: Server) -> list[int]:
    """Return how many requests each server has seen."""
    return [len(server.requests) for server in all_servers]


# --- moving on


BEFORE = [
    *("400", "401", "403", "404", "429", "500", "529", "endless-error", "redirect"),
    *("hang-up", "connect-reset", "headers-cut", "headers-reset", "html", "html-hidden", "empty"),
    *("garbage-first", "wrong-shape", "error-first", "overload", "cut-first"),
    *("silent", "headers-never", "stall-first", "keep-alive-forever"),
]
"""Faults that come before the first event."""
WHOLE_ANSWERS = {"400", "401", "403", "404", "429", "500", "529", "redirect", "empty"}
"""Those that are said in full, so that the connection may serve the next call."""


@pytest.mark.parametrize("name", BEFORE)
def test_moves_on_before_the_first_event(name: str) -> None:
    """The second answers in full, the failure is kept, and the loser's connection is let go."""
    with servers(FAULTS[name], FAULTS["good"]) as (bad, good):
        first = openai(bad)
        stream = Failover([first, openai(good)]).stream("Hi", timeouts=SHORT)
        [attempt] = stream.attempts
        assert attempt.provider is first
        assert isinstance(attempt.error, ProviderError)
        assert 0 < attempt.seconds < 2
        assert (stream.read(), stream.outcome) == (GOOD, Outcome.COMPLETE)
        assert asked(good) == [1]
        if name not in WHOLE_ANSWERS:
            bad.wait_closed(1, timeout=1)


def test_nobody_listening_moves_on(refused: tuple[str, int]) -> None:
    """A refused connection is a failure like another."""
    with serve("Hello") as good:
        dead = OpenAICompatible("m", base_url="http://{}:{}".format(*refused), proxy=False)
        stream = Failover([dead, openai(good)]).stream("Hi")
        assert stream.read() == "Hello"
        assert isinstance(stream.attempts[0].error, ConnectionError)


@pytest.mark.parametrize(
    ("name", "error"),
    [("cut", StreamCut), ("error-event", ServerError), ("stall", APITimeoutError)],
)
def test_never_moves_on_after_the_first_event(name: str, error: type[ProviderError]) -> None:
    """What has begun stays with its provider: the error carries its text, nobody else is asked."""
    with servers(FAULTS[name], "other") as (bad, other):
        stream = Failover([openai(bad), openai(other)]).stream("Hi", timeouts=SHORT)
        with pytest.raises(error) as caught:
            stream.read()
        assert caught.value.partial == stream.text == "Hello, "
        assert asked(bad, other) == [1, 0]


@pytest.mark.parametrize(
    "first", [text("a"), reasoning("a"), refusal("a"), tool_call("f", {})], ids=repr
)
def test_returns_with_the_first_event_and_not_before(first: Any) -> None:
    """Good headers are not enough, and each kind of event is."""
    go, begun = threading.Event(), threading.Event()
    with servers([wait(go), first, wait(begun)], "other") as (server, other):
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(Failover([openai(server), openai(other)]).stream, "Hi")
            server.wait_request(1)
            assert wait_for([call], 0.1).not_done
            go.set()
            stream = call.result(5)
        begun.set()
        events = list(stream.events())
        assert len(events) >= 2
        assert stream.outcome is Outcome.COMPLETE
        assert asked(other) == [0]


def test_a_good_empty_end_is_an_answer() -> None:
    """Somebody who says "stop" and nothing else has answered."""
    with servers([finish("stop")], "other") as (server, other):
        stream = Failover([openai(server), openai(other)]).stream("Hi")
        assert list(stream.events()) == [Finish("stop")]
        assert (stream.text, stream.outcome, asked(other)) == ("", Outcome.COMPLETE, [0])


def test_events_and_numbers_are_the_winners() -> None:
    """The first event is not lost, and headers, model and request id belong to the winner."""
    winner = answer(reasoning("hm"), text("yes"), headers={"X-Request-Id": "second"})
    loser = status(500, headers={"X-Request-Id": "first"})
    with servers(loser, winner, "yes") as (bad, good, plain):
        named = Vitalentum(base_url=plain.url)
        stream = Failover([openai(bad), openai(good)]).stream("Hi")
        assert list(stream.events()) == [ReasoningDelta("hm"), TextDelta("yes"), Finish("stop")]
        assert (stream.request_id, stream.stats.attempts) == ("second", 2)
        assert Failover([openai(bad), named]).complete("Hi").model == "gpt-3.5-turbo"


def test_nobody_answering_lists_everyone(refused: tuple[str, int]) -> None:
    """One error with all reasons; it pickles, and shows no key, nor does its pickle hold one."""
    key = "sk-very-secret"
    dead = OpenAICompatible("m", base_url="http://{}:{}".format(*refused), api_key=key)
    with servers(status(401, "Incorrect API key"), [cut()]) as (wrong, cutting):
        providers = [dead, openai(wrong, api_key=key), openai(cutting, api_key=key)]
        with pytest.raises(FailoverError) as caught:
            Failover(providers).stream("Hi")
    error = caught.value
    assert [attempt.provider for attempt in error.attempts] == providers
    kinds = [type(attempt.error) for attempt in error.attempts]
    assert kinds[1:] == [AuthenticationError, StreamCut]
    assert all(str(attempt.error) in str(error) for attempt in error.attempts)
    assert error.__cause__ is error.attempts[-1].error
    assert (error.outcome, error.partial) == (Outcome.FAILED, "")
    pickled = pickle.dumps(error)
    again = pickle.loads(pickled)
    assert str(again) == str(error)
    assert [type(attempt.error) for attempt in again.attempts] == kinds
    assert key not in str(error) + repr(error.attempts)
    assert key.encode() not in pickled


# --- what does not move on


BAD: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user"}]},
    "option": {"messages": "Hi", "timeout": 3},
    "json": {"messages": "Hi", "seed": object()},
    "clock": {"messages": "Hi", "timeouts": 0},
    "header": {"messages": "Hi", "headers": {"a b": "c"}},
    "settings": {"messages": "Hi", "base_url": "http://127.0.0.1:9"},
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_asks_nobody(bad: str) -> None:
    """It would be as bad for the next one."""
    with servers("a", "b") as (a, b):
        with pytest.raises(InvalidRequestError):
            Failover([openai(a), openai(b)]).stream(**BAD[bad])
        assert asked(a, b) == [0, 0]


@pytest.mark.parametrize(
    "providers",
    [[], "vitalentum", None, [Vitalentum], [object()]],
    ids=["empty", "name", "none", "class", "object"],
)
def test_what_is_no_list_of_providers_is_refused(providers: Any) -> None:
    """At once, where it is made."""
    with pytest.raises(InvalidRequestError, match=r"provider"):
        Failover(providers)


@pytest.mark.parametrize(
    "settings",
    [{"strategy": "random"}, {"failures": 0}, {"failures": True}, {"cooldown": 0}],
    ids=repr,
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    """The error names the word."""
    with pytest.raises(InvalidRequestError, match=next(iter(settings))):
        Failover([Vitalentum()], **settings)


def test_a_model_of_the_call_passes_over_who_does_not_know_it() -> None:
    """Whoever cannot give what was asked for is not asked, and that is no failure of theirs."""
    with servers("old", "new") as (old, new):
        provider = Failover([Vitalentum(base_url=old.url), openai(new)])
        assert provider.complete("Hi", "gpt-5").text == "new"
        assert new.requests[0].json()["model"] == "gpt-5"
        assert provider.stream("Hi", "gpt-5").attempts == ()
        assert provider.complete("Hi").text == "old"


def test_a_model_nobody_knows_says_what_they_know() -> None:
    """Nothing is sent."""
    with servers("a", "b") as (a, b):
        provider = Failover([Vitalentum(base_url=a.url), AI365VIP(base_url=b.url)])
        with pytest.raises(ModelNotSupportedError, match=r"gpt-3\.5-turbo;.*gpt-4o"):
            provider.stream("Hi", "gpt-99")
        assert asked(a, b) == [0, 0]


def test_cancel_stops_the_whole_failover() -> None:
    """From another thread, while the second of three is silent; the third is never asked."""
    with servers(status(500), [stall()], "third") as (first, second, third):
        token = CancelToken()
        provider = Failover([openai(each) for each in (first, second, third)])
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(provider.stream, "Hi", cancel=token)
            second.wait_request(1)
            token.cancel()
            with pytest.raises(StreamCancelled):
                call.result(1)
        second.wait_closed(1, timeout=1)
        assert asked(first, second, third) == [1, 1, 0]
        with pytest.raises(StreamCancelled):
            provider.stream("Hi", cancel=token)
        assert asked(first, second, third) == [1, 1, 0]


# --- clocks


def test_total_spans_all_and_first_token_is_each_ones() -> None:
    """Three silent providers of 0.3 s each do not fit into 0.75 s in all."""
    with servers([stall()], [stall()], [stall()]) as silent:
        provider = Failover([openai(each) for each in silent])
        began = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            provider.stream("Hi", timeouts=Timeouts(first_token=0.3, total=0.75))
        assert 0.7 < time.monotonic() - began < 1.2
        assert (caught.value.clock, caught.value.outcome) == ("total", Outcome.DEADLINE)
        assert [each.error.clock for each in caught.value.attempts] == ["first_token"] * 2  # type: ignore[attr-defined]
        for each in silent:
            each.wait_closed(1, timeout=1)


def test_each_provider_keeps_its_own_clocks() -> None:
    """Without clocks of the call, those of each provider count, and the longest total."""
    with servers([stall()], [text("a"), stall()]) as (silent, stalling):
        first = openai(silent, timeouts=Timeouts(first_token=0.2, total=0.5))
        second = openai(stalling, timeouts=Timeouts(idle=0.3, total=60))
        began = time.monotonic()
        stream = Failover([first, second]).stream("Hi")
        assert 0.15 < time.monotonic() - began < 1
        with pytest.raises(APITimeoutError, match=r"0\.3 s.*idle timeout"):
            stream.read()
        assert "0.2 s" in str(stream.attempts[0].error)


def test_a_clock_that_fires_while_words_arrive_mixes_nothing() -> None:
    """Words that come just when ``first_token`` fires are the answer's, or they are nobody's."""

    def script(request: Request) -> Any:
        return [pause(0.015 + 0.01 * random.random()), text("slow "), text("words")]

    with servers(script, "other words") as (slow, other):
        hasty = openai(slow, timeouts=Timeouts(first_token=0.02))
        provider = Failover([hasty, openai(other)], cooldown=0.001)
        won = Counter(provider.complete("Hi").text for _ in range(40))
    assert set(won) <= {"slow words", "other words"}


def test_an_answer_that_is_whole_before_anybody_looks_at_the_clock_counts() -> None:
    """Late by ``first_token``, and all there: it is the answer."""

    def late(pipe: Channel) -> Iterator[Delta]:
        pipe.waits_for_first_event = True
        pipe.start_attempt(lambda: None)
        pipe.connected()
        while pipe.deadlines.time_left() > 0:
            threading.Event().wait(0.001)
        pipe.bytes_received(5)
        yield "Hello"
        yield Finish("stop")

    stream = PreparedCall(late, Timeouts(first_token=0.01)).begin()
    while not stream._channel.ended:
        threading.Event().wait(0.001)  # whoever waits for the stream would look at the clock
    assert (stream.read(), stream.outcome) == ("Hello", Outcome.COMPLETE)


def test_five_dead_and_one_good_answer_in_time_and_then_at_once(blackhole: tuple[str, int]) -> None:
    """The first call pays each connect clock once; the next one asks the good one first."""
    connect = 0.2
    with serve("Hello") as good:
        dead = [
            OpenAICompatible("m", base_url="http://{}:{}".format(*blackhole), proxy=False)
            for _ in range(5)
        ]
        provider = Failover([*dead, openai(good)])
        began = time.monotonic()
        stream = provider.stream("Hi", timeouts=Timeouts(connect=connect))
        assert 5 * connect <= time.monotonic() - began < 5 * connect + 0.25
        assert stream.read() == "Hello"
        assert [each.error.clock for each in stream.attempts] == ["connect"] * 5  # type: ignore[attr-defined]
        began = time.monotonic()
        stream = provider.stream("Hi", timeouts=Timeouts(connect=connect))
        assert time.monotonic() - began < connect / 2
        assert (stream.read(), stream.attempts) == ("Hello", ())


# --- the circuit


def test_three_failures_in_a_row_put_a_provider_last() -> None:
    """Until then it is asked first; a success in between starts the count anew."""
    good, bad = answer("first"), status(503)
    with servers([bad, bad, good, bad, bad, bad, good], "second") as (first, second):
        provider = Failover([openai(first), openai(second)])
        words = [provider.complete("Hi").text for _ in range(8)]
        assert words == ["second", "second", "first", *["second"] * 5]
        assert asked(first, second) == [6, 7]


def test_one_probe_after_the_rest_brings_it_back(clock: list[float]) -> None:
    """While the probe waits for its answer, other calls leave the provider alone."""
    go = threading.Event()
    with servers([*[status(503)] * 3, [wait(go), text("first")]], "second") as (first, second):
        provider = Failover([openai(first), openai(second)], failures=3, cooldown=30)
        for _ in range(3):
            provider.complete("Hi")
        clock[0] += 29
        assert provider.complete("Hi").text == "second"
        clock[0] += 2
        with ThreadPoolExecutor(1) as pool:
            probe = pool.submit(provider.complete, "Hi", timeouts=None)
            first.wait_request(4)
            assert provider.complete("Hi", timeouts=None).text == "second"
            go.set()
            assert probe.result(5).text == "first"
        assert provider.complete("Hi").text == "first"
        assert asked(first) == [5]


def test_a_failing_probe_rests_again(clock: list[float]) -> None:
    """One call pays for each look."""
    with servers(status(503), "second") as (first, second):
        provider = Failover([openai(first), openai(second)], failures=1, cooldown=30)
        for _ in range(3):
            assert [provider.complete("Hi").text for _ in range(3)] == ["second"] * 3
            clock[0] += 31
        assert asked(first) == [3]


def test_a_cancelled_probe_lets_the_next_call_look(clock: list[float]) -> None:
    """A reader who leaves says nothing of the provider."""
    with servers([status(503), [stall()], answer("first")], "second") as (first, second):
        provider = Failover([openai(first), openai(second)], failures=1, cooldown=30)
        provider.complete("Hi")
        clock[0] += 31
        token = CancelToken()
        with ThreadPoolExecutor(1) as pool:
            probe = pool.submit(provider.stream, "Hi", cancel=token, timeouts=None)
            first.wait_request(2)
            token.cancel()
            with pytest.raises(StreamCancelled):
                probe.result(5)
        first.wait_closed(1)
        assert eventually(lambda: provider.complete("Hi").text, "first")


def eventually(call: Any, wanted: object) -> bool:
    """Call until it returns what is wanted: the stream's thread notes its end a moment later."""
    return any(call() == wanted or time.sleep(0.01) for _ in range(100))


def test_all_resting_are_asked_nevertheless() -> None:
    """Resting costs no call its answer."""
    bad = status(503)
    with servers([bad, answer("first")], [bad, bad, answer("second")]) as (first, second):
        provider = Failover([openai(first), openai(second)], failures=1)
        with pytest.raises(FailoverError):
            provider.stream("Hi")
        assert provider.complete("Hi").text == "first"
        assert provider.complete("Hi").text == "first"


def test_an_answer_that_breaks_off_counts_as_a_failure() -> None:
    """Somebody who never ends an answer is asked last in the end."""
    with servers([text("a"), reset()], "second") as (first, second):
        provider = Failover([openai(first), openai(second)])
        for _ in range(3):
            with pytest.raises(ProviderError):
                provider.complete("Hi")
        assert provider.complete("Hi").text == "second"


def test_a_refused_request_is_nobodys_illness() -> None:
    """400 says that this request was bad for this provider; the next one may be good."""
    with servers([*[status(400)] * 5, answer("first")], "second") as (first, second):
        provider = Failover([openai(first), openai(second)], failures=1)
        words = [provider.complete("Hi").text for _ in range(6)]
        assert words == [*["second"] * 5, "first"]


def test_the_total_clock_blames_who_was_waited_for() -> None:
    """A silent provider that eats the whole time is not asked first by the next call."""
    with servers([stall()], "second") as (silent, second):
        provider = Failover([openai(silent), openai(second)])
        with pytest.raises(APITimeoutError):
            provider.stream("Hi", timeouts=0.2)
        assert provider.complete("Hi", timeouts=5).text == "second"
        assert asked(silent) == [1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock for the circuits that a test puts forward."""
    from providers_sync import circuit_breaker

    ahead = [0.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return time.monotonic() + ahead[0]

    monkeypatch.setattr(circuit_breaker, "time", Clock)
    return ahead


# --- strategies


def test_round_robin_begins_with_another_each_time() -> None:
    """Each in turn; the others share the place of one that fails."""
    with servers("a", "b", "c") as three:
        provider = Failover([openai(each) for each in three], strategy="round_robin")
        assert "".join(provider.complete("Hi").text for _ in range(7)) == "abcabca"
    with servers("a", status(500), "c") as three:
        provider = Failover([openai(each) for each in three], strategy="round_robin")
        assert "".join(provider.complete("Hi").text for _ in range(6)) == "accaac"


def test_round_robin_shares_among_the_healthy() -> None:
    """While one rests, the others take the same load."""
    with servers("a", status(500), "c") as three:
        provider = Failover([openai(each) for each in three], strategy="round_robin", failures=1)
        words = Counter(provider.complete("Hi").text for _ in range(40))
        assert asked(three[1]) == [1]
        assert abs(words["a"] - words["c"]) <= 1


# --- being a provider


def test_it_is_a_provider_everywhere() -> None:
    """Options, headers and retry reach whoever is asked; ``complete`` works; so does nesting."""
    with servers([status(500), status(500), answer("a")], "b") as (a, b):
        provider: Provider = Failover([Failover([openai(a)]), openai(b, temperature=1)])
        done = provider.complete("Hi", retry=3, headers={"X-A": "1"}, top_p=0.5)
        assert (done.text, done.stats.attempts) == ("a", 3)
        assert all(each.headers["X-A"] == "1" for each in a.requests)
        assert a.requests[-1].json()["top_p"] == 0.5
        assert asked(b) == [0]


def test_it_answers_async_callers() -> None:
    """The adapter opens it in the stream's own thread; cancelling the task stops it."""

    async def ask(provider: Provider) -> str:
        return (await aio.complete(provider, "Hi")).text

    async def leave(provider: Provider, server: Server) -> None:
        task = asyncio.create_task(ask(provider))
        await asyncio.to_thread(server.wait_request, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with servers(status(500), "b", [stall()]) as (a, b, silent):
        assert asyncio.run(ask(Failover([openai(a), openai(b)]))) == "b"
        asyncio.run(leave(Failover([openai(a), openai(silent)]), silent))
        silent.wait_closed(1, timeout=1)


def test_each_gets_one_request_unless_it_says_otherwise() -> None:
    """The next provider is the retry; a provider's own ``retry=`` is kept."""
    with servers(status(500), status(500), "c") as (a, b, c):
        provider = Failover([openai(a), openai(b, retry=2), openai(c)])
        stream = provider.stream("Hi")
        assert (stream.read(), stream.stats.attempts) == ("c", 4)
        assert asked(a, b, c) == [1, 2, 1]


def test_nested_failures_are_listed_one_by_one() -> None:
    """Those of the inner one and those of the outer one, in order."""
    with servers(status(500), status(429), status(401)) as three:
        a, b, c = (openai(each) for each in three)
        with pytest.raises(FailoverError) as caught:
            Failover([Failover([a, b]), c]).stream("Hi")
    assert [each.provider for each in caught.value.attempts] == [a, b, c]


def test_it_pickles_and_copies_without_its_memory() -> None:
    """A copy answers like the original and begins with a clean memory."""
    with servers([status(500), answer("a")], "b") as (a, b):
        provider = Failover([openai(a), openai(b)], failures=1, strategy="order")
        assert provider.complete("Hi").text == "b"
        for twin in (
            copy.copy(provider),
            copy.deepcopy(provider),
            pickle.loads(pickle.dumps(provider)),
        ):
            assert twin.complete("Hi").text == "a"
        assert provider.complete("Hi").text == "b"
        assert "sk" not in repr(Failover([openai(a, api_key="sk")]))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_answers_though_the_lock_was_taken() -> None:
    """A child takes neither the parent's connections nor its locks; its own answers are whole."""
    with servers([answer("Hello"), [text("a"), stall()], answer("Hello")]) as (server,):
        provider = Failover([openai(server)])
        provider.complete("Hi")
        running = provider.stream("Hi")
        with provider._memory()._lock:
            child = os.fork()
            if child == 0:
                os._exit(0 if provider.complete("Hi", timeouts=5).text == "Hello" else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert next(running) == "a"
        running.close()


def test_dropping_the_stream_closes_the_connection() -> None:
    """The last reference is enough, as with any stream."""
    with servers(status(500), [text("a"), stall()]) as (bad, good):
        for chunk in Failover([openai(bad), openai(good)]).stream("Hi"):
            assert chunk == "a"
            break
        gc.collect()
        good.wait_closed(1, timeout=1)


# --- at random


WHOLE = [status(500), status(401), status(429, "Slow down"), FAULTS["empty"]]
"""Failures after which the connection may be kept."""
BROKEN = [
    *([cut()], [reset()], [stall()]),
    *(FAULTS[each] for each in ("html", "headers-cut", "garbage-first", "error-first")),
]


class Flaky:
    """A script that fails before the first event as often as ``odds`` say, or answers in full."""

    def __init__(self, name: str, odds: float) -> None:
        self.name = name
        self.lost: list[Request] = []
        """Requests whose connection has to be closed."""
        self._odds = odds
        self._chance = random.Random(name)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Any:
        with self._lock:
            if self._chance.random() < self._odds:
                fault = self._chance.choice(WHOLE + BROKEN)
                if fault in BROKEN:
                    self.lost.append(request)
                return fault
            pieces = self._chance.randrange(30)
        begin = text(f"<{self.name} {question_of(request)} {pieces}>")
        return [begin, *[text(f" {self.name}")] * pieces]


def question_of(request: Request) -> str:
    question: str = request.json()["messages"][0]["content"]
    return question


def winner(whole: str, question: str) -> str:
    """Return who answered; fails unless this is one provider's whole answer to this question."""
    name, answered, pieces = whole.partition(">")[0].removeprefix("<").split()
    assert answered == question
    assert whole == f"<{name} {question} {pieces}>" + f" {name}" * int(pieces)
    return name


@pytest.mark.timeout(900)
@pytest.mark.parametrize("strategy", ["order", "round_robin"])
def test_streams_over_providers_failing_at_random_are_whole(
    strategy: Any, refused: tuple[str, int]
) -> None:
    """Every answer is whole and one provider's; no loser keeps its connection for a second.

    ``FAILOVER_STREAMS=10000`` runs it in full.
    """
    scripts = [*(Flaky(name, 0.3) for name in "abc"), Flaky("z", 0)]
    dead = OpenAICompatible("m", base_url="http://{}:{}".format(*refused), proxy=False)
    returned: dict[str, float] = {}
    with servers(*scripts) as four:
        chancy = [openai(server, timeouts=Timeouts(first_token=0.5)) for server in four[:3]]
        provider = Failover([dead, *chancy, openai(four[3])], strategy=strategy, cooldown=0.1)

        def ask(number: int) -> str:
            question = f"q{number}"
            with provider.stream(question) as stream:
                returned[question] = time.monotonic()
                return winner("".join(stream), question)

        with ThreadPoolExecutor(8) as pool:
            won = Counter(pool.map(ask, range(STREAMS)))
        for script, server in zip(scripts, four, strict=True):
            for request in script.lost:
                server.wait_closed(request.connection, timeout=1)
                closed_at = server.connections[request.connection - 1].closed_at or 0
                assert closed_at < returned[question_of(request)] + 1
    lost = sum(len(script.lost) for script in scripts)
    print(f"{strategy}: won {dict(won)}, {lost} connections lost, {asked(*four)} asked")
    assert won.total() == STREAMS
    assert all(won[name] for name in "abcz")


def test_published_spelling_wants_the_object_it_was_made_with() -> None:
    """The class alone has nobody to ask, and says so where everything else is said."""
    generator = Failover.create_async_generator("gpt-4o", "Hello", proxy=None, temperature=0)
    with pytest.raises(InvalidRequestError, match="it was made with"):
        asyncio.run(generator.__anext__())
