"""A minimal HTTP client as a lower bound: a socket, no timeouts, no checks, no retries."""

from __future__ import annotations

import socket
import ssl
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast
from urllib.parse import urlsplit

_connections: dict[str, tuple[socket.socket, BinaryIO]] = {}


def lines(url: str, path: str, body: bytes) -> Iterator[bytes]:
    """Send a POST request and yield the lines of the response."""
    tail = b""
    for data in body_chunks(url, path, body):
        *complete, tail = (tail + data).split(b"\n") if tail else data.split(b"\n")
        yield from complete


def body_chunks(url: str, path: str, body: bytes) -> Iterator[bytes]:
    """Send a POST request and yield the body of the response, one HTTP chunk at a time."""
    parsed = urlsplit(url)
    sock, file = _connections.pop(parsed.netloc, None) or connect(url)
    head = (
        f"POST {parsed.path}{path} HTTP/1.1\r\nHost: {parsed.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    sock.sendall(head.encode() + body)
    headers = b"".join(iter(file.readline, b"\r\n")).lower()
    if b"\nconnection: close" in headers and b"chunked" not in headers:
        with sock, file:
            while data := cast("bytes", file.read1(65536)):  # type: ignore[attr-defined]
                yield data
        return
    decompressor = zlib.decompressobj(31) if b"gzip" in headers else None
    while size := int(file.readline(), 16):
        data = file.read(size)
        file.readline()
        yield decompressor.decompress(data) if decompressor else data
    file.readline()
    if b"\nconnection: close" in headers:
        sock.close()
    else:
        _connections[parsed.netloc] = sock, file


def connect(url: str) -> tuple[socket.socket, BinaryIO]:
    """Return a new connection and a buffered reader for it."""
    parsed = urlsplit(url)
    assert parsed.hostname
    sock = socket.create_connection((parsed.hostname, parsed.port))
    if parsed.scheme == "https":
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parsed.hostname)
    return sock, sock.makefile("rb")
