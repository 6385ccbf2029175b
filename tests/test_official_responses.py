"""Tests of the gateway's Responses API with the official, unmodified ``openai`` client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from gateway_kit import Scripted
from official import CALLS, PIXEL, SCHEMA, Person, openai_client

from providers_sync.gateway import Gateway
from providers_sync.types import Finish, Refusal, Usage

FLAT_TOOL = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}


@pytest.fixture
def respond(echo: Gateway) -> Iterator[Callable[..., Any]]:
    """Return a function that sends text or items, and options, to the echo."""
    with openai_client(echo) as client:

        def ask(given: Any, **options: Any) -> Any:
            return client.responses.create(model="echo", input=given, **options)

        yield ask


def test_complete_response(respond: Callable[..., Any]) -> None:
    """Text, status, usage, model, what was asked for and the request id arrive."""
    answer = respond("Да 😀", instructions="Be brief.", metadata={"a": "b"}, temperature=0.5)
    assert answer.output_text == "You said: Да 😀"
    assert (answer.status, answer.incomplete_details, answer.error) == ("completed", None, None)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 4)
    assert answer.model == "echo"
    assert (answer.instructions, answer.metadata) == ("Be brief.", {"a": "b"})
    assert answer.temperature == 0.5
    assert answer._request_id.startswith("req_")


def test_streamed_events(respond: Callable[..., Any]) -> None:
    """Every event is valid, numbered and in the protocol's order."""
    events = list(respond("one two", stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    start = ["created", "in_progress", "output_item.added", "content_part.added"]
    end = ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert kinds == [*start, *["output_text.delta"] * 4, *end]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == "You said: one two"
    assert events[-1].response.usage.output_tokens == 4
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {
        events[-1].response.output[0].id
    }


def test_streamed_response(echo: Gateway) -> None:
    """The client's own accumulation restores the reasoning and the text, each in its item."""
    with (
        openai_client(echo) as client,
        client.responses.stream(model="echo", input="think 😀") as stream,
    ):
        answer = stream.get_final_response()
    reasoning, message = answer.output
    assert reasoning.type == "reasoning"
    assert reasoning.content is not None
    assert reasoning.content[0].text == "Thinking: think 😀"
    assert message.type == "message"
    assert answer.output_text == "You said: think 😀"


def test_limit(respond: Callable[..., Any]) -> None:
    """``max_output_tokens`` leaves the response incomplete, whole or streamed."""
    for answer in (
        respond("one two three", max_output_tokens=3),
        list(respond("one two three", max_output_tokens=3, stream=True))[-1].response,
    ):
        assert (answer.output_text, answer.status) == ("You said: one ", "incomplete")
        assert answer.incomplete_details.reason == "max_output_tokens"
        assert answer.max_output_tokens == 3
        assert answer.output[0].status == "incomplete"


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "streamed"])
def test_tool_loop(echo: Gateway, stream: bool) -> None:
    """Two calls arrive with complete arguments; their results are sent back and answered."""
    items: list[Any] = [{"role": "user", "content": CALLS}]
    request: dict[str, Any] = {"model": "echo", "input": items, "tools": [FLAT_TOOL]}
    with openai_client(echo) as client:
        if stream:
            with client.responses.stream(**request) as events:
                answer: Any = events.get_final_response()
        else:
            answer = client.responses.create(**request)
        lines = [line.removeprefix("call weather ") for line in CALLS.split("\n")]
        assert [(call.type, call.name, call.arguments) for call in answer.output] == [
            ("function_call", "weather", line) for line in lines
        ]
        items += [call.model_dump(exclude_none=True) for call in answer.output]
        for call, result in zip(answer.output, ("sun", "snow"), strict=True):
            output = {"type": "function_call_output", "call_id": call.call_id, "output": result}
            items.append(output)
        final = client.responses.create(**request)
    assert final.output_text == "The tool said: sun\nsnow"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "b"}])
def test_tool_choice(respond: Callable[..., Any], choice: Any) -> None:
    """A required call is made, with arguments that fit its schema; a forbidden one is not."""
    tools = [{**FLAT_TOOL, "name": name} for name in "ab"]
    (call,) = respond("Rome", tools=tools, tool_choice=choice).output
    assert call.name == ("a" if choice == "required" else "b")
    assert call.arguments == '{"city": "Rome"}'
    (message,) = respond("call a {}", tools=tools, tool_choice="none").output
    assert message.type == "message"


def test_structured_answer(echo: Gateway) -> None:
    """``parse`` returns an object of the schema that it sent, streamed or not."""
    with openai_client(echo) as client:
        answer = client.responses.parse(model="echo", input="Ann", text_format=Person)
        with client.responses.stream(model="echo", input="Ann", text_format=Person) as stream:
            streamed = stream.get_final_response()
    expected = Person(name="Ann", age=0, tags=["Ann"])
    assert (answer.output_parsed, streamed.output_parsed) == (expected, expected)


def test_image_and_second_turn(respond: Callable[..., Any]) -> None:
    """An image reaches the engine; an answer can be sent back as it came."""
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"}
    turn = {"role": "user", "content": [{"type": "input_text", "text": "This: "}, image]}
    answer = respond([turn])
    assert answer.output_text == "You said: This: [image_url]"
    output = [item.model_dump(exclude_none=True) for item in respond("think", stream=False).output]
    again = respond([turn, *output, {"role": "user", "content": "Bye"}])
    assert again.output_text == "You said: Bye"


def test_counts_and_refusal(scripted: tuple[Gateway, Scripted]) -> None:
    """Cached and reasoning tokens, a refusal and a content filter are where the client has them."""
    gateway, engine = scripted
    usage = Usage(100, 30, 130, 60, 15, 20)
    script = ("Hm. ", Refusal("I can"), Refusal("not."), usage, Finish("content_filter"), None)
    for event in (*script, *script):
        engine.script.put(event)
    with openai_client(gateway) as client:
        answer = client.responses.create(model="m", input="Hi")
        streamed = list(client.responses.create(model="m", input="Hi", stream=True))
    for response in (answer, streamed[-1].response):  # type: ignore[union-attr]
        assert response.usage is not None
        assert response.usage.model_dump() == {
            "input_tokens": 100,
            "input_tokens_details": {
                "cached_tokens": 60,
                "cache_write_tokens": 15,
                "cache_write_tokens_details": None,
            },
            "output_tokens": 30,
            "output_tokens_details": {"reasoning_tokens": 20},
            "total_tokens": 130,
        }
        (message,) = response.output
        assert message.type == "message"
        text, refusal = message.content
        assert (text.type, refusal.type) == ("output_text", "refusal")
        assert refusal.refusal == "I cannot."
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "content_filter"


def test_nothing_is_stored(echo: Gateway, respond: Callable[..., Any]) -> None:
    """What needs stored responses is refused, with the remedy."""
    answer = respond("Hi")
    assert answer.store is False
    with pytest.raises(openai.BadRequestError, match="send the whole conversation as input"):
        respond("Again", previous_response_id=answer.id)
    with openai_client(echo) as client, pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
