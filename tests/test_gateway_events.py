"""Tests of reasoning, tools, images, usage and errors between the gateway and our providers.

The two share no code, so these tests check one implementation of a protocol against the other.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_kit import Scripted

from providers_sync import (
    PROVIDERS,
    Completion,
    Provider,
    ReasoningDelta,
    Refusal,
    ToolCall,
    Usage,
)
from providers_sync.errors import APIStatusError, InvalidRequestError, RateLimitError
from providers_sync.gateway import Gateway

BOTH = pytest.mark.parametrize("name", ["openai", "anthropic"])
STREAMING = pytest.mark.parametrize("mode", [{}, {"stream": False}], ids=["streamed", "complete"])
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
PNG = b"\x89PNG\r\n\x1a\n"


def client(gateway: Gateway, name: str) -> Provider:
    return PROVIDERS[name]("echo", base_url=gateway.url(name), retry=None)


def ask(gateway: Gateway, name: str, messages: Any, **options: Any) -> Completion:
    return client(gateway, name).complete(messages, **options)


@BOTH
@STREAMING
def test_reasoning_and_usage(echo: Gateway, name: str, mode: dict[str, Any]) -> None:
    """Reasoning, text, model and the word counts of system message and answer arrive."""
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "think 😀"}]
    answer = ask(echo, name, turns, **mode)
    assert (answer.reasoning, answer.text) == ("Thinking: think 😀", "You said: think 😀")
    assert (answer.usage, answer.model, answer.outcome) == (Usage(4, 7, 11), "echo", "complete")


@BOTH
@STREAMING
def test_tool_loop(echo: Gateway, name: str, mode: dict[str, Any]) -> None:
    """Tools, calls and tool results in OpenAI's form work over both protocols."""
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": 'call weather {"city": "Łódź, here"}\ncall weather {}'}
    ]
    answer = ask(echo, name, messages, tools=[TOOL], **mode)
    cities = [{"city": "Łódź, here"}, {}]
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [
        ("weather", city) for city in cities
    ]
    assert answer.finish_reason == ("tool_calls" if name == "openai" else "tool_use")
    assert answer.text == ""

    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.raw}}
        for c in answer.tool_calls
    ]
    messages.append({"role": "assistant", "content": None, "tool_calls": calls})
    for call, result in zip(answer.tool_calls, ("sun", "snow"), strict=True):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert ask(echo, name, messages, tools=[TOOL], **mode).text == "The tool said: sun\nsnow"


@BOTH
@pytest.mark.parametrize("choice", ["required", {"function": {"name": "weather"}}])
def test_tool_choice(echo: Gateway, name: str, choice: Any) -> None:
    """A required call is made."""
    tool_choice = choice if isinstance(choice, str) else {"type": "function", **choice}
    (call,) = ask(echo, name, "Rome", tools=[TOOL], tool_choice=tool_choice).tool_calls
    assert call.arguments == {"city": "Rome"}


@BOTH
def test_broken_arguments(echo: Gateway, name: str) -> None:
    """Arguments that are not valid JSON arrive unchanged."""
    (call,) = ask(echo, name, 'call weather {"city": "Ro', tools=[TOOL]).tool_calls
    assert (call.arguments, call.raw) == (None, '{"city": "Ro')


@BOTH
def test_json_schema(echo: Gateway, name: str) -> None:
    """A schema in OpenAI's form returns JSON over both protocols."""
    response_format = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    answer = ask(echo, name, "Rome", response_format=response_format)
    assert json.loads(answer.text) == {"city": "Rome"}


@BOTH
def test_stop_and_limit(echo: Gateway, name: str) -> None:
    """``stop`` and ``max_tokens`` end the answer, each with its finish reason."""
    reasons = {"openai": ("stop", "length"), "anthropic": ("stop_sequence", "max_tokens")}[name]
    for stop in ("two", ["two", "three"]):
        stopped = ask(echo, name, "one two three", stop=stop)
        assert (stopped.text, stopped.finish_reason) == ("You said: one ", reasons[0])
    limited = ask(echo, name, "one two three", max_tokens=3)
    assert (limited.text, limited.finish_reason) == ("You said: one ", reasons[1])


@BOTH
@pytest.mark.parametrize("image", [PNG, "https://example.com/a.png", "data:image/png;base64,aGk="])
def test_image(echo: Gateway, name: str, image: Any) -> None:
    """An image reaches the engine, whether it is given as bytes, address or data URL."""
    parts = [{"type": "text", "text": "This: "}, {"type": "image", "image": image}]
    assert ask(echo, name, [{"role": "user", "content": parts}]).text.endswith("This: [image_url]")


@BOTH
def test_refusal(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """A refusal is distinguished from text if the protocol can do that."""
    gateway, engine = scripted
    for event in (ReasoningDelta("Hm."), Refusal("No."), None):
        engine.script.put(event)
    answer = ask(gateway, name, "Hi")
    expected = ("", "No.", "stop") if name == "openai" else ("No.", "", "refusal")
    assert (answer.text, answer.refusal, answer.finish_reason) == expected
    assert answer.reasoning == "Hm."


@BOTH
def test_calls_without_a_reason(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """Without a ``Finish`` from the engine, an answer with calls gets the reason for tool calls."""
    gateway, engine = scripted
    for event in ("Hi ", ToolCall("1", "f", {}, "{}"), ToolCall("2", "g", {}, ""), None):
        engine.script.put(event)
    answer = ask(gateway, name, "Hi")
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("f", {}), ("g", {})]
    assert answer.finish_reason == ("tool_calls" if name == "openai" else "tool_use")


@BOTH
def test_errors(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """Bad requests and rate limits raise their classes, with the gateway's text and request id."""
    gateway, engine = scripted
    engine.script.put(InvalidRequestError("too long"))
    with pytest.raises(APIStatusError, match="too long") as caught:
        ask(gateway, name, "Hi")
    assert caught.value.status_code == 400
    assert caught.value.request_id is not None
    engine.script.put(APIStatusError("later", status_code=429))
    with pytest.raises(RateLimitError, match="later"):
        ask(gateway, name, "Hi")
    engine.script.put(None)
    with pytest.raises(APIStatusError, match="temperature must be a number"):
        ask(gateway, name, "Hi", temperature="hot")
