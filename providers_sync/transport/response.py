"""``Response``: the status and headers of an HTTP response, and its body, read as it arrives."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from typing import Any

import requests
import urllib3.exceptions

from ..clock import monotonic
from ..config import DRAIN_S, ERROR_BODY_BYTES
from ..errors import APITimeoutError, MalformedStream, ProviderError, StreamCut
from .attempt import AttemptStopped, RequestAttempt
from .borrowed_socket import OWN_CODINGS, BorrowedSocket, find_socket
from .errors import describe_error, quote_error
from .framing import BodyReader, set_kernel_timeout
from .gzip_body import GzipBodyReader
from .raw_body import RawBodyReader


class Response:
    """One HTTP response, whose headers have arrived and whose body is read as it arrives."""

    def __init__(self, response: requests.Response, attempt: RequestAttempt) -> None:
        self._response = response
        self._raw: Any = getattr(response, "raw", None)
        self._attempt = attempt
        self._coding = response.headers.get("Content-Encoding", "identity").lower()
        self._is_own_socket = attempt.response is not None
        http, sock = attempt.response, attempt.socket
        self._borrowed: BorrowedSocket | None = None
        """The socket, if it belongs to the caller's own session."""
        if http is None and sock is None and (found := find_socket(response, self._coding)):
            http, self._borrowed = found
            sock = self._borrowed.socket
            attempt.track_socket(sock)
        self._framing = BodyReader(http, sock) if http is not None and http.fp else None
        self._body: BodyReader | GzipBodyReader | RawBodyReader = RawBodyReader(response)
        """Decodes framing and compression."""
        if self._framing is not None and self._coding in OWN_CODINGS:
            self._body = GzipBodyReader(self._framing) if self._coding == "gzip" else self._framing
        self._read_count = 0
        self.status = int(response.status_code)
        self._is_framing_unambiguous = http is not None and _is_framing_unambiguous(http)
        self.reason = str(response.reason or "")
        self.url = str(response.url).partition("?")[0]
        """Without the query, which may contain a key."""
        self.headers = response.headers
        """Names are case-insensitive."""

    def header(self, *names: str) -> str | None:
        """Return the value of the first of these headers that is present."""
        return next((self.headers[name] for name in names if name in self.headers), None)

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty if the header is missing."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    @property
    def request_id(self) -> str | None:
        """The server's ID of this request, to quote to its support."""
        return self.header("x-request-id", "request-id")

    def read_available(self) -> bytes:
        """Return what arrived with the headers, without waiting; ``b""`` does not mean the end.

        Raises what ``read`` raises.
        """
        return self._read(self._body.read_available) if isinstance(self._body, BodyReader) else b""

    def read(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; ``b""`` at the end.

        Raises ``StreamCut``, ``MalformedStream`` (broken compression), ``APITimeoutError`` (total
        timeout) or ``AttemptStopped``.
        """
        self._read_count += 1
        if self._read_count == 2 and self._is_own_socket:  # a short body needs only one read
            set_kernel_timeout(self._attempt.socket, self._attempt.read_s)
        return self._read(self._body.read)

    def _read(self, read: Callable[[], bytes]) -> bytes:
        try:
            data = read()
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError, BlockingIOError) as error:
            raise self._timeout_error() from error
        except MalformedStream:  # a ValueError, too
            raise
        except (urllib3.exceptions.DecodeError, zlib.error) as error:
            self._attempt.raise_if_stopped()
            raise MalformedStream("the compressed body is broken") from error
        except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            self._attempt.raise_if_stopped()
            raise StreamCut(
                f"the connection broke during the answer: {describe_error(error)}"
            ) from error
        except (AttributeError, LookupError, RuntimeError, TypeError) as error:
            self._attempt.raise_if_stopped()
            raise MalformedStream(f"the body cannot be read: {quote_error(error)}") from error
        if not data:
            self._eof = True
        self._attempt.raise_if_stopped()
        return data

    # TEMPORARY
    @property
    def socket(self) -> Any:
        return self._attempt.socket if isinstance(self._body, BodyReader) else None

    @property
    def at_hand(self) -> bool:
        return not self._has_read_buffer or (
            hasattr(self.socket, "pending") and self.socket.pending() > 0
        )

    _has_read_buffer = False
    can_be_reused = True

    def receive(self) -> bytes | None:
        import ssl

        if self.socket is None:
            return self.read()
        if not self._has_read_buffer:
            self.socket.setblocking(False)
            self._has_read_buffer = True
            try:
                return self._read_now(True)
            except (BlockingIOError, ssl.SSLWantReadError):
                return None
        try:
            return self._read_now()
        except (BlockingIOError, ssl.SSLWantReadError):
            return None

    def _read_now(self, peek=False):
        import ssl

        try:
            if peek and not self._framing._response.fp.peek(1):
                self._framing._receive = self.socket.recv
                raise BlockingIOError
            return self._body._next() if not self._body.ended else b""
        except (BlockingIOError, ssl.SSLWantReadError):
            raise
        except (HTTPException, OSError) as error:
            raise StreamCut(
                f"the connection broke during the answer: {describe_error(error)}"
            ) from error

    @property
    def ended(self) -> bool:
        return self._body.ended or self._eof

    _eof = False

    def release(self):
        if self.socket is not None:
            self.socket.settimeout(1)
        self.return_connection()
        self.close()

    def abandon(self):
        import os

        if self.socket is not None:
            os.close(self.socket.detach())

    def _timeout_error(self) -> APITimeoutError:
        if self._is_own_socket or self._attempt.is_over():
            return APITimeoutError("the answer took longer than the total timeout", clock="total")
        return APITimeoutError(
            "the server sent nothing for longer than the connection of session= waits", clock="idle"
        )

    @property
    def has_ended(self) -> bool:
        """Whether the framing has marked the end of the body."""
        return self._body.ended

    def read_error(self, wait_s: float) -> bytes:
        """Return what arrives of an error response's body in ``wait_s`` seconds, at most 64 KiB."""
        received = bytearray()
        deadline = monotonic() + wait_s
        if self._framing is not None:
            self._framing.deadline = deadline
            if isinstance(self._body, RawBodyReader):
                # Not urllib3, which would wait as long as data trickles in.
                self._body = self._framing
        # OSError: the socket is already closed if the first read returned the complete body.
        with contextlib.suppress(ProviderError, OSError):
            while len(received) < ERROR_BODY_BYTES and (remaining_s := deadline - monotonic()) > 0:
                if self._framing is None and self._attempt.socket is not None:
                    self._attempt.socket.settimeout(remaining_s)
                if not (data := self._read(self._body.read)):
                    break
                received += data
        if self._framing is not None and self._coding not in OWN_CODINGS:
            return _inflate(bytes(received))
        return bytes(received[:ERROR_BODY_BYTES])

    def return_connection(self) -> None:
        """Return the connection to the pool, after a short read (``DRAIN_S``) of what remains.

        Only the end of the framing can follow the protocol's end marker: not worth a longer wait.
        """
        if self._framing is None or isinstance(self._body, RawBodyReader):
            return
        sock = getattr(getattr(self._raw, "connection", None), "sock", None)
        if sock is not None and not self.has_ended:
            self._framing.deadline = monotonic() + DRAIN_S  # even if data trickles in
            with contextlib.suppress(ProviderError, AttemptStopped, OSError):
                self._read(self._body.read)
        if self._is_framing_unambiguous and self._body.is_reusable():
            self._body.close()
            self._attempt.read_to_end = True
            if self._borrowed is not None:
                self._borrowed.restore()
            self._attempt.release_socket()  # a late stop must not hit the connection's next user
            self._raw.release_conn()

    def close(self) -> None:
        """Release everything; if the body was not read to its end, close the connection."""
        # AttributeError: a mock's response may have no body, or one without close().
        ignored = (OSError, urllib3.exceptions.HTTPError, HTTPException, AttributeError)
        with contextlib.suppress(*ignored):
            self._response.close()


def _inflate(data: bytes) -> bytes:
    """Decompress ``deflate``, with or without zlib's header; return nothing for other codings."""
    for window in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(window).decompress(data, ERROR_BODY_BYTES)
    return b""


def _is_framing_unambiguous(http: HTTPResponse) -> bool:
    """Return whether the end of the body is unambiguous (RFC 9112, 6.3 and 11.2)."""
    lengths = set(http.msg.get_all("Content-Length", ()))
    codings = [coding.lower() for coding in http.msg.get_all("Transfer-Encoding", ())]
    if http.status < 200 or http.status in (204, 304):  # some servers send a body with these anyway
        return False
    if codings:  # not defined in HTTP/1.0
        return codings == ["chunked"] and http.version >= 11 and not lengths
    return len(lengths) == 1 and all(length.strip().isdecimal() for length in lengths)
