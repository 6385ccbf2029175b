"""Faults on our side: a reader that is slow, that leaves, that is sent too much."""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from providers_sync import (
    AI365VIP,
    APIStatusError,
    MalformedStream,
    OpenAICompatible,
    Provider,
    Stream,
    StreamError,
    Timeouts,
)
from providers_sync.config import EVENT_BYTES, JSON_BYTES
from providers_sync.decoding import decode_anthropic, decode_openai
from providers_sync.testing import answer, repeat, serve, signal, stall, text

from .phases import Cue, fill, served

MB = 1_000_000
CLOSE_S = 1.0
"""How soon the server must see that its reader has gone."""


@contextlib.contextmanager
def memory() -> Iterator[Callable[[], int]]:
    """Give a function that returns the highest number of bytes in use since the start."""
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
    return OpenAICompatible("m", base_url=url, verify=verify)


# --- slow


ENDLESS = {
    "events": answer(repeat(text("x" * 1000))),
    "tiny events": answer(repeat(text("x"))),
    "plain": answer(repeat(b"x" * 1000)),
    "plain gzip": answer(repeat(b"x" * 1000), gzip=True),
    "gzip": answer(repeat(text("x" * 1000)), gzip=True),
    "close": answer(repeat(text("x" * 1000)), framing="close"),
}


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("wire", ["http", "https"])
def test_slow_reader_holds_a_fast_server_back(
    kind: str, wire: str, request: pytest.FixtureRequest
) -> None:
    """However long it pauses, memory stays flat; and no text is lost on the way."""
    with served(request, wire, ENDLESS[kind]) as server, memory() as peak:
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
        server.wait_closed(1, timeout=CLOSE_S)


def test_pause_is_no_silence() -> None:
    """A reader that pauses for longer than the idle clock goes on reading; so does the server."""
    words = [f"{number:0600} " for number in range(5000)]
    timeouts = Timeouts(idle=0.5)
    with serve([text(word) for word in words]) as server:
        stream = OpenAICompatible("m", base_url=server.url, timeouts=timeouts).stream("Hi")
        assert next(stream) == words[0]
        fill(stream)
        time.sleep(0.8)  # the pause is what this is about
        assert stream.read() == "".join(words[1:])
        assert stream.outcome == "complete"


# --- gone


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


WAYS = {
    way.__name__.removeprefix("by_"): way
    for way in (
        by_breaking,
        by_an_exception,
        by_closing,
        by_leaving_the_with,
        by_a_cycle,
        by_cancelling,
    )
}
CUE = Cue()
SERVERS = {
    "silent": answer("Hel", stall()),
    "busy": answer(repeat(text("x" * 1000))),
    "before the first event": answer(signal(CUE.event), stall()),
}


NO_CHUNK = ("closing", "a_cycle", "cancelling")  # the ways that do not begin with one
GOING = [(kind, way) for kind in SERVERS for way in WAYS if "before" not in kind or way in NO_CHUNK]


@pytest.mark.parametrize(("kind", "way"), GOING)
@pytest.mark.parametrize("wire", ["http", "https"])
def test_server_sees_within_a_second_that_the_reader_has_gone(
    kind: str, way: str, wire: str, request: pytest.FixtureRequest
) -> None:
    """Whichever way it leaves."""
    with served(request, wire, SERVERS[kind]) as server:
        streams = [provider_of("events", server.url, request).stream("Hi")]
        WAYS[way](streams)
        server.wait_closed(1, timeout=CLOSE_S)


# --- too much


def flood(piece: bytes, total: int, head: bytes = b"") -> Iterator[bytes]:
    """A body in reads of 64 KiB."""
    yield head
    sent = 0
    while sent < total:
        yield piece
        sent += len(piece)


DECODERS = {"OpenAI": decode_openai, "Anthropic": decode_anthropic}
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
    "20 MB of whole JSON": (
        lambda: flood(b"x" * 65_536, 20 * MB, b'{"choices": "'), "application/json", JSON_BYTES
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("protocol", DECODERS)
def test_too_much_stops_at_the_cap_with_a_clear_error(protocol: str, name: str) -> None:
    """Memory stays under the cap plus 10 MB."""
    make, content_type, cap = FLOODS[name]
    body = itertools.chain(make(), [b"\n"])  # lines are counted when the event is there
    with memory() as peak:
        with pytest.raises(MalformedStream, match=r"larger|lines"):
            list(DECODERS[protocol](body, content_type))
        assert peak() < cap + 10 * MB


NESTED = {
    "unknown field": (decode_openai, '{"choices": [{"delta": {"content": "x"}}], "y": %s}'),
    "content": (decode_openai, '{"choices": [{"delta": {"content": %s}}]}'),
    "choices": (decode_openai, '{"choices": %s}'),
    "arguments": (
        decode_openai, '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": %s}}]}}]}'
    ),
    "error": (decode_openai, '{"error": {"type": %s}}'),
    "Anthropic's unknown field": (
        decode_anthropic,
        '{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}, '
        '"index": 0, "y": %s}',
    ),
    "Anthropic's delta": (
        decode_anthropic, '{"type": "content_block_delta", "index": 0, "delta": %s}'
    ),
    "Anthropic's input": (
        decode_anthropic,
        '{"type": "content_block_start", "index": 0, "content_block": '
        '{"type": "tool_use", "id": "1", "name": "look", "input": %s}}',
    ),
    "Anthropic's error": (decode_anthropic, '{"error": {"type": %s}}'),
}  # fmt: skip


@pytest.mark.parametrize("where", NESTED)
def test_any_depth_of_nesting_is_read_or_refused(where: str) -> None:
    """There is a depth that the parser just bears, and what comes after it does not."""
    decode, event = NESTED[where]
    limit = sys.getrecursionlimit()
    for depth in (*range(limit - 200, limit), 10 * limit, 100 * limit):
        data = event % ("[" * depth + "]" * depth)
        with pytest.raises(StreamError):
            list(decode([f"data: {data}\n\n".encode()], "text/event-stream"))


def test_gzip_bomb_is_defused(request: pytest.FixtureRequest) -> None:
    """A thousand bytes for one, without end: caught at the cap, in an answer and in an error."""
    zeros = repeat(bytes(65_536))
    for status, error in ((200, MalformedStream), (400, APIStatusError)):
        bomb = answer(b"data: ", zeros, gzip=True, status=status)
        with served(request, "http", bomb) as server, memory() as peak:
            with pytest.raises(error):
                provider_of("events", server.url, request).complete("Hi")
            assert peak() < EVENT_BYTES + 10 * MB


DONE = b"data: [DONE]\n\n"


def seconds(chunks: list[bytes]) -> float:
    """Return the best of five times that decoding takes: the processor's, whoever else is busy."""
    best = 9.0
    for _ in range(5):
        began = time.thread_time()
        with contextlib.suppress(MalformedStream):  # beyond the cap
            list(decode_openai(iter(chunks), "text/event-stream"))
        best = min(best, time.thread_time() - began)
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
    """Time is linear in the size, or ends at a cap (of three measurements, for the noise).

    Not twelve times: what fits into the processor's cache takes half the time.
    """
    small, large = (in_reads(GROWING[name](size) + DONE) for size in (5, 50))
    assert min(seconds(large) / seconds(small) for _ in range(3)) <= 20


def test_largest_line_takes_a_fraction_of_a_second() -> None:
    """Its size is beyond the processor's caches, so that it is no fair tenth of anything."""
    line = b'data: {"choices": [{"delta": {"content": "%b"}}]}\n\n' % (b"x" * 4_000_000)
    assert seconds(in_reads(line + DONE)) < 0.5
