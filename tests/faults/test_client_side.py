"""Tests of the client side: a caller that is slow, that stops reading, and too much data."""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from decode_kit import decode

from providers_sync import (
    AI365VIP,
    APIStatusError,
    MalformedStream,
    OpenAICompatible,
    Provider,
    Stream,
    StreamError,
    StreamTruncated,
    Timeouts,
)
from providers_sync.config import EVENT_BYTES, JSON_BYTES
from providers_sync.decoding import OpenAIDecoder
from providers_sync.decoding.anthropic import AnthropicDecoder
from providers_sync.decoding.gemini import GeminiDecoder
from providers_sync.decoding.ollama import OllamaDecoder
from providers_sync.decoding.responses import ResponsesDecoder
from providers_sync.providers import CLASSES, get_provider
from providers_sync.testing import answer, repeat, serve, signal, stall, text

from .phases import ReusableEvent, fill, serve_over

MB = 1_000_000
CLOSE_S = 1.0
"""How soon the server must see the connection close after the caller stops reading."""


@contextlib.contextmanager
def memory() -> Iterator[Callable[[], int]]:
    """Return a function that returns the peak number of bytes allocated since the start."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def provider_of(kind: str, url: str, request: pytest.FixtureRequest) -> Provider:
    verify = request.getfixturevalue("ca") if url.startswith("https") else True
    if kind == "plain":
        return AI365VIP(base_url=url, verify=verify)
    name = kind if kind in CLASSES else "openai"
    return get_provider(name, "m", base_url=url, api_key="k", verify=verify)


# --- slow callers


ENDLESS = {
    "events": answer(repeat(text("x" * 1000))),
    "tiny events": answer(repeat(text("x"))),
    "plain": answer(repeat(b"x" * 1000)),
    "plain gzip": answer(repeat(b"x" * 1000), gzip=True),
    "gzip": answer(repeat(text("x" * 1000)), gzip=True),
    "close": answer(repeat(text("x" * 1000)), framing="close"),
    **{
        name: answer(repeat(text("x" * 1000)), protocol=name)
        for name in ("anthropic", "responses", "gemini", "ollama")
    },
}


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_slow_caller_slows_a_fast_server_down(
    kind: str, scheme: str, request: pytest.FixtureRequest
) -> None:
    """Memory use stays constant however long it pauses, and no text is lost."""
    with serve_over(request, scheme, ENDLESS[kind]) as server, memory() as peak:
        stream = provider_of(kind.partition(" ")[0], server.url, request).stream("Hi")
        first = next(stream)
        fill(stream)
        received, full = stream.stats.bytes, peak()
        for _ in range(15):  # a little at a time
            next(stream)
            time.sleep(0.005)
        assert stream.stats.bytes - received < 2 * MB
        assert peak() - full < 3 * MB
        assert peak() < 12 * MB
        assert set(first) == set(stream.text) == {"x"}
        stream.close()
        server.wait_closed(1)


def test_pause_of_the_caller_is_no_timeout() -> None:
    """A caller that pauses for longer than the idle timeout can continue to read."""
    words = [f"{number:0600} " for number in range(5000)]
    timeouts = Timeouts(idle=0.5)
    with serve([text(word) for word in words]) as server:
        stream = OpenAICompatible("m", base_url=server.url, timeouts=timeouts).stream("Hi")
        assert next(stream) == words[0]
        fill(stream)
        time.sleep(0.8)  # longer than the idle timeout
        assert stream.read() == "".join(words[1:])
        assert stream.outcome == "complete"


# --- callers that stop reading


def by_breaking(streams: list[Stream]) -> None:
    for _ in streams.pop():
        break
    gc.collect()


def by_an_exception(streams: list[Stream]) -> None:
    with contextlib.suppress(KeyError):
        for _ in streams.pop():
            raise KeyError


def by_closing(streams: list[Stream]) -> None:
    streams[0].close()


def by_leaving_the_with(streams: list[Stream]) -> None:
    with streams[0] as stream:
        next(stream)


def by_a_cycle(streams: list[Stream]) -> None:
    holder: list[Any] = [streams.pop()]
    holder.append(holder)
    del holder
    gc.collect()


def by_cancelling(streams: list[Stream]) -> None:
    streams[0].cancel()


STOPS = {
    stop.__name__.removeprefix("by_"): stop
    for stop in (
        by_breaking,
        by_an_exception,
        by_closing,
        by_leaving_the_with,
        by_a_cycle,
        by_cancelling,
    )
}
REACHED = ReusableEvent()
SERVERS = {
    "silent": answer("Hel", stall()),
    "busy": answer(repeat(text("x" * 1000))),
    "before the first event": answer(signal(REACHED.event), stall()),
}


NO_CHUNK = ("closing", "a_cycle", "cancelling")  # those that do not need a chunk first
CASES = [
    (kind, stop) for kind in SERVERS for stop in STOPS if "before" not in kind or stop in NO_CHUNK
]


@pytest.mark.parametrize(("kind", "stop"), CASES)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_server_sees_a_disconnect_within_a_second(
    kind: str, stop: str, scheme: str, request: pytest.FixtureRequest
) -> None:
    """It does not matter how the caller stops reading."""
    with serve_over(request, scheme, SERVERS[kind]) as server:
        streams = [provider_of("events", server.url, request).stream("Hi")]
        STOPS[stop](streams)
        server.wait_closed(1, timeout=CLOSE_S)


# --- too much data


def flood(chunk: bytes, total: int, head: bytes = b"") -> Iterator[bytes]:
    """Yield a body of ``total`` bytes in equal chunks."""
    yield head
    sent = 0
    while sent < total:
        yield chunk
        sent += len(chunk)


DECODERS: dict[str, Any] = {
    "OpenAI": OpenAIDecoder,
    "Anthropic": AnthropicDecoder,
    "Responses": ResponsesDecoder,
    "Gemini": GeminiDecoder,
    "Ollama": OllamaDecoder,
}
FLOODS: dict[str, tuple[Callable[[], Iterator[bytes]], str, int]] = {
    "80 MB in a line": (
        lambda: flood(b"x" * 65_536, 80 * MB, b'data: "'), "text/event-stream", EVENT_BYTES
    ),
    "100,000 lines": (
        lambda: flood(b"data: x\n" * 8192, 800_000), "text/event-stream", EVENT_BYTES
    ),
    "80 MB in lines of 5 kB": (
        lambda: flood(b"data: %b\n" % (b"x" * 5000) * 13, 80 * MB), "text/event-stream", EVENT_BYTES
    ),
    "20 MB in one JSON document": (
        lambda: flood(b"x" * 65_536, 20 * MB, b'{"choices": "'), "application/json", JSON_BYTES
    ),
}  # fmt: skip


ENDED = ("100,000 lines", "80 MB in lines of 5 kB", "20 MB in one JSON document")
"""Ollama's lines are read one by one, and one may be larger than a JSON document elsewhere."""


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("protocol", DECODERS)
def test_too_much_stops_at_the_cap_with_a_clear_error(protocol: str, name: str) -> None:
    """Memory use stays below the cap plus 10 MB."""
    make, content_type, cap = FLOODS[name]
    body = itertools.chain(make(), [b"\n"])  # lines are counted when the event is complete
    message, error = r"larger|lines", MalformedStream
    if protocol == "Ollama" and name in ENDED:
        message, error, cap = "without its end marker", StreamTruncated, EVENT_BYTES
    with memory() as peak:
        with pytest.raises(error, match=message):
            deque(decode(DECODERS[protocol](content_type), body), maxlen=0)
        assert peak() < cap + 10 * MB


NESTED = {
    "unknown field": (OpenAIDecoder, '{"choices": [{"delta": {"content": "x"}}], "y": %s}'),
    "content": (OpenAIDecoder, '{"choices": [{"delta": {"content": %s}}]}'),
    "choices": (OpenAIDecoder, '{"choices": %s}'),
    "arguments": (
        OpenAIDecoder, '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": %s}}]}}]}'
    ),
    "error": (OpenAIDecoder, '{"error": {"type": %s}}'),
    "Anthropic's unknown field": (
        AnthropicDecoder,
        '{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}, '
        '"index": 0, "y": %s}',
    ),
    "Anthropic's delta": (
        AnthropicDecoder, '{"type": "content_block_delta", "index": 0, "delta": %s}'
    ),
    "Anthropic's input": (
        AnthropicDecoder,
        '{"type": "content_block_start", "index": 0, "content_block": '
        '{"type": "tool_use", "id": "1", "name": "look", "input": %s}}',
    ),
    "Anthropic's error": (AnthropicDecoder, '{"error": {"type": %s}}'),
    "Responses' unknown field": (
        ResponsesDecoder, '{"type": "response.output_text.delta", "delta": "x", "y": %s}'
    ),
    "Responses' delta": (
        ResponsesDecoder, '{"type": "response.output_text.delta", "delta": {"text": %s}}'
    ),
    "Responses' unknown event": (ResponsesDecoder, '{"type": "response.news", "y": %s}'),
    "Responses' item": (
        ResponsesDecoder, '{"type": "response.output_item.done", "item": {"type": "x", "y": %s}}'
    ),
    "Responses' message": (
        ResponsesDecoder,
        '{"type": "response.output_item.done", "item": {"type": "message", "content": %s}}',
    ),
    "Responses' annotation": (
        ResponsesDecoder, '{"type": "response.output_text.annotation.added", "annotation": %s}'
    ),
    "Responses' call": (
        ResponsesDecoder,
        '{"type": "response.output_item.done", '
        '"item": {"type": "function_call", "name": "f", "arguments": %s}}',
    ),
    "Responses' response": (
        ResponsesDecoder,
        '{"type": "response.completed", "response": {"status": "failed", "output": [], "y": %s}}',
    ),
    "Responses' error": (ResponsesDecoder, '{"type": "error", "error": {"type": %s}}'),
    "Gemini's unknown field": (
        GeminiDecoder, '{"candidates": [{"content": {"parts": [{"text": "x"}]}}], "y": %s}'
    ),
    "Gemini's text": (GeminiDecoder, '{"candidates": [{"content": {"parts": [{"text": %s}]}}]}'),
    "Gemini's part": (GeminiDecoder, '{"candidates": [{"content": {"parts": [{"y": %s}]}}]}'),
    "Gemini's candidates": (GeminiDecoder, '{"candidates": %s}'),
    "Gemini's arguments": (
        GeminiDecoder,
        '{"candidates": [{"content": {"parts": [{"functionCall": '
        '{"name": "f", "args": {"a": %s}}}]}}]}',
    ),
    "Gemini's grounding": (
        GeminiDecoder,
        '{"candidates": [{"groundingMetadata": {"groundingChunks": [{"web": {"uri": %s}}]}}]}',
    ),
    "Gemini's feedback": (GeminiDecoder, '{"promptFeedback": {"y": %s}}'),
    "Gemini's counts": (GeminiDecoder, '{"usageMetadata": {"promptTokenCount": 1, "y": %s}}'),
    "Gemini's error": (GeminiDecoder, '{"error": {"status": %s}}'),
    "Ollama's unknown field": (OllamaDecoder, '{"message": {"content": "x"}, "y": %s}'),
    "Ollama's text": (OllamaDecoder, '{"message": {"content": %s}}'),
    "Ollama's arguments": (
        OllamaDecoder,
        '{"message": {"tool_calls": [{"function": {"name": "f", "arguments": {"a": %s}}}]}}',
    ),
    "Ollama's images": (OllamaDecoder, '{"message": {"images": %s}}'),
    "Ollama's error": (OllamaDecoder, '{"error": {"type": %s}}'),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_any_depth_of_nesting_is_read_or_refused(name: str) -> None:
    """There is a depth that the JSON parser accepts but the code after it does not."""
    decoder, event = NESTED[name]
    limit = sys.getrecursionlimit()
    for depth in (*range(limit - 200, limit), 10 * limit, 100 * limit):
        data = event % ("[" * depth + "]" * depth)
        with pytest.raises(StreamError):
            list(decode(decoder("text/event-stream"), [f"data: {data}\n\n".encode()]))


ENDS = {
    ResponsesDecoder: '{"type": "response.completed", "response": {}}',
    GeminiDecoder: '{"candidates": [{"finishReason": "STOP"}]}',
    OllamaDecoder: '{"done": true}',
}


@pytest.mark.parametrize("name", [name for name in NESTED if NESTED[name][0] in ENDS])
def test_any_depth_of_nesting_is_read_or_refused_in_an_answer(name: str) -> None:
    """The end of the answer puts calls and the message together."""
    decoder, event = NESTED[name]
    limit = sys.getrecursionlimit()
    for depth in (1, 50, *range(60, limit, 37), *range(limit - 20, limit), 10 * limit):
        data = event % ("[" * depth + "]" * depth)
        body = f"data: {data}\n\ndata: {ENDS[decoder]}\n\n".encode()
        with contextlib.suppress(StreamError):
            list(decode(decoder("text/event-stream"), [body]))


def test_gzip_bomb_is_defused(request: pytest.FixtureRequest) -> None:
    """Endless data, compressed 1000 to 1, stops at the cap, in an answer and in an error body."""
    zeros = repeat(bytes(65_536))
    for status, error in ((200, MalformedStream), (400, APIStatusError)):
        bomb = answer(b"data: ", zeros, gzip=True, status=status)
        with serve_over(request, "http", bomb) as server, memory() as peak:
            with pytest.raises(error):
                provider_of("events", server.url, request).complete("Hi")
            assert peak() < EVENT_BYTES + 10 * MB


DONE = b"data: [DONE]\n\n"


def seconds(chunks: list[bytes]) -> float:
    """Return the shortest CPU time of five decodings."""
    best = 9.0
    for _ in range(5):
        start = time.thread_time()
        with contextlib.suppress(MalformedStream, StreamTruncated):  # above the cap; says nothing
            list(decode(OpenAIDecoder("text/event-stream"), chunks))
        best = min(best, time.thread_time() - start)
    return best


def in_reads(data: bytes) -> list[bytes]:
    return [data[at : at + 65_536] for at in range(0, len(data), 65_536)]


GROWING: dict[str, Callable[[int], bytes]] = {
    "2 MB in a line": lambda size: b'data: {"choices": [{"delta": {"content": "%b"}}]}\n\n'
    % (b"x" * (size * 40_000)),
    "100,000 lines": lambda size: b"data: x\n" * (size * 2000) + b"\n",
    "many lines": lambda size: b'data: {"choices": [\n' + b"data:\n" * (size * 9) + b"data: ]}\n\n",
    "many events": lambda size: b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
    * (size * 500),
    "many comments": lambda size: b": keep-alive\n\n" * (size * 2000),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
def test_ten_times_as_much_takes_at_most_twenty_times_as_long(name: str) -> None:
    """Time is linear in the size or limited by a cap (best of three, because timings vary).

    The factor is 20 because data that fits into the CPU's cache takes half the time.
    """
    small, large = (in_reads(GROWING[name](size) + DONE) for size in (5, 50))
    assert min(seconds(large) / seconds(small) for _ in range(3)) <= 20


def test_largest_line_takes_a_fraction_of_a_second() -> None:
    """It does not fit into the CPU's caches, so it cannot be compared with a smaller line."""
    line = b'data: {"choices": [{"delta": {"content": "%b"}}]}\n\n' % (b"x" * 4_000_000)
    assert seconds(in_reads(line + DONE)) < 0.5
