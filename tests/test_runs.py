"""``provider.run``: an answer in rounds, with the functions that are called between them."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import json
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faults.phases import wait_until

from providers_sync import (
    APITimeoutError,
    CancelToken,
    Failover,
    InvalidRequestError,
    OpenAICompatible,
    Outcome,
    Pause,
    ProviderError,
    Run,
    StreamCancelled,
    StreamCut,
    StreamTruncated,
    TextDelta,
    Timeouts,
    Tool,
    ToolCall,
    ToolError,
    ToolResult,
    Usage,
    Vitalentum,
)
from providers_sync.testing import (
    ScriptedProvider,
    answer,
    cut,
    finish,
    reasoning,
    refusal,
    serve,
    stall,
    status,
    text,
    tool_call,
    usage,
)

OSLO = tool_call("weather", {"city": "Oslo"}, id="call_1")
BERGEN = tool_call("weather", {"city": "Bergen"}, id="call_2")
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "rain in Oslo"}


class Weather:
    """A function as a tool, and what it was asked."""

    def __init__(self) -> None:
        self.cities: list[str] = []

    def weather(self, city: str) -> str:
        """The weather in a city now."""
        self.cities.append(city)
        return f"rain in {city}"


@pytest.fixture
def asked() -> Weather:
    return Weather()


def scripted(*answers: Any, **settings: Any) -> ScriptedProvider:
    return ScriptedProvider(list(map(list, answers)), **settings)


def asks_for(call: Any) -> dict[str, Any]:
    """Return the assistant message of an answer that makes one scripted call."""
    name, arguments, call_id, _ = call.arguments
    function = {"name": name, "arguments": arguments}
    call = {"id": call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


# --- a run reads like a stream


def test_text_of_all_rounds_comes_as_one_stream(asked: Weather) -> None:
    provider = scripted(
        [text("Let me "), text("see. "), OSLO, BERGEN], [text("Take "), text("an umbrella.")]
    )
    run = provider.run("Do I need an umbrella?", tools=[asked.weather])
    assert list(run) == ["Let me ", "see. ", "Take ", "an umbrella."]
    assert run.text == "Let me see. Take an umbrella."
    assert run.outcome is Outcome.COMPLETE
    assert run.is_whole
    assert isinstance(run, Run)
    assert sorted(asked.cities) == ["Bergen", "Oslo"]


def test_results_go_back_in_the_order_of_the_calls(asked: Weather) -> None:
    first_done = threading.Event()

    def weather(city: str) -> str:
        if city == "Oslo":
            assert first_done.wait(10)
        else:
            first_done.set()
        return f"rain in {city}"

    provider = scripted([OSLO, BERGEN], [text("Yes")])
    run = provider.run("Umbrella?", tools=[weather])
    events = [event for event in run.events() if isinstance(event, (ToolCall, ToolResult))]
    assert [type(event) for event in events] == [ToolCall, ToolCall, ToolResult, ToolResult]
    assert events[2:] == [
        ToolResult("call_1", "weather", "rain in Oslo"),
        ToolResult("call_2", "weather", "rain in Bergen"),
    ]
    first, second = provider.asked
    assert first.messages == [{"role": "user", "content": "Umbrella?"}]
    assert [message["role"] for message in second.messages] == ["user", "assistant", "tool", "tool"]
    assert [each.get("tool_call_id") for each in second.messages[2:]] == ["call_1", "call_2"]
    assert run.messages == [*second.messages, {"role": "assistant", "content": "Yes"}]


def test_usage_and_rounds_are_those_of_all(asked: Weather) -> None:
    provider = scripted(
        [reasoning("Hm. "), text("See: "), OSLO, usage(10, 5)],
        [BERGEN, usage(20, 6)],
        [reasoning("So. "), text("Yes"), usage(30, 7)],
    )
    run = provider.run("Umbrella?", tools=[asked.weather])
    completion = run.completion()
    assert completion.usage == run.usage == Usage(60, 18, 78)
    assert [each.usage and each.usage.output_tokens for each in run.rounds] == [5, 6, 7]
    assert [each.text for each in run.rounds] == ["See: ", "", "Yes"]
    assert [each.reasoning for each in run.rounds] == ["Hm. ", "", "So. "]
    assert [len(each.tool_calls) for each in run.rounds] == [1, 1, 0]
    assert [each.finish_reason for each in run.rounds] == ["tool_calls", "tool_calls", "stop"]
    assert completion.text == "See: Yes"
    assert completion.reasoning == "Hm. So. "
    assert [call.arguments for call in completion.tool_calls] == [
        {"city": "Oslo"},
        {"city": "Bergen"},
    ]
    assert completion.message == run.message == run.messages[-1]
    assert completion.message["content"] == "Yes"
    assert completion.message["providers_sync"]["fields"] == {"reasoning_content": "So. "}
    assert run.stats.attempts == 3
    assert run.stats.chunks == 2


def test_function_is_called_only_after_its_call_was_handed_over(asked: Weather) -> None:
    provider = scripted([text("See: "), OSLO], [text("Yes")])
    run = provider.run("Umbrella?", tools=[asked.weather])
    for event in run.events():
        if isinstance(event, ToolCall):
            run.cancel()
            break
    assert asked.cities == []
    assert run.outcome is Outcome.CANCELLED


def test_unread_run_calls_nothing(asked: Weather) -> None:
    provider = scripted([text("See: "), OSLO], [text("Yes")])
    with provider.run("Umbrella?", tools=[asked.weather]) as run:
        assert next(run) == "See: "
        wait_until(lambda: run._channel.ended)
    assert asked.cities == []


def test_wait_begins_the_next_round(asked: Weather) -> None:
    provider = scripted([OSLO], [text("Yes")])
    run = provider.run("Umbrella?", tools=[asked.weather])
    seen = []
    while run.outcome is None:
        while not run.wait(0.01):
            pass
        seen += list(run.ready_events())
        if run.outcome is None and (chunk := next(run, None)):
            seen.append(TextDelta(chunk))
    assert run.text == "Yes"
    assert asked.cities == ["Oslo"]


def test_wait_returns_while_a_function_runs() -> None:
    go = threading.Event()

    def weather(city: str) -> str:
        go.wait(10)
        return "rain"

    provider = scripted([OSLO], [text("Yes")])
    run = provider.run("Umbrella?", tools=[weather])
    wait_until(lambda: run._channel.ended)
    while run.wait(0.01):  # the call itself
        list(run.ready_events())
        run._fetch_batch(run._unread)
    assert not run.wait(0.05)
    go.set()
    assert run.read() == "Yes"


def test_answer_without_calls_is_one_round(asked: Weather) -> None:
    run = scripted([text("Hello")]).run("Hi", tools=[asked.weather])
    assert run.read() == "Hello"
    assert len(run.rounds) == 1
    assert run.messages == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]


def test_two_threads_may_read_a_run(asked: Weather) -> None:
    provider = scripted([OSLO], [BERGEN], [text("Yes")])
    run = provider.run("Umbrella?", tools=[asked.weather])
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.extend(run)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert texts == ["Yes"]
    assert asked.cities == ["Oslo", "Bergen"]
    assert len(run.rounds) == 3


def test_tools_see_the_context_of_the_caller() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
    seen = []

    def weather(city: str) -> str:
        seen.append(user.get())
        user.set("nobody")
        return "rain"

    user.set("Ann")
    scripted([OSLO, BERGEN], [text("Yes")]).run("Umbrella?", tools=[weather]).read()
    assert seen == ["Ann", "Ann"]
    assert user.get() == "Ann"


def test_failover_runs_tools(asked: Weather) -> None:
    broken = ScriptedProvider([status(500)])
    good = scripted([OSLO], [text("Yes")])
    assert Failover([broken, good]).run("Umbrella?", tools=[asked.weather]).read() == "Yes"
    assert asked.cities == ["Oslo"]


def test_repr_names_the_rounds(asked: Weather) -> None:
    run = scripted([text("Hi")]).run("Hi", tools=[asked.weather])
    run.read()
    assert repr(run) == "<Run of test-model: complete, 1 rounds>"


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
    assert run.read() == "Yes"
    ids = [call["id"] for call in run.messages[1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert [message["tool_call_id"] for message in run.messages[2:4]] == ids


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


def hanging() -> tuple[Callable[..., str], threading.Event, list[CancelToken]]:
    """Return a function that hangs until the event is set, and the tokens that it was given."""
    go, tokens = threading.Event(), []

    def weather(city: str, cancel: CancelToken) -> str:
        tokens.append(cancel)
        go.wait(20)
        return "late"

    return weather, go, tokens


def test_function_that_is_too_slow_is_given_up() -> None:
    weather, go, tokens = hanging()
    provider = scripted([OSLO], [text("Sorry")])
    run = provider.run("Umbrella?", tools=[weather], tool_timeout=0.05)
    assert run.read() == "Sorry"
    assert "has not ended within 0.05 s" in run.messages[2]["content"]
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
        (False, "the user has declined this call"),
        ("too far", "the user has declined this call: too far"),
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
        "?",
        tools=[asked.weather],
        approve=lambda call: pause if call.id == "call_1" else True,
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


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_rounds": 0}, "max_rounds must be a number, 1 or more"),
        ({"max_rounds": True}, "max_rounds"),
        ({"parallel": 0}, "parallel must be a number"),
        ({"tool_timeout": 0}, "tool_timeout must be a finite number"),
        ({"tool_timeout": "1"}, "tool_timeout must be a number of seconds"),
        ({"approve": True}, "approve must be a function"),
        ({"journal": 1}, "journal must be the path"),
        ({"on_error": "ignore"}, "on_error must be 'tell' or 'raise'"),
        ({"on_unknown": "ignore"}, "on_unknown must be 'raise' or a function"),
        ({"repairs": 1}, "need into="),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str, asked: Weather) -> None:
    provider = scripted([text("never")])
    with pytest.raises(InvalidRequestError, match=words):
        provider.run("?", tools=[asked.weather], **arguments)
    assert provider.requests == []


def test_protocol_without_tools_is_named(asked: Weather) -> None:
    with pytest.raises(InvalidRequestError, match="Vitalentum has no tools"):
        Vitalentum(base_url="http://127.0.0.1:9").run("?", tools=[asked.weather])
    both = Failover([OpenAICompatible("m", base_url="http://127.0.0.1:9"), Vitalentum()])
    with pytest.raises(InvalidRequestError, match="Failover has no tools"):
        both.run("?", tools=[asked.weather])


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
    with pytest.raises(ToolError, match="weather had begun when an earlier run stopped"):
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
                assert again.messages[2]["content"] == "late"
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


def test_real_connection(asked: Weather) -> None:
    with serve([[text("See. "), OSLO], [text("Yes")]]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        with provider, provider.run("?", tools=[asked.weather]) as run:
            assert run.read() == "See. Yes"
        assert len(server.requests) == 2
        assert server.requests[0].json()["tools"] == [Tool(asked.weather).schema]


def test_stream_does_not_take_functions(asked: Weather) -> None:
    provider = scripted([text("never")])
    for tool in (asked.weather, Tool(asked.weather)):
        with pytest.raises(InvalidRequestError, match=r"tools\[0\] is a function: run\(\)"):
            provider.stream("?", tools=[tool])
