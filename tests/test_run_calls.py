"""What a run calls and what it does not, how long it waits, and how it stops."""

from __future__ import annotations

import contextlib
import gc
import json
import threading
import weakref
from typing import Any

import pytest
from faults.phases import wait_until
from run_kit import BERGEN, OSLO, RESULT, Weather, hanging, scripted

from providers_sync import (
    APITimeoutError,
    CancelToken,
    InvalidRequestError,
    Outcome,
    ProviderError,
    StreamCancelled,
    StreamCut,
    StreamTruncated,
    Timeouts,
    Tool,
    ToolCall,
    ToolError,
    ToolResult,
)
from providers_sync.testing import (
    ScriptedProvider,
    answer,
    cut,
    finish,
    refusal,
    stall,
    status,
    text,
    tool_call,
)


@pytest.fixture
def asked() -> Weather:
    return Weather()


# --- what is called, and what is not


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ([OSLO, cut()], StreamCut),
        (answer(text("See"), OSLO, end=False), StreamTruncated),
        ([OSLO, finish("length")], None),
        ([OSLO, finish("content_filter")], None),
        ([OSLO, refusal("No."), finish("tool_calls")], None),
        ([tool_call("weather", '{"city": "Os', id="call_1"), finish("length")], None),
    ],
    ids=["cut", "truncated", "length", "filter", "refusal", "half-arguments"],
)
def test_nothing_is_called_from_an_answer_that_is_not_whole(
    ending: Any, error: type[ProviderError] | None, asked: Weather
) -> None:
    provider = ScriptedProvider([ending], retry=1)
    run = provider.run("Umbrella?", tools=[asked.weather])
    with contextlib.nullcontext() if error is None else pytest.raises(error):
        run.read()
    assert not run.is_whole
    assert asked.cities == []
    assert len(provider.requests) == 1
    provider.play([[text("Yes")]])
    assert provider.run(run.messages, tools=[asked.weather]).read() == "Yes"
    assert asked.cities == []  # nor later


def test_wrong_calls_go_back_to_the_model(asked: Weather) -> None:
    provider = scripted(
        [
            tool_call("weather", {"town": "Oslo"}, id="a"),
            tool_call("whether", {"city": "Oslo"}, id="b"),
            tool_call("weather", "{oops", id="c"),
        ],
        [OSLO],
        [text("Yes")],
    )
    run = provider.run("Umbrella?", tools=[asked.weather])
    results = [event for event in run.events() if isinstance(event, ToolResult)]
    assert [result.is_error for result in results] == [True, True, True, False]
    assert "town" in results[0].content
    assert "weather" in results[1].content
    assert "JSON" in results[2].content
    assert run.text == "Yes"
    assert asked.cities == ["Oslo"]
    sent = provider.asked[1].messages[-3:]
    assert [message["content"] for message in sent] == [each.content for each in results[:3]]
    assert "is_error" not in json.dumps(provider.requests[1].json())  # OpenAI does not know it


def test_exception_goes_back_to_the_model() -> None:
    def weather(city: str) -> str:
        raise LookupError(f"no city {city}")

    run = scripted([OSLO], [text("Sorry")]).run("Umbrella?", tools=[weather])
    assert run.read() == "Sorry"
    (result,) = [m for m in run.messages if m["role"] == "tool"]
    assert result["content"] == "LookupError: no city Oslo"
    assert result["is_error"] is True


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError("full")])
def test_function_that_exits_does_not_end_the_program(error: BaseException) -> None:
    def weather(city: str) -> str:
        raise error

    run = scripted([OSLO], [text("Sorry")]).run("Umbrella?", tools=[weather])
    assert run.read() == "Sorry"
    assert type(error).__name__ in run.messages[2]["content"]


def test_three_rounds_of_mistakes_are_an_error(asked: Weather) -> None:
    wrong = [tool_call("weather", {"town": "Oslo"}, id="call_1")]
    provider = scripted(wrong, [OSLO], wrong, wrong, wrong, [text("never")])
    run = provider.run("Umbrella?", tools=[asked.weather])
    with pytest.raises(ToolError, match=r"3 rounds in a row .* weather: .*town"):
        run.read()
    assert run.outcome is Outcome.FAILED
    assert len(provider.asked) == 5
    assert run.messages[-1]["is_error"] is True


def test_on_error_raise(asked: Weather) -> None:
    def weather(city: str) -> str:
        raise LookupError(f"no city {city}")

    run = scripted([text("See. "), OSLO]).run("Umbrella?", tools=[weather], on_error="raise")
    with pytest.raises(ToolError, match="weather failed: LookupError: no city Oslo") as caught:
        run.read()
    assert isinstance(caught.value.__cause__, LookupError)
    assert caught.value.partial == "See. "
    assert run.outcome is Outcome.FAILED


def test_rounds_are_limited(asked: Weather) -> None:
    provider = scripted(*[[text("See. "), OSLO]] * 9)
    run = provider.run("Umbrella?", tools=[asked.weather], max_rounds=3)
    with pytest.raises(ToolError, match="not finished after 3 rounds") as caught:
        run.read()
    assert caught.value.outcome is run.outcome is Outcome.FAILED
    assert caught.value.partial == run.text == "See. See. See. "
    assert len(provider.asked) == 3
    assert len(asked.cities) == 2  # the calls of the last answer are left
    provider.play([[text("Yes")]])
    again = provider.run(run.messages, tools=[asked.weather])
    assert again.read() == "Yes"
    assert len(asked.cities) == 3


def test_default_limit_is_ten_rounds(asked: Weather) -> None:
    provider = scripted(*[[OSLO]] * 20)
    with pytest.raises(ToolError):
        provider.run("Umbrella?", tools=[asked.weather]).read()
    assert len(provider.asked) == 10


def test_schema_without_a_function_is_left_to_the_program(asked: Weather) -> None:
    schema = {"type": "function", "function": {"name": "pick_colour", "parameters": {}}}
    provider = scripted([OSLO, tool_call("pick_colour", {}, id="call_2")])
    run = provider.run("Umbrella?", tools=[asked.weather, schema])
    run.read()
    assert run.outcome is Outcome.COMPLETE
    assert asked.cities == ["Oslo"]
    assert [message["role"] for message in run.messages] == ["user", "assistant", "tool"]
    assert len(provider.asked) == 1
    mine = {"role": "tool", "tool_call_id": "call_2", "content": "red"}
    provider.play([[text("A red one")]])
    assert provider.run([*run.messages, mine], tools=[asked.weather, schema]).read() == "A red one"
    assert asked.cities == ["Oslo"]


def test_only_calls_for_the_program_end_the_run(asked: Weather) -> None:
    schema = {"type": "function", "function": {"name": "pick_colour", "parameters": {}}}
    provider = scripted([tool_call("pick_colour", {}, id="call_2")])
    run = provider.run("Umbrella?", tools=[asked.weather, schema])
    assert run.completion().finish_reason == "tool_calls"
    assert run.is_whole
    assert run.messages[-1]["role"] == "assistant"


def test_forced_choice_holds_until_the_first_call(asked: Weather) -> None:
    provider = scripted([OSLO], [text("Yes")])
    provider.run("Umbrella?", tools=[asked.weather], tool_choice="required").read()
    assert [each.options.get("tool_choice") for each in provider.asked] == ["required", None]
    provider = scripted([OSLO], [text("Yes")])
    provider.run("Umbrella?", tools=[asked.weather], tool_choice="auto").read()
    assert [each.options.get("tool_choice") for each in provider.asked] == ["auto", "auto"]


def test_paused_turn_of_the_model_goes_on(asked: Weather) -> None:
    provider = scripted([text("Searching. "), finish("pause_turn")], [text("Found")])
    run = provider.run("Search", tools=[asked.weather])
    assert run.read() == "Searching. Found"
    assert provider.asked[1].messages[-1] == {"role": "assistant", "content": "Searching. "}
    assert run.outcome is Outcome.COMPLETE


def test_calls_without_ids_get_some(asked: Weather) -> None:
    same = tool_call("weather", {"city": "Oslo"}, id="")
    provider = scripted([same, same], [text("Yes")])
    run = provider.run("Umbrella?", tools=[asked.weather])
    events = list(run.events())
    ids = [call["id"] for call in run.messages[1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert [message["tool_call_id"] for message in run.messages[2:4]] == ids
    for kind in (ToolCall, ToolResult):
        assert [event.id for event in events if isinstance(event, kind)] == ids


def test_ids_that_a_server_gives_twice_become_different(asked: Weather) -> None:
    calls = [tool_call("weather", {"city": "Oslo"}, id=id) for id in ("call_1", "", "call_1")]
    run = scripted(calls, [text("Yes")]).run("?", tools=[asked.weather])
    assert run.read() == "Yes"
    ids = [message["tool_call_id"] for message in run.messages[2:5]]
    assert ids[0] == "call_1"
    assert len(set(ids)) == 3


def test_settings_of_a_run_are_not_sent() -> None:
    provider = scripted([text("never")])
    with pytest.raises(InvalidRequestError, match=r"max_rounds= .* use provider\.run"):
        provider.stream("?", max_rounds=3)
    assert provider.requests == []


# --- threads and time


def test_calls_run_side_by_side_up_to_the_limit() -> None:
    lock, all_run = threading.Lock(), threading.Event()
    running, most = 0, 0

    def weather(city: str) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 3:
                all_run.set()
        assert all_run.wait(10)
        with lock:
            running -= 1
        return city

    calls = [tool_call("weather", {"city": str(n)}, id=f"call_{n}") for n in range(7)]
    run = scripted(calls, [text("Yes")]).run("?", tools=[weather], parallel=3)
    assert run.read() == "Yes"
    assert most == 3
    assert [message["content"] for message in run.messages[2:-1]] == list(map(str, range(7)))


def test_function_that_is_too_slow_is_given_up() -> None:
    weather, go, tokens = hanging()
    provider = scripted([OSLO], [text("Sorry")])
    run = provider.run("Umbrella?", tools=[weather], tool_timeout=0.05)
    assert run.read() == "Sorry"
    assert "did not end within 0.05 s" in run.messages[2]["content"]
    assert tokens[0].cancelled
    go.set()


def test_too_many_functions_left_running_are_an_error() -> None:
    weather, go, _ = hanging()
    provider = scripted([OSLO, BERGEN], [OSLO], [text("never")])
    run = provider.run("Umbrella?", tools=[weather], tool_timeout=0.05, parallel=2)
    with pytest.raises(ToolError, match=r"3 functions are still running .* \(weather\)"):
        run.read()
    assert len(provider.asked) == 2
    go.set()


def test_total_spans_everything() -> None:
    weather, go, tokens = hanging()
    provider = scripted([text("See. "), OSLO], timeouts=Timeouts(total=0.2))
    run = provider.run("Umbrella?", tools=[weather])
    with pytest.raises(APITimeoutError) as caught:
        run.read()
    assert caught.value.clock == "total"
    assert caught.value.partial == "See. "
    assert run.outcome is Outcome.DEADLINE
    wait_until(lambda: tokens[0].cancelled)
    go.set()


@pytest.mark.parametrize("how", ["cancel", "close", "token", "drop"])
def test_run_stops_at_once_while_a_function_hangs(how: str) -> None:
    weather, go, tokens = hanging()
    token = CancelToken()
    run = scripted([text("See. "), OSLO]).run("Umbrella?", tools=[weather], cancel=token)
    ended: list[Any] = []

    def read() -> None:
        try:
            ended.append(run.read())
        except ProviderError as error:
            ended.append(error)

    if how == "drop":
        assert next(run) == "See. "
        while not tokens:
            list(run.ready_events())
            run.wait(0.01)
        reference = weakref.ref(run)
        del run
        gc.collect()
        assert reference() is None
    else:
        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda: bool(tokens))
        {"cancel": run.cancel, "close": run.close, "token": token.cancel}[how]()
        reader.join(1)
        assert not reader.is_alive()
        assert run.outcome is Outcome.CANCELLED
        assert run.text == "See. "
        assert isinstance(ended[0], str if how == "close" else StreamCancelled)
    wait_until(lambda: tokens[0].cancelled)
    go.set()


def test_results_that_have_arrived_are_kept_after_a_stop() -> None:
    weather, go, tokens = hanging()

    def clock() -> str:
        return "noon"

    provider = scripted([OSLO, tool_call("clock", {}, id="call_2")])
    run = provider.run("Umbrella?", tools=[weather, clock])

    def stop() -> None:
        wait_until(lambda: len(run.messages) == 3)
        run.cancel()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(StreamCancelled):
        run.read()
    stopper.join(10)
    assert [message.get("tool_call_id") for message in run.messages[2:]] == ["call_2"]
    go.set()
    wait_until(lambda: len(run.messages) == 4)  # the function has ended after all
    provider.play([[text("Yes")]])
    assert provider.run(run.messages, tools=[weather, clock]).read() == "Yes"
    assert len(tokens) == 1


# --- faults of the line between rounds


def test_second_round_is_retried_before_its_first_event(asked: Weather) -> None:
    busy = status(503, headers={"Retry-After": "0"})
    provider = ScriptedProvider([[OSLO], busy, [text("Yes")]])
    run = provider.run("Umbrella?", tools=[asked.weather])
    assert run.read() == "Yes"
    assert asked.cities == ["Oslo"]


@pytest.mark.parametrize(
    ("second", "outcome"),
    [
        ([text("Y"), cut()], Outcome.CUT),
        ([text("Y"), stall()], Outcome.STALLED),
        (status(401, "no"), Outcome.FAILED),
        (answer(text("Y"), end=False), Outcome.TRUNCATED),
    ],
    ids=["cut", "stall", "status", "truncated"],
)
def test_failure_of_the_second_round(second: Any, outcome: Outcome, asked: Weather) -> None:
    provider = ScriptedProvider([[text("See. "), OSLO], second], retry=1)
    run = provider.run("Umbrella?", tools=[asked.weather], timeouts=Timeouts(idle=0.2))
    with pytest.raises(ProviderError) as caught:
        run.read()
    assert run.outcome is caught.value.outcome is outcome
    assert caught.value.partial == run.text
    assert run.text.startswith("See. ")
    assert [message["role"] for message in run.messages] == ["user", "assistant", "tool"]
    provider.play([[text("Yes")]])
    again = provider.run(run.messages, tools=[asked.weather])
    assert again.read() == "Yes"
    assert asked.cities == ["Oslo"]
    assert provider.asked[-1].messages[-1] == RESULT


def test_bad_request_of_a_later_round_is_raised(asked: Weather) -> None:
    def weather(city: str) -> str:
        return "rain"

    provider = scripted([OSLO])
    run = provider.run("Umbrella?", tools=[Tool(weather)])
    broken = {"role": "user", "content": "x"}
    run._done.append({**broken, "content": {1, 2}})  # what no encoder takes
    with pytest.raises(InvalidRequestError):
        run.read()
    assert run.outcome is Outcome.FAILED
