"""Runs whose last answer is JSON of a type (``into=``)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel
from run_kit import OSLO, Weather, scripted

from providers_sync import Chat, InvalidAnswer, Outcome, Pause, StreamCut, ToolError
from providers_sync.testing import ScriptedProvider, cut, text, tool_call


class Forecast(BaseModel):
    city: str
    rain: bool


GOOD = '{"city": "Oslo", "rain": true}'
WRONG = '{"city": "Oslo", "rain": "perhaps"}'
FORECAST = Forecast(city="Oslo", rain=True)
ROLES = ["user", "assistant", "tool", "assistant"]
SCHEMA = {"type": "function", "function": {"name": "pick_colour", "parameters": {}}}


@pytest.fixture
def asked() -> Weather:
    return Weather()


def test_value_is_that_of_the_last_answer(asked: Weather) -> None:
    run = scripted([text("Let me see. "), OSLO], [text(GOOD)]).run(
        "?", tools=[asked.weather], into=Forecast
    )
    assert run.value == FORECAST
    assert run.text == f"Let me see. {GOOD}"
    assert asked.cities == ["Oslo"]
    assert run.messages[-1] == {"role": "assistant", "content": GOOD}


def test_items_and_partials_are_those_of_the_last_answer(asked: Weather) -> None:
    answers = [text("[1, "), text("oops"), OSLO], [text("[1, 2"), text(", 3]")]
    run = scripted(*answers).run("?", tools=[asked.weather], into=list[int])
    assert list(run.items())[-3:] == [1, 2, 3]
    run = scripted(*answers).run("?", tools=[asked.weather], into=list[int])
    assert list(run.partials())[-1] == [1, 2, 3]
    assert asked.cities == ["Oslo", "Oslo"]


def test_answer_that_does_not_fit_is_asked_again_and_may_call(asked: Weather) -> None:
    provider = scripted([text(WRONG)], [OSLO], [text(GOOD)])
    run = provider.run("?", tools=[asked.weather], into=Forecast)
    assert run.value == FORECAST
    assert asked.cities == ["Oslo"]
    roles = ["user", "assistant", "user", "assistant", "tool", "assistant"]
    assert [message["role"] for message in run.messages] == roles
    assert "rain" in run.messages[2]["content"]
    assert provider.asked[-1].messages == run.messages[:-1]


def test_repairs_come_to_an_end(asked: Weather) -> None:
    run = scripted([OSLO], [text(WRONG)], [text(WRONG)], [text(GOOD)]).run(
        "?", tools=[asked.weather], into=Forecast
    )
    with pytest.raises(InvalidAnswer, match="rain"):
        _ = run.value
    assert run.outcome is Outcome.COMPLETE
    assert len(run.rounds) == 3
    assert asked.cities == ["Oslo"]


@pytest.mark.parametrize("ending", ["pause", "program"])
@pytest.mark.parametrize("is_saved", [False, True])
def test_run_that_ends_with_calls_is_not_asked_for_json(
    ending: str, is_saved: bool, asked: Weather
) -> None:
    call = OSLO if ending == "pause" else tool_call("pick_colour", {}, id="call_1")
    question: Any = "?"
    settings: dict[str, Any] = {"tools": [asked.weather, SCHEMA], "approve": lambda _: Pause}
    if is_saved:
        first = scripted([call]).run(question, **settings)
        first.read()
        question = json.loads(json.dumps(first.messages))
    provider = scripted(*[[call]] * (not is_saved), [text(GOOD)])
    run = provider.run(question, **settings, into=Forecast)
    with pytest.raises(InvalidAnswer):
        _ = run.value
    assert len(provider.requests) == (not is_saved)
    assert asked.cities == []
    assert run.outcome is (Outcome.PAUSED if ending == "pause" else Outcome.COMPLETE)


def test_failure_of_a_round_is_raised(asked: Weather) -> None:
    provider = ScriptedProvider([[OSLO], [text('{"city": "Os'), cut()]], retry=1)
    with pytest.raises(StreamCut) as caught:
        _ = provider.run("?", tools=[asked.weather], into=Forecast).value
    assert caught.value.partial_value == {"city": "Os"}
    with pytest.raises(ToolError, match="after 1 rounds"):
        _ = scripted([OSLO]).run("?", tools=[asked.weather], into=Forecast, max_rounds=1).value


def test_chat_keeps_the_rounds_of_a_typed_answer_without_its_repairs(asked: Weather) -> None:
    chat = Chat(scripted([OSLO], [text(GOOD)]), tools=[asked.weather])
    assert chat.send("?", into=Forecast).value == FORECAST
    assert [message["role"] for message in chat.history] == ROLES
    chat.provider = scripted([OSLO], [text(WRONG)], [text(GOOD)])
    assert chat.send("And now?", into=Forecast).value == FORECAST
    assert [message["role"] for message in chat.history[4:]] == ROLES
    assert len(chat.undo()) == 4
    assert chat.undo()[0]["content"] == "?"
