"""Parser for server-sent events (SSE); no other module imports sseclient.

sseclient gets single complete events with LF line ends, without a BOM, in valid UTF-8 and within
size limits. Two things differ from the specification (WHATWG HTML, 9.2.6), because servers in
trouble put their words there: lines that are not fields of an event are not dropped, and neither is
an event at the end that lacks its empty line.
"""

from __future__ import annotations

import codecs
import re

from sseclient import SSEClient

from ..config import EVENT_BYTES, EVENT_LINES, EVENT_LINES_BYTES
from .parsing import decode_end

_BOM = codecs.BOM_UTF8
_CR = 13
_BARE_LINE = re.compile(r"^(?!(?:data|event|id|retry)?(?::|$))", re.MULTILINE)
_BETWEEN = re.compile(rb"(?<=\})\n(?=(?:data: ?)?\{)")
"""Where an event with JSON ends, and the next one begins, if the server sends no empty lines. It
cannot be inside an event: there is no comma between the two values."""
_BETWEEN_TEXT = re.compile(_BETWEEN.pattern.decode())
_BETWEEN_BYTES = 8
_UNNAMED = (b"data:", b"{")
"""How an event without a name begins; the name of another may hold for all its lines."""
_UNNAMED_TEXT = tuple(name.decode() for name in _UNNAMED)
_FIELD_NAMES = ("data", "event", "id", "retry")
BARE = ""
"""The name of an "event" of lines that are not fields."""


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
        if self._after_cr or _CR in data:
            data = self._normalize_line_ends(data)
        if self._tail or not data.endswith(b"\n\n"):
            data = self._take_complete(data)
        blocks = data.decode("utf-8", "replace").split("\n\n")
        if len(data) > EVENT_BYTES:
            blocks = self._within_limit(data, blocks)
        events: list[tuple[str, str]] = []
        for block in blocks:
            if block.startswith("data: ") and "\n" not in block:
                events.append(("message", block[6:]))
                continue
            if block.startswith(":") and "\n" not in block:  # a comment keeps a connection open
                continue
            name, _, line = block.rpartition("\n")
            if name.startswith("event: ") and line.startswith("data: ") and "\n" not in name:
                events.append((name[7:] or "message", line[6:]))
            elif block and not self._parse(block, events):
                break
        return events

    def _parse(self, block: str, events: list[tuple[str, str]]) -> bool:
        """Parse an unusual event; return whether it is within the limits."""
        block = block.lstrip("\n")
        if block.startswith(_UNNAMED_TEXT) and len(parts := _BETWEEN_TEXT.split(block)) > 1:
            return all(self._parse(part, events) for part in parts)
        if error := _too_many_lines(block):
            self.error = error
            return False
        bare = ""
        if _BARE_LINE.search(block):
            lines = block.split("\n")
            bare = "\n".join(line for line in lines if _BARE_LINE.match(line))
            if _BARE_LINE.match(lines[0]):
                events.append((BARE, bare))
                bare = ""
        source = iter([f"{block}\n\n".encode()])
        events += [(event.event, event.data) for event in SSEClient(source).events()]
        if bare and events and _is_begun(events[-1][1]):  # JSON with one ``data:`` before it
            events[-1] = (events[-1][0], f"{events[-1][1]}\n{bare}")
        elif bare:
            events.append((BARE, bare))
        return True

    def end(self) -> list[tuple[str, str]]:
        """Return what came after the last empty line, as events.

        Raises ``StreamCut`` if the stream has ended inside a character.
        """
        rest = self._start or bytes(self._tail)
        self._start, self._tail = None, bytearray()
        text = decode_end(rest)
        lines, _, last = text.rpartition("\n")
        if any(name.startswith(last) for name in _FIELD_NAMES):  # a cut line says nothing
            text = lines
        events: list[tuple[str, str]] = []
        self._parse(text, events)
        return events

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

    def _take_complete(self, data: bytes) -> bytes:
        """Return the complete events in the tail and ``data``; keep the rest as the tail."""
        tail = self._tail
        searched = max(len(tail) - _BETWEEN_BYTES, 0)
        tail += data
        end = tail.rfind(b"\n\n", searched) + 2
        complete = bytes(tail[:end]) if end > 1 else b""
        del tail[: len(complete)]
        if tail.startswith(b"\n"):  # an empty line after another
            del tail[:1]
        searched = 0 if complete else searched
        if tail.startswith(_UNNAMED) and _BETWEEN.search(tail, searched):
            more, _, rest = _BETWEEN.sub(b"\n\n", tail).rpartition(b"\n\n")
            complete += more + b"\n\n"
            self._tail = tail = bytearray(rest)
        self._check_size(tail)
        return complete

    def _within_limit(self, data: bytes, blocks: list[str]) -> list[str]:
        """Return the blocks, which are those of ``data``, before the first that is too large."""
        for index, block in enumerate(data.split(b"\n\n")):
            if not self._check_size(block):
                return blocks[:index]
        return blocks

    def _check_size(self, event: bytes | bytearray) -> bool:
        if len(event) > EVENT_BYTES:
            self.error = f"an event is larger than {EVENT_BYTES // 1024**2} MiB"
        return len(event) <= EVENT_BYTES


def _is_begun(data: str) -> bool:
    """Return whether a text is the beginning of JSON: more brackets are opened than closed."""
    return data[:1] in ("{", "[") and sum(map(data.count, "{[")) > sum(map(data.count, "}]"))


def _too_many_lines(block: str) -> str:
    """Return what is wrong with an event that sseclient would take too long to parse."""
    lines = block.count("\n") + 1
    if lines > EVENT_LINES:
        return f"an event has more than {EVENT_LINES} lines"
    if lines > 2 and lines * (size := len(block.encode())) > EVENT_LINES_BYTES:
        return f"an event of {size} bytes has too many lines: {lines}"
    return ""
