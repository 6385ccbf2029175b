"""Decompresses gzip and deflate bodies, sans I/O, in pieces of bounded size.

References: RFC 1952 (gzip: a body may consist of several members, and what follows the last is
padding), RFC 1950 and 1951 (deflate, with and without zlib's header).
"""

from __future__ import annotations

import zlib
from codecs import BOM_UTF8
from typing import Any

from ..config import READ_BYTES
from ..errors import MalformedStream, ProviderError
from .framing import Body, too_early

_EVENT_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_JSON_STARTS = (b'{"', b"{}", b'["', b"[{", b"[[", b"[]")
_STARTS = tuple(mark + start for mark in (b"", BOM_UTF8) for start in _EVENT_STARTS + _JSON_STARTS)
"""How an event stream or JSON starts, without its white space. Two bytes of JSON: one of them alone
is how brotli often starts."""
_START_BYTES = 64
"""After so much white space, a body is no longer taken for text."""
_CONTROL = bytes({*range(32), 127} - {*b"\t\n\r"})
_OTHER_NAMES = {"x-gzip": "gzip"}
_GZIP_MAGIC = b"\x1f\x8b"


def inflated(body: Body, content_encoding: str) -> Body:
    """Return ``body`` without the compression that ``Content-Encoding`` names."""
    names = (name.strip() for name in content_encoding.lower().split(","))
    codings = [_OTHER_NAMES.get(name, name) for name in names if name not in ("", "identity")]
    return InflatedBody(body, ", ".join(codings)) if codings and not body.ended else body


class InflatedBody(Body):
    """A compressed body, decompressed; an event stream or JSON is returned as it is.

    Some proxies decompress an answer and keep the header.
    """

    def __init__(self, body: Body, coding: str) -> None:
        self._body = body
        self.is_clear = body.is_clear
        self._coding = coding
        self._is_text: bool | None = None
        """``None`` until enough of the body is known."""
        self._member: Any = None
        """zlib's decompressor, of one gzip member."""
        self._is_padding = False
        self._rest = b""
        """What has been read but not yet decompressed."""
        self._is_holding = False
        """Whether ``_rest`` or zlib may hold more output than was returned."""
        self._error: ProviderError | None = None

    def feed(self, data: bytes) -> bytes:
        if self._error is not None:
            raise self._error
        if data or not self._is_holding:
            self._rest += self._body.feed(data)
        self._is_holding = False
        payload = self._next_payload() if self._rest or self._member is not None else b""
        if self._body.ended and not self._is_holding and self._error is None:
            self._error = self._error_at_end()
        self.has_more = self._is_holding or self._error is not None or self._body.has_more
        self.ended = self._body.ended and not self.has_more
        return payload

    def end(self) -> None:
        self._body.end()
        if error := self._error or self._error_at_end():
            raise error
        self.ended = True

    def is_reusable(self) -> bool:
        return self._body.is_reusable()

    def _next_payload(self) -> bytes:
        if self._is_text is None:
            self._is_text = _is_text(self._rest)
        if self._is_text is None:
            return b""
        if self._is_text or self._is_padding:
            payload, self._rest = self._rest, b""
            return b"" if self._is_padding else payload
        if self._member is None:
            self._start_member()
        elif self._member.eof:
            self._start_next_member()
        return b"" if self._member is None or self._member.eof else self._inflate()

    def _start_member(self) -> None:
        if self._coding == "gzip":
            self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        elif self._coding != "deflate":
            self._error = self._refusal()
        elif len(self._rest) > 1:
            has_header = self._rest[0] & 15 == 8 and int.from_bytes(self._rest[:2], "big") % 31 == 0
            self._member = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)

    def _start_next_member(self) -> None:
        self._rest = self._rest.lstrip(b"\0")
        if self._coding != "gzip" or not _GZIP_MAGIC.startswith(self._rest[:2]):
            self._is_padding = True
        elif len(self._rest) > 1:
            self._start_member()

    def _inflate(self) -> bytes:
        before = self._member.copy()
        try:
            payload: bytes = self._member.decompress(self._rest, READ_BYTES)
        except zlib.error as error:
            self._error = MalformedStream(f"the compressed body is broken ({self._coding})")
            self._error.__cause__ = error
            return _inflate_before_fault(before, self._rest)
        self._rest = self._member.unconsumed_tail or self._member.unused_data
        self._is_holding = bool(self._rest) or len(payload) == READ_BYTES
        return payload

    def _error_at_end(self) -> ProviderError | None:
        """Return the error if the body ends here, ``None`` if it is complete."""
        if self._is_text or self._is_padding:
            return None
        if self._coding not in ("gzip", "deflate"):
            return self._refusal()
        is_complete = self._member is not None and self._member.eof and not self._rest
        return None if is_complete else too_early()

    def _refusal(self) -> MalformedStream:
        return MalformedStream(
            f"the answer is compressed with {ascii(self._coding)[1:-1][:100]}, which is not "
            "supported; ask for identity, gzip or deflate in Accept-Encoding"
        )


def _is_text(data: bytes) -> bool | None:
    """Return whether a body that starts so is an event stream or JSON; ``None`` if unknown yet."""
    start = b"".join(data[:_START_BYTES].split())
    if start.startswith(_STARTS):
        return len(data.translate(None, _CONTROL)) == len(data)
    is_open = len(data) < _START_BYTES and any(each.startswith(start) for each in _STARTS)
    return None if is_open else False


def _inflate_before_fault(member: Any, data: bytes) -> bytes:
    """Return the output of ``data`` up to its fault; zlib returns none if there is a fault.

    ``member`` is the decompressor as it was before. Each step halves the part with the fault.
    """
    payload = b""
    size = len(data)
    while size > 1:
        half = size // 2
        after = member.copy()
        try:
            payload += after.decompress(data[:half])
        except zlib.error:
            size = half
        else:
            member, data, size = after, data[half:], size - half
    return payload
