"""Playing one answer on a line: the header block, the framing, the steps, the end."""

from __future__ import annotations

import http
import threading
import zlib

from .answers import AUTO, Answer
from .line import Line
from .protocols import Speech
from .steps import ScriptError, Step

FOR_EVER_BYTES = 1 << 30
"""What a script without an end promises where a size must be promised."""


class HangUp(Exception):
    """A step ends the connection."""

    def __init__(self, reset: bool) -> None:
        self.reset = reset


class Bare:
    """An ``Out`` outside any body: whatever is sent goes straight onto the connection."""

    def __init__(self, line: Line, speech: Speech) -> None:
        self.line = line
        self.speech = speech

    def body(self, data: bytes) -> None:
        self.line.send(data)

    def wire(self, data: bytes) -> None:
        self.line.send(data)

    def pause(self, seconds: float) -> None:
        self.line.watch(seconds)

    def wait(self, event: threading.Event) -> None:
        self.line.hold(event)

    def stall(self) -> None:
        self.line.watch(None)

    def hang_up(self, reset: bool) -> None:
        raise HangUp(reset)

    def forever(self) -> None:
        pass


class Coding:
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


class Framed(Bare):
    """An ``Out`` inside a body."""

    def __init__(self, line: Line, speech: Speech, answer: Answer, size: int) -> None:
        super().__init__(line, speech)
        self._chunked = answer.framing == "chunked"
        self._one_chunk = answer.framing == "one-chunk"
        self._coding = Coding(answer)
        self._left = size

    def start(self) -> None:
        if self._one_chunk and self._left:  # a chunk of no bytes would be the last one
            self.line.send(b"%x\r\n" % self._left)

    def body(self, data: bytes) -> None:
        self._frame(self._coding.encode(data))

    def end(self) -> bool:
        """Close the framing; False if less or more was sent than promised."""
        self._frame(self._coding.end())
        if self._chunked:
            self.line.send(b"0\r\n\r\n")
        elif self._one_chunk and self._left == 0:
            self.line.send(b"\r\n0\r\n\r\n")
        return self._chunked or self._left == 0

    def _frame(self, data: bytes) -> None:
        if not data:  # an empty chunk would end the body
            return
        self._left -= len(data)
        self.line.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)


class EndlessError(Exception):
    """The measured script has no end."""


class Measure:
    """An ``Out`` that only counts the bytes of the body, as if nothing went wrong."""

    def __init__(self, speech: Speech, answer: Answer) -> None:
        self.speech = speech
        self.size = 0
        self._coding = Coding(answer)

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

    def stall(self) -> None:
        pass

    def hang_up(self, reset: bool) -> None:
        pass

    def forever(self) -> None:
        raise EndlessError
