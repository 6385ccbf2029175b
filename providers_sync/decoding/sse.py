"""Parser for server-sent events (SSE); no other module imports sseclient.

sseclient gets single complete events with LF line ends, without a BOM, in valid UTF-8 and within
size limits. An unterminated event at the end is dropped, as the specification requires (WHATWG
HTML, 9.2.6).
"""

from __future__ import annotations

import codecs

from sseclient import SSEClient

from ..config import EVENT_BYTES, EVENT_LINES, EVENT_LINES_BYTES
from ..errors import MalformedStream, StreamCut

_BOM = codecs.BOM_UTF8


class EventParser:
    """Parses an event stream: bytes in, (name, data) of each complete event out.

    Nearly all events consist of one ``data`` line, with or without an ``event`` line before it.
    They are parsed here: sseclient would take two thirds of the time spent on an event. It parses
    all others.
    """

    def __init__(self) -> None:
        self.error = ""
        """What is wrong with an event beyond the limits; the events before it were returned."""
        self._start: bytes | None = b""
        """The first bytes, while they may be an incomplete BOM; then ``None``."""
        self._after_cr = False
        self._tail = bytearray()

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """Return the events that ``data`` completes, up to the first that is beyond the limits."""
        if self._start is not None:
            data = self._strip_bom(data)
        if self._after_cr or b"\r" in data:
            data = self._normalize_line_ends(data)
        events: list[tuple[str, str]] = []
        try:
            self._parse(data, events)
        except MalformedStream as error:
            self.error = str(error)
        return events

    def end(self) -> None:
        """Raise ``StreamCut`` if the stream has ended inside a character."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(bytes(self._start or self._tail[-8:]))
        if decoder.getstate()[0]:
            raise StreamCut("the stream ends inside a character")

    def _strip_bom(self, data: bytes) -> bytes:
        """Drop a byte order mark at the start, even if it is split between two calls."""
        data = (self._start or b"") + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(_BOM)

    def _normalize_line_ends(self, data: bytes) -> bytes:
        """Convert CRLF and CR to LF; a CRLF split between two calls is one line end."""
        if not data:
            return data
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _parse(self, data: bytes, events: list[tuple[str, str]]) -> None:
        tail = self._tail
        if tail:
            searched = len(tail) - 1
            tail += data
            if tail.find(b"\n\n", searched) < 0:
                _check_size(tail)
                return
            data = bytes(tail)
            tail.clear()
        *blocks, rest = data.split(b"\n\n")
        tail += rest
        del data  # keep no second copy of a large event
        for block in blocks:
            _check_size(block)
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(("message", block[6:].decode("utf-8", "replace")))
            elif block:
                events += _parse_lines(block)
        _check_size(tail)


def _parse_lines(block: bytes) -> list[tuple[str, str]]:
    """Return the events in the lines between two empty lines."""
    name, end, data = block.partition(b"\n")
    if end and name.startswith(b"event: ") and data.startswith(b"data: ") and b"\n" not in data:
        kind = name[7:].decode("utf-8", "replace") or "message"
        return [(kind, data[6:].decode("utf-8", "replace"))]
    lines = block.count(b"\n") + 1
    if lines > EVENT_LINES:
        raise MalformedStream(f"an event has more than {EVENT_LINES} lines")
    if lines > 2 and lines * len(block) > EVENT_LINES_BYTES:
        raise MalformedStream(f"an event of {len(block)} bytes has too many lines: {lines}")
    valid = block.decode("utf-8", "replace").encode()
    return [(event.event, event.data) for event in SSEClient(iter([valid + b"\n\n"])).events()]


def _check_size(event: bytes | bytearray) -> None:
    if len(event) > EVENT_BYTES:
        raise MalformedStream(f"an event is larger than {EVENT_BYTES // 1024**2} MiB")
