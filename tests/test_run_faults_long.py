"""Runs under every canned fault in each round, and a thousand stops at random moments."""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
import signal
import threading
import time
from collections import Counter
from typing import Any

import pytest
from faults.phases import wait_until
from test_run_faults import ROUNDS, Work, all_calls, dialogue
from test_scripted import LARGE, SHORT, SLOW, result

from providers_sync import (
    Anthropic,
    CancelToken,
    OpenAICompatible,
    Outcome,
    Provider,
    ProviderError,
    Run,
    StreamCancelled,
    Timeouts,
)
from providers_sync.testing import FAULTS, Request, ScriptedProvider
from providers_sync.types import Messages

LONG = Timeouts(first_token=30, idle=30, total=30)
CASES = [
    (name, number, kind)
    for name in FAULTS
    if name not in LARGE
    for number in ([2] if SLOW.search(name) else range(1, ROUNDS + 2))
    for kind in ((OpenAICompatible, Anthropic) if number == 2 else (OpenAICompatible,))
]


@pytest.mark.parametrize(("name", "number", "kind"), CASES)
def test_fault_ends_a_run_as_it_ends_an_answer(
    name: str, number: int, kind: type[Provider]
) -> None:
    """Whatever the fault, the calls of the rounds before it are made once."""
    like = kind("m", base_url="http://gone.invalid")
    fault = FAULTS[name].script
    timeouts = SHORT if SLOW.search(name) else LONG
    expected = result(ScriptedProvider(fault, like=like), timeouts)
    work, rounds = Work(), dialogue()
    first = rounds[: number - 1]
    provider = ScriptedProvider([*first, fault], like=like)
    messages: Messages = [{"role": "user", "content": "Work"}]
    try:
        run = provider.run("Work", tools=[work.work], timeouts=timeouts, retry=1)
        with contextlib.suppress(ProviderError):
            run.read()
        messages = run.messages
        run.read()
        found: Any = (run.outcome,)
    except ProviderError as error:
        found = type(error), error.outcome, getattr(error, "clock", None)
    assert found == (expected[:3] if isinstance(expected[0], type) else expected[:1])
    assert sorted(work.done) == all_calls(1, number - 1)
    provider.play(rounds[number - 1 :])
    if messages[-1]["role"] == "assistant":
        messages = [*messages, {"role": "user", "content": "On"}]
    assert provider.run(messages, tools=[work.work]).read().endswith("Done")
    assert sorted(work.done) == all_calls()


# --- stops


STOPS = 1000
LONGEST_S = 0.02
"""Longer than most of the dialogues take."""


class Dialogue:
    """A provider that answers by what is in the messages, and the work that its runs do."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.begun: list[tuple[int, str]] = []
        self.provider = ScriptedProvider(self.answer)

    def answer(self, request: Request) -> Any:
        messages = request.json()["messages"]
        return dialogue()[sum("tool_calls" in message for message in messages)]

    def work(self, round: int, part: str) -> str:
        self.begun.append((round, part))
        time.sleep(self.dice.uniform(0, 0.002))
        return f"{part} of {round}"


def read(run: Run, raised: list[BaseException]) -> None:
    try:
        run.read()
    except BaseException as error:  # noqa: BLE001 (for the test)
        raised.append(error)


def stop_from_outside(talk: Dialogue, run: Run, how: str, token: CancelToken) -> list[Any]:
    raised: list[Any] = []
    reader = threading.Thread(target=read, args=(run, raised))
    reader.start()
    time.sleep(talk.dice.uniform(0, LONGEST_S))
    {"cancel": run.cancel, "close": run.close, "token": token.cancel}[how]()
    assert_nothing_more_begins(talk, run)
    reader.join(5)
    assert not reader.is_alive()
    return raised


def stop_by_signal(talk: Dialogue, run: Run, token: CancelToken) -> list[Any]:
    raised: list[Any] = []
    before = signal.signal(signal.SIGALRM, lambda *_: token.cancel())
    signal.setitimer(signal.ITIMER_REAL, talk.dice.uniform(1e-6, LONGEST_S))
    try:
        read(run, raised)
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    return raised


def assert_nothing_more_begins(talk: Dialogue, run: Run) -> None:
    """Assert that only what had begun at the stop is called; wait for its end."""
    running, begun = len(run._state._running), len(talk.begun)
    wait_until(lambda: not run._state._running)
    assert len(talk.begun) - begun <= running


@pytest.mark.parametrize("how", ["cancel", "close", "token", "signal"])
def test_stops_at_random_moments(how: str) -> None:
    """The right outcome each, each call made once in the end, and no thread is left."""
    dice = random.Random(how)
    seen: Counter[Any] = Counter()
    for _ in range(STOPS // 5):
        talk, token = Dialogue(dice), CancelToken()
        run = talk.provider.run("Work", tools=[talk.work], cancel=token)
        if how == "signal":
            raised = stop_by_signal(talk, run, token)
        else:
            raised = stop_from_outside(talk, run, how, token)
        seen[run.outcome, len(run.rounds)] += 1
        check_stopped(run, raised, how)
        wait_until(lambda run=run: not run._state._running)
        if run.outcome is Outcome.CANCELLED:
            again = talk.provider.run(run.messages, tools=[talk.work])
            assert again.read().endswith("Done")
        assert sorted(talk.begun) == all_calls()  # each once
    assert len(seen) >= ROUNDS + 1


def test_runs_dropped_at_random_moments() -> None:
    dice = random.Random(1)
    for _ in range(STOPS // 5):
        talk = Dialogue(dice)
        run = talk.provider.run("Work", tools=[talk.work])
        list(itertools.islice(run.events(), dice.randrange(12)))
        state = run._state
        del run
        gc.collect()
        assert state.has_ended
        wait_until(lambda state=state: not state._running)
        assert max(Counter(talk.begun).values(), default=0) <= 1


def check_stopped(run: Run, raised: list[Any], how: str) -> None:
    assert run.outcome in (Outcome.CANCELLED, Outcome.COMPLETE)
    assert "1. 2. 3. Done".startswith(run.text)
    is_error = run.outcome is Outcome.CANCELLED and how != "close"
    assert [type(error) for error in raised] == [StreamCancelled] * is_error
    if is_error:
        assert raised[0].partial == run.text
