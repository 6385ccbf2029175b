"""A gzip body, decompressed as it comes, one read's worth at a time.

urllib3 does it too, at several times the cost where an answer is flushed after every event. Source
of the format: RFC 1952; a body may be several members, and what follows the last one is padding.
"""

from __future__ import annotations

import zlib
from http.client import IncompleteRead
from typing import Any

from ..config import READ_BYTES
from .framing import BodyReader

_GZIP = 16 + zlib.MAX_WBITS


class GzipBodyReader:
    """A ``Body`` whose bytes are gzip; those it gives are not."""

    def __init__(self, body: BodyReader) -> None:
        self._body = body
        self._member = zlib.decompressobj(_GZIP)
        self._is_padding = False
        self._broken: zlib.error | None = None
        self._rest = b""
        """What was read and not decompressed yet."""
        self._has_more = False
        """Whether zlib may hold more than it was allowed to give."""
        self.close = body.close
        self.is_reusable = body.is_reusable

    @property
    def ended(self) -> bool:
        """Whether the framing has shown the end, and all before it was given."""
        return self._body.ended and not self._rest and not self._has_more

    def read(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; ``b""`` is the end.

        Raises ``zlib.error`` where it is no gzip, ``IncompleteRead`` where it ends too early, and
        what ``Body.read`` raises.
        """
        while True:
            if self._broken is not None:
                raise self._broken
            data, self._rest = self._rest, b""
            if not data and not self._has_more:
                data = self._body.read()
                if not data:
                    if not self._member.eof and not self._is_padding:
                        raise IncompleteRead(b"")
                    return b""
            if text := self._decompressed(data):
                return text

    def _decompressed(self, data: bytes) -> bytes:
        if self._is_padding:
            return b""
        if is_next := self._member.eof:
            if not (data := data.lstrip(b"\0")):
                return b""
            self._member = zlib.decompressobj(_GZIP)
        spare = self._member.copy()
        try:
            text = self._member.decompress(data, READ_BYTES)
        except zlib.error:
            self._is_padding, self._has_more = is_next, False
            return b"" if is_next else self._before_fault(spare, data)
        self._rest = self._member.unconsumed_tail or self._member.unused_data
        self._has_more = len(text) == READ_BYTES and not self._member.eof
        return text

    def _before_fault(self, spare: Any, data: bytes) -> bytes:
        """Return what comes before a fault in ``data``; zlib gives nothing where there is one."""
        text = b""
        for at in range(len(data)):
            if len(text) >= READ_BYTES:
                self._member, self._rest = spare, data[at:]
                break
            try:
                text += spare.decompress(data[at : at + 1])
            except zlib.error as error:
                self._broken = error
                break
        return text
