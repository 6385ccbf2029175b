"""Bodies of HTTP/1.1 responses, sans I/O: chunked, with a length, or up to the connection's end.

``feed`` takes what one read of the socket returned, and returns the payload in it. Headers that
leave any doubt about the end of a body are refused: http.client guesses, and a part of an answer
would pass for all of it. Reference: RFC 9112, sections 6, 7 and 11.
"""

from __future__ import annotations

import email.errors
import re
from http.client import HTTPResponse

from ..errors import MalformedStream, StreamCut

MAX_TRAILERS = 100
"""The limit of http.client for the number of headers."""

_TEXT = rb"[^\n]{0,8192}"
"""Of a chunk's extension or a trailer: as much as most servers allow in a header line."""
_SIZE = rb"0{0,99}([0-9a-fA-F]{1,16})[ \t]{0,99}(?:;%b)?" % _TEXT
_SIZE_LINE = re.compile(rb"%b\r?\n" % _SIZE)
_END_AND_SIZE = re.compile(rb"\r\n%b\r?\n" % _SIZE)
"""After the line end that ends a chunk, which no byte of a chunk that is too long can pass for."""
_TRAILER = re.compile(rb"(?:[!#-'*+.^-z|~A-Z0-9-]{1,99}:%b|(\r?))\n" % _TEXT)
"""The empty line after the last one has a group. Without the colon, text could hide there."""
_INCOMPLETE_SIZE = re.compile(rb"(?:\r?|(?:\r\n)?(?:%b)?\r?)" % _SIZE)
_INCOMPLETE_TRAILER = re.compile(rb"[^\n:]{0,99}(?::%b)?" % _TEXT)
_LENGTH = re.compile(r"0*[0-9]{1,18}")

_DROPPED_LINES = (
    email.errors.FirstHeaderLineIsContinuationDefect,
    email.errors.InvalidHeaderDefect,
    email.errors.MisplacedEnvelopeHeaderDefect,
    email.errors.MissingHeaderBodySeparatorDefect,
)
"""What Python's parser notes when it drops a header line, or all lines after one."""


class Body:
    """A body that ends with its connection; the base class of the others."""

    ended = False
    """Whether the end is proven and everything before it was returned."""
    is_clear = False
    """Whether another request can follow on the connection once the end is proven."""
    has_more = False
    """Whether ``feed(b"")`` returns more, or raises an error found after the last payload."""

    def feed(self, data: bytes) -> bytes:
        """Return the payload in ``data``, at most 64 KiB more than it; often none.

        Raises ``StreamCut`` for broken framing, ``MalformedStream`` for broken compression, always
        after the payload before the fault was returned.
        """
        return data

    def end(self) -> None:
        """Take note that the connection has ended; raise ``StreamCut`` if that is too early."""
        if not self.ended and type(self) is not Body:
            raise too_early()
        self.ended = True

    def is_reusable(self) -> bool:
        """Return whether another request can follow on the connection: the end leaves no doubt."""
        return False


class SizedBody(Body):
    """A body of ``length`` bytes."""

    def __init__(self, length: int, is_clear: bool = True) -> None:
        self._remaining = length
        self.is_clear = is_clear
        self.ended = not length

    def feed(self, data: bytes) -> bytes:
        payload = data[: self._remaining]
        self._remaining -= len(payload)
        self.ended = not self._remaining
        self.is_clear = self.is_clear and len(payload) == len(data)
        return payload

    def is_reusable(self) -> bool:
        return self.ended and self.is_clear


class ChunkedBody(Body):
    """A body in the chunked transfer coding."""

    def __init__(self, is_clear: bool = True) -> None:
        self.is_clear = is_clear
        self._rest = b""
        """An incomplete line; after the end, bytes that do not belong to this response."""
        self._remaining = 0
        """Bytes of the current chunk."""
        self._line = _SIZE_LINE
        """What the next line is."""
        self._trailers = 0
        self._error: StreamCut | None = None

    def feed(self, data: bytes) -> bytes:
        if self._error is not None:
            raise self._error
        data = self._rest + data
        parts = []
        position, size = 0, len(data)
        while position < size and not self.ended:
            if self._remaining:
                part = data[position : position + self._remaining]
                parts.append(part)
                position += len(part)
                self._remaining -= len(part)
                if not self._remaining and data.startswith(b"\r\n", position):
                    position += 2  # as _END_AND_SIZE does, but at once
                    self._line = _SIZE_LINE
            elif line := self._line.match(data, position):
                position = line.end()
                if self._line is _TRAILER:
                    self._read_trailer(line)
                    continue
                self._remaining = int(line[1], 16)
                self._line = _END_AND_SIZE if self._remaining else _TRAILER
            else:
                self._check_incomplete(data, position)
                break
        self._rest = data[position:]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def is_reusable(self) -> bool:
        return self.ended and self.is_clear and not self._rest

    def _read_trailer(self, line: re.Match[bytes]) -> None:
        self.ended = line[1] is not None
        self._trailers += 1
        if self._trailers > MAX_TRAILERS:
            self._fail()

    def _check_incomplete(self, data: bytes, position: int) -> None:
        pattern = _INCOMPLETE_TRAILER if self._line is _TRAILER else _INCOMPLETE_SIZE
        if not pattern.fullmatch(data, position):
            self._fail()

    def _fail(self) -> None:
        self._error = broken("its chunked encoding is invalid")
        self.has_more = True


def body_of(http: HTTPResponse) -> Body:
    """Return the body of a response whose headers http.client has read.

    Raises ``MalformedStream`` if its status is good and its headers leave a doubt where it ends. If
    the status is an error, that tells more than the body, which then ends with the connection.
    """
    try:
        return _framed(http)
    except MalformedStream:
        if 200 <= http.status < 300:
            raise
        return Body()


def _framed(http: HTTPResponse) -> Body:
    headers, payload = http.msg, http.msg.get_payload()
    if (isinstance(payload, str) and payload) or any(
        isinstance(defect, _DROPPED_LINES) for defect in headers.defects
    ):
        raise MalformedStream("the answer has a header line without a name and a colon")
    codings = [each.lower() for each in _items(http, "Transfer-Encoding")]
    lengths = _items(http, "Content-Length")
    if http.status < 200 or http.status in (204, 304):
        return SizedBody(0, is_clear=False)  # some servers send a body with these anyway
    if codings:
        if list(filter(None, codings)) != ["chunked"]:
            raise MalformedStream(f"the answer has an invalid transfer coding: {_quoted(codings)}")
        return ChunkedBody(is_clear=http.version >= 11 and not lengths)
    if not lengths:
        return Body()
    if not all(map(_LENGTH.fullmatch, lengths)):
        raise MalformedStream(
            f"the answer has the Content-Length {_quoted(lengths)}, which is not a number"
        )
    if len({int(each) for each in lengths}) > 1:
        raise MalformedStream(f"the answer has contradictory Content-Lengths: {_quoted(lengths)}")
    return SizedBody(int(lengths[0]))


def _items(http: HTTPResponse, name: str) -> list[str]:
    """Return the items of a header that is a list, from all its lines.

    Not ``str.strip()``, which removes more than HTTP's white space: some of it hides a coding.
    """
    lines = http.msg.get_all(name, [])
    return [item.strip(" \t\r\n") for line in lines for item in str(line).split(",")]


def _quoted(items: list[str]) -> str:
    return ascii(", ".join(items))[:100]


def broken(reason: str) -> StreamCut:
    """Return the error for a connection that breaks during the answer."""
    return StreamCut(f"the connection broke during the answer: {reason}")


def too_early() -> StreamCut:
    """Return the error for a body whose end is missing."""
    return broken("the body ended too early")
