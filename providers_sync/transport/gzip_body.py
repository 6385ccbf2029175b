"""Incremental decompression of gzip response bodies, in reads of bounded size.

urllib3 can do this too, at several times the cost when a server flushes after every event.
Reference: RFC 1952; a body may consist of several members, and what follows the last is padding.
"""

from __future__ import annotations

import zlib
from http.client import IncompleteRead
from typing import Any

from ..config import READ_BYTES
from .framing import BodyReader

_GZIP = 16 + zlib.MAX_WBITS


class GzipBodyReader:
    """Decompresses the gzip body that a ``BodyReader`` reads."""

    def __init__(self, body: BodyReader) -> None:
        self._body = body
        self._member = zlib.decompressobj(_GZIP)
        self._is_padding = False
        self._error: zlib.error | None = None
        self._rest = b""
        """What has been read but not yet decompressed."""
        self._has_more = False
        """Whether zlib may hold more output than it was allowed to return."""
        self.close = body.close
        self.is_reusable = body.is_reusable

    @property
    def ended(self) -> bool:
        """Whether the framing has marked the end and everything before it was returned."""
        return self._body.ended and not self._rest and not self._has_more

    def read(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; ``b""`` at the end.

        Raises ``zlib.error`` for invalid gzip, ``IncompleteRead`` if it ends too early, and what
        ``BodyReader.read`` raises.
        """
        while True:
            if self._error is not None:
                raise self._error
            data, self._rest = self._rest, b""
            if not data and not self._has_more:
                data = self._body.read()
                if not data:
                    if not self._member.eof and not self._is_padding:
                        raise IncompleteRead(b"")
                    return b""
            if text := self._decompress(data):
                return text

    def _decompress(self, data: bytes) -> bytes:
        if self._is_padding:
            return b""
        if is_new_member := self._member.eof:
            if not (data := data.lstrip(b"\0")):
                return b""
            self._member = zlib.decompressobj(_GZIP)
        copy = self._member.copy()
        try:
            text = self._member.decompress(data, READ_BYTES)
        except zlib.error:
            self._is_padding, self._has_more = is_new_member, False
            return b"" if is_new_member else self._decompress_before_error(copy, data)
        self._rest = self._member.unconsumed_tail or self._member.unused_data
        self._has_more = len(text) == READ_BYTES and not self._member.eof
        return text

    def _decompress_before_error(self, member: Any, data: bytes) -> bytes:
        """Return the output before the error in ``data``; zlib returns none if there is an error.

        ``member`` is the decompressor as it was before ``data``.
        """
        text = b""
        for position in range(len(data)):
            if len(text) >= READ_BYTES:
                self._member, self._rest = member, data[position:]
                break
            try:
                text += member.decompress(data[position : position + 1])
            except zlib.error as error:
                self._error = error
                break
        return text
