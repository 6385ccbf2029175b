"""Bytes → server-sent events; the only importer of sseclient.

A framer stands in front of ``SSEClient``: it yields one whole event at a time, with LF line ends,
without a BOM, as valid UTF-8, and within caps; an unterminated tail is withheld, because the
event-stream rules (WHATWG HTML, 9.2.6) say that an incomplete event is discarded.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Any

from sseclient import Event as ServerSentEvent
from sseclient import SSEClient

from ..config import EVENT_BYTES, EVENT_LINES, EVENT_LINES_BYTES
from ..errors import MalformedStream, StreamCut

_BOM = codecs.BOM_UTF8
_event: Any = ServerSentEvent  # its stub does not tell what it takes


def frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield each whole event of a byte stream as one piece that ends with an empty line.

    Raises ``MalformedStream`` beyond the caps and ``StreamCut`` at half a character.
    """
    tail = bytearray()
    for data in _lines_ended_by_lf(_without_bom(chunks)):
        seen = max(len(tail) - 1, 0)
        if tail:
            tail += data
            if tail.find(b"\n\n", seen) < 0:
                _check_size(tail)
                continue
            data = bytes(tail)
            tail.clear()
        *blocks, rest = data.split(b"\n\n")
        tail += rest
        data = b""  # a large event is in memory as rarely as can be
        for block in blocks:
            if block:
                yield _checked(block)
        _check_size(tail)
    if _half_character(tail):
        raise StreamCut("the stream ends inside a character")


def _without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Drop a byte order mark at the start, however it is split."""
    source = iter(chunks)
    head = b""
    for data in source:
        head += data
        if len(head) >= len(_BOM) or not _BOM.startswith(head):
            yield head.removeprefix(_BOM)
            yield from source
            return
    if head:
        yield head


def _lines_ended_by_lf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Turn CRLF and CR into LF; a pair split over two pieces is one line end."""
    after_cr = False
    for data in chunks:
        if after_cr and data.startswith(b"\n"):
            data = data[1:]
            after_cr = False
            if not data:
                continue
        if b"\r" in data:
            after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            after_cr = False
        yield data


def _checked(block: bytes) -> bytes:
    _check_size(block)
    lines = block.count(b"\n") + 1
    if lines > EVENT_LINES:
        raise MalformedStream(f"an event has more than {EVENT_LINES} lines")
    if lines > 2 and lines * len(block) > EVENT_LINES_BYTES:
        raise MalformedStream(f"an event of {len(block)} bytes has as many as {lines} lines")
    if not block.isascii():
        block = block.decode("utf-8", "replace").encode("utf-8")
    return block + b"\n\n"


def _check_size(block: bytes | bytearray) -> None:
    if len(block) > EVENT_BYTES:
        raise MalformedStream(f"an event is larger than {EVENT_BYTES // 1024**2} MiB")


def _half_character(tail: bytes | bytearray) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(bytes(tail[-8:]))
    return bool(decoder.getstate()[0])


def events(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """Yield the server-sent events of a byte stream (``.event``, ``.data``).

    Nearly all are one line of data, under its event's name or not: those need no parser, and it
    would take two thirds of a chunk's time. All others are sseclient's to read.
    """
    for frame in frames(chunks):
        end = frame.find(b"\n")
        last = len(frame) - 2
        if end == last and frame.startswith(b"data: "):
            yield _event(data=frame[6:end].decode())
        elif (
            frame.startswith(b"event: ")
            and frame.startswith(b"data: ", end + 1)
            and (frame.find(b"\n", end + 1) == last)
        ):
            name = frame[7:end].decode() or "message"
            yield _event(event=name, data=frame[end + 7 : last].decode())
        else:
            yield from SSEClient(iter([frame])).events()
