"""Ollama's lines: cut and split at every byte, odd calls, reasons, counts and errors."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from decode_kit import decode, split

from providers_sync import (
    APIStatusError,
    AuthenticationError,
    Extra,
    Finish,
    MalformedStream,
    Ollama,
    ReasoningDelta,
    ServerError,
    StreamCut,
    StreamTruncated,
    ToolCall,
    Usage,
)
from providers_sync.decoding.ollama import OllamaDecoder
from providers_sync.testing import answer, html, raw, serve, status, whole
from providers_sync.types import ProtocolMessage, ServedModel, ToolCallStarted

INTERNAL = (ServedModel, ToolCallStarted, ProtocolMessage)
CREATED = "2026-01-01T00:00:00Z"


def line(content: str = "", message: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """Return a line of an answer."""
    message = {"role": "assistant", "content": content, **(message or {})}
    value = {"model": "qwen3", "created_at": CREATED, "message": message, **fields}
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def call(arguments: Any, **fields: Any) -> dict[str, Any]:
    return {"function": {"name": "add", "arguments": arguments, **fields}}


DONE = line(done=True, done_reason="stop", prompt_eval_count=5, eval_count=3)
ANSWER = [
    line(message={"thinking": "Hm 😀."}),
    line("Hé"),
    line("llo\n"),
    line(message={"tool_calls": [call({"a": 1})]}),
    DONE,
]


def decoded(data: bytes, pieces: list[bytes] | None = None, content_type: str = "") -> list[Any]:
    """Return the deltas of a body, without internal ones."""
    found = decode(OllamaDecoder(content_type), pieces or [data])
    return [delta for delta in found if not isinstance(delta, INTERNAL)]


def test_split_at_every_byte() -> None:
    """The answer is the same."""
    data = b"".join(ANSWER)
    expected = decoded(data)
    assert expected[:3] == [ReasoningDelta("Hm 😀."), "Hé", "llo\n"]
    for position in range(1, len(data)):
        assert decoded(data, split(data, [position])) == expected


def test_cut_at_every_byte() -> None:
    """Every whole line is kept, and the answer is truncated or cut, never complete."""
    data = b"".join(ANSWER)
    for position in range(len(data) - 1):
        text, error = "", None
        try:
            for delta in decode(OllamaDecoder("application/x-ndjson"), [data[:position]]):
                text += delta if isinstance(delta, str) else ""
        except (StreamTruncated, StreamCut) as caught:
            error = caught
        assert error is not None, data[:position]
        ends = [len(b"".join(ANSWER[:count])) - 1 for count in (2, 3)]
        assert text == "Hé" * (position >= ends[0]) + "llo\n" * (position >= ends[1])


def test_byte_order_mark_and_lines_of_events_are_skipped() -> None:
    """What a proxy adds is no part of the answer."""
    events = b": ping\n\nevent: message\nid: 1\nretry: 5\ndata: " + line("Hello") + b"\n:\n" + DONE
    for data in (events, b"\xef\xbb\xbf" + line("Hello") + DONE):
        for content_type in ("text/event-stream", "application/x-ndjson", ""):
            for size in (1, len(data)):
                pieces = split(data, range(0, len(data), size))
                assert decoded(data, pieces, content_type) == [
                    "Hello",
                    Usage(5, 3, 8),
                    Finish("stop"),
                ]


# --- calls


@pytest.mark.parametrize(
    ("arguments", "value", "text"),
    [
        ({"a": 1}, {"a": 1}, '{"a": 1}'),
        ('{"a": 1}', {"a": 1}, '{"a": 1}'),
        ({}, {}, "{}"),
        (None, {}, ""),
        ([1], None, "[1]"),
        ("SELECT 1", None, "SELECT 1"),
    ],
)
def test_arguments_are_objects_or_text(arguments: Any, value: Any, text: str) -> None:
    """Other servers of the protocol send JSON text."""
    deltas = decoded(line(message={"tool_calls": [call(arguments)]}) + DONE)
    assert deltas[1] == ToolCall("call_20260101T000000Z_0", "add", value, text)


def test_several_calls_stay_apart() -> None:
    """In one line or in several, without ids, with equal ids or indexes, and with equal names."""
    first, second = call({"a": 1}, index=0), call({"a": 2}, index=0)
    together = line(message={"tool_calls": [first, second]})
    apart = line(message={"tool_calls": [first]}) + line(message={"tool_calls": [second]})
    same = b"".join(line(message={"tool_calls": [{"id": "x", **each}]}) for each in (first, second))
    for data in (together, apart, same):
        calls = [delta for delta in decoded(data + DONE) if isinstance(delta, ToolCall)]
        assert [each.arguments for each in calls] == [{"a": 1}, {"a": 2}]
        assert data is same or len({each.id for each in calls}) == 2


def test_call_without_a_name_is_malformed() -> None:
    """It could not be answered."""
    with pytest.raises(MalformedStream, match="without naming it"):
        decoded(line(message={"tool_calls": [{"function": {"arguments": {}}}]}) + DONE)


# --- ends and counts


@pytest.mark.parametrize("reason", ["load", "unload"])
def test_reason_alone_is_an_answer(reason: str) -> None:
    """A model that is loaded or unloaded has said nothing, and the answer is complete."""
    with serve(answer(raw(line(done=True, done_reason=reason)), end=False)) as server:
        completion = Ollama("m", base_url=server.url).complete("Hi", keep_alive=0)
    assert (completion.outcome, completion.text) == ("complete", "")
    assert (completion.finish_reason, completion.is_whole) == (reason, False)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({}, []),
        ({"eval_count": 3}, [Usage(None, 3, None)]),
        ({"prompt_eval_count": 5, "eval_count": 0}, [Usage(5, 0, 5)]),
        ({"prompt_eval_count": None, "eval_count": "3"}, []),
    ],
)
def test_counts_may_be_missing(counts: dict[str, Any], usage: list[Usage]) -> None:
    """A cached prompt is not counted."""
    data = line("Hello", done=True, done_reason="stop", **counts)
    assert decoded(data) == ["Hello", *usage, Finish("stop")]


def test_end_without_a_reason() -> None:
    """Older servers give none; an answer that says nothing at all is truncated."""
    assert decoded(line("Hello", done=True)) == ["Hello", Finish(None)]
    with pytest.raises(StreamTruncated, match="the answer is empty"):
        decoded(line(done=True))


def test_other_keys_are_extras_in_their_order() -> None:
    """Log probabilities come with each line, even if they are equal."""
    logprobs = [{"token": "a", "logprob": -0.1}]
    more = {"remote_model": "gpt", "remote_host": "https://ollama.com", "total_duration": 9}
    data = line("a", logprobs=logprobs) + line("a", logprobs=logprobs) + line("b", **more) + DONE
    assert decoded(data)[:7] == [
        *("a", Extra("logprobs", logprobs), "a", Extra("logprobs", logprobs), "b"),
        *(Extra(name, more[name]) for name in ("remote_model", "remote_host")),
    ]


# --- errors


@pytest.mark.parametrize(
    "value",
    [
        {"error": "boom"},
        {"error": {"message": "boom", "code": 500}},
        {"error": "boom", "signin_url": "https://ollama.com/connect"},
        {"model": "m", "done": True, "error": "boom"},
        {"StatusCode": 503, "Status": "503 Service Unavailable", "error": "boom"},
    ],
)
def test_errors_in_lines(value: dict[str, Any]) -> None:
    """After some text, or as the first line."""
    error = json.dumps(value).encode()
    for before in ([], [line("Hel")]):
        deltas: list[Any] = []
        with pytest.raises(ServerError, match="boom"):
            deltas.extend(decode(OllamaDecoder("application/x-ndjson"), [*before, error]))


def test_errors_instead_of_an_answer() -> None:
    """A status, a web page; and an answer that does not stream is one."""
    with serve([status(401, "unauthorized"), status(500, "boom"), html(), whole("Hi")],
               protocol="ollama") as server:  # fmt: skip
        provider = Ollama("m", base_url=server.url, retry=None)
        with pytest.raises(
            AuthenticationError, match=r"unauthorized; no key was set: .*OLLAMA_API"
        ):
            provider.complete("Hi")
        with pytest.raises(APIStatusError, match="boom"):
            provider.complete("Hi")
        with pytest.raises(MalformedStream, match="web page"):
            provider.complete("Hi")
        completion = provider.complete("Hi", stream=False)
    assert (completion.text, completion.outcome) == ("Hi", "complete")
    assert server.requests[3].json()["stream"] is False


def test_only_true_ends_the_answer() -> None:
    """As JSON or as text."""
    for value, ends in ((True, True), ("true", True), ("false", False), (None, False)):
        body = line("Hi") + line(done=value, done_reason="stop")
        if ends:
            assert decoded(body)[-1] == Finish("stop")
        else:
            with pytest.raises(StreamTruncated):
                decoded(body)


def test_value_on_very_many_lines_is_kept_as_bytes() -> None:
    """A list of its lines would take twenty times their size."""
    decoder = OllamaDecoder()
    data = b'{"a": [\n' + b"12,\n" * 100_000
    tracemalloc.start()
    try:
        decoder.feed(data)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 3 * len(data)
    with pytest.raises(StreamTruncated, match="the server said"):
        decoder.end()
