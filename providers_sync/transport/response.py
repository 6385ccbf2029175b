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
        self._deadline: float | None = None
        """When reading times out, on the monotonic clock, even if data keeps arriving."""
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
            if self._deadline is not None:
                if (remaining_s := self._deadline - monotonic()) <= 0:
                    raise TimeoutError("timed out")
                self.reader.settimeout(remaining_s)
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
        # The shutdown in ``stop`` looks like a clean end, and data may still arrive after it.
        self._attempt.raise_if_stopped()
        return data

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
        self._deadline = monotonic() + wait_s
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
            self._deadline = monotonic() + DRAIN_S
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
