"""Tests of the gateway with the official, unmodified ``openai`` client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from official import CALLS, PIXEL, SCHEMA, TOOL, Person, openai_client

from providers_sync.gateway import Gateway


@pytest.fixture
def gpt(echo: Gateway) -> Iterator[Callable[..., Any]]:
    """Return a function that sends text or messages, and options, to the echo."""
    with openai_client(echo) as client:

        def ask(messages: Any, **options: Any) -> Any:
            if isinstance(messages, str):
                messages = [{"role": "user", "content": messages}]
            return client.chat.completions.create(model="echo", messages=messages, **options)

        yield ask


def test_openai_complete_answer(gpt: Callable[..., Any]) -> None:
    """Text, finish reason, usage, model and request id arrive."""
    answer = gpt([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Да 😀"}])
    assert answer.choices[0].message.content == "You said: Да 😀"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 4)
    assert answer.usage.total_tokens == 8
    assert answer.model == "echo"
    assert answer._request_id.startswith("req_")


def test_openai_streamed_answer(gpt: Callable[..., Any]) -> None:
    """The answer arrives in chunks; usage comes last, without choices."""
    *chunks, last = gpt("Да 😀", stream=True, stream_options={"include_usage": True})
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(deltas) == "You said: Да 😀"
    assert len(deltas) > 3
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage.total_tokens == 6
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in gpt("Hi", stream=True)), "usage without a request for it"


def test_openai_limit_and_stop(gpt: Callable[..., Any]) -> None:
    """``max_tokens`` ends the answer with ``length``, ``stop`` before its sequence."""
    limited = gpt("one two three", max_completion_tokens=3).choices[0]
    assert (limited.message.content, limited.finish_reason) == ("You said: one ", "length")
    for stop in ("two", ["three", "two"]):
        stopped = gpt("one two three", stop=stop).choices[0]
        assert (stopped.message.content, stopped.finish_reason) == ("You said: one ", "stop")


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "streamed"])
def test_openai_tool_loop(echo: Gateway, stream: bool) -> None:
    """Two calls arrive with complete arguments; their results are sent back and answered."""
    messages: list[Any] = [{"role": "user", "content": CALLS}]
    request: dict[str, Any] = {"model": "echo", "messages": messages, "tools": [TOOL]}
    with openai_client(echo) as client:
        if stream:
            with client.chat.completions.stream(**request) as events:
                answer: Any = events.get_final_completion()
        else:
            answer = client.chat.completions.create(**request)
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert [call.function.name for call in choice.message.tool_calls] == ["weather"] * 2
        lines = [line.removeprefix("call weather ") for line in CALLS.split("\n")]
        assert [call.function.arguments for call in choice.message.tool_calls] == lines

        messages.append(choice.message.model_dump(exclude_none=True))
        for call, result in zip(choice.message.tool_calls, ("sun", "snow"), strict=True):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        final = client.chat.completions.create(**request)
    assert final.choices[0].message.content == "The tool said: sun\nsnow"
    assert final.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "b"}}])
def test_openai_tool_choice(gpt: Callable[..., Any], choice: Any) -> None:
    """A required call is made, with arguments that fit its schema; a forbidden one is not."""
    tools = [{"type": "function", "function": {"name": n, "parameters": SCHEMA}} for n in "ab"]
    (call,) = gpt("Rome", tools=tools, tool_choice=choice).choices[0].message.tool_calls
    assert call.function.name == ("a" if choice == "required" else "b")
    assert call.function.arguments == '{"city": "Rome"}'
    assert not gpt("call a {}", tools=tools, tool_choice="none").choices[0].message.tool_calls


def test_openai_structured_answer(echo: Gateway) -> None:
    """``parse`` returns an object of the schema that it sent."""
    with openai_client(echo) as client:
        answer = client.chat.completions.parse(
            model="echo", messages=[{"role": "user", "content": "Ann"}], response_format=Person
        )
    assert answer.choices[0].message.parsed == Person(name="Ann", age=0, tags=["Ann"])


def test_openai_reasoning_and_image(gpt: Callable[..., Any]) -> None:
    """Reasoning uses the field that most servers use; an image reaches the engine."""
    answer = gpt("think again").choices[0].message
    assert answer.reasoning_content == "Thinking: think again"
    deltas = [chunk.choices[0].delta for chunk in gpt("think again", stream=True)]
    reasoning = [getattr(delta, "reasoning_content", "") for delta in deltas]
    assert "".join(reasoning) == answer.reasoning_content
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    turn = {"role": "user", "content": [{"type": "text", "text": "This: "}, image]}
    assert gpt([turn]).choices[0].message.content == "You said: This: [image_url]"
