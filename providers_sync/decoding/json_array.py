"""Splits a JSON list that arrives in pieces into its values: Gemini without ``alt=sse``."""

from __future__ import annotations

import re

from ..config import EVENT_BYTES
from ..errors import MalformedStream

_MARK = re.compile(rb'\\.|["\[\]{}]', re.DOTALL)
_BETWEEN = b" \t\r\n,"


class ArrayParser:
    """Parses one list: bytes in, the JSON of each complete object or list in it out."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._searched = self._depth = 0
        self._in_string = False

    @property
    def is_inside_value(self) -> bool:
        """Whether a value has begun and is not complete."""
        return self._depth > 1

    def feed(self, data: bytes) -> list[bytes]:
        """Return the values that ``data`` completes.

        Raises ``MalformedStream`` for one that is larger than an event may be.
        """
        self._held += data
        values: list[bytes] = []
        begin = 0
        for mark in _MARK.finditer(self._held, self._searched):
            self._searched = mark.end()
            character = mark[0]
            if character == b'"':
                self._in_string = not self._in_string
            elif self._in_string or len(character) > 1:
                continue
            elif character in b"[{":
                self._depth += 1
                if self._depth == 1:
                    begin = mark.end()
            else:
                self._depth -= 1
                if self._depth == 1:
                    values.append(bytes(self._held[begin : mark.end()]).lstrip(_BETWEEN))
                    begin = mark.end()
        if not self._held.endswith(b"\\"):
            self._searched = len(self._held)
        del self._held[:begin]
        self._searched -= begin
        if len(self._held) > EVENT_BYTES:
            raise MalformedStream(f"an event is larger than {EVENT_BYTES // 1024**2} MiB")
        return values
