"""``provider.run`` reads like a stream: its text, events, rounds, messages and usage."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

import pytest
from faults.phases import wait_until
from run_kit import BERGEN, OSLO, Weather, scripted

from providers_sync import (
    Failover,
    InvalidRequestError,
    OpenAICompatible,
    Outcome,
    Pause,
    Run,
    TextDelta,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    Vitalentum,
)
from providers_sync.testing import ScriptedProvider, reasoning, serve, status, text, usage


@pytest.fixture
def asked() -> Weather:
    return Weather()


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


def test_unread_run_calls_nothing_of_its_question(asked: Weather) -> None:
    first = scripted([OSLO]).run("?", tools=[asked.weather], approve=lambda _: Pause)
    first.read()
    decisions = []

    def approve(call: ToolCall) -> bool:
        assert again.messages == first.messages
        decisions.append(call.id)
        return True

    again = scripted([text("Yes")]).run(first.messages, tools=[asked.weather], approve=approve)
    assert (decisions, asked.cities, again.outcome) == ([], [], None)
    assert again.read() == "Yes"
    assert (decisions, asked.cities) == (["call_1"], ["Oslo"])


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


# --- bad input


async def wait_for_approval(call: ToolCall) -> bool:
    return True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_rounds": 0}, "max_rounds must be a number, 1 or more"),
        ({"max_rounds": True}, "max_rounds"),
        ({"parallel": 0}, "parallel must be a number"),
        ({"tool_timeout": 0}, "tool_timeout must be a finite number"),
        ({"tool_timeout": "1"}, "tool_timeout must be a number of seconds"),
        ({"approve": True}, "approve must be a function"),
        ({"approve": wait_for_approval}, r"a function that takes a ToolCall \(not async\)"),
        ({"on_unknown": wait_for_approval}, "not async"),
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
    with pytest.raises(InvalidRequestError, match="Vitalentum does not support tools"):
        Vitalentum(base_url="http://127.0.0.1:9").run("?", tools=[asked.weather])
    both = Failover([OpenAICompatible("m", base_url="http://127.0.0.1:9"), Vitalentum()])
    with pytest.raises(InvalidRequestError, match="Failover does not support tools"):
        both.run("?", tools=[asked.weather])


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
