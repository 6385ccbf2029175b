"""The beginning of an answer: when the call returns, whatever comes with the headers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from providers_sync import OpenAICompatible, Outcome, Timeouts
from providers_sync.stream import channel
from providers_sync.stream.wakeup import Wakeup
from providers_sync.testing import finish, pause, serve, stall

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\n"
)
EVENTS = [
    b": thinking\n\n",
    b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
]
BODY = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in [*EVENTS, b""])


@contextmanager
def served(pieces: list[bytes]) -> Iterator[tuple[str, threading.Semaphore]]:
    """Serve one answer after another, its pieces as one packet each; a ticket lets the next go."""
    tickets = threading.Semaphore(0)
    listener = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:  # shut down
                return
            with sock:
                while not sock.recv(65536).endswith(b"}"):
                    pass
                first, *rest = pieces
                sock.sendall(first)
                for piece in rest:
                    assert tickets.acquire(timeout=10)
                    sock.sendall(piece)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", tickets
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


@pytest.mark.parametrize("at", range(0, len(BODY), 5))
def test_call_returns_with_the_headers(at: int) -> None:
    """Also where half an event, half a chunk or nothing comes with them in one packet."""
    with served([HEAD + BODY[:at], BODY[at:]]) as (url, go_on):
        provider = OpenAICompatible("m", base_url=url, timeouts=Timeouts(first_token=5))
        with ThreadPoolExecutor(1) as pool:  # the main thread looks up by itself, now and then
            stream = pool.submit(provider.stream, "Hi").result()
        go_on.release()  # had the call waited for more, the clock would have ended it
        assert list(stream) == ["word"]
        assert stream.outcome is Outcome.COMPLETE


def test_reader_hears_of_a_clock_that_ends_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end marker without any text gives a waiting reader nothing, but shortens its wait."""
    monkeypatch.setattr(channel, "AFTER_FINISH_S", 0.1)
    with serve([pause(0.1), finish(), stall()]) as server, ThreadPoolExecutor(1) as pool:
        provider = OpenAICompatible("m", base_url=server.url, timeouts=Timeouts(first_token=30))
        began = time.monotonic()
        answer = pool.submit(provider.complete, "Hi").result()
    assert (answer.text, answer.outcome) == ("", Outcome.COMPLETE)
    assert time.monotonic() - began < 10


def test_short_answer_wakes_its_reader_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Being woken is most of what a short answer costs, beside the request."""
    waits: list[int] = []
    wait = Wakeup.wait

    def counted(signals: Wakeup, seconds: float) -> None:
        waits[-1] += 1
        wait(signals, seconds)

    monkeypatch.setattr(Wakeup, "wait", counted)
    with served([HEAD + BODY]) as (url, _):
        provider = OpenAICompatible("m", base_url=url)
        for _ in range(20):  # a busy machine may wake it more often, but not each time
            waits.append(0)
            assert list(provider.stream("Hi")) == ["word"]
    assert sorted(waits)[10] <= 1
