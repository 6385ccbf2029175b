"""The least that a client can do: a socket, the framing by hand, no clock, no check, no retry."""

from __future__ import annotations

import socket
import ssl
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast
from urllib.parse import urlsplit

_kept: dict[str, tuple[socket.socket, BinaryIO]] = {}


def lines(url: str, path: str, body: bytes) -> Iterator[bytes]:
    """Yield the lines of a POST's answer."""
    tail = b""
    for data in pieces(url, path, body):
        *whole, tail = (tail + data).split(b"\n") if tail else data.split(b"\n")
        yield from whole


def pieces(url: str, path: str, body: bytes) -> Iterator[bytes]:
    """Yield the body of a POST's answer, piece by piece as the framing has it."""
    place = urlsplit(url)
    sock, file = _kept.pop(place.netloc, None) or connect(url)
    head = (
        f"POST {place.path}{path} HTTP/1.1\r\nHost: {place.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    sock.sendall(head.encode() + body)
    headers = b"".join(iter(file.readline, b"\r\n")).lower()
    if b"\nconnection: close" in headers and b"chunked" not in headers:
        with sock, file:
            while data := cast("bytes", file.read1(65536)):  # type: ignore[attr-defined]
                yield data
        return
    press = zlib.decompressobj(31) if b"gzip" in headers else None
    while size := int(file.readline(), 16):
        data = file.read(size)
        file.readline()
        yield press.decompress(data) if press else data
    file.readline()
    if b"\nconnection: close" in headers:
        sock.close()
    else:
        _kept[place.netloc] = sock, file


def connect(url: str) -> tuple[socket.socket, BinaryIO]:
    """Return a new connection and its buffered side for reading."""
    place = urlsplit(url)
    assert place.hostname
    sock = socket.create_connection((place.hostname, place.port))
    if place.scheme == "https":
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=place.hostname)
    return sock, sock.makefile("rb")
