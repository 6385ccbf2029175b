"""``Response``: the status and headers of an HTTP response, and its body, read as it arrives."""

from __future__ import annotations

import contextlib
import os
import selectors
from http.client import HTTPException, HTTPResponse
from typing import Any

import requests
import urllib3.exceptions

from ..clock import monotonic
from ..config import ERROR_BODY_BYTES, READ_BYTES
from ..errors import APITimeoutError, MalformedStream, ProviderError
from .attempt import AttemptStopped, RequestAttempt
from .errors import describe_error, quote_error
from .framing import Body, body_of, broken
from .inflating import inflated
from .raw_body import RawReader
from .socket_reader import WOULD_BLOCK, SocketReader, find_http
from .tls_errors import forget_tls_errors


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
        self.body = inflated(_framing(http), coding)
        self.socket: Any = self.reader.socket if self.reader.is_plain else None
        """A plain socket to wait for; ``None`` if ``receive`` waits itself."""
        self.ended = self.body.ended
        """Whether the end of the body is proven, and everything before it was returned."""
        self.at_hand = self.reader.at_hand
        """Whether ``receive`` may return something although its socket is silent."""
        self._peeked = b""

    def header(self, *names: str) -> str | None:
        """Return the value of the first of these headers that is present."""
        values = (self.headers.get(name) for name in names)
        return next((value for value in values if value is not None), None)

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty if the header is missing."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    @property
    def request_id(self) -> str | None:
        """The server's ID of this request, to quote to its support."""
        return self.header("x-request-id", "request-id")

    @property
    def can_be_reused(self) -> bool:
        """Whether the connection can serve another request after the end of the body."""
        return self.body.is_clear and self.reader.stays_open

    def receive(self) -> bytes | None:
        """Return what one read brings: ``None`` if nothing has arrived, ``b""`` for framing only.

        Without ``socket``, wait for at least one byte. Raises ``StreamCut``, ``MalformedStream``
        (broken compression), ``APITimeoutError`` or ``AttemptStopped``.
        """
        body, data = self.body, self._peeked
        if data:
            self._peeked = b""
            self.ended, self.at_hand = body.ended, body.has_more or self.reader.at_hand
            return data
        if body.ended:
            return b""
        if not body.has_more:
            try:
                data = self.reader.receive()
            except Exception as error:
                self.at_hand = False
                if isinstance(error, WOULD_BLOCK) and self.socket is not None:
                    return None
                forget_tls_errors()
                raise self._error(error) from error
        if data or body.has_more:
            data = body.feed(data)
        else:
            self._attempt.raise_if_stopped()  # a shutdown looks like a clean end
            body.end()
        self.ended, self.at_hand = body.ended, body.has_more or self.reader.at_hand
        return data

    def _error(self, error: Exception) -> Exception:
        """Return the error to raise for one of the connection's, or of a mock's code."""
        if isinstance(error, ProviderError):
            return error
        if self._attempt.stopped:
            return AttemptStopped()
        if isinstance(error, (urllib3.exceptions.ReadTimeoutError, TimeoutError)):
            return self._timeout_error()
        if isinstance(error, (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError)):
            return broken(describe_error(error))
        return MalformedStream(f"the body cannot be read: {quote_error(error)}")

    def _timeout_error(self) -> APITimeoutError:
        if self._attempt.is_over():
            return APITimeoutError("the answer took longer than the total timeout", clock="total")
        return APITimeoutError(
            "the server sent nothing for longer than the read timeout of session=", clock="idle"
        )

    def peek(self, wait_s: float) -> bytes:
        """Return the first bytes that are not white space, waiting for them at most ``wait_s``.

        ``receive`` returns them again. Raises what it raises.
        """
        received, deadline = b"", monotonic() + wait_s
        while not (received.strip() or self.body.ended or len(received) > READ_BYTES):
            data = self.receive()
            received += data or b""
            remaining_s = deadline - monotonic()
            if remaining_s <= 0 or (data is None and not _can_read(self.socket, remaining_s)):
                break
        if received:
            self._peeked, self.ended, self.at_hand = received, False, True
        return received.lstrip()

    def read_error(self, wait_s: float) -> bytes:
        """Return what arrives of an error response's body in ``wait_s`` seconds, at most 64 KiB."""
        received = bytearray()
        deadline = monotonic() + wait_s
        with contextlib.suppress(ProviderError):
            while len(received) < ERROR_BODY_BYTES and not self.ended:
                if (remaining_s := deadline - monotonic()) <= 0:
                    break
                self.reader.settimeout(remaining_s)
                received += self.receive() or b""
        return bytes(received[:ERROR_BODY_BYTES])

    def release(self) -> None:
        """Return the connection to its pool if the body was read to its end, else close it."""
        reader = self.reader
        if self.body.is_reusable() and reader.is_drained():
            reader.release()
            self._attempt.read_to_end = True
            self._attempt.release_socket()  # a late stop must not hit the connection's next user
            self._raw.release_conn()
        self.close()

    def close(self) -> None:
        """Release everything; if the body was not read to its end, close the connection."""
        if not self._attempt.read_to_end:
            self._attempt.stop()  # closing is not enough if a forked child has a copy of the socket
        with contextlib.suppress(Exception):  # the body may be that of a mock or an adapter
            self._response.close()

    def abandon(self) -> None:
        """Close the descriptors in a forked child; the parent goes on with what they refer to."""
        self._attempt.abandon()
        if self.reader.is_plain:
            with contextlib.suppress(OSError):
                os.close(self.reader.socket.detach())


def _can_read(sock: Any, wait_s: float) -> bool:
    """Return whether something arrives at a socket in ``wait_s`` seconds."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(wait_s))


def _framing(http: HTTPResponse | None) -> Body:
    """Return the body whose framing has been decided already, or is decided now."""
    found: Body | None = getattr(http, "framing", None)
    return Body() if http is None else found or body_of(http)
