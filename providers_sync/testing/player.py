"""Plays one answer on a connection: the header block, the framing, the steps, the end."""

from __future__ import annotations

import http
import threading
import zlib

from .answers import AUTO, Answer
from .base_encoders import Encoder
from .step_types import Raw, Step
from .stoppable_socket import StoppableSocket

ENDLESS_BYTES = 1 << 30
"""The size that an endless script promises where a size is required."""


class EndConnection(Exception):
    """Raised by a step that ends the connection."""

    def __init__(self, reset: bool) -> None:
        self.reset = reset


class RawOutput:
    """An ``Output`` outside any body: everything is sent directly on the connection."""

    def __init__(self, connection: StoppableSocket, encoder: Encoder) -> None:
        self.connection = connection
        self.encoder = encoder

    def body(self, data: bytes) -> None:
        self.connection.send(data)

    def wire(self, data: bytes) -> None:
        self.connection.send(data)

    def pause(self, seconds: float) -> None:
        self.connection.wait(seconds)

    def wait(self, event: threading.Event) -> None:
        self.connection.wait_for(event)

    def signal(self, event: threading.Event) -> None:
        event.set()

    def stall(self) -> None:
        self.connection.wait(None)

    def disconnect(self, reset: bool) -> None:
        raise EndConnection(reset)

    def mark_endless(self) -> None:
        pass


class ContentCoding:
    """The content coding of one body: none, or gzip flushed at every step."""

    def __init__(self, answer: Answer) -> None:
        self._gzip = zlib.compressobj(wbits=31) if answer.gzip else None
        self._trailer = answer.trailer

    def encode(self, data: bytes) -> bytes:
        if self._gzip is None or not data:
            return data
        return self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._gzip.flush() if self._gzip and self._trailer else b""


class BodyOutput(RawOutput):
    """An ``Output`` inside a body: it adds the content coding and the framing."""

    def __init__(
        self, connection: StoppableSocket, encoder: Encoder, answer: Answer, size: int
    ) -> None:
        super().__init__(connection, encoder)
        self._chunked = answer.framing == "chunked"
        self._one_chunk = answer.framing == "one-chunk"
        self._sized = self._one_chunk or answer.framing == "length"
        self._coding = ContentCoding(answer)
        self._size = self._remaining = size

    def start(self) -> None:
        if self._one_chunk and self._remaining:  # a chunk of 0 bytes would end the body
            self.connection.send(b"%x\r\n" % self._remaining)

    def body(self, data: bytes) -> None:
        self._frame(self._coding.encode(data))

    def end(self) -> bool:
        """Close the framing; return whether the connection can stay open."""
        self._frame(self._coding.end())
        if self._chunked:
            self.connection.send(b"0\r\n\r\n")
        elif self._one_chunk and self._remaining == 0:
            self.connection.send(b"\r\n0\r\n\r\n" if self._size else b"0\r\n\r\n")
        return self._chunked or (self._sized and self._remaining == 0)

    def _frame(self, data: bytes) -> None:
        if not data:  # an empty chunk would end the body
            return
        self._remaining -= len(data)
        self.connection.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)


class EndlessError(Exception):
    """Raised while measuring a script that has no end."""


class SizeCounter:
    """An ``Output`` that only counts the bytes of the body and ignores all faults."""

    def __init__(self, encoder: Encoder, answer: Answer) -> None:
        self.encoder = encoder
        self.size = 0
        self._coding = ContentCoding(answer)

    def body(self, data: bytes) -> None:
        self.size += len(self._coding.encode(data))

    def end(self) -> None:
        self.size += len(self._coding.end())

    def wire(self, data: bytes) -> None:
        pass

    def pause(self, seconds: float) -> None:
        pass

    def wait(self, event: threading.Event) -> None:
        pass

    def signal(self, event: threading.Event) -> None:
        pass

    def stall(self) -> None:
        pass

    def disconnect(self, reset: bool) -> None:
        pass

    def mark_endless(self) -> None:
        raise EndlessError


def play_answer(answer: Answer, connection: StoppableSocket, encoder: Encoder) -> bool:
    """Play a complete answer; return whether the connection can be used again."""
    content_type, steps = body_of(answer, encoder)
    size = size_of(answer, steps, type(encoder)())
    raw_output = RawOutput(connection, encoder)
    for step in answer.before:
        step.play(raw_output)
    _send(connection, head(answer, content_type, size), answer.head_every)
    for step in answer.inside:
        step.play(raw_output)
    _send(connection, b"\r\n", answer.head_every)
    body_output = BodyOutput(connection, encoder, answer, size)
    body_output.start()
    for step in steps:
        step.play(body_output)
    if answer.end:
        body_output.body(encoder.ending())
    return body_output.end() and answer.keep_alive


def play_connect(answer: Answer, connection: StoppableSocket, encoder: Encoder) -> None:
    """Play the ``connect`` steps, before TLS and HTTP."""
    for step in answer.connect:
        step.play(RawOutput(connection, encoder))


def body_of(answer: Answer, encoder: Encoder) -> tuple[str | None, tuple[Step, ...]]:
    """Return the content type and the steps of the body."""
    content_type, steps = encoder.content_type, answer.steps
    if answer.body:
        content_type, data = answer.body(encoder)
        steps = (Raw(data), *steps)
    return (content_type if answer.content_type == AUTO else answer.content_type), steps


def size_of(answer: Answer, steps: tuple[Step, ...], encoder: Encoder) -> int:
    """Return the size that the framing promises, 0 if it promises none."""
    if answer.framing in ("chunked", "close"):
        return 0
    if answer.length is not None:
        return answer.length
    counter = SizeCounter(encoder, answer)
    try:
        for step in steps:
            step.play(counter)
    except EndlessError:
        return ENDLESS_BYTES
    if answer.end:
        counter.body(encoder.ending())
    counter.end()
    return counter.size


def head(answer: Answer, content_type: str | None, size: int) -> bytes:
    """Return the status line and the header lines, without the empty line after them."""
    fields: dict[str, str | None] = {"Content-Type": content_type}
    if answer.framing == "length":
        fields["Content-Length"] = str(size)
    elif answer.framing != "close":
        fields["Transfer-Encoding"] = "chunked"
    if answer.gzip:
        fields["Content-Encoding"] = "gzip"
    if answer.framing == "close" or not answer.keep_alive:
        fields["Connection"] = "close"
    for name, value in answer.headers.items():
        existing = next((key for key in fields if key.lower() == name.lower()), name)
        fields[existing] = value
    lines = [f"HTTP/1.1 {answer.status} {_reason(answer.status)}"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8")


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Overloaded" if status == 529 else "Unknown"


def _send(connection: StoppableSocket, data: bytes, every: float | None) -> None:
    if every is None:
        connection.send(data)
        return
    for at in range(len(data)):
        connection.send(data[at : at + 1])
        connection.wait(every)
