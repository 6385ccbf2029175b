"""The framing of bodies: any split gives the same, and headers that leave a doubt are refused."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync import (
    AI365VIP,
    APIStatusError,
    MalformedStream,
    OpenAICompatible,
    Outcome,
    ProviderError,
    StreamCut,
)
from providers_sync.transport.framing import Body, ChunkedBody, SizedBody
from providers_sync.transport.inflating import inflated

many = settings(max_examples=250, deadline=None)
cuts = st.lists(st.integers(0, 10_000), max_size=30)
payloads = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
HELLO = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\ndata: [DONE]\n\n'


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return ``data`` split at these positions (modulo its length), without empty parts."""
    bounds = [0, *sorted({position % (len(data) + 1) for position in cuts}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds) if a < b]


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def read(body: Body, parts: Iterable[bytes]) -> tuple[bytes, ProviderError | None]:
    """Feed the parts and the end of the connection; return the payload and the error."""
    payload = b""
    try:
        for part in parts:
            payload += body.feed(part)
            while body.has_more:
                payload += body.feed(b"")
        if not body.ended:
            body.end()
    except ProviderError as error:
        return payload, error
    return payload, None


# --- sans I/O


@many
@given(
    payloads,
    cuts,
    st.sampled_from([b"", b";a", b" \t;a=b"]),
    st.sampled_from([b"", b"X: 1\r\n", b"X-Two:\r\nY: z\r\n"]),
)
def test_any_split_of_chunks_gives_the_payload(
    parts: list[bytes], positions: list[int], extension: bytes, trailers: bytes
) -> None:
    """Nothing is added or lost; extensions and trailers are not payload."""
    data = b"".join(chunk(part, extension) for part in parts)
    data += b"000" + extension + b"\r\n" + trailers + b"\r\n"
    body = ChunkedBody()
    assert read(body, split(data, positions)) == (b"".join(parts), None)
    assert body.is_reusable()
    body = ChunkedBody()
    assert read(body, split(data + b"HTTP", positions)) == (b"".join(parts), None)
    assert not body.is_reusable()


@many
@given(payloads, cuts, st.integers(0, 10_000))
def test_chunks_that_end_early_are_cut(parts: list[bytes], positions: list[int], size: int) -> None:
    """Only the whole body ends; all payload before the cut was returned."""
    data = b"".join(map(chunk, parts)) + b"0\r\nX: 1\r\n\r\n"
    data = data[: size % len(data)]
    payload, error = read(ChunkedBody(), split(data, positions))
    assert isinstance(error, StreamCut)
    assert b"".join(parts).startswith(payload)


@many
@given(payloads, st.binary(max_size=20), cuts)
def test_any_junk_after_chunks_is_harmless(
    parts: list[bytes], junk: bytes, positions: list[int]
) -> None:
    """The payload before the junk is always returned, and only our error is raised."""
    data = b"".join(map(chunk, parts)) + junk
    payload, error = read(ChunkedBody(), split(data, positions))
    assert payload.startswith(b"".join(parts))
    assert error is None or type(error) is StreamCut


@many
@given(st.binary(max_size=100), cuts, st.integers(1, 10_000))
def test_any_split_of_a_body_with_a_length(data: bytes, positions: list[int], missing: int) -> None:
    """Short of its length it is cut; what exceeds it is no payload."""
    for excess in (b"", b"HTTP"):
        body = SizedBody(len(data))
        assert read(body, split(data + excess, positions)) == (data, None)
        assert body.is_reusable() == (not excess)
    body = SizedBody(len(data) + missing)
    payload, error = read(body, split(data, positions))
    assert (payload, type(error)) == (data, StreamCut)
    assert not body.is_reusable()


@many
@given(payloads, cuts)
def test_any_split_of_a_body_that_ends_with_its_connection(
    parts: list[bytes], positions: list[int]
) -> None:
    """Everything is payload, and the connection is gone."""
    data, body = b"".join(parts), Body()
    assert read(body, split(data, positions)) == (data, None)
    assert body.ended
    assert not body.is_reusable()


BROKEN_CHUNKS = {
    "sign": b"+5\r\nHello\r\n0\r\n\r\n",
    "minus": b"-5\r\nHello\r\n0\r\n\r\n",
    "prefix": b"0x5\r\nHello\r\n0\r\n\r\n",
    "underscore": b"1_0\r\nHelloHelloHello!\r\n0\r\n\r\n",
    "no size": b"\r\nHello\r\n0\r\n\r\n",
    "extension without a size": b";a\r\nHello\r\n0\r\n\r\n",
    "blank before the size": b" 5\r\nHello\r\n0\r\n\r\n",
    "vertical tab after the size": b"5\x0b\r\nHello\r\n0\r\n\r\n",
    "digit that is not ASCII": "\uff15\r\nHello\r\n0\r\n\r\n".encode(),
    "size beyond 64 bits": b"10000000000000005\r\nHello\r\n0\r\n\r\n",
    "shorter than its size": b"6\r\nHello\r\n0\r\n\r\n",
    "longer than its size": b"4\r\nHello\r\n0\r\n\r\n",
    "text after the last chunk": b"0\r\nHello\r\n\r\n",
    "chunk after the last chunk": b"0\r\n5\r\nHello\r\n0\r\n\r\n",
    "endless line": b"5;" + b"x" * 70_000,
    "endless trailers": b"0\r\n" + b"X: 1\r\n" * 101,
}


@pytest.mark.parametrize("name", BROKEN_CHUNKS)
def test_broken_chunk_keeps_the_payload_before_it(name: str) -> None:
    """Also in the same read; the error stays, and the connection is not reused."""
    for size in (1, 7, 200_000):
        data = chunk(b"first ") + BROKEN_CHUNKS[name]
        body = ChunkedBody()
        payload, error = read(body, (data[a : a + size] for a in range(0, len(data), size)))
        assert type(error) is StreamCut
        assert payload.startswith(b"first ")
        assert payload.removeprefix(b"first ") in (b"", b"Hell", b"Hello\r")
        with pytest.raises(StreamCut):
            body.feed(b"5\r\nagain\r\n")
        assert not body.is_reusable()
    body = ChunkedBody()
    body.feed(data)
    assert body.has_more  # the error need not wait for the server


# --- headers and bodies on a connection


@contextlib.contextmanager
def serve_bytes(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Answer each request with these bytes, and close; yield the address and the requests."""
    listener = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def answer_all() -> None:
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as sock:
                    sock.settimeout(5)
                    request = b""
                    while not request.endswith(b"}"):
                        request += sock.recv(65536)
                    received.append(request)
                    with contextlib.suppress(OSError):
                        sock.sendall(answer)
                        sock.shutdown(socket.SHUT_WR)
                        sock.recv(1)

    thread = threading.Thread(target=answer_all)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", received
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        listener.close()


def ask(answer: bytes, is_own: bool, kind: Any = OpenAICompatible) -> tuple[Any, int]:
    """Return what a call came to, a completion or its error, and the number of requests."""
    result: Any
    with serve_bytes(answer) as (url, received), requests.Session() as session:
        settings = {} if is_own else {"session": session}
        try:
            with kind("gpt-4o", base_url=url, timeouts=5, **settings) as provider:
                result = provider.complete("Hi")
        except ProviderError as error:
            result = error
    return result, len(received)


def head(*lines: bytes, status: bytes = b"200 OK", kind: bytes = b"text/event-stream") -> bytes:
    first = [b"HTTP/1.1 " + status, b"Content-Type: " + kind, *lines]
    return b"".join(line + b"\r\n" for line in first) + b"\r\n"


ONE_CHUNK = chunk(HELLO) + b"0\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(HELLO)
GOOD = {
    "blanks around chunked": head(b"Transfer-Encoding: \t chunked \t") + ONE_CHUNK,
    "chunked in capitals": head(b"transfer-encoding: CHUNKED") + ONE_CHUNK,
    "chunked on a folded line": head(b"Transfer-Encoding:\r\n chunked") + ONE_CHUNK,
    "chunked in an empty list": head(b"Transfer-Encoding: , chunked,") + ONE_CHUNK,
    "chunked beside a length": head(b"Transfer-Encoding: chunked", b"Content-Length: 3")
    + ONE_CHUNK,
    "length with zeros": head(LENGTH.replace(b": ", b": 000")) + HELLO,
    "equal lengths in one line": head(LENGTH + b", %d" % len(HELLO)) + HELLO + b"excess",
    "equal lengths in two lines": head(LENGTH, LENGTH + b" ") + HELLO + b"excess",
    "end of the connection": head() + HELLO,
}
REFUSED = {
    "another coding": (head(b"Transfer-Encoding: gzip") + HELLO, "'gzip'"),
    "another coding and chunked": (
        head(b"Transfer-Encoding: gzip, chunked") + ONE_CHUNK,
        "'gzip, chunked'",
    ),
    "chunked twice": (head(b"Transfer-Encoding: chunked, chunked") + ONE_CHUNK, "chunked, chunked"),
    "chunked in two lines": (
        head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + ONE_CHUNK,
        "chunked, chunked",
    ),
    "no coding": (head(b"Transfer-Encoding:", LENGTH) + HELLO, "coding: ''"),
    "chunked with a parameter": (head(b"Transfer-Encoding: chunked;q=1") + ONE_CHUNK, "coding"),
    "blank that is none of HTTP's": (
        head(b"Transfer-Encoding: chunked\x0b") + ONE_CHUNK,
        r"'chunked\\x0b'",
    ),
    "two lengths in one line": (head(LENGTH + b", 3") + HELLO, "contradict"),
    "two lengths in two lines": (head(LENGTH, b"Content-Length: 3") + HELLO, "contradict"),
    "negative length": (head(b"Content-Length: -5") + HELLO, "not a number"),
    "length with a sign": (head(b"Content-Length: +5") + HELLO, "not a number"),
    "length with an underscore": (head(b"Content-Length: 1_0") + HELLO, "not a number"),
    "length in hexadecimal": (head(b"Content-Length: 0x5") + HELLO, "not a number"),
    "empty length": (head(b"Content-Length:") + HELLO, "not a number"),
    "length of many digits": (head(b"Content-Length: " + b"9" * 5000) + HELLO, "not a number"),
    "line without a colon": (head(b"oops", b"Content-Length: 5000") + HELLO, "colon"),
    "blank before the colon": (head(b"Content-Length : 5000") + HELLO, "colon"),
    "line without a name": (head(b": oops", b"Content-Length: 5000") + HELLO, "colon"),
    "carriage returns in a line": (head(b"X: a\r", b"Content-Length: 5000") + HELLO, "colon"),
    "status 206": (
        head(b"Content-Range: bytes 0-4/500", LENGTH, status=b"206 Partial Content") + HELLO,
        "206",
    ),
}
both = pytest.mark.parametrize("is_own", [True, False], ids=["own", "caller's"])


@both
@pytest.mark.parametrize("name", GOOD)
def test_legal_framing_is_read(name: str, is_own: bool) -> None:
    """However unusual; with one request."""
    completion, count = ask(GOOD[name], is_own)
    assert (completion.text, completion.outcome, count) == ("Hello", Outcome.COMPLETE, 1)


@both
@pytest.mark.parametrize("name", REFUSED)
def test_ambiguous_headers_are_refused(name: str, is_own: bool) -> None:
    """The error names the item; nothing is asked for again."""
    answer, message = REFUSED[name]
    with pytest.raises(MalformedStream, match=message):
        raise ask(answer, is_own)[0]
    assert ask(answer, is_own)[1] == 1


@pytest.mark.parametrize("name", sorted({*REFUSED} - {"status 206"}))
def test_error_status_wins_over_ambiguous_headers(name: str) -> None:
    """What the server has refused is known, even if its reasons are not."""
    error, count = ask(REFUSED[name][0].replace(b"200 OK", b"400 Bad Request"), True)
    assert type(error) is APIStatusError
    assert (error.status_code, count) == (400, 1)


@both
@pytest.mark.parametrize("name", BROKEN_CHUNKS)
def test_text_before_a_broken_chunk_is_partial(name: str, is_own: bool) -> None:
    """It is handed over, and not asked for again."""
    chunked = head(b"Transfer-Encoding: chunked", kind=b"text/plain")
    error, count = ask(chunked + chunk(b"first ") + BROKEN_CHUNKS[name], is_own, AI365VIP)
    assert type(error) is StreamCut
    assert error.partial.startswith("first ")
    assert count == 1


# --- compression

PLAIN = b"Hello " * 200
CODINGS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"X-GZip", gzip.compress),
    "deflate": (b"Deflate", zlib.compress),
    "raw deflate": (b"deflate", lambda data: zlib.compress(data)[2:-4]),
    "deflate without compression": (b"deflate", lambda data: zlib.compress(data, 0)),
    "identity": (b"identity", bytes),
    "identity and gzip": (b"identity, gzip,", gzip.compress),
    "none": (b"", bytes),
}


@both
@pytest.mark.parametrize("name", CODINGS)
def test_compression_that_comes_anyway_is_undone(name: str, is_own: bool) -> None:
    """Nobody has asked for it."""
    coding, compress = CODINGS[name]
    lines = head(b"Content-Encoding: " + coding, kind=b"text/plain")
    completion, count = ask(lines + compress(PLAIN), is_own, AI365VIP)
    assert (completion.text.encode(), count) == (PLAIN, 1)


@both
@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "rot13", "gzip, gzip", "br, gzip"])
def test_other_compression_is_refused_by_name(coding: str, is_own: bool) -> None:
    """And not asked for again: a repeat costs as much as the answer."""
    lines = head(b"Content-Encoding: " + coding.encode(), kind=b"text/plain")
    for body in (b"\x5b\xff\xff\x10", b'["\x01\x02', b"Uryyb", b"d", b""):
        error, count = ask(lines + body, is_own, AI365VIP)
        assert type(error) is MalformedStream
        assert f"compressed with {coding}, which is not" in str(error)
        assert count == 1


@both
@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip", b"deflate", b"gzip, gzip"])
def test_text_whose_header_names_a_compression_is_read(coding: bytes, is_own: bool) -> None:
    """An event stream or JSON is plainly none."""
    lines = b"Content-Encoding: " + coding
    for body in (HELLO, b": ping\n\n" + HELLO, b"\r\nevent: message\n" + HELLO):
        completion, count = ask(head(lines) + body, is_own)
        assert (completion.text, count) == ("Hello", 1)
    whole = b' {\n "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}'
    completion, count = ask(head(lines, kind=b"application/json") + whole, is_own)
    assert (completion.text, count) == ("Hello", 1)


@pytest.mark.parametrize("coding", ["br", "gzip", "deflate"])
def test_text_is_recognised_however_it_is_split(coding: str) -> None:
    """Its first bytes are held back until they are known."""
    for text in (
        HELLO,
        b'\n\n {  "a": 1}',
        b"id: 7\n" + HELLO,
        b"[ [1]]",
        b":\n",
        b"\xef\xbb\xbfdata:",
    ):
        for size in (1, 2, 3, 100):
            parts = [text[a : a + size] for a in range(0, len(text), size)]
            assert read(inflated(Body(), coding), parts) == (text, None)


def test_error_body_in_an_unknown_compression_is_left_out() -> None:
    """The status is told; the body would be noise."""
    lines = head(b"Content-Encoding: br", status=b"400 Bad Request")
    error, _ = ask(lines + b"\x0b\x02\x80Hello\x03", True)
    assert type(error) is APIStatusError
    assert error.body == ""


def test_error_body_that_is_plain_json_is_read() -> None:
    """Whatever its header says."""
    lines = head(b"Content-Encoding: br", status=b"400 Bad Request")
    error, _ = ask(lines + b'{"error": {"message": "no such model"}}', True)
    assert "no such model" in str(error)
