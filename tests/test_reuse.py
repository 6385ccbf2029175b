"""Which connections serve another call: those whose answer was read to its proven end."""

from __future__ import annotations

import contextlib
import gc
import itertools
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from providers_sync import OpenAICompatible, ProviderError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def said(word: str) -> bytes:
    """The body of an answer of one word."""
    event = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % word.encode()
    return event + b"data: [DONE]\n\n"


def by_length(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def in_chunks(body: bytes, more: bytes = b"") -> bytes:
    coding = b"Transfer-Encoding: chunked\r\n"
    return HEAD + coding + more + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


EVIL = by_length(said("EVIL"))
FIRST = {
    "by length": by_length(said("one")),
    "in chunks": in_chunks(said("one")),
    "with an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\n" + by_length(said("one")),
    "with a status and a body": (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno"
    ),
    "with a status and no body": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
}
"""What leaves the connection at the beginning of the next answer."""
DOUBTFUL = {
    "a second answer behind its length": FIRST["by length"] + EVIL,
    "a second answer behind its last chunk": FIRST["in chunks"] + EVIL,
    "a second answer behind no body": FIRST["with a status and no body"] + EVIL,
    "a second answer behind an error": FIRST["with a status and a body"] + EVIL,
    "a length beside the chunked coding": in_chunks(said("one"), b"Content-Length: 5\r\n"),
    "the chunked coding twice": in_chunks(said("one"), b"Transfer-Encoding: chunked\r\n"),
    "two lengths": by_length(said("one")).replace(b"\r\n", b"\r\nContent-Length: 7\r\n", 1),
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + EVIL,
    "a body in a coding of its own": HEAD + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",
}
"""What may not be followed by another call on the same connection."""


@contextlib.contextmanager
def served(first: bytes) -> Iterator[tuple[str, list[int]]]:
    """Serve ``first`` to the first request and an honest answer to those after it."""
    listener = socket.create_server(("127.0.0.1", 0))
    numbers, used, threads = itertools.count(), [], []

    def talk(sock: socket.socket, number: int) -> None:
        with sock, contextlib.suppress(OSError):
            while request := ask(sock):
                used.append(number)
                sock.sendall(first if len(used) == 1 else by_length(said(request)))

    def ask(sock: socket.socket) -> str:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := sock.recv(65536)):
                return ""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head.lower())
        while length and len(body) < int(length[1]):
            body += sock.recv(65536)
        asked = re.search(rb'"content": "(\w+)"', body)
        assert asked
        return asked[1].decode()

    def loop() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock = listener.accept()[0]
                thread = threading.Thread(target=talk, args=(sock, next(numbers)))
                threads.append(thread)
                thread.start()

    thread = threading.Thread(target=loop)
    thread.start()
    provider_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield provider_url, used
    finally:
        gc.collect()  # the connections go with their provider
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def ask_twice(url: str) -> list[str]:
    """Ask twice over one provider; return the texts, the second one's last."""
    provider = OpenAICompatible("m", base_url=url, retry=1, timeouts=5)
    texts = []
    for word in ("first", "second"):
        try:
            texts.append(provider.complete(word).text)
        except ProviderError as error:
            texts.append(type(error).__name__)
    return texts


@pytest.mark.parametrize("name", FIRST)
def test_connection_is_kept_after_a_proven_end(name: str) -> None:
    """Both calls use one connection."""
    with served(FIRST[name]) as (url, used):
        assert ask_twice(url)[1] == "second"
    assert used == [0, 0]


@pytest.mark.parametrize("name", DOUBTFUL)
def test_connection_is_not_kept_where_the_end_is_in_doubt(name: str) -> None:
    """The second caller gets its own answer, on a connection of its own."""
    with served(DOUBTFUL[name]) as (url, used):
        texts = ask_twice(url)
    assert texts[1] == "second"
    assert used == [0, 1]
