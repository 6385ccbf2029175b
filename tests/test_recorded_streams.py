"""Streams in the shapes of real servers: read whole, split anywhere, cut anywhere, nothing lost.

``streams/`` holds one stream a file, as it is on the wire. What they say is compared with the plain
reading of ``naive_reader.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from decode_kit import decode, split
from hypothesis import given, settings
from hypothesis import strategies as st
from leaf_walk import lost_leaves
from naive_reader import DONE, Reading, events_of, lines_of, read

from providers_sync import Outcome, ProviderError
from providers_sync.decoding import OpenAIDecoder
from providers_sync.decoding.anthropic import AnthropicDecoder
from providers_sync.decoding.gemini import GeminiDecoder
from providers_sync.decoding.ollama import OllamaDecoder
from providers_sync.decoding.responses import ResponsesDecoder
from providers_sync.errors import ServerError, StreamCut, StreamTruncated
from providers_sync.providers import get_provider
from providers_sync.testing import Request, answer, raw, reset, serve
from providers_sync.types import Extra, Finish, ReasoningDelta, Refusal, ToolCall, Usage

FOLDER = Path(__file__).parent / "streams"
STREAMS = {path.stem: path.read_bytes() for path in sorted(FOLDER.iterdir())}
EVERY_BYTE = 800
"""Streams up to this size are cut after every byte, others near the ends of their lines."""
DECODERS: dict[str, Any] = {
    "openai": OpenAIDecoder,
    "anthropic": AnthropicDecoder,
    "responses": ResponsesDecoder,
    "gemini": GeminiDecoder,
    "ollama": OllamaDecoder,
}
all_streams = pytest.mark.parametrize("name", STREAMS)


def protocol_of(name: str) -> str:
    first = name.partition("-")[0]
    return first if first in DECODERS else "openai"


def values_of(protocol: str, body: bytes) -> list[tuple[int, Any]]:
    """Return the values of a stream with where they end."""
    return lines_of(body) if protocol == "ollama" else events_of(body)


def decoded(protocol: str, pieces: Iterable[bytes]) -> tuple[list[Any], ProviderError | None]:
    """Return the deltas of a body, and the error at its end."""
    deltas: list[Any] = []
    try:
        content_type = "application/x-ndjson" if protocol == "ollama" else "text/event-stream"
        for delta in decode(DECODERS[protocol](content_type), pieces):
            deltas.append(delta)
    except ProviderError as error:
        return deltas, error
    return deltas, None


def summary(deltas: Iterable[Any]) -> Reading:
    """Return what deltas say in the form of the plain reading."""
    reading = Reading()
    for delta in deltas:
        if isinstance(delta, str):
            reading.text += delta
        elif isinstance(delta, ReasoningDelta):
            reading.reasoning += delta.text
        elif isinstance(delta, Refusal):
            reading.refusal += delta.text
        elif isinstance(delta, ToolCall):
            reading.calls.append((delta.id, delta.name, delta.raw))
        elif isinstance(delta, Finish):
            reading.reason = delta.reason
    return reading


def texts(reading: Reading) -> tuple[str, str, str]:
    return reading.text, reading.reasoning, reading.refusal


def end(reading: Reading) -> Any:
    return reading.calls, reading.reason


def cuts_of(protocol: str, body: bytes) -> Iterable[int]:
    """Return where to cut a stream."""
    if len(body) <= EVERY_BYTE:
        return range(len(body) + 1)
    ends = [end for end, _ in values_of(protocol, body)]
    near = (-20, -1, 0, 1, 2, 3, 5, 9)
    return sorted({max(end + each, 0) for end in ends for each in near})


def expected_counts(protocol: str, counts: dict[str, Any]) -> tuple[Any, ...]:
    """Return the counts of input, output, cached and reasoning tokens in a server's usage."""
    if protocol == "openai":
        details = counts.get("prompt_tokens_details") or {}
        outputs = counts.get("completion_tokens_details") or {}
        cached = details.get("cached_tokens", counts.get("cached_tokens"))
        thought = outputs.get("reasoning_tokens", counts.get("reasoning_tokens"))
        return counts.get("prompt_tokens"), counts.get("completion_tokens"), cached, thought
    if protocol == "responses":
        cached = (counts.get("input_tokens_details") or {}).get("cached_tokens")
        thought = (counts.get("output_tokens_details") or {}).get("reasoning_tokens")
        return counts["input_tokens"], counts["output_tokens"], cached, thought
    if protocol == "gemini":
        said, thought = counts.get("candidatesTokenCount"), counts.get("thoughtsTokenCount")
        output = None if said is None and thought is None else (said or 0) + (thought or 0)
        cached = counts.get("cachedContentTokenCount")
        return counts["promptTokenCount"], output, cached, thought
    if protocol == "ollama":
        return counts["prompt_eval_count"], counts["eval_count"], None, None
    cached = counts.get("cache_read_input_tokens")
    sent = counts["input_tokens"] + (cached or 0) + (counts.get("cache_creation_input_tokens") or 0)
    thought = (counts.get("output_tokens_details") or {}).get("thinking_tokens")
    return sent, counts["output_tokens"], cached, thought


@all_streams
def test_stream_is_read_whole(name: str) -> None:
    """Text, reasoning, refusal, calls, reason and counts are those of the plain reading."""
    protocol = protocol_of(name)
    plain = read(protocol, [event for _, event in values_of(protocol, STREAMS[name])])
    deltas, error = decoded(protocol, [STREAMS[name]])
    assert texts(summary(deltas)) == texts(plain)
    if plain.error:
        assert isinstance(error, ServerError)
        return
    if not plain.is_complete:
        assert isinstance(error, StreamTruncated)
        return
    assert error is None
    assert end(summary(deltas)) == end(plain)
    usages = [delta for delta in deltas if isinstance(delta, Usage)]
    if usages:
        usage = usages[-1]
        saw = usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens
        assert saw == expected_counts(protocol, plain.counts)


@all_streams
@settings(max_examples=4, deadline=None)
@given(positions=st.lists(st.integers(0, 10_000), max_size=30))
def test_any_split_gives_equal_events(name: str, positions: list[int]) -> None:
    """How the network splits a stream changes nothing."""
    body = STREAMS[name]
    sizes = [split(body, range(0, len(body), size)) for size in (1, 7, 777)]
    whole = decoded(protocol_of(name), [body])
    for pieces in [split(body, positions), *(sizes if not positions else ())]:
        deltas, error = decoded(protocol_of(name), pieces)
        assert deltas == whole[0]
        assert repr(error) == repr(whole[1])


@all_streams
def test_stream_without_its_rest_says_what_came(name: str) -> None:
    """It is complete if the last reason or the end marker has come, and not otherwise."""
    protocol, body = protocol_of(name), STREAMS[name]
    events = values_of(protocol, body)
    whole, _ = decoded(protocol, [body])
    for cut_at in cuts_of(protocol, body):
        plain = read(protocol, [event for event_end, event in events if event_end <= cut_at])
        deltas, error = decoded(protocol, [body[:cut_at]])
        saw = summary(deltas)
        assert texts(saw) == texts(plain), cut_at
        assert (error is None) == plain.is_complete, cut_at
        assert error is not None or end(saw) == end(plain), cut_at
        assert isinstance(error, (StreamTruncated, StreamCut, ServerError, type(None))), cut_at
        assert all(delta in whole for delta in deltas if isinstance(delta, Extra)), cut_at


@all_streams
def test_every_leaf_of_every_event_is_somewhere(name: str) -> None:
    """What is neither empty nor bookkeeping is in a delta, or in the words of the error."""
    protocol = protocol_of(name)
    values = values_of(protocol, STREAMS[name])
    events = [event for _, event in values if event != DONE]
    deltas, error = decoded(protocol, [STREAMS[name]])
    if isinstance(error, ServerError):
        last = events.pop()
        response = last.get("response") or last
        assert json.loads(error.body) in (last, {"error": response.get("error")})
    assert lost_leaves(events, deltas) == []


@pytest.mark.parametrize(
    "name",
    [
        *("openai-text", "openai-two-calls", "deepseek-reasoning", "early-reason"),
        *("anthropic-tool-use", "anthropic-web-search", "anthropic-no-message-stop"),
        *("responses-two-calls", "gemini-early-reason", "gemini-calls", "ollama-tools"),
    ],
)
def test_connection_reset_at_any_event_is_told(name: str) -> None:
    """On a socket, too; after a reason that was given up once, a reset is always a cut."""
    body, protocol = STREAMS[name], protocol_of(name)
    events = values_of(protocol, body)
    cuts = [event_end + each for event_end, _ in events for each in (-1, 2)]

    def play(request: Request) -> Any:
        part = body[: cuts[request.number - 1]]
        return answer(raw(part), reset(), framing="close", end=False)

    with serve(play, protocol=protocol) as server:
        provider = get_provider(protocol, "m", base_url=server.url, api_key="k", retry=1)
        for cut_at in cuts:
            error = None
            plain = read(protocol, [event for event_end, event in events if event_end <= cut_at])
            stream = None
            try:
                stream = provider.stream("Hi")
                stream.read()
            except StreamCut as cut:
                error = cut
            is_complete = plain.ended or (plain.is_complete and not plain.resumed)
            assert (error is None) == is_complete, cut_at
            if stream is not None:
                assert (stream.outcome is Outcome.COMPLETE) == is_complete, cut_at
                assert (stream.text, stream.reasoning) == (plain.text, plain.reasoning), cut_at
            if stream is not None and is_complete:
                calls = [(call.id, call.name, call.raw) for call in stream.tool_calls]
                assert (calls, stream.finish_reason) == end(plain), cut_at


# --- the same events, written in other ways


EVENTS = [
    '{"choices":[{"index":0,"delta":{"content":"Fair "}}]}',
    '{"choices":[{"index":0,"delta":{"content":"winds"},"finish_reason":"stop"}]}',
    '{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
]
PLAIN = "".join(f"data: {event}\n\n" for event in EVENTS) + "data: [DONE]\n\n"
WRITTEN = {
    "no empty lines": PLAIN.replace("\n\n", "\n"),
    "all in one line": "".join(f"data: {event}" for event in EVENTS) + "\n\n",
    "data twice": PLAIN.replace("data: ", "data: data: "),
    "a list": f"data: [{','.join(EVENTS)}]\n\ndata: [DONE]\n\n",
    "lists of one": "".join(f"data: [{event}]\n\n" for event in EVENTS),
    "JSON lines": "\n".join(EVENTS),
    "many empty JSON lines": "{}\n" * 900 + "\n".join(EVENTS),
    "pings as data": PLAIN.replace("\n\n", "\n\ndata: ping\n\ndata: null\n\ndata: : wait\n\n"),
    "pings with values": PLAIN.replace("\n\n", '\n\nevent: ping\ndata: {"type":"ping"}\n\n'),
    "an event done": PLAIN.replace(f"data: {EVENTS[2]}", f"event: done\ndata: {EVENTS[2]}"),
    "the reason null": PLAIN.replace("}}]}", '},"finish_reason":"null"}]}'),
    "an error that is none": PLAIN.replace("}}]}", '}}],"error":{"code":0,"message":""}}'),
}
"""The events as servers that know the format only by hearsay write them."""


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", ""])
@pytest.mark.parametrize("written", WRITTEN)
def test_events_are_read_however_they_are_written(written: str, content_type: str) -> None:
    """The deltas are those of the usual way to write them."""
    plain = decoded("openai", [PLAIN.encode()])
    for size in (1, 50, 1_000_000):
        body = WRITTEN[written].encode()
        pieces = split(body, range(0, len(body), size))
        assert list(decode(OpenAIDecoder(content_type), pieces)) == plain[0]


def test_values_before_broken_json_in_one_event_are_kept() -> None:
    """What can be read is read, and the rest is told."""
    deltas, error = decoded("openai", [f"data: {EVENTS[0]}data: {{broken\n\n".encode()])
    assert "Fair " in deltas
    assert "{broken" in str(error)


def test_rest_with_too_many_lines_is_told() -> None:
    """What is beyond the limits is not called a missing end marker."""
    _, error = decoded("openai", [("data: {}x\n" * 3000).encode()])
    assert "lines" in str(error)


def test_reason_null_is_no_reason() -> None:
    """A stream that stops there is cut, not complete."""
    body = WRITTEN["the reason null"].partition("\n\n")[0].encode() + b"\n\n"
    deltas, error = decoded("openai", [body])
    assert deltas[0] == "Fair "
    assert isinstance(error, StreamTruncated)


def test_counts_may_be_written_as_floats() -> None:
    """JSON knows one kind of number."""
    deltas, _ = decoded("openai", [PLAIN.replace(":2}", ":2.0}").encode()])
    assert [delta.output_tokens for delta in deltas if isinstance(delta, Usage)] == [2]


def test_call_that_stands_twice_in_a_delta_is_one_call() -> None:
    """Some servers give it in the old form beside the new one."""
    call = {"name": "sail", "arguments": "{}"}
    delta = {"tool_calls": [{"index": 0, "id": "a", "function": call}], "function_call": call}
    body = json.dumps({"choices": [{"delta": delta, "finish_reason": "tool_calls"}]})
    deltas, _ = decoded("openai", [f"data: {body}\n\n".encode()])
    assert summary(deltas).calls == [("a", "sail", "{}")]


@pytest.mark.parametrize("body", ["{}" * 200_000, f"[{','.join(['{}'] * 200_000)}]"])
def test_one_event_holds_a_limited_number_of_values(body: str) -> None:
    """All streams wait while it is read."""
    _, error = decoded("openai", [f"data: {body}\n\n".encode()])
    assert "more than 100000 values" in str(error)


@pytest.mark.parametrize("name", ["citations", "search_results"])
def test_sources_of_another_kind_are_kept(name: str) -> None:
    """A server that counts its sources lists none."""
    body = {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}], name: 3}
    deltas, error = decoded("openai", [f"data: {json.dumps(body)}\n\n".encode()])
    assert error is None
    assert Extra("citations", 3) in deltas


# --- the tests themselves


def test_lost_leaves_are_found() -> None:
    """A walk that finds everything would prove nothing."""
    event = {"choices": [{"delta": {"content": "x", "mood": "calm"}, "flag": False}], "id": "1"}
    assert lost_leaves([event], []) == [("content", "x"), ("mood", "calm"), ("flag", False)]
    deltas = ["x", Extra("choices[0].delta.mood", "calm"), Extra("choices[0].flag", False)]
    assert lost_leaves([event], deltas) == []


def test_plain_reading_knows_where_events_end() -> None:
    """With its last line, even if the empty line is missing."""
    assert events_of(b'data: {"a":\ndata: 1}\n\n: c\n\ndata: [DONE]') == [
        (20, {"a": 1}),
        (39, DONE),
    ]
