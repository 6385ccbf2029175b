"""The base of decoders whose streams are lines of JSON (NDJSON)."""

from __future__ import annotations

import re

from ..config import EVENT_BYTES
from ..errors import MalformedStream
from .answers import VALUES_IN_EVENT, AnswerDecoder
from .json_nesting import JSONNesting
from .parsing import (
    SHOWN_CHARACTERS,
    decode_end,
    json_values,
    parse_json,
    short_repr,
    without_prefix,
)

_DONE = "[DONE]"
_BYTE_ORDER_MARK = "\ufeff"
_NO_VALUE = re.compile(r":|(event|id|retry):")
"""The other lines of an event, and comments of a proxy that turns lines into events."""


class LinesDecoder(AnswerDecoder):
    """Decodes lines of JSON; a subclass reads the values, and knows the end marker.

    A value may also stand on several lines, or several values on one, with or without ``data:``
    before them: proxies turn lines into events, and a single answer may be indented.
    """

    detects_pages = True

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._line = bytearray()
        """The beginning of a line."""
        self._value = bytearray()
        """The lines of a value that is not complete."""
        self._nesting = JSONNesting()

    def _detect_format(self, is_all: bool) -> str:
        found = super()._detect_format(is_all)
        return "stream" if found == "json" else found

    def _read_stream(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._line += line
            text, self._line = self._line.decode("utf-8", "replace"), bytearray()
            self._read_line(text)
            if self.ended:
                return
        self._line += rest
        self._check_size(len(self._line))

    def _check_size(self, size: int) -> None:
        if size > EVENT_BYTES:
            raise MalformedStream(f"an event is larger than {EVENT_BYTES // 1024**2} MiB")

    def _read_line(self, line: str) -> None:
        """Read a line: a value, a part of one, or the server's words."""
        line = line.strip().removeprefix(_BYTE_ORDER_MARK).removeprefix("data:").lstrip()
        if not line or line == _DONE or (not self._value and _NO_VALUE.match(line)):
            return
        if not self._value:
            if line[0] not in "{[":
                self._words = f"{self._words} {line}".strip()[:SHOWN_CHARACTERS]
                self._add_extra("line", line)
                return
            try:
                value = parse_json(line)
            except MalformedStream:
                pass
            else:
                self._read_value(value)
                return
        self._value += line.encode()
        self._value += b"\n"
        self._check_size(len(self._value))
        if self._nesting.feed(line):
            text = self._value.decode().rstrip("\n")
            self._value, self._nesting = bytearray(), JSONNesting()
            self._read_values(text)

    def _read_values(self, text: str) -> None:
        """Read what stands on several lines, or several values that stand on one."""
        end = 0
        for count, (value, position) in enumerate(json_values(text)):
            end = position
            if count >= VALUES_IN_EVENT:
                raise MalformedStream(f"an event has more than {VALUES_IN_EVENT} values")
            self._read_value(value)
            if self.ended:
                return
        if rest := text[without_prefix(text, end) :]:
            raise MalformedStream(f"a line is not JSON: {short_repr(rest)}")

    def _read_json(self, body: bytes) -> None:
        self._read_stream(body)
        self._end_stream()

    def _end_stream(self) -> None:
        if not self.ended and self._line:
            self._read_line(decode_end(bytes(self._line)))
        if self._value and not self.ended:
            self._words = self._words or self._value[:SHOWN_CHARACTERS].decode("utf-8", "replace")
        self._check_end()
        self._conclude()
