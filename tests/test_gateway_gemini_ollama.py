"""Tests of the gateway with the package's providers of Gemini's and Ollama's protocols."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from gateway_kit import Scripted
from official import CALLS, CITIES, PIXEL, SCHEMA, TOOL

from providers_sync import PROVIDERS, Extra, Finish, Provider, ReasoningDelta, Refusal, Usage
from providers_sync.echo import EchoEngine
from providers_sync.engines import AbortConnection, EngineEvent
from providers_sync.errors import (
    APIStatusError,
    InvalidRequestError,
    RateLimitError,
    ServerError,
    StreamCut,
)
from providers_sync.gateway import Gateway, serve
from providers_sync.stream import CancelToken
from providers_sync.types import Messages, ToolCall

BOTH = pytest.mark.parametrize("name", ["gemini", "ollama"])
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}


def provider(gateway: Gateway, name: str, model: str = "echo") -> Provider:
    return PROVIDERS[name](model, base_url=gateway.url(name), retry=None)


class Noting(EchoEngine):
    """The echo, which notes what it was asked."""

    messages: Messages
    options: dict[str, Any]

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[EngineEvent]:
        self.messages, self.options = messages, dict(options)
        return super().answer(messages, options, cancel)


OPTIONS: dict[str, Any] = {
    **{"temperature": 0.5, "top_p": 0.25, "top_k": 3, "max_tokens": 99, "seed": 1},
    **{"presence_penalty": 0.5, "frequency_penalty": 0.75, "stop": ["x", "y"]},
    "reasoning_effort": "low",
}


@BOTH
def test_request_reaches_the_engine(name: str) -> None:
    """Messages and options come out in the form in which the program gave them."""
    tools = [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
    ]
    messages: Messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "See: "}, IMAGE]},
        {
            "role": "assistant",
            "content": "Hm.",
            "tool_calls": [
                {"id": key, "type": "function", "function": {"name": "f", "arguments": raw}}
                for key, raw in (("a", '{"city": "Łódź"}'), ("b", "{}"))
            ],
        },
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "tool", "tool_call_id": "a", "content": '{"x": 1}'},
        {"role": "user", "content": "Hi"},
    ]
    engine = Noting()
    with serve(engine) as gateway:
        answer = provider(gateway, name).complete(messages, tools=tools, **OPTIONS)
    assert answer.text == "You said: Hi"
    assert engine.options == {**OPTIONS, "tools": tools}
    ids = [call["id"] for call in engine.messages[2]["tool_calls"]]
    assert [call["function"] for call in engine.messages[2]["tool_calls"]] == [
        call["function"] for call in messages[2]["tool_calls"]
    ]
    results = {m["tool_call_id"]: m["content"] for m in engine.messages if m["role"] == "tool"}
    assert results == {ids[0]: '{"x": 1}', ids[1]: "2"}
    others = [m for m in engine.messages if m["role"] in ("system", "user")]
    assert others == [m for m in messages if m["role"] in ("system", "user")]


@BOTH
def test_reasoning_and_counts(name: str) -> None:
    """Both come with the answer, and the reasoning goes back with the next turn."""
    engine = Noting()
    with serve(engine) as gateway:
        answer = provider(gateway, name).complete("think !")
        assert (answer.reasoning, answer.text) == ("Thinking: think !", "You said: think !")
        assert answer.usage is not None
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 7)
        assert answer.usage.total_tokens == 9
        assert answer.is_whole
        provider(gateway, name).complete(
            [
                {"role": "user", "content": "think !"},
                answer.message,
                {"role": "user", "content": "?"},
            ]
        )
    sent = engine.messages[1]
    assert (sent["role"], sent["content"]) == ("assistant", "You said: think !")
    if name == "ollama":  # Gemini's thoughts go back only with a signature, which the echo has not
        assert sent["reasoning_content"] == "Thinking: think !"


@BOTH
@pytest.mark.parametrize("model", ["echo", "gemini-3-pro"])
def test_tool_loop(echo: Gateway, name: str, model: str) -> None:
    """Calls arrive with ids, and their results find them in any order."""
    asks = provider(echo, name, model)
    turns: list[Any] = [{"role": "user", "content": CALLS}]
    answer = asks.complete(turns, tools=[TOOL])
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [
        ("weather", city) for city in CITIES
    ]
    assert len({call.id for call in answer.tool_calls}) == 2
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": content}
        for call, content in zip(answer.tool_calls, ("sun", "snow"), strict=True)
    ]
    final = asks.complete([*turns, answer.message, *reversed(results)], tools=[TOOL])
    assert sorted(final.text.removeprefix("The tool said: ").split("\n")) == ["snow", "sun"]
    assert final.is_whole


@BOTH
def test_schema(echo: Gateway, name: str) -> None:
    """The answer fits the schema."""
    wrapper = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    answer = provider(echo, name).complete("Rome", response_format=wrapper)
    assert answer.text == '{"city": "Rome"}'


def test_tool_choice_of_gemini(echo: Gateway) -> None:
    """Ollama's protocol has none."""
    tools = [{"type": "function", "function": {"name": n, "parameters": SCHEMA}} for n in "ab"]
    gemini = provider(echo, "gemini")
    for choice, name in (
        ("required", "a"),
        ({"type": "function", "function": {"name": "b"}}, "b"),
    ):
        (call,) = gemini.complete("Rome", tools=tools, tool_choice=choice).tool_calls
        assert (call.name, call.arguments) == (name, {"city": "Rome"})
    assert not gemini.complete("call a {}", tools=tools, tool_choice="none").tool_calls


@BOTH
def test_list_models(echo: Gateway, name: str) -> None:
    """The names are those of the engine."""
    lists: Any = provider(echo, name)
    assert lists.list_models() == ["echo"]


@BOTH
@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (InvalidRequestError("too long"), APIStatusError, 400),
        (APIStatusError("too many", status_code=429), RateLimitError, 429),
        (APIStatusError("too busy", status_code=503), APIStatusError, 503),
        (APIStatusError("too busy", status_code=529), APIStatusError, 529),
        (RuntimeError("broken"), APIStatusError, 500),
    ],
)
def test_failure_is_typed(
    scripted: tuple[Gateway, Scripted],
    name: str,
    error: Exception,
    kind: type[Exception],
    status: int,
) -> None:
    """A failure before the answer has its status and its message."""
    gateway, engine = scripted
    engine.script.put(error)
    message = "the engine failed" if status == 500 else str(error)
    with pytest.raises(kind, match=message) as caught:
        provider(gateway, name).complete("Hi")
    assert getattr(caught.value, "status_code", None) == status


@BOTH
def test_cut(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """A connection that breaks is no complete answer."""
    gateway, engine = scripted
    for event in ("Hi", AbortConnection("gone")):
        engine.script.put(event)
    with pytest.raises(StreamCut) as caught:
        provider(gateway, name).complete("Hi")
    assert caught.value.partial == "Hi"


@BOTH
@pytest.mark.parametrize(
    ("reason", "gemini", "ollama"),
    [
        ("end_turn", "STOP", "stop"),
        ("max_tokens", "MAX_TOKENS", "length"),
        ("MAX_TOKENS", "MAX_TOKENS", "length"),
        ("refusal", "SAFETY", "content_filter"),
        ("recitation", "RECITATION", "content_filter"),
        ("quite_new", "OTHER", "quite_new"),
        ("tool_calls", "STOP", "stop"),
    ],
)
def test_finish_reason(
    scripted: tuple[Gateway, Scripted], name: str, reason: str, gemini: str, ollama: str
) -> None:
    """It has the protocol's own name; Gemini's protocol tells another one beside ``OTHER``."""
    gateway, engine = scripted
    for event in ("Hi", Finish(reason), None):
        engine.script.put(event)
    answer = provider(gateway, name).complete("Hi")
    assert answer.finish_reason == (gemini if name == "gemini" else ollama)
    told = Extra("candidates[0].finishMessage", reason)
    assert (told in answer.extras) is (answer.finish_reason == "OTHER")


@BOTH
def test_refusal(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """Its text is text, and the reason says that the answer is not whole."""
    gateway, engine = scripted
    for event in (Refusal("No."), Finish("stop"), None):
        engine.script.put(event)
    answer = provider(gateway, name).complete("Hi")
    assert (answer.text, answer.is_whole) == ("No.", False)
    assert answer.finish_reason == ("SAFETY" if name == "gemini" else "refusal")


@BOTH
def test_counts(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """Each protocol has a part of them."""
    gateway, engine = scripted
    counts = Usage(100, 30, 130, 60, 15, 20)
    for event in (ReasoningDelta("Hm."), "Hi", counts, None):
        engine.script.put(event)
    usage = provider(gateway, name).complete("Hi").usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (100, 30, 130)
    cached = (60, 20) if name == "gemini" else (None, None)
    assert (usage.cached_tokens, usage.reasoning_tokens) == cached


NO_OBJECT = ("Hi", ToolCall("1", "f", None, "1+"), Finish("tool_calls"), None)
"""An answer that neither protocol carries: a call's arguments are an object in both."""


def test_call_without_an_object_in_gemini(scripted: tuple[Gateway, Scripted]) -> None:
    """The finish reason is that of Google's service, and the call is told beside it."""
    gateway, engine = scripted
    for event in NO_OBJECT:
        engine.script.put(event)
    answer = provider(gateway, "gemini").complete("Hi")
    assert (answer.text, answer.is_whole, answer.tool_calls) == ("Hi", False, ())
    assert answer.finish_reason == "MALFORMED_FUNCTION_CALL"
    (told,) = answer.extras
    assert "f(1+)" in told.value


def test_call_without_an_object_in_ollama(scripted: tuple[Gateway, Scripted]) -> None:
    """It is an error, as Ollama has it."""
    gateway, engine = scripted
    for event in NO_OBJECT:
        engine.script.put(event)
    with pytest.raises(ServerError, match=r"not a JSON object: 1\+") as caught:
        provider(gateway, "ollama").complete("Hi")
    assert caught.value.partial == "Hi"
