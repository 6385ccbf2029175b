"""Parser for server-sent events (SSE); no other module imports sseclient.

Before ``SSEClient`` gets the bytes, ``split_events`` splits them into complete events with LF line
ends, without a BOM, in valid UTF-8 and within size limits. It drops an unterminated event at the
end, as the specification requires (WHATWG HTML, 9.2.6).
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
_event: Any = ServerSentEvent  # its type stub lacks the parameters


def split_events(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of each complete event, with the empty line that ends it.

    Raises ``MalformedStream`` above the size limits and ``StreamCut`` if the stream ends inside a
    character.
    """
    tail = bytearray()
    for data in _normalize_line_ends(_strip_bom(chunks)):
        searched = max(len(tail) - 1, 0)
        if tail:
            tail += data
            if tail.find(b"\n\n", searched) < 0:
                _check_size(tail)
                continue
            data = bytes(tail)
            tail.clear()
        *events, rest = data.split(b"\n\n")
        tail += rest
        data = b""  # keep no second copy of a large event
        for event in events:
            if event:
                yield _finish_event(event)
        _check_size(tail)
    if _ends_inside_character(tail):
        raise StreamCut("the stream ends inside a character")


def _strip_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Drop a byte order mark at the start, even if it is split between chunks."""
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


def _normalize_line_ends(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Convert CRLF and CR to LF; a CRLF split between two chunks is one line end."""
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


def _finish_event(event: bytes) -> bytes:
    """Check the limits, replace invalid UTF-8 and append the empty line."""
    _check_size(event)
    lines = event.count(b"\n") + 1
    if lines > EVENT_LINES:
        raise MalformedStream(f"an event has more than {EVENT_LINES} lines")
    if lines > 2 and lines * len(event) > EVENT_LINES_BYTES:
        raise MalformedStream(f"an event of {len(event)} bytes has too many lines: {lines}")
    if not event.isascii():
        event = event.decode("utf-8", "replace").encode("utf-8")
    return event + b"\n\n"


def _check_size(event: bytes | bytearray) -> None:
    if len(event) > EVENT_BYTES:
        raise MalformedStream(f"an event is larger than {EVENT_BYTES // 1024**2} MiB")


def _ends_inside_character(tail: bytes | bytearray) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(bytes(tail[-8:]))
    return bool(decoder.getstate()[0])


def parse_events(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """Yield the server-sent events of a byte stream (``.event``, ``.data``).

    Nearly all events consist of one ``data`` line, with or without an ``event`` line before it.
    They are parsed here: sseclient would take two thirds of the time spent on a chunk. It parses
    all others.
    """
    for lines in split_events(chunks):
        end = lines.find(b"\n")
        last = len(lines) - 2
        if end == last and lines.startswith(b"data: "):
            yield _event(data=lines[6:end].decode())
        elif (
            lines.startswith(b"event: ")
            and lines.startswith(b"data: ", end + 1)
            and (lines.find(b"\n", end + 1) == last)
        ):
            name = lines[7:end].decode() or "message"
            yield _event(event=name, data=lines[end + 7 : last].decode())
        else:
            yield from SSEClient(iter([lines])).events()
