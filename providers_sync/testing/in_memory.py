"""``InMemoryTransport``: plays a script without sockets; the transport of a scripted provider.

Everything above the transport is the normal code: it prepares requests, decodes answers, raises
errors, retries and enforces timeouts. The script runs in the request's thread, one step at a
time, whenever that thread would read from its socket.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import (
    BadStatusLine,
    HTTPException,
    IncompleteRead,
    LineTooLong,
    RemoteDisconnected,
)
from typing import Any, cast
from urllib.parse import urlsplit

from .. import transport
from ..errors import ProviderError
from . import player
from .answers import Answer, AnswerQueue, Script
from .base_encoders import Encoder, ScriptError
from .encoders import encoder_for, guess_protocol
from .records import Headers, Log, Request
from .step_types import Raw, Step
from .stoppable_socket import EVENT_POLL_S

HEADER_BYTES = 64 * 1024
"""http.client's limit for a header line."""


class InMemoryOutput:
    """The methods of an ``Output`` that wait; the same before and inside the body."""

    def __init__(self, attempt: transport.RequestAttempt, encoder: Encoder) -> None:
        self.encoder = encoder
        self.attempt = attempt
        self.timeout: float | None = None

    def pause(self, seconds: float | None) -> None:
        """Wait; raise ``AttemptStopped`` if the attempt is stopped.

        Raise ``TimeoutError`` when the timeout for an error's body expires.
        """
        limit = self.timeout
        if limit is not None and (seconds is None or seconds > limit):
            self.attempt.wait_for(_never, limit)
            raise TimeoutError("timed out")
        self.attempt.wait_for(_never, seconds)

    def stall(self) -> None:
        self.pause(None)

    def wait(self, event: threading.Event) -> None:
        while not event.is_set():
            self.pause(EVENT_POLL_S)

    def signal(self, event: threading.Event) -> None:
        event.set()

    def mark_endless(self) -> None:
        pass


class InMemoryHead(InMemoryOutput):
    """An ``Output`` for everything before the body: it collects header lines."""

    def __init__(self, attempt: transport.RequestAttempt, encoder: Encoder) -> None:
        super().__init__(attempt, encoder)
        self.data = bytearray()

    def play(self, steps: Iterable[Step]) -> None:
        for step in steps:
            for substep in step.substeps(self.encoder):
                self.attempt.raise_if_stopped()
                substep.play(self)

    def body(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > HEADER_BYTES:
            raise LineTooLong("header line")

    wire = body

    def disconnect(self, reset: bool) -> None:
        raise _reset() if reset else RemoteDisconnected("closed without an answer")

    def forget_interim(self) -> None:
        """Discard interim responses before the status line; raise ``BadStatusLine`` if not HTTP."""
        if self.data and not self.data.startswith(b"HTTP/1."):
            raise BadStatusLine("the answer does not begin with a status line")
        self.data.clear()

    def parsed(self) -> tuple[str, Headers]:
        """Return the reason phrase and the header fields."""
        first, *lines = self.data.decode("utf-8", "replace").split("\r\n")
        fields = (line.partition(":") for line in lines if line)
        headers = Headers([(name, value.strip()) for name, _, value in fields])
        return first.split(" ", 2)[2], headers


class InMemoryBody(InMemoryOutput):
    """An ``Output`` that can be read: it plays the script until there is data to return."""

    def __init__(
        self,
        attempt: transport.RequestAttempt,
        encoder: Encoder,
        answer: Answer,
        steps: Iterable[Step],
        size: int | None,
        secure: bool,
    ) -> None:
        super().__init__(attempt, encoder)
        self._substeps = _substeps(answer, steps, encoder)
        self._buffer = bytearray()
        self._remaining = size
        self._is_chunked = answer.framing == "chunked"
        # A cut is a valid end only over plain HTTP, without framing and without a gzip trailer.
        self._cut_is_end = answer.framing == "close" and not (secure or answer.gzip)
        self._is_broken = answer.gzip and not answer.trailer

    def read(self, size: int) -> bytes:
        """Play steps until there is at least one byte and return it; ``b""`` means the end."""
        while not self._buffer and self._remaining != 0:
            self.attempt.raise_if_stopped()
            substep = next(self._substeps, None)
            if substep is None:
                if self._is_broken or self._remaining:
                    raise IncompleteRead(b"")
                break
            substep.play(self)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def body(self, data: bytes) -> None:
        if self._is_chunked and self._is_broken:
            raise IncompleteRead(b"")
        if self._remaining is not None:
            data = data[: self._remaining]
            self._remaining -= len(data)
        self._buffer += data

    def wire(self, data: bytes) -> None:
        if self._is_chunked:  # bytes between the chunks break the framing
            self._is_broken = True
        else:
            self.body(data)

    def disconnect(self, reset: bool) -> None:
        if reset:
            raise _reset()
        if not self._cut_is_end:
            raise IncompleteRead(b"")
        self._substeps = iter(())


def _substeps(answer: Answer, steps: Iterable[Step], encoder: Encoder) -> Iterator[Step]:
    for step in steps:
        yield from step.substeps(encoder)
    if answer.end:
        yield Raw(encoder.ending())


def _never() -> bool:
    return False


def _reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class InMemoryResponse:
    """Stands in for a requests ``Response``; also for its raw body and its socket."""

    is_decoded = True
    """``gzip`` in its headers is as over a network, but the body is never compressed."""

    def __init__(self, url: str, status: int, head: InMemoryHead, body: InMemoryBody) -> None:
        self.url = url
        self.status_code = status
        self.reason, self.headers = head.parsed()
        self.raw = self
        self.close: Callable[[], None] = lambda: None
        self.script_error: Callable[[Exception], ProviderError]
        self._body = body

    def settimeout(self, seconds: float | None) -> None:
        self._body.timeout = seconds

    def read1(self, size: int) -> bytes:
        try:
            return self._body.read(size)
        except ScriptError as error:
            raise self.script_error(error) from error


class InMemoryTransport(transport.Transport):
    """Answers every request from a script. It has no session and never uses the network."""

    def __init__(self, script: Script, protocol: str | None) -> None:
        if protocol is not None:
            encoder_for(protocol)  # raises for an unknown name
        self.log = Log(None)
        self.errors: list[Exception] = []
        self._protocol = protocol
        self.play(script)

    def play(self, script: Script) -> None:
        """Play another script from the next request on."""
        self._answers = AnswerQueue(script)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        attempt: transport.RequestAttempt,
    ) -> transport.Response:
        """Play the next answer up to its headers and return it; errors are those of a network."""
        attempt.raise_if_stopped()
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection = self.log.opened()
        sent = Headers(list(headers.items()))
        request = self.log.received(connection, method, path, sent, body or b"")
        try:
            response = self._response(request, url, attempt)
            response.close = lambda: self.log.closed(connection)
            return transport.Response(cast(Any, response), attempt)
        except BaseException:
            self.log.closed(connection)
            raise

    def _response(
        self, request: Request, url: str, attempt: transport.RequestAttempt
    ) -> InMemoryResponse:
        try:
            answer = self._answers.for_request(request)
            name = answer.protocol or self._protocol or guess_protocol(request.path, request.body)
            encoder = encoder_for(name)
        except Exception as error:
            raise self._script_error(error) from error
        try:
            response = _open_response(answer, url, attempt, encoder)
        except ScriptError as error:
            raise self._script_error(error) from error
        except (OSError, HTTPException) as error:
            attempt.raise_if_stopped()
            raise transport.connection_error(error, url, attempt) from error
        response.script_error = self._script_error
        return response

    def _script_error(self, error: Exception) -> ProviderError:
        """Record a mistake in the script itself and return an error that is not retried."""
        self.errors.append(error)
        return ProviderError(f"the script is invalid: {type(error).__name__}: {error}")


def _open_response(
    answer: Answer, url: str, attempt: transport.RequestAttempt, encoder: Encoder
) -> InMemoryResponse:
    """Play everything before the body and report each phase to the attempt, for its timeouts."""
    secure = url.startswith("https:")
    head = InMemoryHead(attempt, encoder)
    if not secure:  # with TLS, ``connect`` steps are played during the handshake
        attempt.connected()
    head.play(answer.connect)
    if secure:
        attempt.connected()
    attempt.sent()
    head.play(answer.before)
    head.forget_interim()
    content_type, steps = player.body_of(answer, encoder)
    size = player.size_of(answer, steps, type(encoder)())
    block = player.head(answer, content_type, size)
    if answer.head_every is not None:
        head.pause(answer.head_every * len(block))
    head.body(block)
    head.play(answer.inside)
    has_size = answer.framing in ("length", "one-chunk") and not answer.gzip
    body = InMemoryBody(attempt, encoder, answer, steps, size if has_size else None, secure)
    return InMemoryResponse(url, answer.status, head, body)
