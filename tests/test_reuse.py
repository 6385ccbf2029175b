"""Which connections serve another call: those whose answer was read to its proven end."""

from __future__ import annotations

import contextlib
import gc
import gzip
import itertools
import re
import socket
import ssl
import threading
import time
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


def in_gzip(body: bytes) -> bytes:
    """In chunks, of which the last one is missing."""
    packed = gzip.compress(body)
    more = b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n"
    return HEAD + more % (len(packed), packed)


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
    "no body, and a length all the same": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"
    ),
    "a length that only Python reads": (by_length(said("one")).replace(b"Length: ", b"Length: 0_")),
    "the chunked coding in HTTP/1.0": in_chunks(said("one"), b"Connection: keep-alive\r\n").replace(
        b"HTTP/1.1", b"HTTP/1.0"
    ),
    "a body in a coding of its own": HEAD + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",
}
"""What may not be followed by another call on the same connection."""


@contextlib.contextmanager
def served(
    first: bytes | list[bytes],
    tls: ssl.SSLContext | None = None,
    wait_s: float = 0,
    drips: bytes = b"",
) -> Iterator[tuple[str, list[int]]]:
    """Serve ``first`` to the first request and an honest answer to those after it.

    Behind the first come ``drips``, over and over; the others come after ``wait_s`` seconds.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    numbers, used, threads = itertools.count(), [], []

    def talk(sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), encrypted(sock) as sock:
            while request := ask(sock):
                used.append(number)
                if len(used) > 1:
                    time.sleep(wait_s)
                    sock.sendall(by_length(said(request)))
                    continue
                for piece in [first] if isinstance(first, bytes) else first:
                    sock.sendall(piece)
                    time.sleep(0.02 if piece is not first else 0)
                while drips:
                    sock.sendall(drips)
                    time.sleep(0.005)

    def encrypted(sock: socket.socket) -> socket.socket:
        try:
            return tls.wrap_socket(sock, server_side=True) if tls else sock
        except OSError:
            sock.close()
            raise

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
    provider_url = f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}"
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


def test_answer_behind_in_one_record_of_tls_is_not_the_next_callers(
    tls: ssl.SSLContext, ca: str
) -> None:
    """What the TLS layer has decrypted and nobody has read does not show at the socket."""
    body = said("one")
    head = len(by_length(b"x" * 8000)) - 8000
    first = by_length(b":" + b"x" * (8192 - head - 3 - len(body)) + b"\n\n" + body)
    assert len(first) == 8192  # as much as one read brings, of Python before 3.14
    with served(first + EVIL, tls) as (url, used):
        provider = OpenAICompatible("m", base_url=url, retry=1, timeouts=5, verify=ca)
        assert [provider.complete(word).text for word in ("first", "second")] == ["one", "second"]
        del provider
    assert used == [0, 1]


def test_time_of_one_call_is_not_the_next_ones() -> None:
    """On the same connection, where the second may wait as long as it likes."""
    whole = FIRST["by length"]
    pieces = [whole[:-20], whole[-20:-10], whole[-10:]]
    with served(pieces, wait_s=0.5) as (url, used):
        provider = OpenAICompatible("m", base_url=url, retry=1)
        assert provider.complete("first", timeouts=0.3).text == "one"
        assert provider.complete("second", timeouts=None).text == "second"
        del provider
    assert used == [0, 0]


@pytest.mark.parametrize(
    ("first", "drips"),
    [
        (FIRST["in chunks"].replace(b"\r\n0\r\n\r\n", b"\r\n0;"), b"x"),
        (FIRST["in chunks"].replace(b"\r\n0\r\n\r\n", b"\r\n0\r\n"), b"X: y\r\n"),
        (in_gzip(said("one")), b"1\r\n\0\r\n"),
    ],
    ids=["chunk extension", "trailers", "padding of gzip"],
)
def test_what_drips_behind_the_end_marker_holds_nobody_up(first: bytes, drips: bytes) -> None:
    """The answer is there; its connection is not worth five seconds."""
    with served(first, drips=drips) as (url, _):
        provider = OpenAICompatible("m", base_url=url, retry=1, timeouts=20)
        began = time.monotonic()
        assert provider.complete("first").text == "one"
        assert time.monotonic() - began < 2
        del provider
