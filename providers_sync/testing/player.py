"""Playing one answer on a line: the header block, the framing, the steps, the end."""

from __future__ import annotations

import http
import threading
import zlib

from .answers import AUTO, Answer
from .connection import ClientConnection
from .encoders import Encoder
from .step_types import Raw, Step

FOR_EVER_BYTES = 1 << 30
"""What a script without an end promises where a size must be promised."""


class EndConnection(Exception):
    """A step ends the connection."""

    def __init__(self, reset: bool) -> None:
        self.reset = reset


class RawOutput:
    """An ``Output`` outside any body: whatever is sent goes straight onto the connection."""

    def __init__(self, line: ClientConnection, encoder: Encoder) -> None:
        self.line = line
        self.encoder = encoder

    def body(self, data: bytes) -> None:
        self.line.send(data)

    def wire(self, data: bytes) -> None:
        self.line.send(data)

    def pause(self, seconds: float) -> None:
        self.line.watch(seconds)

    def wait(self, event: threading.Event) -> None:
        self.line.hold(event)

    def signal(self, event: threading.Event) -> None:
        event.set()

    def stall(self) -> None:
        self.line.watch(None)

    def hang_up(self, reset: bool) -> None:
        raise EndConnection(reset)

    def forever(self) -> None:
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
    """An ``Output`` inside a body."""

    def __init__(self, line: ClientConnection, encoder: Encoder, answer: Answer, size: int) -> None:
        super().__init__(line, encoder)
        self._chunked = answer.framing == "chunked"
        self._one_chunk = answer.framing == "one-chunk"
        self._sized = self._one_chunk or answer.framing == "length"
        self._coding = ContentCoding(answer)
        self._size = self._left = size

    def start(self) -> None:
        if self._one_chunk and self._left:  # a chunk of no bytes would be the last one
            self.line.send(b"%x\r\n" % self._left)

    def body(self, data: bytes) -> None:
        self._frame(self._coding.encode(data))

    def end(self) -> bool:
        """Close the framing; False if the connection must end with it."""
        self._frame(self._coding.end())
        if self._chunked:
            self.line.send(b"0\r\n\r\n")
        elif self._one_chunk and self._left == 0:
            self.line.send(b"\r\n0\r\n\r\n" if self._size else b"0\r\n\r\n")
        return self._chunked or (self._sized and self._left == 0)

    def _frame(self, data: bytes) -> None:
        if not data:  # an empty chunk would end the body
            return
        self._left -= len(data)
        self.line.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)


class EndlessError(Exception):
    """The measured script has no end."""


class SizeCounter:
    """An ``Output`` that only counts the bytes of the body, as if nothing went wrong."""

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

    def hang_up(self, reset: bool) -> None:
        pass

    def forever(self) -> None:
        raise EndlessError


def play_answer(answer: Answer, line: ClientConnection, encoder: Encoder) -> bool:
    """Play a whole answer; True if the connection can be used again."""
    kind, steps = body_of(answer, encoder)
    size = size_of(answer, steps, type(encoder)())
    bare = RawOutput(line, encoder)
    for step in answer.before:
        step.play(bare)
    _send(line, head(answer, kind, size), answer.head_every)
    for step in answer.inside:
        step.play(bare)
    _send(line, b"\r\n", answer.head_every)
    framed = BodyOutput(line, encoder, answer, size)
    framed.start()
    for step in steps:
        step.play(framed)
    if answer.end:
        framed.body(encoder.ending())
    return framed.end() and answer.keep_alive


def play_connect(answer: Answer, line: ClientConnection, encoder: Encoder) -> None:
    """Play what comes before TLS and HTTP."""
    for step in answer.connect:
        step.play(RawOutput(line, encoder))


def body_of(answer: Answer, encoder: Encoder) -> tuple[str | None, tuple[Step, ...]]:
    """Return the content type and the steps of the body."""
    kind, steps = encoder.content_type, answer.steps
    if answer.body:
        kind, data = answer.body(encoder)
        steps = (Raw(data), *steps)
    return (kind if answer.content_type == AUTO else answer.content_type), steps


def size_of(answer: Answer, steps: tuple[Step, ...], encoder: Encoder) -> int:
    """Return the size that the framing promises, 0 where it promises none."""
    if answer.framing in ("chunked", "close"):
        return 0
    if answer.length is not None:
        return answer.length
    measure = SizeCounter(encoder, answer)
    try:
        for step in steps:
            step.play(measure)
    except EndlessError:
        return FOR_EVER_BYTES
    if answer.end:
        measure.body(encoder.ending())
    measure.end()
    return measure.size


def head(answer: Answer, kind: str | None, size: int) -> bytes:
    """Return the status line and the header lines, without the empty line behind them."""
    fields: dict[str, str | None] = {"Content-Type": kind}
    if answer.framing == "length":
        fields["Content-Length"] = str(size)
    elif answer.framing != "close":
        fields["Transfer-Encoding"] = "chunked"
    if answer.gzip:
        fields["Content-Encoding"] = "gzip"
    if answer.framing == "close" or not answer.keep_alive:
        fields["Connection"] = "close"
    for name, value in answer.headers.items():
        ours = next((key for key in fields if key.lower() == name.lower()), name)
        fields[ours] = value
    lines = [f"HTTP/1.1 {answer.status} {_reason(answer.status)}"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8")


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Overloaded" if status == 529 else "Unknown"


def _send(line: ClientConnection, data: bytes, every: float | None) -> None:
    if every is None:
        line.send(data)
        return
    for at in range(len(data)):
        line.send(data[at : at + 1])
        line.watch(every)
