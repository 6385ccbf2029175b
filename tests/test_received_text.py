"""Tests of text against bytes: what was received before a stop is in ``.partial``, whole."""

from __future__ import annotations

import contextlib
import fcntl
import random
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator

import pytest
from event_bursts import BODY, EVENT_SIZE, HEAD, TEXT, WORD_SIZE, problems, read_path

from providers_sync import APITimeoutError, OpenAICompatible, StreamCancelled, Timeouts


def test_partial_has_every_event_received() -> None:
    """Deadlines and cancels inside bursts; ``test_received_text_long.py`` plays 800 rounds."""
    assert problems(rounds=100, seed=random.randrange(10**6)) == []


EVENTS = 4000
"""240 KB, which is less than a stream's buffer holds for a caller that does not read."""
BURST = BODY[: EVENTS * EVENT_SIZE]
STOP_S = 0.2
"""How long after the request the answer is stopped: long after the burst."""


@contextlib.contextmanager
def burst(rest: bytes) -> Iterator[tuple[str, threading.Event]]:
    """Send a burst of events at once, and ``rest``; tell when the client's system has it all."""
    arrived = threading.Event()

    def serve() -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(OSError):
            read_path(sock)
            sock.sendall(HEAD + b"Connection: close\r\n\r\n" + BURST + rest)
            while sys.platform == "linux" and unacknowledged(sock):
                time.sleep(0.001)
            arrived.set()
            while sock.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", arrived
        thread.join(5)


def unacknowledged(sock: socket.socket) -> int:
    """Return how many sent bytes the other side's system has not acknowledged."""
    answer = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
    return int(struct.unpack("i", answer)[0])


@pytest.mark.parametrize("rest", [0, EVENT_SIZE - 1], ids=["whole", "and-half-an-event"])
@pytest.mark.parametrize("reads", [True, False], ids=["reading", "not-reading"])
@pytest.mark.parametrize("how", ["total", "idle", "cancel"])
def test_burst_before_a_silence_is_in_partial(how: str, reads: bool, rest: int) -> None:
    """Every acknowledged byte counts, whether the caller has read the events or not."""
    timeouts = Timeouts(**{"total": 10, **({} if how == "cancel" else {how: STOP_S})})
    with burst(BODY[len(BURST) :][:rest]) as (url, arrived):
        stream = OpenAICompatible("m", base_url=url, timeouts=timeouts, retry=1).stream("Hi")
        timer = threading.Timer(STOP_S, stream.cancel)
        if how == "cancel":
            timer.start()
        assert arrived.wait(STOP_S / 2), "the machine is too busy for this test"
        if not reads:
            time.sleep(STOP_S * 1.2)
        with pytest.raises((APITimeoutError, StreamCancelled)) as caught:
            stream.read()
        timer.cancel()
        assert caught.value.partial == stream.text == TEXT[: EVENTS * WORD_SIZE]
        assert stream.stats.bytes == len(BURST) + rest
