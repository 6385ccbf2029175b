"""Failover: the order of providers, when it moves on, and that answers are never mixed."""

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

STREAMS = int(os.environ.get("FAILOVER_STREAMS", "600"))
"""Streams of the random run; 10,000 for the full one."""
SHORT = Timeouts(connect=0.3, first_token=0.3, idle=0.3, total=10)
GOOD = "Hello, world!"


def openai(server: Server, **settings: Any) -> Provider:
    return OpenAICompatible("m", base_url=server.url, proxy=False, **settings)


@contextlib.contextmanager
def servers(*scripts: Any) -> Iterator[list[Server]]:
    """Run a server for each script."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(serve(script)) for script in scripts]


def request_counts(*all_servers: Server) -> list[int]:
    """Return how many requests each server has received."""
    return [len(server.requests) for server in all_servers]


# --- moving on


FAULTS_BEFORE = [
    *("400", "401", "403", "404", "429", "500", "529", "endless-error", "redirect"),
    *("hang-up", "connect-reset", "headers-cut", "headers-reset", "html", "html-hidden", "empty"),
    *("garbage-first", "wrong-shape", "error-first", "overload", "cut-first"),
    *("silent", "headers-never", "stall-first", "keep-alive-forever"),
]
"""Faults that come before the first event."""
COMPLETE_RESPONSES = {"400", "401", "403", "404", "429", "500", "529", "redirect", "empty"}
"""Those with a complete response, so that the connection may be reused."""


@pytest.mark.parametrize("name", FAULTS_BEFORE)
def test_moves_on_before_the_first_event(name: str) -> None:
    """The second one answers, the failure is recorded, the first one's connection is closed."""
    with servers(FAULTS[name], FAULTS["good"]) as (bad, good):
        first = openai(bad)
        stream = Failover([first, openai(good)]).stream("Hi", timeouts=SHORT)
        [attempt] = stream.attempts
        assert attempt.provider is first
        assert isinstance(attempt.error, ProviderError)
        assert 0 < attempt.seconds < 2
        assert (stream.read(), stream.outcome) == (GOOD, Outcome.COMPLETE)
        assert request_counts(good) == [1]
        if name not in COMPLETE_RESPONSES:
            bad.wait_closed(1, timeout=1)


def test_refused_connection_moves_on(refused: tuple[str, int]) -> None:
    """A refused connection is a failure like any other."""
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
    """The error carries the text of the started answer, and no other provider is tried."""
    with servers(FAULTS[name], "other") as (bad, other):
        stream = Failover([openai(bad), openai(other)]).stream("Hi", timeouts=SHORT)
        with pytest.raises(error) as caught:
            stream.read()
        assert caught.value.partial == stream.text == "Hello, "
        assert request_counts(bad, other) == [1, 0]


@pytest.mark.parametrize(
    "first", [text("a"), reasoning("a"), refusal("a"), tool_call("f", {})], ids=repr
)
def test_returns_with_the_first_event_and_not_before(first: Any) -> None:
    """The headers are not enough; an event of any kind is."""
    go, returned = threading.Event(), threading.Event()
    with servers([wait(go), first, wait(returned)], "other") as (server, other):
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(Failover([openai(server), openai(other)]).stream, "Hi")
            server.wait_request(1)
            assert wait_for([call], 0.1).not_done
            go.set()
            stream = call.result(5)
        returned.set()
        events = list(stream.events())
        assert len(events) >= 2
        assert stream.outcome is Outcome.COMPLETE
        assert request_counts(other) == [0]


def test_a_successful_empty_answer_is_an_answer() -> None:
    """A provider that sends only the finish reason "stop" has answered."""
    with servers([finish("stop")], "other") as (server, other):
        stream = Failover([openai(server), openai(other)]).stream("Hi")
        assert list(stream.events()) == [Finish("stop")]
        assert (stream.text, stream.outcome, request_counts(other)) == ("", Outcome.COMPLETE, [0])


def test_events_and_metadata_are_the_winners() -> None:
    """The first event is not lost; headers, model and request id are the winner's."""
    winner = answer(reasoning("hm"), text("yes"), headers={"X-Request-Id": "second"})
    loser = status(500, headers={"X-Request-Id": "first"})
    with servers(loser, winner, "yes") as (bad, good, plain):
        named = Vitalentum(base_url=plain.url)
        stream = Failover([openai(bad), openai(good)]).stream("Hi")
        assert list(stream.events()) == [ReasoningDelta("hm"), TextDelta("yes"), Finish("stop")]
        assert (stream.request_id, stream.stats.attempts) == ("second", 2)
        assert Failover([openai(bad), named]).complete("Hi").model == "gpt-3.5-turbo"


def test_error_lists_the_failures_of_all_providers(refused: tuple[str, int]) -> None:
    """One error with all reasons; it can be pickled, and neither it nor the pickle has a key."""
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
    copied = pickle.loads(pickled)
    assert str(copied) == str(error)
    assert [type(attempt.error) for attempt in copied.attempts] == kinds
    assert key not in str(error) + repr(error.attempts)
    assert key.encode() not in pickled


# --- what does not move on


BAD: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user"}]},
    "option": {"messages": "Hi", "timeout": 3},
    "json": {"messages": "Hi", "seed": object()},
    "timeout": {"messages": "Hi", "timeouts": 0},
    "header": {"messages": "Hi", "headers": {"a b": "c"}},
    "settings": {"messages": "Hi", "base_url": "http://127.0.0.1:9"},
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_sends_no_request(bad: str) -> None:
    """It would be just as bad for the next provider."""
    with servers("a", "b") as (a, b):
        with pytest.raises(InvalidRequestError):
            Failover([openai(a), openai(b)]).stream(**BAD[bad])
        assert request_counts(a, b) == [0, 0]


@pytest.mark.parametrize(
    "providers",
    [[], "vitalentum", None, [Vitalentum], [object()]],
    ids=["empty", "name", "none", "class", "object"],
)
def test_invalid_list_of_providers_raises(providers: Any) -> None:
    """Immediately, in the constructor."""
    with pytest.raises(InvalidRequestError, match=r"provider"):
        Failover(providers)


@pytest.mark.parametrize(
    "settings",
    [{"strategy": "random"}, {"failures": 0}, {"failures": True}, {"cooldown": 0}],
    ids=repr,
)
def test_invalid_settings_raise(settings: dict[str, Any]) -> None:
    """The error names the setting."""
    with pytest.raises(InvalidRequestError, match=next(iter(settings))):
        Failover([Vitalentum()], **settings)


def test_a_model_of_the_call_skips_providers_without_it() -> None:
    """A provider without the model is not tried, and that does not count as its failure."""
    with servers("old", "new") as (old, new):
        provider = Failover([Vitalentum(base_url=old.url), openai(new)])
        assert provider.complete("Hi", "gpt-5").text == "new"
        assert new.requests[0].json()["model"] == "gpt-5"
        assert provider.stream("Hi", "gpt-5").attempts == ()
        assert provider.complete("Hi").text == "old"


def test_an_unknown_model_raises_with_the_known_ones() -> None:
    """Nothing is sent."""
    with servers("a", "b") as (a, b):
        provider = Failover([Vitalentum(base_url=a.url), AI365VIP(base_url=b.url)])
        with pytest.raises(ModelNotSupportedError, match=r"gpt-3\.5-turbo;.*gpt-4o"):
            provider.stream("Hi", "gpt-99")
        assert request_counts(a, b) == [0, 0]


def test_cancel_stops_the_failover() -> None:
    """From another thread, while the second of three is silent; the third is never tried."""
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
        assert request_counts(first, second, third) == [1, 1, 0]
        with pytest.raises(StreamCancelled):
            provider.stream("Hi", cancel=token)
        assert request_counts(first, second, third) == [1, 1, 0]


# --- timeouts


def test_total_spans_all_and_first_token_applies_to_each() -> None:
    """Three silent providers of 0.3 s each do not fit into 0.75 s in total."""
    with servers([stall()], [stall()], [stall()]) as silent:
        provider = Failover([openai(each) for each in silent])
        started = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            provider.stream("Hi", timeouts=Timeouts(first_token=0.3, total=0.75))
        assert 0.7 < time.monotonic() - started < 1.2
        assert (caught.value.clock, caught.value.outcome) == ("total", Outcome.DEADLINE)
        assert [each.error.clock for each in caught.value.attempts] == ["first_token"] * 2  # type: ignore[attr-defined]
        for each in silent:
            each.wait_closed(1, timeout=1)


def test_each_provider_keeps_its_own_timeouts() -> None:
    """Without timeouts of the call, each provider's own apply, and the longest total."""
    with servers([stall()], [text("a"), stall()]) as (silent, stalling):
        first = openai(silent, timeouts=Timeouts(first_token=0.2, total=0.5))
        second = openai(stalling, timeouts=Timeouts(idle=0.3, total=60))
        started = time.monotonic()
        stream = Failover([first, second]).stream("Hi")
        assert 0.15 < time.monotonic() - started < 1
        with pytest.raises(APITimeoutError, match=r"0\.3 s.*idle timeout"):
            stream.read()
        assert "0.2 s" in str(stream.attempts[0].error)


def test_a_timeout_that_expires_while_text_arrives_mixes_nothing() -> None:
    """Text that arrives just when ``first_token`` expires starts the answer or is dropped."""

    def script(request: Request) -> Any:
        return [pause(0.015 + 0.01 * random.random()), text("slow "), text("words")]

    with servers(script, "other words") as (slow, other):
        hasty = openai(slow, timeouts=Timeouts(first_token=0.02))
        provider = Failover([hasty, openai(other)], cooldown=0.001)
        won = Counter(provider.complete("Hi").text for _ in range(40))
    assert set(won) <= {"slow words", "other words"}


def test_one_good_provider_among_five_dead_ones_is_found(blackhole: tuple[str, int]) -> None:
    """The first call waits for each connect timeout; the next one tries the good one first."""
    connect = 0.2
    with serve("Hello") as good:
        dead = [
            OpenAICompatible("m", base_url="http://{}:{}".format(*blackhole), proxy=False)
            for _ in range(5)
        ]
        provider = Failover([*dead, openai(good)])
        started = time.monotonic()
        stream = provider.stream("Hi", timeouts=Timeouts(connect=connect))
        assert 5 * connect <= time.monotonic() - started < 5 * connect + 0.25
        assert stream.read() == "Hello"
        assert [each.error.clock for each in stream.attempts] == ["connect"] * 5  # type: ignore[attr-defined]
        started = time.monotonic()
        stream = provider.stream("Hi", timeouts=Timeouts(connect=connect))
        assert time.monotonic() - started < connect / 2
        assert (stream.read(), stream.attempts) == ("Hello", ())


# --- circuit breakers


def test_three_failures_in_a_row_put_a_provider_last() -> None:
    """Until then it is tried first; a success in between resets the count."""
    good, bad = answer("first"), status(503)
    with servers([bad, bad, good, bad, bad, bad, good], "second") as (first, second):
        provider = Failover([openai(first), openai(second)])
        texts = [provider.complete("Hi").text for _ in range(8)]
        assert texts == ["second", "second", "first", *["second"] * 5]
        assert request_counts(first, second) == [6, 7]


def test_one_probe_after_the_cooldown_brings_it_back(clock: list[float]) -> None:
    """While the probe waits for its answer, other calls do not try the provider."""
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
        assert request_counts(first) == [5]


def test_a_failing_probe_starts_another_cooldown(clock: list[float]) -> None:
    """Each probe delays one call only."""
    with servers(status(503), "second") as (first, second):
        provider = Failover([openai(first), openai(second)], failures=1, cooldown=30)
        for _ in range(3):
            assert [provider.complete("Hi").text for _ in range(3)] == ["second"] * 3
            clock[0] += 31
        assert request_counts(first) == [3]


def test_a_cancelled_probe_lets_the_next_call_probe(clock: list[float]) -> None:
    """A cancelled call shows nothing about the provider's health."""
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


def eventually(call: Any, expected: object) -> bool:
    """Retry until the result is ``expected``: the worker thread records the end a bit later."""
    return any(call() == expected or time.sleep(0.01) for _ in range(100))


def test_all_are_tried_if_all_are_cooling_down() -> None:
    """No call fails because of a cooldown."""
    bad = status(503)
    with servers([bad, answer("first")], [bad, bad, answer("second")]) as (first, second):
        provider = Failover([openai(first), openai(second)], failures=1)
        with pytest.raises(FailoverError):
            provider.stream("Hi")
        assert provider.complete("Hi").text == "first"
        assert provider.complete("Hi").text == "first"


def test_an_answer_that_breaks_off_counts_as_a_failure() -> None:
    """A provider that never completes an answer is eventually tried last."""
    with servers([text("a"), reset()], "second") as (first, second):
        provider = Failover([openai(first), openai(second)])
        for _ in range(3):
            with pytest.raises(ProviderError):
                provider.complete("Hi")
        assert provider.complete("Hi").text == "second"


def test_a_rejected_request_does_not_count_as_a_failure() -> None:
    """Status 400 means that this request was bad for this provider; the next may be good."""
    with servers([*[status(400)] * 5, answer("first")], "second") as (first, second):
        provider = Failover([openai(first), openai(second)], failures=1)
        texts = [provider.complete("Hi").text for _ in range(6)]
        assert texts == [*["second"] * 5, "first"]


def test_the_total_timeout_blames_the_provider_with_the_longest_wait() -> None:
    """The next call does not first try a silent provider that used up all the time."""
    with servers([stall()], "second") as (silent, second):
        provider = Failover([openai(silent), openai(second)])
        with pytest.raises(APITimeoutError):
            provider.stream("Hi", timeouts=0.2)
        assert provider.complete("Hi", timeouts=5).text == "second"
        assert request_counts(silent) == [1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock for the circuit breakers that a test can advance."""
    from providers_sync import circuit_breaker

    ahead = [0.0]
    monkeypatch.setattr(circuit_breaker, "monotonic", lambda: time.monotonic() + ahead[0])
    return ahead


# --- strategies


def test_round_robin_starts_with_the_next_each_time() -> None:
    """Each in turn; the next one replaces one that fails."""
    with servers("a", "b", "c") as three:
        provider = Failover([openai(each) for each in three], strategy="round_robin")
        assert "".join(provider.complete("Hi").text for _ in range(7)) == "abcabca"
    with servers("a", status(500), "c") as three:
        provider = Failover([openai(each) for each in three], strategy="round_robin")
        assert "".join(provider.complete("Hi").text for _ in range(6)) == "accaac"


def test_round_robin_shares_among_the_healthy() -> None:
    """While one is cooling down, the others share the load equally."""
    with servers("a", status(500), "c") as three:
        provider = Failover([openai(each) for each in three], strategy="round_robin", failures=1)
        counts = Counter(provider.complete("Hi").text for _ in range(40))
        assert request_counts(three[1]) == [1]
        assert abs(counts["a"] - counts["c"]) <= 1


# --- being a provider


def test_it_is_a_provider_everywhere() -> None:
    """Options, headers and retry reach each provider; ``complete`` and nesting work."""
    with servers([status(500), status(500), answer("a")], "b") as (a, b):
        provider: Provider = Failover([Failover([openai(a)]), openai(b, temperature=1)])
        done = provider.complete("Hi", retry=3, headers={"X-A": "1"}, top_p=0.5)
        assert (done.text, done.stats.attempts) == ("a", 3)
        assert all(each.headers["X-A"] == "1" for each in a.requests)
        assert a.requests[-1].json()["top_p"] == 0.5
        assert request_counts(b) == [0]


def test_it_answers_async_callers() -> None:
    """The adapter opens it in the worker thread; cancelling the task stops it."""

    async def ask(provider: Provider) -> str:
        return (await aio.complete(provider, "Hi")).text

    async def cancel_task(provider: Provider, server: Server) -> None:
        task = asyncio.create_task(ask(provider))
        await asyncio.to_thread(server.wait_request, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with servers(status(500), "b", [stall()]) as (a, b, silent):
        assert asyncio.run(ask(Failover([openai(a), openai(b)]))) == "b"
        asyncio.run(cancel_task(Failover([openai(a), openai(silent)]), silent))
        silent.wait_closed(1, timeout=1)


def test_each_gets_one_request_unless_it_has_retry() -> None:
    """The next provider is the retry; a provider's own ``retry=`` is kept."""
    with servers(status(500), status(500), "c") as (a, b, c):
        provider = Failover([openai(a), openai(b, retry=2), openai(c)])
        stream = provider.stream("Hi")
        assert (stream.read(), stream.stats.attempts) == ("c", 4)
        assert request_counts(a, b, c) == [1, 2, 1]


def test_nested_failures_are_listed_one_by_one() -> None:
    """The failures of the inner Failover and of the outer one, in order."""
    with servers(status(500), status(429), status(401)) as three:
        a, b, c = (openai(each) for each in three)
        with pytest.raises(FailoverError) as caught:
            Failover([Failover([a, b]), c]).stream("Hi")
    assert [each.provider for each in caught.value.attempts] == [a, b, c]


def test_it_pickles_and_copies_without_its_circuit_breakers() -> None:
    """A copy answers like the original and starts with closed circuits."""
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
def test_a_forked_child_answers_although_the_lock_was_held() -> None:
    """A child uses neither the parent's connections nor its locks; its answers are complete."""
    with servers([answer("Hello"), [text("a"), stall()], answer("Hello")]) as (server,):
        provider = Failover([openai(server)])
        provider.complete("Hi")
        running = provider.stream("Hi")
        with provider._circuit_breakers()._lock:
            child = os.fork()
            if child == 0:
                os._exit(0 if provider.complete("Hi", timeouts=5).text == "Hello" else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert next(running) == "a"
        running.close()


def test_dropping_the_stream_closes_the_connection() -> None:
    """Dropping the last reference is enough, as with any stream."""
    with servers(status(500), [text("a"), stall()]) as (bad, good):
        for chunk in Failover([openai(bad), openai(good)]).stream("Hi"):
            assert chunk == "a"
            break
        gc.collect()
        good.wait_closed(1, timeout=1)


# --- at random


COMPLETE = [status(500), status(401), status(429, "Slow down"), FAULTS["empty"]]
"""Failures after which the connection may be kept."""
BROKEN = [
    *([cut()], [reset()], [stall()]),
    *(FAULTS[each] for each in ("html", "headers-cut", "garbage-first", "error-first")),
]


class Flaky:
    """A script that fails before the first event with probability ``odds``, or else answers."""

    def __init__(self, name: str, odds: float) -> None:
        self.name = name
        self.lost: list[Request] = []
        """Requests whose connection must be closed."""
        self._odds = odds
        self._random = random.Random(name)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Any:
        with self._lock:
            if self._random.random() < self._odds:
                fault = self._random.choice(COMPLETE + BROKEN)
                if fault in BROKEN:
                    self.lost.append(request)
                return fault
            chunks = self._random.randrange(30)
        start = text(f"<{self.name} {question_of(request)} {chunks}>")
        return [start, *[text(f" {self.name}")] * chunks]


def question_of(request: Request) -> str:
    question: str = request.json()["messages"][0]["content"]
    return question


def winner(answer_text: str, question: str) -> str:
    """Return the provider's name; fail unless this is its complete answer to this question."""
    name, answered, chunks = answer_text.partition(">")[0].removeprefix("<").split()
    assert answered == question
    assert answer_text == f"<{name} {question} {chunks}>" + f" {name}" * int(chunks)
    return name


@pytest.mark.timeout(900)
@pytest.mark.parametrize("strategy", ["order", "round_robin"])
def test_streams_over_providers_failing_at_random_are_complete(
    strategy: Any, refused: tuple[str, int]
) -> None:
    """Each answer is complete and from one provider; failed connections close within a second.

    ``FAILOVER_STREAMS=10000`` runs it in full.
    """
    scripts = [*(Flaky(name, 0.3) for name in "abc"), Flaky("z", 0)]
    dead = OpenAICompatible("m", base_url="http://{}:{}".format(*refused), proxy=False)
    returned: dict[str, float] = {}
    with servers(*scripts) as four:
        flaky = [openai(server, timeouts=Timeouts(first_token=0.5)) for server in four[:3]]
        provider = Failover([dead, *flaky, openai(four[3])], strategy=strategy, cooldown=0.1)

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
    print(f"{strategy}: won {dict(won)}, {lost} connections lost, {request_counts(*four)} requests")
    assert won.total() == STREAMS
    assert all(won[name] for name in "abcz")


def test_published_interface_needs_an_object() -> None:
    """The class has no providers; the error is raised at the first ``await``."""
    generator = Failover.create_async_generator("gpt-4o", "Hello", proxy=None, temperature=0)
    with pytest.raises(InvalidRequestError, match="create an instance of it"):
        asyncio.run(generator.__anext__())
