"""Connection reuse: only a connection whose answer provably ended serves another call."""

from __future__ import annotations

import contextlib
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


def answer_body(word: str) -> bytes:
    """Return the body of an answer of one word."""
    event = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % word.encode()
    return event + b"data: [DONE]\n\n"


def by_length(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def in_chunks(body: bytes, more: bytes = b"") -> bytes:
    coding = b"Transfer-Encoding: chunked\r\n"
    return HEAD + coding + more + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def in_gzip(body: bytes) -> bytes:
    """Return the body as gzip in chunks, without the last chunk."""
    packed = gzip.compress(body)
    more = b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n"
    return HEAD + more % (len(packed), packed)


EVIL = by_length(answer_body("EVIL"))
FIRST = {
    "by length": by_length(answer_body("one")),
    "in chunks": in_chunks(answer_body("one")),
    "in chunks, with blanks, extensions and trailers": (
        in_chunks(answer_body("one"))
        .replace(b"chunked", b" chunked\t")
        .replace(b"\r\n0\r\n", b"\r\n000 ;x=y\r\nX-Sum: 1\r\n")
    ),
    "by length, twice": by_length(answer_body("one")).replace(
        b"\r\n\r\n", b", %d\r\n\r\n" % len(answer_body("one")), 1
    ),
    "by length, in gzip": by_length(gzip.compress(answer_body("one"))).replace(
        b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1
    ),
    "by length, under a coding that it has not": by_length(answer_body("one")).replace(
        b"\r\n", b"\r\nContent-Encoding: br\r\n", 1
    ),
    "with an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\n" + by_length(answer_body("one")),
    "with a status and a body": (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno"
    ),
    "with a status and no body": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
}
"""Answers after which the connection is ready for the next one."""
DOUBTFUL = {
    "a second answer after its length": FIRST["by length"] + EVIL,
    "a second answer after its last chunk": FIRST["in chunks"] + EVIL,
    "a second answer after no body": FIRST["with a status and no body"] + EVIL,
    "a second answer after an error": FIRST["with a status and a body"] + EVIL,
    "a length beside the chunked coding": in_chunks(answer_body("one"), b"Content-Length: 5\r\n"),
    "the chunked coding twice": in_chunks(answer_body("one"), b"Transfer-Encoding: chunked\r\n"),
    "a sign before a chunk's size": in_chunks(answer_body("one")).replace(
        b"\r\n0\r\n", b"\r\n+0\r\n"
    ),
    "a header line without a colon": by_length(answer_body("one")).replace(
        b"\r\n", b"\r\noops\r\n", 1
    ),
    "two lengths": by_length(answer_body("one")).replace(b"\r\n", b"\r\nContent-Length: 7\r\n", 1),
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + EVIL,
    "no body, but a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"),
    "a length that only Python reads": (
        by_length(answer_body("one")).replace(b"Length: ", b"Length: 0_")
    ),
    "the chunked coding in HTTP/1.0": in_chunks(
        answer_body("one"), b"Connection: keep-alive\r\n"
    ).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a body in an unsupported coding": HEAD
    + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",
}
"""Answers after which the connection must not be reused."""


@contextlib.contextmanager
def serve_first(
    first: bytes | list[bytes],
    tls: ssl.SSLContext | None = None,
    wait_s: float = 0,
    drips: bytes = b"",
) -> Iterator[tuple[str, list[int]]]:
    """Serve ``first`` to the first request and a correct answer to those after it.

    ``first`` is followed by ``drips``, over and over; the others are sent after ``wait_s`` seconds.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    numbers, used, threads = itertools.count(), [], []

    def handle(sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), encrypted(sock) as sock:
            while request := read_request(sock):
                used.append(number)
                if len(used) > 1:
                    time.sleep(wait_s)
                    sock.sendall(by_length(answer_body(request)))
                    continue
                for part in [first] if isinstance(first, bytes) else first:
                    sock.sendall(part)
                    time.sleep(0.02 if part is not first else 0)
                while drips:
                    sock.sendall(drips)
                    time.sleep(0.005)

    def encrypted(sock: socket.socket) -> socket.socket:
        try:
            return tls.wrap_socket(sock, server_side=True) if tls else sock
        except OSError:
            sock.close()
            raise

    def read_request(sock: socket.socket) -> str:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := sock.recv(65536)):
                return ""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head.lower())
        while length and len(body) < int(length[1]):
            body += sock.recv(65536)
        content = re.search(rb'"content": "(\w+)"', body)
        assert content
        return content[1].decode()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock = listener.accept()[0]
                thread = threading.Thread(target=handle, args=(sock, next(numbers)))
                threads.append(thread)
                thread.start()

    thread = threading.Thread(target=accept)
    thread.start()
    provider_url = f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield provider_url, used
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def complete_twice(url: str) -> list[str]:
    """Make two calls with one provider; return the text or the error's name of each."""
    texts = []
    with OpenAICompatible("m", base_url=url, retry=1, timeouts=5) as provider:
        for word in ("first", "second"):
            try:
                texts.append(provider.complete(word).text)
            except ProviderError as error:
                texts.append(type(error).__name__)
    return texts


@pytest.mark.parametrize("name", FIRST)
def test_connection_is_reused_after_a_proven_end(name: str) -> None:
    """Both calls use one connection."""
    with serve_first(FIRST[name]) as (url, used):
        assert complete_twice(url)[1] == "second"
    assert used == [0, 0]


@pytest.mark.parametrize("name", DOUBTFUL)
def test_connection_is_not_reused_after_a_doubtful_end(name: str) -> None:
    """The second call gets its own answer, on a new connection."""
    with serve_first(DOUBTFUL[name]) as (url, used):
        texts = complete_twice(url)
    assert texts[1] == "second"
    assert used == [0, 1]


def test_second_answer_in_the_same_tls_record_is_not_used(tls: ssl.SSLContext, ca: str) -> None:
    """Data that the TLS layer has decrypted and that is still unread is invisible at the socket."""
    body = answer_body("one")
    head = len(by_length(b"x" * 8000)) - 8000
    first = by_length(b":" + b"x" * (8192 - head - 3 - len(body)) + b"\n\n" + body)
    assert len(first) == 8192  # the size of one read before Python 3.14
    with (
        serve_first(first + EVIL, tls) as (url, used),
        OpenAICompatible("m", base_url=url, retry=1, timeouts=5, verify=ca) as provider,
    ):
        texts = [provider.complete(word).text for word in ("first", "second")]
    assert texts == ["one", "second"]
    assert used == [0, 1]


def test_timeout_of_one_call_does_not_apply_to_the_next() -> None:
    """On the same connection, where the second call has no timeout."""
    answer = FIRST["by length"]
    parts = [answer[:-20], answer[-20:-10], answer[-10:]]
    with (
        serve_first(parts, wait_s=0.5) as (url, used),
        OpenAICompatible("m", base_url=url, retry=1) as provider,
    ):
        assert provider.complete("first", timeouts=0.3).text == "one"
        assert provider.complete("second", timeouts=None).text == "second"
    assert used == [0, 0]


@pytest.mark.parametrize(
    ("first", "drips"),
    [
        (FIRST["in chunks"].replace(b"\r\n0\r\n\r\n", b"\r\n0;"), b"x"),
        (FIRST["in chunks"].replace(b"\r\n0\r\n\r\n", b"\r\n0\r\n"), b"X: y\r\n"),
        (in_gzip(answer_body("one")), b"1\r\n\0\r\n"),
    ],
    ids=["chunk extension", "trailers", "padding of gzip"],
)
def test_bytes_that_drip_after_the_end_marker_do_not_delay_the_call(
    first: bytes, drips: bytes
) -> None:
    """The answer is complete; saving its connection is not worth five seconds."""
    with (
        serve_first(first, drips=drips) as (url, _),
        OpenAICompatible("m", base_url=url, retry=1, timeouts=20) as provider,
    ):
        start = time.monotonic()
        assert provider.complete("first").text == "one"
        assert time.monotonic() - start < 2
