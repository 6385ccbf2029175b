"""Clients for tests of the fault server: a raw socket and requests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests

from providers_sync.testing import Server, serve

OPENAI, ANTHROPIC, PLAIN = "/v1/chat/completions", "/v1/messages", "/api/chat"
HELLO = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
BAD = b'data: {"error":{"message":"Bad","type":"x","code":null}}\n\n'


@contextmanager
def dial(server: Server, path: str = "/api/chat", body: bytes = b"{}") -> Iterator[socket.socket]:
    """Send one request over a raw socket and yield the socket."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with suppress(ConnectionError):  # the server may reset the connection first
            sock.sendall(head.encode() + body)
        yield sock


def read_all(sock: socket.socket) -> bytes:
    """Return everything up to the server's FIN."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def receive(script: Any, **options: Any) -> bytes:
    """Return everything that a raw client receives from a script that ends the connection."""
    with serve(script, **options) as server, dial(server) as sock:
        return read_all(sock)


def post(server: Server, path: str = PLAIN, **options: Any) -> requests.Response:
    """Return the response to one POST."""
    options = {"timeout": 5, "allow_redirects": False} | options
    return requests.post(server.url + path, json={"n": 1}, **options)


def body_of(script: Any, path: str = PLAIN) -> bytes:
    """Return the body that requests reads, decoded."""
    with serve(script) as server:
        return post(server, path).content


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    """Return everything up to and including the read that contains ``mark``."""
    received = b""
    while mark not in received:
        data = sock.recv(65536)
        assert data, f"the connection ended before {mark!r}"
        received += data
    return received
