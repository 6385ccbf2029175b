"""``RawBodyReader``: reads a body whose framing this package does not read itself.

That is: a mocked response, one of an adapter of the user's own, or one with an unusual compression.
"""

from __future__ import annotations

import zlib
from http.client import HTTPResponse, IncompleteRead
from typing import Any

import requests
import urllib3.response

from ..config import READ_BYTES, SMALL_READ_BYTES
from ..errors import MalformedStream

_OPTIONAL_CODINGS = ("br", "zstd")
"""Compressions that urllib3 passes on as they are if their package is missing. It does so with
names that are no compression, too; those bodies are readable."""

_GZIP_START = 0x1F


class RawBodyReader:
    """Reads ``response.raw``, whatever it is, and decompresses it."""

    ended = False
    """The end of the framing is not known before ``read`` returns ``b""``."""

    def __init__(self, response: requests.Response) -> None:
        self._raw: Any = getattr(response, "raw", None)
        self._content: bytes | None = None
        content = vars(response).get("_content", False)
        if self._raw is None or content is not False:  # read by a hook, or set by a mock
            self._content = content or b""
        self._coding = coding = response.headers.get("Content-Encoding", "").lower()
        self._has_read = False
        if coding in ("", "identity", "gzip", "deflate"):
            self._raw = _without_urllib3(self._raw)
        self._is_urllib3 = isinstance(self._raw, urllib3.response.BaseHTTPResponse)
        decoders = urllib3.response.BaseHTTPResponse.CONTENT_DECODERS
        self._unreadable = coding if coding in _OPTIONAL_CODINGS and coding not in decoders else ""
        is_compressed = coding in ("gzip", "deflate") and not (
            self._is_urllib3 or getattr(self._raw, "is_decoded", False)
        )
        self._decompressor = zlib.decompressobj(32 + zlib.MAX_WBITS) if is_compressed else None

    def read(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; ``b""`` at the end.

        Raises ``MalformedStream`` for an unknown compression, ``IncompleteRead`` for one that ends
        too early, ``TypeError`` for a body that is not bytes, and what the body raises.
        """
        if self._content is not None:
            content, self._content = self._content, b""
            return _check_bytes(content)
        if self._unreadable:
            raise MalformedStream(
                f"the answer is compressed with {self._unreadable}, which urllib3 cannot read "
                "without another package; do not ask for it in Accept-Encoding"
            )
        if self._is_urllib3:
            return self._read_urllib3()
        while data := self._read_file():
            if not self._has_read and data[0] != _GZIP_START and self._coding == "gzip":
                self._decompressor = None  # decompressed by a mock, which keeps the header: vcrpy
            self._has_read = True
            if self._decompressor is None:
                return data
            if text := self._decompressor.decompress(data):
                return text
        if self._decompressor is not None and not self._decompressor.eof:
            raise IncompleteRead(b"")
        return b""

    def _read_urllib3(self) -> bytes:
        if hasattr(getattr(self._raw, "_fp", None), "read1"):
            data: bytes = self._raw.read1(READ_BYTES, decode_content=True)
        else:  # a mock's own file
            data = self._raw.read(SMALL_READ_BYTES, decode_content=True)
        if not data and _is_truncated(self._raw):
            raise IncompleteRead(b"")
        return data

    def _read_file(self) -> bytes:
        if hasattr(self._raw, "read1"):
            return _check_bytes(self._raw.read1(READ_BYTES))
        return _check_bytes(self._raw.read(SMALL_READ_BYTES))


def _without_urllib3(raw: Any) -> Any:
    """Return the file that a mock has wrapped in a response of urllib3, which expects more of it.

    A file that has only ``read`` is enough here.
    """
    is_urllib3 = isinstance(raw, urllib3.response.BaseHTTPResponse)
    file = getattr(raw, "_fp", None) if is_urllib3 else None
    return raw if file is None or isinstance(file, HTTPResponse) else file


def _check_bytes(data: Any) -> bytes:
    """Refuse the data of a mock that is not bytes: ``bytes()`` turns a number into zeros."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"it is {type(data).__name__}, not bytes")
    return bytes(data)


def _is_truncated(raw: Any) -> bool:
    """Return whether a zlib body ended before its trailer, which urllib3 does not report."""
    member = getattr(getattr(raw, "_decoder", None), "_obj", None)
    return member is not None and not getattr(member, "eof", True) and not member.unused_data
