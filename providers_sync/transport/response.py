"""``Response``: the status and headers of an HTTP response, and its body, read as it arrives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

import requests
import urllib3.exceptions

from ..clock import monotonic
from ..config import DRAIN_S, ERROR_BODY_BYTES
from ..errors import APITimeoutError, MalformedStream, ProviderError
from .attempt import AttemptStopped, RequestAttempt
from .errors import describe_error, quote_error
from .framing import Body, body_of, broken
from .inflating import inflated
from .raw_body import RawReader
from .socket_reader import SocketReader, find_http


class Response:
    """One HTTP response, whose headers have arrived and whose body is read as it arrives.

    Raises ``MalformedStream`` if a good status comes with headers that do not tell where it ends.
    """

    def __init__(self, response: requests.Response, attempt: RequestAttempt) -> None:
        self._response = response
        self._raw: Any = getattr(response, "raw", None)
        self._attempt = attempt
        self.status = int(response.status_code)
        self.reason = str(response.reason or "")
        self.url = str(response.url).partition("?")[0]
        """Without the query, which may contain a key."""
        self.headers = response.headers
        """Names are case-insensitive."""
        if self.status == 206:
            raise MalformedStream("the server sent only a part of the answer (status 206)")
        http = find_http(response)
        self.reader = RawReader(response) if http is None else SocketReader(http)
        if isinstance(self.reader, SocketReader) and not attempt.is_tracking():
            attempt.track_socket(self.reader.socket)
        coding = "" if self.reader.is_decoded else response.headers.get("Content-Encoding", "")
        self.body = inflated(Body() if http is None else body_of(http), coding)

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
        if self.body.ended or not isinstance(self.reader, SocketReader):
            return b""
        return self.body.feed(self._receive(self.reader.receive_available))

    def read(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; ``b""`` at the end.

        Raises ``StreamCut``, ``MalformedStream`` (broken compression), ``APITimeoutError`` (total
        timeout) or ``AttemptStopped``.
        """
        body = self.body
        while not body.ended:
            data = b"" if (has_more := body.has_more) else self._receive(self.reader.receive)
            if not data and not has_more:
                body.end()
            elif payload := body.feed(data):
                return payload
        return b""

    def _receive(self, receive: Callable[[], bytes]) -> bytes:
        try:
            data = receive()
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError) as error:
            raise self._timeout_error() from error
        except ProviderError:
            raise
        except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            self._attempt.raise_if_stopped()
            raise broken(describe_error(error)) from error
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
        if self._attempt.is_over():
            return APITimeoutError("the answer took longer than the total timeout", clock="total")
        return APITimeoutError(
            "the server sent nothing for longer than the connection of session= waits", clock="idle"
        )

    @property
    def has_ended(self) -> bool:
        """Whether the framing has marked the end of the body."""
        return self.body.ended

    def read_error(self, wait_s: float) -> bytes:
        """Return what arrives of an error response's body in ``wait_s`` seconds, at most 64 KiB."""
        received = bytearray()
        self.reader.deadline = monotonic() + wait_s
        with contextlib.suppress(ProviderError):
            while len(received) < ERROR_BODY_BYTES and (data := self.read()):
                received += data
        return bytes(received[:ERROR_BODY_BYTES])

    def return_connection(self) -> None:
        """Return the connection to the pool, after a short read (``DRAIN_S``) of what remains.

        Only the end of the framing can follow the protocol's end marker: not worth a longer wait.
        """
        reader = self.reader
        if not isinstance(reader, SocketReader):
            return
        sock = getattr(getattr(self._raw, "connection", None), "sock", None)
        if sock is not None and not self.has_ended:
            reader.deadline = monotonic() + DRAIN_S  # even if data trickles in
            with contextlib.suppress(ProviderError, AttemptStopped):
                self.read()
        if self.body.is_reusable() and reader.is_drained():
            reader.release()
            self._attempt.read_to_end = True
            self._attempt.release_socket()  # a late stop must not hit the connection's next user
            self._raw.release_conn()

    def close(self) -> None:
        """Release everything; if the body was not read to its end, close the connection."""
        # AttributeError: a mock's response may have no body, or one without close().
        ignored = (OSError, urllib3.exceptions.HTTPError, HTTPException, AttributeError)
        with contextlib.suppress(*ignored):
            self._response.close()
