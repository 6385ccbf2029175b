"""Calls of a run that somebody decides about: ``approve=``, ``Pause``, and the journal."""

from __future__ import annotations

import functools
import gc
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from faults.phases import wait_until
from run_kit import BERGEN, OSLO, RESULT, Weather, hanging, scripted

from providers_sync import (
    InvalidRequestError,
    Outcome,
    Pause,
    StreamCancelled,
    StreamCut,
    Tool,
    ToolCall,
    ToolError,
)
from providers_sync.testing import ScriptedProvider, cut, text, tool_call
from providers_sync.tools.tool import STOPPED


@pytest.fixture
def asked() -> Weather:
    return Weather()


# --- approval


def test_approve_is_asked_before_each_call(asked: Weather) -> None:
    calls = []

    def approve(call: ToolCall) -> bool:
        assert threading.current_thread() is threading.main_thread()
        calls.append((call.name, call.arguments, list(asked.cities)))
        return True

    provider = scripted([OSLO, BERGEN], [text("Yes")])
    assert provider.run("?", tools=[asked.weather], approve=approve).read() == "Yes"
    assert calls == [("weather", {"city": "Oslo"}, []), ("weather", {"city": "Bergen"}, [])]


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (False, "the user declined this call"),
        ("too far", "the user declined this call: too far"),
    ],
)
def test_declined_call_is_told(decision: Any, words: str, asked: Weather) -> None:
    provider = scripted([OSLO], [text("Well")])
    run = provider.run("?", tools=[asked.weather], approve=lambda _: decision)
    assert run.read() == "Well"
    assert asked.cities == []
    assert run.messages[2]["content"] == words


def test_declined_calls_are_no_mistakes(asked: Weather) -> None:
    provider = scripted([OSLO], [OSLO], [OSLO], [OSLO], [text("Well")])
    run = provider.run("?", tools=[asked.weather], approve=lambda _: False)
    assert run.read() == "Well"


@pytest.mark.parametrize("pause", [Pause, Pause()])
def test_pause_ends_the_run_until_somebody_has_decided(pause: Any, asked: Weather) -> None:
    provider = scripted([text("See. "), BERGEN, OSLO])
    run = provider.run(
        "?", tools=[asked.weather], approve=lambda call: pause if call.id == "call_1" else True
    )
    assert run.read() == "See. "
    assert run.outcome is Outcome.PAUSED
    assert str(run.outcome) == "paused"
    assert not run.is_whole
    assert run.completion().outcome == "paused"
    assert asked.cities == []  # none of the round, so that it can be decided about as one
    saved = json.loads(json.dumps(run.messages))
    provider.play([[text("Yes")]])
    later = provider.run(saved, tools=[asked.weather], approve=lambda _: True)
    assert later.read() == "Yes"
    assert sorted(asked.cities) == ["Bergen", "Oslo"]
    assert later.outcome is Outcome.COMPLETE
    assert len(later.rounds) == 1


def test_function_that_needs_approval_pauses_without_anybody_to_ask(asked: Weather) -> None:
    tool = Tool(asked.weather, needs_approval=True)
    run = scripted([OSLO]).run("?", tools=[tool])
    run.read()
    assert run.outcome is Outcome.PAUSED
    assert asked.cities == []


def test_function_that_needs_no_approval_is_not_asked_about(asked: Weather) -> None:
    tool = Tool(asked.weather, needs_approval=False)
    run = scripted([OSLO], [text("Yes")]).run("?", tools=[tool], approve=lambda _: Pause)
    assert run.read() == "Yes"


@pytest.mark.parametrize("decision", [None, 1, 0, {}])
def test_approve_that_does_not_decide_is_an_error(decision: Any, asked: Weather) -> None:
    run = scripted([OSLO]).run("?", tools=[asked.weather], approve=lambda _: decision)
    with pytest.raises(InvalidRequestError, match="approve must return True, False"):
        run.read()
    assert run.outcome is Outcome.FAILED
    assert asked.cities == []


def test_exception_of_approve_ends_the_run(asked: Weather) -> None:
    def approve(call: ToolCall) -> bool:
        raise RuntimeError("no terminal")

    run = scripted([OSLO]).run("?", tools=[asked.weather], approve=approve)
    with pytest.raises(RuntimeError, match="no terminal"):
        run.read()
    assert run.outcome is Outcome.CANCELLED
    assert asked.cities == []


def test_stop_while_approve_is_asked(asked: Weather) -> None:
    def approve(call: ToolCall) -> bool:
        run.cancel()
        return True

    run = scripted([text("See. "), OSLO]).run("?", tools=[asked.weather], approve=approve)
    with pytest.raises(StreamCancelled) as caught:
        run.read()
    assert caught.value.partial == "See. "
    assert asked.cities == []


def test_wrong_call_is_not_asked_about(asked: Weather) -> None:
    def approve(call: ToolCall) -> bool:
        pytest.fail("there is nothing to approve")

    provider = scripted([tool_call("weather", {"town": "Oslo"})], [text("Sorry")])
    assert provider.run("?", tools=[asked.weather], approve=approve).read() == "Sorry"


# --- the journal


@pytest.fixture
def journal(tmp_path: Any) -> str:
    return os.fspath(tmp_path / "run.jsonl")


def test_finished_calls_of_a_journal_are_not_repeated(asked: Weather, journal: str) -> None:
    provider = ScriptedProvider([[OSLO, BERGEN], [text("Y"), cut()]], retry=1)
    with pytest.raises(StreamCut):
        provider.run("?", tools=[asked.weather], journal=journal).read()
    assert sorted(asked.cities) == ["Bergen", "Oslo"]
    other_ids = tool_call("weather", {"city": "Oslo"}, id="x")
    provider.play([[other_ids, BERGEN], [text("Yes")]])
    run = provider.run("?", tools=[asked.weather], journal=journal)
    assert run.read() == "Yes"
    assert len(asked.cities) == 2
    assert run.messages[2] == {**RESULT, "tool_call_id": "x"}


def test_another_question_is_another_run(asked: Weather, journal: str) -> None:
    provider = scripted([OSLO], [text("Yes")], [OSLO], [text("Yes")])
    for question in ("?", "Really?"):
        provider.run(question, tools=[asked.weather], journal=journal).read()
    assert asked.cities == ["Oslo", "Oslo"]


def test_pause_goes_on_with_the_same_journal(asked: Weather, journal: str) -> None:
    provider = scripted([OSLO], [BERGEN])
    decisions: Iterator[Any] = iter([True, Pause])
    run = provider.run(
        "?", tools=[asked.weather], journal=journal, approve=lambda _: next(decisions)
    )
    run.read()
    provider.play([[OSLO], [BERGEN], [text("Yes")]])
    again = provider.run("?", tools=[asked.weather], journal=journal)  # from the beginning
    assert again.read() == "Yes"
    assert asked.cities == ["Oslo", "Bergen"]
    provider.play([[text("Yes")]])
    later = provider.run(run.messages, tools=[asked.weather], journal=journal)
    assert later.read() == "Yes"
    assert asked.cities == ["Oslo", "Bergen"]


def stopped_in_the_middle(journal: str) -> ScriptedProvider:
    """Leave a journal with a call that has begun and not ended."""
    from providers_sync.tools.journal import Journal, call_keys

    question = [{"role": "user", "content": "?"}]
    call = ToolCall("call_1", "weather", {"city": "Oslo"}, '{"city": "Oslo"}')
    with Journal.open(journal) as opened:
        opened.begin(call_keys(question, [call])[0], call)
    return scripted([OSLO], [text("Yes")])


def test_call_that_may_have_been_made_raises(asked: Weather, journal: str) -> None:
    provider = stopped_in_the_middle(journal)
    run = provider.run("?", tools=[asked.weather], journal=journal)
    with pytest.raises(ToolError, match="weather had started when an earlier run stopped"):
        run.read()
    assert run.outcome is Outcome.FAILED
    assert asked.cities == []


def test_on_unknown_decides(asked: Weather, journal: str) -> None:
    provider = stopped_in_the_middle(journal)
    decided = []

    def decide(call: ToolCall) -> str:
        decided.append(call.arguments)
        return "rain, as somebody has looked up"

    run = provider.run("?", tools=[asked.weather], journal=journal, on_unknown=decide)
    assert run.read() == "Yes"
    assert run.messages[2]["content"] == "rain, as somebody has looked up"
    assert decided == [{"city": "Oslo"}]
    provider.play([[OSLO], [text("Yes")]])
    assert provider.run("?", tools=[asked.weather], journal=journal).read() == "Yes"
    assert asked.cities == []


def test_on_unknown_may_call_again(asked: Weather, journal: str) -> None:
    provider = stopped_in_the_middle(journal)
    run = provider.run("?", tools=[asked.weather], journal=journal, on_unknown=lambda _: True)
    assert run.read() == "Yes"
    assert asked.cities == ["Oslo"]


def test_on_unknown_must_decide(asked: Weather, journal: str) -> None:
    provider = stopped_in_the_middle(journal)
    run = provider.run("?", tools=[asked.weather], journal=journal, on_unknown=lambda _: False)
    with pytest.raises(InvalidRequestError, match="on_unknown must return True"):
        run.read()
    assert asked.cities == []


def test_journal_is_closed_at_each_end(asked: Weather, journal: str) -> None:
    provider = scripted(*[[text("See. "), OSLO]] * 4)
    ask = functools.partial(provider.run, "?", tools=[asked.weather], journal=journal)
    with ask() as run, pytest.raises(ToolError, match="another run uses the journal"):
        ask()
    run = ask()
    run.cancel()
    del run
    run = ask()
    del run
    gc.collect()
    with ask():
        pass


def test_journal_stays_open_until_a_late_function_has_ended(journal: str) -> None:
    weather, go, _ = hanging()
    provider = scripted([OSLO], [text("Sorry")], [OSLO], [text("Yes")])
    run = provider.run("?", tools=[weather], journal=journal, tool_timeout=0.05)
    assert run.read() == "Sorry"
    with pytest.raises(ToolError, match="another run uses the journal"):
        provider.run("?", tools=[weather], journal=journal)
    go.set()

    def opens() -> bool:
        try:
            with provider.run("?", tools=[weather], journal=journal) as again:
                assert again.read() == "Yes"
                assert again.messages[2]["content"] == f"late\n{STOPPED}"
        except ToolError:
            return False
        return True

    wait_until(opens)


def test_journal_that_cannot_be_written_ends_the_run(
    asked: Weather, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    run = scripted([OSLO]).run("?", tools=[asked.weather], journal=journal)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ToolError, match="weather has not been called"):
        run.read()
    assert asked.cities == []
    assert run.outcome is Outcome.FAILED
