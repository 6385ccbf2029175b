"""The server's response: headers at hand, the body read piece by piece."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from typing import Any

import requests
import urllib3.exceptions

from ..config import DRAIN_S, ERROR_BODY_BYTES, READ_BYTES
from ..errors import APITimeoutError, MalformedStream, ProviderError, StreamCut
from .call import Call, CallStopped
from .framing import BodyReader, set_kernel_timeout
from .gzip_body import GzipBodyReader
from .problems import describe_error


class Response:
    """The server's response: headers at hand, the body read piece by piece."""

    def __init__(self, response: requests.Response, call: Call) -> None:
        self._response = response
        self._raw: Any = response.raw
        self._call = call
        http = call.response
        self._coding = response.headers.get("Content-Encoding", "identity")
        self._framing = BodyReader(http, call.socket) if http is not None and http.fp else None
        self._body: BodyReader | GzipBodyReader | None = None
        """What takes framing and coding off; ``None`` where urllib3 does it."""
        if self._framing is not None and self._coding in ("identity", "gzip"):
            self._body = GzipBodyReader(self._framing) if self._coding == "gzip" else self._framing
        self._reads = 0
        self.status = int(response.status_code)
        self._is_framed = http is not None and _is_plainly_framed(http)
        self.reason = str(response.reason or "")
        self.url = str(response.url)
        self.headers = response.headers
        """By name, whatever its case."""

    def header(self, *names: str) -> str | None:
        """Return the first of these headers that is there."""
        return next((self.headers[name] for name in names if name in self.headers), None)

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty where none is given."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    @property
    def request_id(self) -> str | None:
        """The server's name for this request, for its support desk."""
        return self.header("x-request-id", "request-id")

    def read_available(self) -> bytes:
        """Return what has come with the headers, without waiting; ``b""`` says nothing.

        Raises what ``read`` raises.
        """
        return self._read(self._body.read_available) if isinstance(self._body, BodyReader) else b""

    def read(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; ``b""`` is the end.

        Raises ``StreamCut``, ``MalformedStream`` (broken compression) or ``CallStopped``.
        """
        self._reads += 1
        if self._reads == 2 and self._body is not None:  # a short answer is read at once
            set_kernel_timeout(self._call.socket, self._call.read_s)
        return self._read(self._read_any)

    def _read(self, read: Callable[[], bytes]) -> bytes:
        try:
            data = read()
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError, BlockingIOError) as error:
            raise APITimeoutError("no answer within the total time", clock="total") from error
        except (urllib3.exceptions.DecodeError, zlib.error) as error:
            self._call.raise_if_stopped()
            raise MalformedStream("the compressed body is broken") from error
        except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            self._call.raise_if_stopped()
            raise StreamCut(
                f"the connection broke in the answer: {describe_error(error)}"
            ) from error
        # A shutdown looks like a clean end, and real data may still arrive after it.
        self._call.raise_if_stopped()
        if not data and self._body is None and _is_unfinished(self._raw):
            raise StreamCut("the compressed body ends too early")
        return data

    def _read_any(self) -> bytes:
        body = self._body
        if body is None:
            compressed: bytes = self._raw.read1(READ_BYTES, decode_content=True)
            return compressed
        return body.read()

    @property
    def has_ended(self) -> bool:
        """Whether the framing has shown the body's end."""
        return self._body is not None and self._body.ended

    def read_error(self, wait_s: float) -> bytes:
        """Return what arrives of an error's body in ``wait_s`` seconds, 64 KiB at most."""
        received = bytearray()
        deadline = time.monotonic() + wait_s
        if self._framing is not None:
            self._framing.deadline = deadline
            self._body = self._body or self._framing  # urllib3 would wait as long as it drips
        # OSError: the socket is closed already where the first read has had the whole body.
        with contextlib.suppress(ProviderError, OSError):
            while len(received) < ERROR_BODY_BYTES and (left := deadline - time.monotonic()) > 0:
                if self._framing is None and self._call.socket is not None:
                    self._call.socket.settimeout(left)
                if not (data := self._read(self._read_any)):
                    break
                received += data
        if self._framing is not None and self._coding not in ("identity", "gzip"):
            return _inflated(bytes(received))
        return bytes(received[:ERROR_BODY_BYTES])

    def return_connection(self) -> None:
        """Give the connection back for the next request, reading on, briefly, if there is more.

        Behind the protocol's end marker comes the end of the framing; nobody waits for it.
        """
        if self._framing is None or self._body is None:
            return
        sock = getattr(getattr(self._raw, "connection", None), "sock", None)
        if sock is not None and not self.has_ended:
            self._framing.deadline = time.monotonic() + DRAIN_S  # whatever drips
            with contextlib.suppress(ProviderError, CallStopped, OSError):
                self._read(self._read_any)
        if self._is_framed and self._body.is_reusable():
            self._body.close()
            self._call.read_to_end = True
            self._raw.release_conn()

    def close(self) -> None:
        """Give everything back; a body not read to its end closes the connection."""
        with contextlib.suppress(OSError, urllib3.exceptions.HTTPError, HTTPException):
            self._raw.close()


def _inflated(data: bytes) -> bytes:
    """Return what ``deflate`` means, with zlib's header or without; nothing for other codings."""
    for window in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(window).decompress(data, ERROR_BODY_BYTES)
    return b""


def _is_plainly_framed(http: HTTPResponse) -> bool:
    """Tell whether nobody can take the body's end for another place (RFC 9112, 6.3 and 11.2)."""
    lengths = set(http.msg.get_all("Content-Length", ()))
    codings = [coding.lower() for coding in http.msg.get_all("Transfer-Encoding", ())]
    if http.status < 200 or http.status in (204, 304):  # where some servers send a body
        return False
    if codings:  # which HTTP/1.0 does not know
        return codings == ["chunked"] and http.version >= 11 and not lengths
    return len(lengths) == 1 and all(length.strip().isdecimal() for length in lengths)


def _is_unfinished(raw: Any) -> bool:
    """Tell whether a body of zlib's ended before its trailer; urllib3 does not mind."""
    member = getattr(getattr(raw, "_decoder", None), "_obj", None)
    return member is not None and not getattr(member, "eof", True) and not member.unused_data
