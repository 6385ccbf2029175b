"""Bursts of events of one size, stopped at random moments: compares the text with the bytes."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from providers_sync import (
    APITimeoutError,
    CancelToken,
    OpenAICompatible,
    Provider,
    ProviderError,
    Stream,
    StreamCancelled,
    Timeouts,
)

EVENTS = 40_000
WORD = "{:05d} "
WORDS = [WORD.format(number) for number in range(EVENTS)]
TEXT = "".join(WORDS)
WORD_SIZE = len(WORDS[0])
PARTS = [
    b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % each.encode()
    for each in WORDS
]
BODY = b"".join(PARTS)
EVENT_SIZE = len(PARTS[0])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
LONGEST_SLICE = 200_000
CALLERS = 4


def http_chunks(size: int) -> bytes:
    """Return the body in HTTP chunks of this many bytes."""
    parts = [BODY[start : start + size] for start in range(0, len(BODY), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


FRAMINGS = {
    "event": (b"Transfer-Encoding: chunked\r\n\r\n", http_chunks(EVENT_SIZE)),
    "odd": (b"Transfer-Encoding: chunked\r\n\r\n", http_chunks(997)),
    "coalesced": (b"Transfer-Encoding: chunked\r\n\r\n", http_chunks(16384)),
    "length": (b"Content-Length: %d\r\n\r\n" % (len(BODY) + 1), BODY),
    "close": (b"Connection: close\r\n\r\n", BODY),
}


class BurstServer:
    """A raw server that sends an event or more of the body in random slices, then nothing more."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._seed += 1
                arguments = sock, random.Random(self._seed)
                thread = threading.Thread(target=self._serve, args=arguments)
                self._threads = [each for each in self._threads if each.is_alive()] + [thread]
                thread.start()

    def _serve(self, sock: socket.socket, rng: random.Random) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(20)
            head, body = FRAMINGS[read_path(sock).split("/")[1]]
            data = memoryview(HEAD + head + body)
            first = len(HEAD + head) + 2 * EVENT_SIZE  # ``idle`` runs from the first event on
            end, at = rng.randrange(first, len(data)), 0
            while at < end:
                size = rng.choice([rng.randrange(1, 500), rng.randrange(1, LONGEST_SLICE)])
                sock.sendall(data[at : min(at + size, end)])
                at += size
                if rng.random() < 0.2:
                    time.sleep(rng.uniform(0, 0.01))
            while sock.recv(65536):
                pass

    def close(self) -> None:
        """Stop, once every client has closed its connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


def read_path(sock: socket.socket) -> str:
    """Read a request with its body; return its path. Raises ``OSError`` at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < size:
        body += received(sock)
    return head.split()[1].decode()


def received(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionAbortedError("the client has closed the connection")
    return data


@dataclass
class Round:
    """One answer that is stopped at a random moment, and how."""

    number: int
    stop: str
    reader: str
    framing: str
    after: float
    """Seconds."""

    def __str__(self) -> str:
        return f"round {self.number} ({self.stop}, {self.reader}, {self.framing})"


def random_round(number: int, seed: int) -> Round:
    rng = random.Random(f"{seed} {number}")
    stop = rng.choice(["total", "idle", "cancel", "token"])
    after = rng.uniform(0.01, 0.04) if stop == "idle" else rng.uniform(0.002, 0.05)
    reader = rng.choice(["read", "iterate", "late"])
    return Round(number, stop, reader, rng.choice(list(FRAMINGS)), after)


def play(url: str, each: Round) -> str | None:
    """Read and stop one answer; return what is wrong with its text, or ``None``."""
    timeouts = {each.stop: each.after} if each.stop in ("total", "idle") else {}
    settings = {"timeouts": Timeouts(**{"total": 20, **timeouts}), "retry": 1}
    provider = OpenAICompatible("m", base_url=f"{url}/{each.framing}", **settings)
    try:
        return problem_of(each, provider)
    finally:
        provider.close()


@contextlib.contextmanager
def stopping(each: Round, how: str, act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` in another thread after the time of this round, if it is stopped so."""
    timer = threading.Timer(each.after, act)
    if each.stop == how:
        timer.start()
    yield
    if each.stop == how:
        timer.cancel()
        timer.join()


def problem_of(each: Round, provider: Provider) -> str | None:
    token = CancelToken()
    with stopping(each, "token", token.cancel):
        try:
            stream = provider.stream("Hi", cancel=token)
        except ProviderError as error:  # stopped before the headers
            return difference(each, error, error.partial, None)
        with stopping(each, "cancel", stream.cancel):
            try:
                read(each, stream)
            except ProviderError as error:
                if error.partial != stream.text:
                    return f"{each}: .partial {len(error.partial)} but .text {len(stream.text)}"
                return difference(each, error, error.partial, stream.stats.bytes)
    return f"{each}: it ended with {stream.outcome}"


def read(each: Round, stream: Stream) -> None:
    if each.reader == "iterate":
        for _ in stream:
            pass
    elif each.reader == "late":
        time.sleep(each.after * 1.5)
    stream.read()


def difference(each: Round, error: ProviderError, text: str, received: int | None) -> str | None:
    """Return how the text differs from the whole events in the bytes, or ``None``.

    Without a stream, nothing tells how many bytes were received.
    """
    expected = StreamCancelled if each.stop in ("cancel", "token") else APITimeoutError
    if type(error) is not expected or getattr(error, "clock", each.stop) != each.stop:
        return f"{each}: {error!r}"
    events, rest = divmod(len(text), WORD_SIZE)
    if rest or not TEXT.startswith(text):
        return f"{each}: half an event, or a wrong one: {text[-20:]!r}"
    if received is not None and events != received // EVENT_SIZE:
        return f"{each}: {received // EVENT_SIZE} events received and {events} in .partial"
    return None


def problems(rounds: int, seed: int) -> list[str]:
    """Play so many rounds, some at once; return what was wrong."""
    server = BurstServer(seed)
    try:
        with ThreadPoolExecutor(CALLERS) as pool:
            all_rounds = [random_round(number, seed) for number in range(rounds)]
            found = list(pool.map(lambda each: play(server.url, each), all_rounds))
    finally:
        server.close()
    return [problem for problem in found if problem]
