"""The body's framing, straight over http.client's buffer.

urllib3 and http.client pass every HTTP chunk through four calls and at times a system call, several
times what the chunk's own work is. Source of the framing: RFC 9112, sections 6 and 7.1.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import ssl
import struct
import sys
import time
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any

from ..config import READ_BYTES, SMALL_READ_BYTES

LINE_BYTES = 64 * 1024
"""What http.client allows a line of the framing."""
TRAILERS = 100
"""As many as http.client allows headers."""


class BodyReader:
    """The body of a response whose headers http.client has read; not for compressed ones."""

    def __init__(self, response: HTTPResponse, sock: Any) -> None:
        self._response = response
        self._socket = sock
        self._receive: Any = response.fp.read1
        self._chunks = _ChunkDecoder() if response.chunked else None
        self._left: int | None = None if response.chunked else response.length
        self.ended = self._left == 0
        """Whether the framing has shown the end."""
        self.deadline: float | None = None
        """When ``read`` gives up, on the monotonic clock, whatever arrives."""
        self._spilled = False
        self._has_read = False
        self._size = max(READ_BYTES, io.DEFAULT_BUFFER_SIZE)
        """Of the next read: memory is taken before the wait, in every stream that waits. The first
        one takes all that http.client's buffer holds (8 KiB; 128 KiB from Python 3.14 on), as the
        reading goes on behind it, at the socket."""

    def read(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; ``b""`` is the end.

        Raises ``IncompleteRead`` where the connection ends too early, ``HTTPException`` for broken
        framing, ``TimeoutError`` after ``deadline``, and what the socket raises.
        """
        while not self.ended:
            if data := self._next():
                return data
        return b""

    def read_available(self) -> bytes:
        """Return what has come with the headers, without waiting; ``b""`` says nothing.

        Only before the first ``read``. Raises what ``read`` raises. TLS cannot tell.
        """
        if self.ended or not _is_plain(self._socket):
            return b""
        wait_s = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            return self._next() if self._response.fp.peek(1) else b""
        finally:
            self._socket.settimeout(wait_s)

    def _next(self) -> bytes:
        """Return the payload of one read of the socket; ``b""`` where that brought framing only."""
        broken = self._chunks and self._chunks.broken
        if broken:
            raise broken
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._socket.settimeout(left)
        data: bytes = self._receive(self._size)
        self._receive = self._socket.recv  # what came with the headers is taken
        self._has_read = True
        self._size = READ_BYTES if len(data) >= SMALL_READ_BYTES else SMALL_READ_BYTES
        if self._chunks is not None:
            if not data:
                raise IncompleteRead(b"")
            data = self._chunks.feed(data)
            self.ended = self._chunks.ended
        elif self._left is not None:
            if not data:
                raise IncompleteRead(b"", self._left)
            self._spilled = len(data) > self._left
            data = data[: self._left]
            self._left -= len(data)
            self.ended = self._left == 0
        elif not data:
            self.ended = True
        return data

    def close(self) -> None:
        """Let go of the connection, which stays open."""
        self._response.close()

    def is_reusable(self) -> bool:
        """Tell whether the connection stands at the beginning of the next answer."""
        spilled = self._spilled if self._chunks is None else bool(self._chunks.rest)
        if spilled or not self.ended:
            return False
        # A plain socket is looked at again before its next use; what TLS holds does not show there.
        return (self._has_read and _is_plain(self._socket)) or self._holds_nothing()

    def _holds_nothing(self) -> bool:
        """Tell whether nothing has come behind what was read."""
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
    """Let ``sock`` wait ``read_s`` seconds in ``recv`` alone, which then raises BlockingIOError.

    A timeout of Python's own costs each read a ``poll``, and a turn of the interpreter's lock more:
    a fifth of a chunk's work where many streams run. TLS and foreign sockets keep to it.
    """
    if sys.platform == "linux" and _is_plain(sock):
        seconds, rest = divmod(read_s or 0, 1)
        timeval = struct.pack("ll", int(seconds), int(rest * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        sock.settimeout(None)
        if not os.get_blocking(sock.fileno()):  # gevent's
            sock.settimeout(read_s)


def clear_kernel_timeout(sock: Any) -> None:
    """Undo ``leave_time_to_kernel``: the next user of the connection may have other times."""
    if sys.platform == "linux" and _is_plain(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))


def _is_plain(sock: Any) -> bool:
    return isinstance(sock, socket.socket) and not isinstance(sock, ssl.SSLSocket)


class _ChunkDecoder:
    """Takes the chunked coding off, whatever pieces it comes in."""

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
        """A line that has begun; after the end, what does not belong to this answer."""
        self.broken: HTTPException | None = None
        self._left = 0
        self._trailers = 0
        self._line = self._size_line

    def feed(self, data: bytes) -> bytes:
        """Return the payload in ``data``; ``ended`` tells whether the last chunk has passed.

        What stands before a fault is returned, the fault stands in ``broken``.
        """
        if self.rest:
            data, self.rest = self.rest + data, b""
        pieces = []
        at, size = 0, len(data)
        while at < size and not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                continue
            end = data.find(b"\n", at)
            if end < 0 and size - at <= LINE_BYTES:
                break
            try:
                if end < 0:
                    raise ValueError("a line has no end")
                self._line(data[at:end])
            except ValueError:
                self.broken = HTTPException("the chunked coding is broken")
                break
            at = end + 1
        self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _size_line(self, line: bytes) -> None:
        self._left = int(line.partition(b";")[0], 16)
        if self._left < 0:
            raise ValueError("a chunk's size is below zero")
        self._line = self._line_after_chunk if self._left else self._trailer

    def _line_after_chunk(self, line: bytes) -> None:
        if line.strip():
            raise ValueError("a chunk is longer than its size")
        self._line = self._size_line

    def _trailer(self, line: bytes) -> None:
        self.ended = not line.strip()
        self._trailers += 1
        if self._trailers > TRAILERS:
            raise ValueError("there are too many trailers")
