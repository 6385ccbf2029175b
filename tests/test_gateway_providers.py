"""Tests of a provider's stream as the gateway's engine: what passes to the gateway's clients.

The streams here hold everything that the two protocols can say.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from gateway_kit import PassingOn, Scripted

from providers_sync import (
    PROVIDERS,
    Citation,
    Completion,
    Extra,
    Finish,
    Media,
    TextDelta,
    Usage,
    testing,
)
from providers_sync.errors import APIStatusError, ServerError, StreamError
from providers_sync.gateway import Gateway, serve
from providers_sync.types import ProtocolMessage, ServedModel, ToolCallStarted

BOTH = pytest.mark.parametrize("name", ["openai", "anthropic"])
EACH = pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "ollama"])
STREAMING = pytest.mark.parametrize("mode", [{}, {"stream": False}], ids=["streamed", "complete"])


def ask(gateway: Gateway, name: str, **options: Any) -> Completion:
    provider = PROVIDERS[name]("m", base_url=gateway.url(name), retry=None)
    return provider.complete("Hi", **options)


RAW = '{"city": "Łódź"}'


def openai_chunk(delta: dict[str, Any], reason: str | None = None, **fields: Any) -> testing.Step:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return testing.event({"choices": [choice], **fields})


def openai_answer() -> list[testing.Step]:
    """Return a stream of everything that OpenAI's protocol says."""
    call = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": RAW}}
    custom = {"index": 1, "id": "c2", "type": "custom", "custom": {"name": "run", "input": "1+"}}
    source = {"type": "url_citation", "url_citation": {"url": "https://example.com"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    counts = {
        **{"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130},
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 15},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    return [
        openai_chunk({"reasoning_content": "Hm."}, logprobs={"content": [1]}),
        openai_chunk({"content": "Sunny 😀", "annotations": [source], "images": [image]}),
        openai_chunk({"tool_calls": [call, custom]}),
        openai_chunk({}, "tool_calls"),
        testing.event({"choices": [], "usage": counts}),
        testing.raw(b"data: [DONE]\n\n"),
    ]


def anthropic_answer() -> list[testing.Step]:
    """Return a stream of the same in Anthropic's protocol."""
    counts = {
        **{"input_tokens": 25, "output_tokens": 1},
        **{"cache_read_input_tokens": 60, "cache_creation_input_tokens": 15},
    }
    cited = {"type": "web_search_result_location", "url": "https://example.com", "title": "W"}
    search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    custom = {"type": "tool_use", "id": "c2", "name": "run", "input": {}}
    call = {"type": "tool_use", "id": "c1", "name": "weather", "input": {}}
    blocks: list[tuple[Any, list[Any]]] = [
        (
            {"type": "thinking", "thinking": ""},
            [
                {"type": "thinking_delta", "thinking": "Hm."},
                {"type": "signature_delta", "signature": "c2lnbmVk"},
            ],
        ),
        ({"type": "redacted_thinking", "data": "c2VjcmV0"}, []),
        (search, [{"type": "input_json_delta", "partial_json": "{}"}]),
        (
            {"type": "text", "text": ""},
            [
                {"type": "text_delta", "text": "Sunny 😀"},
                {"type": "citations_delta", "citation": cited},
            ],
        ),
        (call, [{"type": "input_json_delta", "partial_json": RAW}]),
        (custom, [{"type": "input_json_delta", "partial_json": "1+"}]),
    ]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"model": "x", "content": [], "usage": counts}}
    ]
    for index, (start, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        for delta in deltas:
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    final = {"output_tokens": 30, "output_tokens_details": {"thinking_tokens": 20}}
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    events += [
        {"type": "message_delta", "delta": stop, "usage": final},
        {"type": "message_stop"},
    ]
    return [testing.event(event, event["type"]) for event in events]


ANSWERS = {"openai": openai_answer, "anthropic": anthropic_answer}


def ask_through(source: str, steps: list[testing.Step], name: str, **options: Any) -> Completion:
    """Return the answer of a server's steps, passed on by a gateway's engine."""
    script = testing.answer(*steps, end=False)
    with testing.serve(script, protocol=source) as server:
        provider = PROVIDERS[source]("m", base_url=server.url, api_key="k", retry=None)
        with serve(PassingOn(provider)) as gateway:
            return ask(gateway, name, **options)


@BOTH
@STREAMING
@pytest.mark.parametrize("source", ANSWERS)
def test_answer_of_a_provider(source: str, name: str, mode: dict[str, Any]) -> None:
    """Text, reasoning, calls, counts and the finish reason pass from either protocol to either.

    Citations, images, signatures and the server's own tools do not, and break nothing.
    """
    answer = ask_through(source, ANSWERS[source](), name, **mode)
    assert (answer.text, answer.reasoning, answer.outcome) == ("Sunny 😀", "Hm.", "complete")
    assert [(call.id, call.name, call.arguments) for call in answer.tool_calls] == [
        ("c1", "weather", {"city": "Łódź"}),
        ("c2", "run", None),
    ]
    assert json.loads(answer.tool_calls[0].raw) == {"city": "Łódź"}
    assert answer.tool_calls[1].raw == "1+"
    assert answer.finish_reason == ("tool_calls" if name == "openai" else "tool_use")
    assert answer.usage == Usage(100, 30, 130, 60, 15, 20)
    assert (answer.citations, answer.media) == ((), ())


@BOTH
@pytest.mark.parametrize(
    ("reason", "openai", "anthropic"),
    [
        ("end_turn", "stop", "end_turn"),
        ("max_tokens", "length", "max_tokens"),
        ("refusal", "content_filter", "refusal"),
        ("pause_turn", "pause_turn", "pause_turn"),
        ("stop_sequence", "stop", "stop_sequence"),
        ("content_filter", "content_filter", "refusal"),
        ("quite_new", "quite_new", "quite_new"),
    ],
)
def test_finish_reason_gets_the_name_of_the_protocol(
    scripted: tuple[Gateway, Scripted], name: str, reason: str, openai: str, anthropic: str
) -> None:
    """A reason that the client's protocol does not know stays as it is."""
    gateway, engine = scripted
    for event in ("Hi", Finish(reason), None):
        engine.script.put(event)
    assert ask(gateway, name).finish_reason == (openai if name == "openai" else anthropic)


@STREAMING
def test_stop_sequence_of_a_provider(mode: dict[str, Any]) -> None:
    """Anthropic's protocol says which sequence ended the answer."""
    steps = [
        testing.event({"type": "message_start", "message": {"content": []}}),
        testing.event(
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": "Hi"},
            }
        ),
        testing.event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "stop_sequence", "stop_sequence": "###"},
            }
        ),
        testing.event({"type": "message_stop"}),
    ]
    answer = ask_through("anthropic", steps, "anthropic", **mode)
    assert answer.finish_reason == "stop_sequence"
    assert Extra("delta.stop_sequence", "###") in answer.extras


@EACH
def test_events_that_no_protocol_carries(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """They are left out; the answer before and after them is complete."""
    gateway, engine = scripted
    left_out: list[Any] = [
        Citation("https://example.com"),
        Media("image", "image/png", b"png"),
        Extra("choices[0].logprobs", {"content": []}),
        ProtocolMessage("anthropic", {"content": []}),
        ServedModel("other"),
        ToolCallStarted(),
    ]
    for event in (*left_out, TextDelta("Good "), *left_out, "morning", *left_out, None):
        engine.script.put(event)
    answer = ask(gateway, name)
    assert (answer.text, answer.outcome) == ("Good morning", "complete")


@EACH
@pytest.mark.parametrize("wrong", [b"Hi", 7, {"text": "Hi"}])
def test_event_that_is_none(scripted: tuple[Gateway, Scripted], name: str, wrong: Any) -> None:
    """What is no event is never left out silently: the answer fails."""
    gateway, engine = scripted
    for event in ("Hi", wrong, None):
        engine.script.put(event)
    with pytest.raises(StreamError, match="the engine failed"):
        ask(gateway, name)


@EACH
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ServerError("slow down", code="429"), 429),
        (ServerError("slow down", type="overloaded_error"), 529),
        (ServerError("slow down", type="api_error"), 500),
    ],
)
def test_error_in_the_stream_behind(
    scripted: tuple[Gateway, Scripted], name: str, error: ServerError, status: int
) -> None:
    """What a server's stream says first keeps its status, if it names one."""
    gateway, engine = scripted
    engine.script.put(error)
    with pytest.raises(APIStatusError, match="slow down") as caught:
        ask(gateway, name)
    assert caught.value.status_code == status


@BOTH
@pytest.mark.parametrize("status", [400, 401, 503])
def test_status_of_a_server_is_told_once(name: str, status: int) -> None:
    """The client gets the server's own words, and no address but the gateway's."""
    with testing.serve(testing.status(status, "not so"), protocol="openai") as server:
        provider = PROVIDERS["openai"]("m", base_url=server.url, retry=None)
        with serve(PassingOn(provider)) as gateway, pytest.raises(APIStatusError) as caught:
            ask(gateway, name)
    text = str(caught.value)
    assert text.endswith(": not so")
    assert text.count("http://") == 1
    assert f":{gateway.port}/" in text


def test_status_without_words(scripted: tuple[Gateway, Scripted]) -> None:
    """Of a status without a body the client gets its name, and still no address."""
    scripted[1].script.put(APIStatusError("503 Busy from http://127.0.0.1:9/v1", status_code=503))
    with pytest.raises(APIStatusError, match=r"/v1/chat/completions: 503 Busy$"):
        ask(scripted[0], "openai")
