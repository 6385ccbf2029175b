"""Tests of the gateway with the official, unmodified ``anthropic`` client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest
from official import BLOCK_TOOL, CALLS, CITIES, PIXEL, Person, anthropic_client

from providers_sync.gateway import Gateway


@pytest.fixture
def claude(echo: Gateway) -> Iterator[Callable[..., Any]]:
    """Return a function that sends text or messages, and options, to the echo."""
    with anthropic_client(echo) as client:

        def ask(messages: Any, **options: Any) -> Any:
            if isinstance(messages, str):
                messages = [{"role": "user", "content": messages}]
            options = {"max_tokens": 100, **options}
            return client.messages.create(model="echo", messages=messages, **options)

        yield ask


def test_anthropic_complete_answer(claude: Callable[..., Any]) -> None:
    """Text, stop reason, usage, model and request id arrive."""
    answer = claude("Да 😀", system=[{"type": "text", "text": "Be brief."}])
    assert [block.text for block in answer.content] == ["You said: Да 😀"]
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 4)
    assert answer.model == "echo"
    assert answer._request_id.startswith("req_")


def test_anthropic_streamed_events(claude: Callable[..., Any]) -> None:
    """Every event is valid and in the protocol's order; usage comes first and last."""
    events = list(claude("one two", stream=True))
    kinds = [event.type for event in events]
    middle = ["content_block_start", *["content_block_delta"] * 4, "content_block_stop"]
    assert kinds == ["message_start", *middle, "message_delta", "message_stop"]
    assert events[0].message.usage.input_tokens == 2
    assert events[-2].usage.output_tokens == 4
    assert events[-2].delta.stop_reason == "end_turn"


def test_anthropic_streamed_answer(echo: Gateway) -> None:
    """The client's own accumulation restores the text and the reasoning."""
    turns: Any = [{"role": "user", "content": "think 😀"}]
    with (
        anthropic_client(echo) as client,
        client.messages.stream(model="echo", max_tokens=100, messages=turns) as stream,
    ):
        assert "".join(stream.text_stream) == "You said: think 😀"
        thinking, text = stream.get_final_message().content
    assert isinstance(thinking, anthropic.types.ThinkingBlock)
    assert (thinking.thinking, text.type) == ("Thinking: think 😀", "text")
    assert thinking.signature


def test_anthropic_limit_and_stop(claude: Callable[..., Any]) -> None:
    """``max_tokens`` and ``stop_sequences`` end the answer, and are reported."""
    limited = claude("one two three", max_tokens=3)
    assert (limited.content[0].text, limited.stop_reason) == ("You said: one ", "max_tokens")
    stopped = claude("one two three", stop_sequences=["three", "two"])
    assert (stopped.content[0].text, stopped.stop_reason) == ("You said: one ", "stop_sequence")
    assert stopped.stop_sequence == "two"


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "streamed"])
def test_anthropic_tool_loop(echo: Gateway, stream: bool) -> None:
    """Two calls arrive with complete input; their results are sent back and answered."""
    messages: list[Any] = [{"role": "user", "content": CALLS}]
    request: dict[str, Any] = {"model": "echo", "max_tokens": 100, "messages": messages}
    request["tools"] = [BLOCK_TOOL]
    with anthropic_client(echo) as client:
        if stream:
            with client.messages.stream(**request) as events:
                answer: Any = events.get_final_message()
        else:
            answer = client.messages.create(**request)
        assert answer.stop_reason == "tool_use"
        assert [(block.name, block.input) for block in answer.content] == [
            ("weather", city) for city in CITIES
        ]
        messages.append({"role": "assistant", "content": answer.content})
        results: list[Any] = [
            {"type": "tool_result", "tool_use_id": block.id, "content": result}
            for block, result in zip(answer.content, ("sun", "snow"), strict=True)
        ]
        messages.append({"role": "user", "content": results})
        final = client.messages.create(**request)
    assert final.content[0].text == "The tool said: sun\nsnow"
    assert final.stop_reason == "end_turn"


def test_anthropic_tool_choice(claude: Callable[..., Any]) -> None:
    """A required call is made; a forbidden one is not."""
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
        (block,) = claude("Rome", tools=[BLOCK_TOOL], tool_choice=choice).content
        assert (block.type, block.input) == ("tool_use", {"city": "Rome"})
    (block,) = claude(CALLS, tools=[BLOCK_TOOL], tool_choice={"type": "none"}).content
    assert block.type == "text"


def test_anthropic_structured_answer(echo: Gateway) -> None:
    """``parse`` returns an object of the schema that it sent."""
    turns: Any = [{"role": "user", "content": "Ann"}]
    with anthropic_client(echo) as client:
        answer = client.messages.parse(
            model="echo", max_tokens=100, messages=turns, output_format=Person
        )
    assert answer.parsed_output == Person(name="Ann", age=0, tags=["Ann"])


def test_anthropic_image(claude: Callable[..., Any]) -> None:
    """An image reaches the engine."""
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    blocks = [{"type": "image", "source": source}, {"type": "text", "text": "?"}]
    answer = claude([{"role": "user", "content": blocks}])
    assert answer.content[0].text == "You said: [image_url]?"
