"""Tests of many streams at once: their threads, their delays, and streams that nobody reads."""

from __future__ import annotations

import contextlib
import gc
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from event_bursts import BODY, EVENT_SIZE, TEXT, WORD_SIZE, read_path
from faults.phases import fill, wait_until
from paced_server import paced_server, raise_limit

from providers_sync import APITimeoutError, OpenAICompatible, Stream, Timeouts
from providers_sync.testing import repeat, serve, text

IDLE_THREADS = 4
LEAVE_S = 0.15
MARGIN_S = 0.25
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def paced() -> Iterator[str]:
    """The URL of a server in a process of its own."""
    with paced_server() as url:
        yield url


def openai(url: str, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=url, proxy=False, **settings)


def our_threads(name: str = "providers-sync-") -> list[str]:
    """Return the names of our threads that begin with ``name``."""
    return [each.name for each in threading.enumerate() if each.name.startswith(name)]


def in_threads(calls: list[Callable[[], object]]) -> None:
    """Run all calls, each in a thread of its own."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- threads


def test_slow_headers_of_100_streams_arrive_together(paced: str) -> None:
    """Each request has a thread until its headers, and no stream has one after them."""
    provider, streams, opened = openai(f"{paced}/2/0.02/25/1"), list[Stream](), list[float]()
    started = time.monotonic()

    def open_stream() -> None:
        stream = provider.stream("Hi")
        opened.append(time.monotonic() - started)
        streams.append(stream)

    in_threads([open_stream] * 100)
    assert len(streams) == 100
    assert max(opened) < 3
    wait_until(lambda: len(our_threads("providers-sync-request")) <= IDLE_THREADS, MARGIN_S)
    assert our_threads("providers-sync-reader") == ["providers-sync-reader"]
    assert len(our_threads()) <= IDLE_THREADS + 1
    assert {len(stream.read().split()) for stream in streams} == {25}
    provider.close()


def test_idle_threads_end_after_the_last_stream(paced: str) -> None:
    """The reader too."""
    with openai(f"{paced}/0/0.01/5/1") as provider:
        in_threads([lambda: provider.complete("Hi")] * 10)
        ended = time.monotonic()
        wait_until(lambda: not our_threads(), LEAVE_S + MARGIN_S)
        assert time.monotonic() - ended < LEAVE_S + MARGIN_S


def test_600_streams_at_once(paced: str) -> None:
    """All are whole, and they share one thread."""
    before = raise_limit()
    provider = openai(f"{paced}/0/0.02/10/600")
    try:
        streams = [provider.stream("Hi") for _ in range(600)]
        assert len(our_threads()) <= IDLE_THREADS + 1
        assert all(stream.outcome is None for stream in streams)
        assert {len(stream.read().split()) for stream in streams} == {10}
        assert {stream.outcome for stream in streams} == {"complete"}
    finally:
        provider.close()
        wait_until(lambda: not our_threads())
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- delays

OTHERS, CHUNKS = 8, 60


def longest_delay(url: str, meanwhile: Callable[[], object]) -> float:
    """Return the longest delay of a chunk in some streams, while something else happens."""
    provider, delays = openai(f"{url}/0/0.01/{CHUNKS}/1"), list[float]()

    def read() -> None:
        for chunk in provider.stream("Hi"):
            delays.append(time.monotonic() - float(chunk))

    in_threads([*[read] * OTHERS, meanwhile])
    provider.close()
    assert len(delays) == OTHERS * CHUNKS
    return max(delays)


class SlowDecoder:
    """A decoder that takes its time."""

    FEED_S = 0.15

    def __init__(self) -> None:
        self.feeds = 0

    def feed(self, data: bytes) -> list[str]:
        self.feeds += 1
        time.sleep(self.FEED_S)
        return ["x"]

    def end(self) -> list[str]:
        return []


class SlowProvider(OpenAICompatible):
    """A provider with a decoder of its own."""

    def decoder(self, content_type: str = "") -> Any:
        return SlowDecoder()


def test_slow_decoder_delays_others_by_one_feed(paced: str) -> None:
    """However often it is fed, the others have their turns in between."""

    def read_slowly() -> None:
        with SlowProvider("m", base_url=f"{paced}/0/0.01/50/1", proxy=False) as provider:
            assert provider.complete("Hi").text.strip("x") == ""

    assert longest_delay(paced, read_slowly) < SlowDecoder.FEED_S + MARGIN_S


def large_event() -> bytes:
    """Return an event with 16 MB of JSON: a long text and a million numbers."""
    value = {
        "choices": [{"index": 0, "delta": {"content": "x" * 10_000_000}}],
        "numbers": [0.25] * 1_000_000,
    }
    return b"data: %b\n\n" % json.dumps(value).encode()


def test_large_event_delays_others_by_one_feed(paced: str) -> None:
    """16 MB of JSON are decoded in one go; collecting them costs the others nothing."""
    event = large_event()
    decoder, longest = openai(paced).decoder("text/event-stream"), 0.0
    for start in range(0, len(event), 65536):
        started = time.monotonic()
        decoder.feed(event[start : start + 65536])
        longest = max(longest, time.monotonic() - started)

    def read_large() -> None:
        with serve([event, text("end")]) as server, openai(server.url) as provider:
            assert len(provider.complete("Hi").text) == 10_000_003

    # Other threads take a part of the processor from it.
    assert longest_delay(paced, read_large) < 2 * longest + MARGIN_S


def test_stream_that_is_never_read_delays_no_other(paced: str) -> None:
    """Its server sends as fast as it can; once its buffer is full, it is not read."""
    with serve([repeat(text("x" * 1000))]) as server, openai(server.url) as provider:
        stream = provider.stream("Hi")
        fill(stream)
        assert longest_delay(paced, lambda: None) < MARGIN_S
        assert stream.outcome is None
        stream.close()


# --- streams that nobody reads


@contextlib.contextmanager
def sending(*parts: bytes) -> Iterator[tuple[str, threading.Event]]:
    """Send one answer, and nothing more; tell when the client has closed the connection."""
    closed = threading.Event()

    def answer() -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(OSError):
            sock.settimeout(20)
            read_path(sock)
            for part in (HEAD, *parts):
                sock.sendall(part)
            while sock.recv(65536):
                pass
        closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", closed
        thread.join(5)


def leave_unread(stream: Stream) -> None:
    del stream


def leave_after_a_chunk(stream: Stream) -> None:
    assert next(stream) == TEXT[:WORD_SIZE]


def leave_when_the_buffer_is_full(stream: Stream) -> None:
    fill(stream)


def leave_in_a_cycle(stream: Stream) -> None:
    cycle: list[Any] = [stream]
    cycle.append(cycle)


def leave_in_another_thread(stream: Stream) -> None:
    """The finalizer runs in that thread."""
    streams = [stream]
    del stream
    in_threads([streams.clear])


LEAVES = [
    leave_unread,
    leave_after_a_chunk,
    leave_when_the_buffer_is_full,
    leave_in_a_cycle,
    leave_in_another_thread,
]


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("size", [EVENT_SIZE, len(BODY)], ids=["waiting", "sending"])
def test_dropped_stream_closes_its_connection(leave: Callable[[Stream], None], size: int) -> None:
    """Whether the server waits or is sending; the server sees it."""
    if leave is leave_when_the_buffer_is_full and size < len(BODY):
        size = len(BODY) // 2  # sent, and more than the buffer holds
    with sending(BODY[:size]) as (url, closed):
        leave(openai(url).stream("Hi"))
        gc.collect()
        assert closed.wait(1)


PAUSE_S = 0.1


def test_paused_stream_goes_on_whole_and_idle_waits_for_it() -> None:
    """While the caller does not read, the server is not read, and its silence does not count."""
    end = b"data: [DONE]\n\n"
    with sending(BODY, end) as (url, _):
        stream = openai(url, timeouts=Timeouts(idle=PAUSE_S)).stream("Hi")
        start = next(stream)
        fill(stream)
        time.sleep(3 * PAUSE_S)
        assert start + stream.read() == TEXT
        assert stream.outcome == "complete"


def test_idle_counts_again_after_a_pause() -> None:
    """From the moment at which the caller has read."""
    with sending(BODY) as (url, _):
        stream = openai(url, timeouts=Timeouts(idle=PAUSE_S)).stream("Hi")
        fill(stream)
        time.sleep(2 * PAUSE_S)
        started = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            stream.read()
        assert caught.value.clock == "idle"
        assert caught.value.partial == TEXT
        assert time.monotonic() - started > PAUSE_S
