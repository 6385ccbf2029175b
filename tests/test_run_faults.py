"""Faults in each round of a dialogue with tools: the right outcome, and nothing called twice."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import tenacity

from providers_sync import (
    Anthropic,
    APITimeoutError,
    OpenAICompatible,
    Outcome,
    Provider,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamCut,
    StreamTruncated,
    Timeouts,
)
from providers_sync.testing import (
    ScriptedProvider,
    answer,
    cut,
    error,
    finish,
    refusal,
    reset,
    serve,
    stall,
    status,
    text,
    tool_call,
)
from providers_sync.types import Messages

ROUNDS = 3
AT_ONCE = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
QUICK = Timeouts(idle=0.1)


class Work:
    """A function as a tool, what it was asked to do, and how it fails."""

    def __init__(self) -> None:
        self.done: list[tuple[int, str]] = []
        self.failures: dict[tuple[int, str], Any] = {}
        self.messages: Messages = []

    def work(self, round: int, part: str) -> str:
        self.done.append((round, part))
        failure = self.failures.get((round, part))
        if failure is not None:
            failure()
        return f"{part} of {round}"


@pytest.fixture
def work() -> Work:
    return Work()


def calls(number: int) -> list[Any]:
    """Return the two calls of a round."""
    return [
        tool_call("work", {"round": number, "part": part}, id=f"call_{number}{part}")
        for part in ("a", "b")
    ]


def dialogue() -> list[Any]:
    """Return the answers of the model: rounds with two calls each, and the last one."""
    rounds: list[Any] = [[text(f"{n}. "), *calls(n)] for n in range(1, ROUNDS + 1)]
    return [*rounds, [text("Done")]]


def all_calls(first: int = 1, last: int = ROUNDS) -> list[tuple[int, str]]:
    return [(number, part) for number in range(first, last + 1) for part in ("a", "b")]


FAULTS: dict[str, tuple[Any, type[ProviderError], Outcome]] = {
    "cut": ([text("x"), *calls(9), cut()], StreamCut, Outcome.CUT),
    "reset": ([text("x"), *calls(9), reset()], StreamCut, Outcome.CUT),
    "half a call": (
        answer(calls(9)[0], tool_call("work", '{"round": 9, "pa'), end=False),
        StreamTruncated,
        Outcome.TRUNCATED,
    ),
    "truncated": (answer(text("x"), *calls(9), end=False), StreamTruncated, Outcome.TRUNCATED),
    "stall": ([*calls(9), stall()], APITimeoutError, Outcome.STALLED),
    "429": (status(429), RateLimitError, Outcome.FAILED),
    "error": ([*calls(9), error("overloaded")], ServerError, Outcome.FAILED),
}


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, n) for name in FAULTS for n in range(1 + (name == "429"), ROUNDS + 1)],
)
def test_fault_of_the_line_ends_the_run_there(name: str, number: int, work: Work) -> None:
    script, kind, outcome = FAULTS[name]
    rounds = dialogue()
    provider = ScriptedProvider([*rounds[: number - 1], script], retry=1)
    check_fault(provider, work, number, kind, outcome)
    provider.play(rounds[number - 1 :])
    go_on(provider, work, number)


@pytest.mark.parametrize("kind", [OpenAICompatible, Anthropic])
@pytest.mark.parametrize("name", ["cut", "reset", "stall", "429"])
def test_fault_of_a_real_connection(name: str, kind: type[Provider], work: Work) -> None:
    script, error, outcome = FAULTS[name]
    rounds = dialogue()
    with (
        serve([rounds[0], script, *rounds[1:]]) as server,
        kind("m", base_url=server.url, retry=1) as provider,
    ):
        check_fault(provider, work, 2, error, outcome)
        go_on(provider, work, 2)


def check_fault(
    provider: Provider, work: Work, number: int, kind: type[ProviderError], outcome: Outcome
) -> None:
    """Run into a fault in the round ``number``."""
    run = provider.run("Work", tools=[work.work], timeouts=QUICK)
    with pytest.raises(kind) as caught:
        run.read()
    assert run.outcome is caught.value.outcome is outcome
    assert caught.value.partial == run.text
    assert run.text.startswith("".join(f"{n}. " for n in range(1, number)))
    assert sorted(work.done) == all_calls(1, number - 1)
    assert len(run.rounds) == number - 1
    roles = [message["role"] for message in run.messages]
    assert roles == ["user", *["assistant", "tool", "tool"] * (number - 1)]
    work.messages = run.messages


def go_on(provider: Provider, work: Work, number: int) -> None:
    """Go on to the end, from the round ``number``: no call is made twice."""
    later = provider.run(work.messages, tools=[work.work])
    assert later.read() == "".join(f"{n}. " for n in range(number, ROUNDS + 1)) + "Done"
    assert sorted(work.done) == all_calls()
    assert later.outcome is Outcome.COMPLETE


@pytest.mark.parametrize("number", range(1, ROUNDS + 2))
def test_fault_before_the_first_event_is_retried(number: int, work: Work) -> None:
    rounds = dialogue()
    rounds[number - 1 : number - 1] = [status(503, headers={"Retry-After": "0"}), [cut()]]
    run = ScriptedProvider(rounds, retry=AT_ONCE).run("Work", tools=[work.work])
    assert run.read() == "1. 2. 3. Done"
    assert sorted(work.done) == all_calls()
    assert run.stats.attempts == ROUNDS + 3


@pytest.mark.parametrize("number", range(1, ROUNDS + 1))
@pytest.mark.parametrize("ending", [finish("length"), finish("content_filter"), refusal("No")])
def test_answer_that_is_not_whole_ends_the_run_well(ending: Any, number: int, work: Work) -> None:
    rounds = dialogue()
    provider = ScriptedProvider([*rounds[: number - 1], [text("x"), *calls(9), ending]])
    run = provider.run("Work", tools=[work.work])
    assert run.read().endswith("x")
    assert run.outcome is Outcome.COMPLETE
    assert not run.is_whole
    assert [call.id for call in run.tool_calls[-2:]] == ["call_9a", "call_9b"]
    assert run.messages[-1] == {"role": "assistant", "content": "x"}
    provider.play(rounds[number - 1 :])
    later = provider.run([*run.messages, {"role": "user", "content": "On"}], tools=[work.work])
    assert later.read().endswith("Done")
    assert sorted(work.done) == all_calls()


def leave() -> None:
    raise SystemExit(1)


def fail() -> None:
    raise LookupError("no such part")


FAILURES = {"raises": (fail, "LookupError: no such part"), "exits": (leave, "SystemExit: 1")}


@pytest.mark.parametrize("number", range(1, ROUNDS + 1))
@pytest.mark.parametrize("name", [*FAILURES, "hangs", "wrong arguments", "unknown", "no JSON"])
def test_fault_of_a_call_is_told(name: str, number: int, work: Work) -> None:
    rounds = dialogue()
    go = threading.Event()
    expected = all_calls()
    if name in FAILURES:
        work.failures[number, "a"], words = FAILURES[name]
    elif name == "hangs":
        work.failures[number, "a"], words = lambda: go.wait(10), "did not end within"
    else:
        call, words = {
            "wrong arguments": (tool_call("work", {"round": "x"}, id="call_x"), "part: is missing"),
            "unknown": (tool_call("play", {}, id="call_x"), "there is no tool 'play'"),
            "no JSON": (tool_call("work", "{oops", id="call_x"), "not a JSON object"),
        }[name]
        rounds[number - 1][1] = call
        expected.remove((number, "a"))
    run = ScriptedProvider(rounds).run("Work", tools=[work.work], tool_timeout=0.05)
    assert run.read() == "1. 2. 3. Done"
    assert run.is_whole
    assert sorted(work.done) == expected
    results = [message for message in run.messages if message["role"] == "tool"]
    wrong = [message for message in results if message.get("is_error")]
    assert results.index(wrong[0]) == 2 * (number - 1)
    assert len(wrong) == 1
    assert words in wrong[0]["content"]
    go.set()
