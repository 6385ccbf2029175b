"""Response headers: the call returns when they arrive, whatever body data comes with them."""

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
def serve_packets(packets: list[bytes]) -> Iterator[tuple[str, threading.Semaphore]]:
    """Serve one answer after another, packet by packet; each later one waits for the semaphore."""
    permits = threading.Semaphore(0)
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:  # shut down
                return
            with sock:
                while not sock.recv(65536).endswith(b"}"):
                    pass
                first, *rest = packets
                sock.sendall(first)
                for packet in rest:
                    assert permits.acquire(timeout=10)
                    sock.sendall(packet)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", permits
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


@pytest.mark.parametrize("at", range(0, len(BODY), 5))
def test_call_returns_with_the_headers(at: int) -> None:
    """Even if half an event, half a chunk or nothing comes with them in one packet."""
    with serve_packets([HEAD + BODY[:at], BODY[at:]]) as (url, permits):
        provider = OpenAICompatible("m", base_url=url, timeouts=Timeouts(first_token=5))
        with ThreadPoolExecutor(1) as pool:  # the main thread would wake up now and then anyway
            stream = pool.submit(provider.stream, "Hi").result()
        permits.release()  # had the call waited for more, the timeout would have ended it
        assert list(stream) == ["word"]
        assert stream.outcome is Outcome.COMPLETE


def test_waiting_caller_is_woken_for_an_earlier_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end marker without any text gives a waiting caller no events, but shortens its wait."""
    monkeypatch.setattr(channel, "AFTER_FINISH_S", 0.1)
    with serve([pause(0.1), finish(), stall()]) as server, ThreadPoolExecutor(1) as pool:
        provider = OpenAICompatible("m", base_url=server.url, timeouts=Timeouts(first_token=30))
        start = time.monotonic()
        answer = pool.submit(provider.complete, "Hi").result()
    assert (answer.text, answer.outcome) == ("", Outcome.COMPLETE)
    assert time.monotonic() - start < 10


def test_short_answer_wakes_its_caller_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waking a thread is most of the cost of a short answer, apart from the request."""
    waits: list[int] = []
    wait = Wakeup._caller_wait

    def counted(wakeup: Wakeup, seconds: float) -> None:
        waits[-1] += 1
        wait(wakeup, seconds)

    monkeypatch.setattr(Wakeup, "_caller_wait", counted)
    with serve_packets([HEAD + BODY]) as (url, _):
        provider = OpenAICompatible("m", base_url=url)
        for _ in range(20):  # a busy machine may wake it more often, but not each time
            waits.append(0)
            assert list(provider.stream("Hi")) == ["word"]
    assert sorted(waits)[10] <= 1
