"""An answer played in memory: what a scripted provider has in place of connections.

All above it is the real thing: requests are prepared, answers decoded, errors named, attempts
repeated and clocks kept by the rooms that do it over the network. The script plays in the stream's
own thread, one move at a time, whenever that thread would read from its socket.
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
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from .. import transport
from ..errors import ProviderError
from . import player
from .answers import Answer, AnswerQueue, Script
from .connection import EVENT_POLL_S
from .encoders import Encoder, ScriptError
from .protocols import encoder_for, guess_protocol
from .records import Headers, Log, Request
from .step_types import Raw, Step

HEADER_BYTES = 64 * 1024
"""What http.client allows a header line."""


class InMemoryOutput:
    """The half of an ``Output`` that is the same before and inside the body: time."""

    def __init__(self, call: transport.Call, encoder: Encoder) -> None:
        self.encoder = encoder
        self.call = call
        self.timeout: float | None = None

    def pause(self, seconds: float | None) -> None:
        """Let time pass; ``CallStopped`` ends it, as does the timeout of an error's body."""
        limit = self.timeout
        if limit is not None and (seconds is None or seconds > limit):
            self.call.wait_for(_never, limit)
            raise TimeoutError("timed out")
        self.call.wait_for(_never, seconds)

    def stall(self) -> None:
        self.pause(None)

    def wait(self, event: threading.Event) -> None:
        while not event.is_set():
            self.pause(EVENT_POLL_S)

    def signal(self, event: threading.Event) -> None:
        event.set()

    def forever(self) -> None:
        pass


class InMemoryHead(InMemoryOutput):
    """An ``Output`` before the body: what is said here are header lines."""

    def __init__(self, call: transport.Call, encoder: Encoder) -> None:
        super().__init__(call, encoder)
        self.said = bytearray()

    def play(self, steps: Iterable[Step]) -> None:
        for step in steps:
            for move in step.substeps(self.encoder):
                self.call.raise_if_stopped()
                move.play(self)

    def body(self, data: bytes) -> None:
        self.said += data
        if len(self.said) > HEADER_BYTES:
            raise LineTooLong("header line")

    wire = body

    def hang_up(self, reset: bool) -> None:
        raise _reset() if reset else RemoteDisconnected("closed without an answer")

    def forget_interim(self) -> None:
        """Pass over what came before the status line: an interim answer, or no HTTP at all."""
        if self.said and not self.said.startswith(b"HTTP/1."):
            raise BadStatusLine("the answer does not begin with a status line")
        self.said.clear()

    def parsed(self) -> tuple[str, Headers]:
        """Return the status line's reason and the header fields."""
        first, *lines = self.said.decode("utf-8", "replace").split("\r\n")
        fields = (line.partition(":") for line in lines if line)
        headers = Headers([(name, value.strip()) for name, _, value in fields])
        return first.split(" ", 2)[2], headers


class InMemoryBody(InMemoryOutput):
    """An ``Output`` that is read: it plays the script until there is something to return."""

    def __init__(
        self,
        call: transport.Call,
        encoder: Encoder,
        answer: Answer,
        steps: Iterable[Step],
        size: int | None,
        secure: bool,
    ) -> None:
        super().__init__(call, encoder)
        self._moves = _moves(answer, steps, encoder)
        self._said = bytearray()
        self._left = size
        self._is_chunked = answer.framing == "chunked"
        # Over plain HTTP, and where no framing and no gzip trailer says otherwise, a cut is an end.
        self._may_just_end = answer.framing == "close" and not (secure or answer.gzip)
        self._is_broken = answer.gzip and not answer.trailer

    def read(self, size: int) -> bytes:
        """Return what has been said, playing on until it is at least one byte; ``b""`` ends it."""
        while not self._said and self._left != 0:
            self.call.raise_if_stopped()
            move = next(self._moves, None)
            if move is None:
                if self._is_broken or self._left:
                    raise IncompleteRead(b"")
                break
            move.play(self)
        data = bytes(self._said[:size])
        del self._said[:size]
        return data

    def body(self, data: bytes) -> None:
        if self._is_chunked and self._is_broken:
            raise IncompleteRead(b"")
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        self._said += data

    def wire(self, data: bytes) -> None:
        if self._is_chunked:  # bytes between the chunks are no framing any more
            self._is_broken = True
        else:
            self.body(data)

    def hang_up(self, reset: bool) -> None:
        if reset:
            raise _reset()
        if not self._may_just_end:
            raise IncompleteRead(b"")
        self._moves = iter(())


def _moves(answer: Answer, steps: Iterable[Step], encoder: Encoder) -> Iterator[Step]:
    for step in steps:
        yield from step.substeps(encoder)
    if answer.end:
        yield Raw(encoder.ending())


def _never() -> bool:
    return False


def _reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class InMemoryResponse:
    """What requests would return: the headers, and itself as the raw body and its socket."""

    def __init__(self, url: str, status: int, head: InMemoryHead, body: InMemoryBody) -> None:
        self.url = url
        self.status_code = status
        self.reason, self.headers = head.parsed()
        self.raw = self
        self.close: Callable[[], None] = lambda: None
        self.mistaken: Callable[[Exception], ProviderError]
        self._body = body

    def settimeout(self, seconds: float | None) -> None:
        self._body.timeout = seconds

    def read1(self, size: int, decode_content: bool) -> bytes:
        try:
            return self._body.read(size)
        except ScriptError as error:
            raise self.mistaken(error) from error


class InMemoryTransport(transport.Transport):
    """Answers every request from a script. It has no session: nothing can reach a network."""

    def __init__(self, script: Script, protocol: str | None) -> None:
        if protocol is not None:
            encoder_for(protocol)  # says at once what is wrong with the name
        self.log = Log(None)
        self.errors: list[Exception] = []
        self._protocol = protocol
        self.play(script)

    def play(self, script: Script) -> None:
        """Play another script from the next request on."""
        self._cues = AnswerQueue(script)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        call: transport.Call,
        *,
        proxy: str | Literal[False] | None = None,
        verify: bool | str = True,
    ) -> transport.Response:
        """Return the script's next answer once its headers are there; raises as over a network."""
        call.raise_if_stopped()
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection = self.log.opened()
        sent = Headers(list(headers.items()))
        request = self.log.received(connection, method, path, sent, body or b"")
        try:
            response = self._response(request, url, call)
        except BaseException:
            self.log.closed(connection)
            raise
        response.close = lambda: self.log.closed(connection)
        call.socket = cast(Any, response)
        return transport.Response(cast(Any, response), call)

    def _response(self, request: Request, url: str, call: transport.Call) -> InMemoryResponse:
        try:
            answer = self._cues.for_request(request)
            name = answer.protocol or self._protocol or guess_protocol(request.path, request.body)
            encoder = encoder_for(name)
        except Exception as error:
            raise self._mistaken(error) from error
        try:
            response = _begun(answer, url, call, encoder)
        except ScriptError as error:
            raise self._mistaken(error) from error
        except (OSError, HTTPException) as error:
            call.raise_if_stopped()
            raise transport.connection_error(error, url, call) from error
        response.mistaken = self._mistaken
        return response

    def _mistaken(self, error: Exception) -> ProviderError:
        """Note a mistake of the script itself; the error is one that no retry repeats."""
        self.errors.append(error)
        return ProviderError(f"the script is wrong: {type(error).__name__}: {error}")


def _begun(answer: Answer, url: str, call: transport.Call, encoder: Encoder) -> InMemoryResponse:
    """Play everything before the body, keeping the clocks informed."""
    secure = url.startswith("https:")
    head = InMemoryHead(call, encoder)
    if not secure:  # with TLS what is played at connecting belongs to the handshake
        call.connected()
    head.play(answer.connect)
    if secure:
        call.connected()
    call.sent()
    head.play(answer.before)
    head.forget_interim()
    kind, steps = player.body_of(answer, encoder)
    size = player.size_of(answer, steps, type(encoder)())
    block = player.head(answer, kind, size)
    if answer.head_every is not None:
        head.pause(answer.head_every * len(block))
    head.body(block)
    head.play(answer.inside)
    sized = answer.framing in ("length", "one-chunk") and not answer.gzip
    body = InMemoryBody(call, encoder, answer, steps, size if sized else None, secure)
    return InMemoryResponse(url, answer.status, head, body)
