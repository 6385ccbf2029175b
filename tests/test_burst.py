"""Answers of 200 KB sent together with their headers, so that http.client buffers part of them."""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from providers_sync import AI365VIP, Anthropic, OpenAICompatible, Outcome, Provider

BUFFERS = {"8-KiB": 8 * 1024, "128-KiB": 128 * 1024}
"""The size of http.client's buffer: up to Python 3.13, and from 3.14 on."""
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Encoding: {}\r\n"


def one_chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def many_chunks(body: bytes) -> bytes:
    """Return chunks of an odd size, so that reads end at every position within a chunk."""
    return b"".join(one_chunk(body[at : at + 997]) for at in range(0, len(body), 997))


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "length": lambda body: b"Content-Length: %d\r\n\r\n%b" % (len(body), body),
    "close": lambda body: b"Connection: close\r\n\r\n" + body,
    "one-chunk": lambda body: chunked(one_chunk(body)),
    "many-chunks": lambda body: chunked(many_chunks(body)),
}


def chunked(chunks: bytes) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunks


def openai_event(text: str) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: %b\n\n" % json.dumps(chunk).encode()


def anthropic_event(text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return anthropic("content_block_delta", index=0, delta=delta)


def anthropic(name: str, **fields: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name} | fields)}\n\n".encode()


MESSAGE: dict[str, Any] = {"id": "m", "role": "assistant", "content": [], "usage": {}}
EMPTY = {"type": "text", "text": ""}
ENDED = {"stop_reason": "end_turn", "stop_sequence": None}
Make = Callable[..., Provider]
PROTOCOLS: dict[str, tuple[Make, str, bytes, Callable[[str], bytes], bytes]] = {
    "openai": (
        functools.partial(OpenAICompatible, "m"),
        "text/event-stream",
        b"",
        openai_event,
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    ),
    "anthropic": (
        functools.partial(Anthropic, model="m", api_key="k"),
        "text/event-stream",
        anthropic("message_start", message=MESSAGE)
        + anthropic("content_block_start", index=0, content_block=EMPTY),
        anthropic_event,
        anthropic("content_block_stop", index=0)
        + anthropic("message_delta", delta=ENDED, usage={"output_tokens": 1})
        + anthropic("message_stop"),
    ),
    "plain": (AI365VIP, "text/plain", b"", str.encode, b""),
}
"""The provider, its media type, the body's start, the encoder of one text, and the body's end."""

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": lambda body: gzip.compress(body, 1),
}


@functools.cache
def compose(protocol: str, coding: str) -> tuple[str, bytes]:
    """Return a text and the body that contains it, of at least 200 KB in every coding."""
    _, _, start, encode, end = PROTOCOLS[protocol]
    generator = random.Random(1)
    chunks = [f"{generator.randbytes(300).hex()} é\n" for _ in range(700)]
    return "".join(chunks), CODINGS[coding](start + b"".join(map(encode, chunks)) + end)


@contextlib.contextmanager
def send_at_once(data: bytes, tls: ssl.SSLContext | None) -> Iterator[str]:
    """Answer the first request with these bytes in one write; yield the server's address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_one, args=(listener, data, tls))
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread if no client has connected
            thread.join(10)


def answer_one(listener: socket.socket, data: bytes, tls: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError):  # the client has disconnected, or never connected
        accepted, _ = listener.accept()
        accepted.settimeout(10)
        with tls.wrap_socket(accepted, server_side=True) if tls else accepted as client:
            request = b""
            while not request.endswith(b"}"):
                request += client.recv(65536)
            client.sendall(data)
            if isinstance(client, ssl.SSLSocket):
                client.settimeout(0)  # send close_notify without waiting for the client's
                client.unwrap()


def fill(self: socket.SocketIO, buffer: Any) -> int:
    """Fill ``buffer`` completely, as a read does when many packets have arrived already."""
    view, filled = memoryview(buffer), 0
    while filled < len(view) and (size := self._sock.recv_into(view[filled:])):  # type: ignore[attr-defined]
        filled += size
    return filled


@pytest.mark.parametrize("buffer", BUFFERS)
@pytest.mark.parametrize("security", ["plain", "tls"])
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_burst_after_the_headers_is_complete(
    protocol: str,
    framing: str,
    coding: str,
    security: str,
    buffer: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No character is missing, however much of it http.client has buffered."""
    tls = request.getfixturevalue("tls") if security == "tls" else None
    verify = request.getfixturevalue("ca") if security == "tls" else True
    make, media_type, *_ = PROTOCOLS[protocol]
    text, body = compose(protocol, coding)
    assert len(body) > 200_000
    data = HEAD.format(media_type, coding).encode() + FRAMINGS[framing](body)
    monkeypatch.setattr(io, "DEFAULT_BUFFER_SIZE", BUFFERS[buffer])
    monkeypatch.setattr(socket.SocketIO, "readinto", fill)
    with send_at_once(data, tls) as url:
        answer = make(base_url=url, retry=None, verify=verify).complete("Hi")
    assert answer.text == text
    assert answer.outcome is (Outcome.UNVERIFIED if protocol == "plain" else Outcome.COMPLETE)
