"""Readers for HTTP/1.1 response bodies: chunked, with a length, or up to the connection's end.

They read http.client's buffer and then the socket directly: urllib3 and http.client pass every HTTP
chunk through four calls and sometimes a system call, which costs several times the work for the
chunk itself. Reference: RFC 9112, sections 6 and 7.1.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import ssl
import struct
import sys
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any

from ..clock import monotonic
from ..config import READ_BYTES, SMALL_READ_BYTES

MAX_LINE_BYTES = 64 * 1024
"""The limit of http.client for a line of the chunked coding."""
MAX_TRAILERS = 100
"""The limit of http.client for the number of headers."""


class BodyReader:
    """Reads the body of a response whose headers http.client has read; decompresses nothing."""

    def __init__(self, response: HTTPResponse, sock: Any) -> None:
        self._response = response
        self._socket = sock
        self._receive: Any = response.fp.read1
        self._chunks = _ChunkDecoder() if response.chunked else None
        self._remaining: int | None = None if response.chunked else response.length
        self.ended = self._remaining == 0
        """Whether the framing has marked the end of the body."""
        self.deadline: float | None = None
        """When ``read`` times out, on the monotonic clock, even if data keeps arriving."""
        self._has_excess = False
        self._has_read = False
        self._size = max(READ_BYTES, io.DEFAULT_BUFFER_SIZE)
        """Bytes of the next read. ``recv`` allocates them before it waits, in every waiting stream.
        The first read must take everything in http.client's buffer (8 KiB; 128 KiB from Python
        3.14 on), because later reads bypass it and use the socket."""

    def read(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; ``b""`` at the end.

        Raises ``IncompleteRead`` if the connection ends too early, ``HTTPException`` for invalid
        framing, ``TimeoutError`` after ``deadline``, and what the socket raises.
        """
        while not self.ended:
            if data := self._next():
                return data
        return b""

    def read_available(self) -> bytes:
        """Return what arrived with the headers, without waiting; ``b""`` does not mean the end.

        Call it only before the first ``read``. Raises what ``read`` raises. Over TLS, always
        returns ``b""``.
        """
        if self.ended or not _is_plain_socket(self._socket):
            return b""
        wait_s = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            return self._next() if self._response.fp.peek(1) else b""
        finally:
            self._socket.settimeout(wait_s)

    def _next(self) -> bytes:
        """Return the payload of one read of the socket; ``b""`` if it contained framing only."""
        error = self._chunks and self._chunks.error
        if error:
            raise error
        if self.deadline is not None:
            remaining_s = self.deadline - monotonic()
            if remaining_s <= 0:
                raise TimeoutError("timed out")
            self._socket.settimeout(remaining_s)
        data: bytes = self._receive(self._size)
        self._receive = self._socket.recv  # http.client's buffer is empty now
        self._has_read = True
        self._size = READ_BYTES if len(data) >= SMALL_READ_BYTES else SMALL_READ_BYTES
        if self._chunks is not None:
            if not data:
                raise IncompleteRead(b"")
            data = self._chunks.feed(data)
            self.ended = self._chunks.ended
        elif self._remaining is not None:
            if not data:
                raise IncompleteRead(b"", self._remaining)
            self._has_excess = len(data) > self._remaining
            data = data[: self._remaining]
            self._remaining -= len(data)
            self.ended = self._remaining == 0
        elif not data:
            self.ended = True
        return data

    def close(self) -> None:
        """Release the connection, which stays open."""
        self._response.close()

    def is_reusable(self) -> bool:
        """Return whether the body was read exactly to its end, so that a new request can follow."""
        has_excess = self._has_excess if self._chunks is None else bool(self._chunks.rest)
        if has_excess or not self.ended:
            return False
        # urllib3 checks a plain socket before its next use, but cannot see data inside TLS.
        return (self._has_read and _is_plain_socket(self._socket)) or self._has_nothing_pending()

    def _has_nothing_pending(self) -> bool:
        """Return whether nothing has arrived after what was read."""
        wait_s = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            return not self._response.fp.peek(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                self._socket.settimeout(wait_s)


def set_kernel_timeout(sock: Any, read_s: float | None) -> None:
    """Let the kernel time out ``recv`` after ``read_s`` seconds, which raises BlockingIOError.

    With Python's own timeout, each read costs an extra ``poll`` and an extra release of the GIL: a
    fifth of the work for a chunk when many streams run. TLS and non-standard sockets keep it.
    """
    if sys.platform == "linux" and _is_plain_socket(sock):
        seconds, rest = divmod(read_s or 0, 1)
        timeval = struct.pack("ll", int(seconds), int(rest * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        sock.settimeout(None)
        if not os.get_blocking(sock.fileno()):  # gevent's socket
            sock.settimeout(read_s)


def clear_kernel_timeout(sock: Any) -> None:
    """Undo ``set_kernel_timeout``: the next user of the connection may have other timeouts."""
    if sys.platform == "linux" and _is_plain_socket(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))


def _is_plain_socket(sock: Any) -> bool:
    return isinstance(sock, socket.socket) and not isinstance(sock, ssl.SSLSocket)


class _ChunkDecoder:
    """Decodes the chunked transfer coding incrementally, however the data is split."""

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
        """An incomplete line; after the end, bytes that do not belong to this response."""
        self.error: HTTPException | None = None
        self._chunk_remaining = 0
        self._trailers = 0
        self._parse_line = self._parse_size

    def feed(self, data: bytes) -> bytes:
        """Return the payload in ``data``; ``ended`` becomes true after the last chunk.

        For invalid data, return the payload before it and set ``error``.
        """
        if self.rest:
            data, self.rest = self.rest + data, b""
        payload = []
        position, size = 0, len(data)
        while position < size and not self.ended:
            if self._chunk_remaining:
                part = data[position : position + self._chunk_remaining]
                payload.append(part)
                position += len(part)
                self._chunk_remaining -= len(part)
                continue
            end = data.find(b"\n", position)
            if end < 0 and size - position <= MAX_LINE_BYTES:
                break
            try:
                if end < 0:
                    raise ValueError("a line has no end")
                self._parse_line(data[position:end])
            except ValueError:
                self.error = HTTPException("the chunked coding is broken")
                break
            position = end + 1
        self.rest = data[position:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _parse_size(self, line: bytes) -> None:
        self._chunk_remaining = int(line.partition(b";")[0], 16)
        if self._chunk_remaining < 0:
            raise ValueError("a chunk's size is below zero")
        self._parse_line = self._parse_chunk_end if self._chunk_remaining else self._parse_trailer

    def _parse_chunk_end(self, line: bytes) -> None:
        if line.strip():
            raise ValueError("a chunk is longer than its size")
        self._parse_line = self._parse_size

    def _parse_trailer(self, line: bytes) -> None:
        self.ended = not line.strip()
        self._trailers += 1
        if self._trailers > MAX_TRAILERS:
            raise ValueError("there are too many trailers")
