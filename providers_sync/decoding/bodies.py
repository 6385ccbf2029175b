"""Decoders of a body in whichever format it comes: a stream, or whole JSON, or a web page."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from ..config import JSON_BYTES, LEADING_SPACE_BYTES
from ..errors import MalformedStream
from ..types import Citation, Delta, Extra, Finish, ServedModel

_HTML = re.compile(rb"<(!doctype\s+html|html|head|body)[\s>]", re.IGNORECASE)
_HTML_BYTES = 65
"""So many bytes from the ``<`` on tell a web page from text."""
_STREAM_START = re.compile(rb"(data|event|id|retry)?:|\[DONE\]")
"""How event streams start; JSON cannot."""
_STREAM_START_BYTES = 6
_SAY_NOTHING = (ServedModel, Extra, Citation)


class BodyDecoder:
    """Decodes one body; each protocol has a subclass. ``feed`` never raises: ``end`` does.

    A subclass appends to ``_deltas``, and sets ``ended`` at the end marker.
    """

    accepts_json = True
    """Whether a body without a telling content type may be JSON."""
    detects_pages = False
    """Whether a body of type ``text/html`` may be an answer, if it does not begin like a page."""

    def __init__(self, content_type: str = "") -> None:
        self.ended = False
        self.finished = False
        """Whether a finish reason is the last thing that was said, apart from usage."""
        self.resumed = False
        """Whether more was said after a finish reason."""
        self._says_something = False
        """Whether anything came that makes an answer: text, a call, a count, …"""
        self._deltas: list[Delta] = []
        self._error: Exception | None = None
        self._content_type = content_type
        self._format = "stream" if content_type == "text/event-stream" else ""
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Delta]:
        """Return the deltas of the events that ``data`` completes, up to a wrong one."""
        if self.ended:
            return []
        deltas = self._deltas = []
        try:
            if self._format != "stream":
                data = self._hold(data)
            if data:
                self._read_stream(data)
        except Exception as error:  # noqa: BLE001 (end() raises it, after these deltas)
            self._error, self.ended = error, True
        if deltas and not self._says_something:
            self._note_meaning(deltas)
        return deltas

    def end(self) -> list[Delta]:
        """Return what is still held, or raise the error of the body with it in ``deltas``."""
        deltas = self._deltas = []
        try:
            self._read_end()
        except Exception as error:
            vars(error)["deltas"] = deltas
            raise
        return deltas

    def _note_meaning(self, deltas: list[Delta]) -> None:
        self._says_something = not all(isinstance(delta, _SAY_NOTHING) for delta in deltas)

    def _hold(self, data: bytes, *, is_all: bool = False) -> bytes:
        """Keep a body that is JSON or of unknown format; return what can be read as a stream."""
        self._held += data
        if not self._format:
            self._format = self._detect_format(is_all)
            if self._format == "stream":
                data, self._held = bytes(self._held), bytearray()
                return data
        if len(self._held) > JSON_BYTES:
            raise MalformedStream(f"the JSON answer is larger than {JSON_BYTES // 1024**2} MiB")
        return b""

    def _detect_format(self, is_all: bool) -> str:
        """Return the format that the first bytes tell, empty if more of them are needed.

        The answer does not depend on how the bytes are split over calls.
        """
        start = self._held.lstrip().removeprefix(codecs.BOM_UTF8).lstrip()
        if len(self._held) - len(start) > LEADING_SPACE_BYTES:
            return "stream"
        if start.startswith(b"<"):
            more = b">" not in start and len(start) < _HTML_BYTES
        else:
            more = codecs.BOM_UTF8.startswith(start) or len(start) < _STREAM_START_BYTES
        if more and not is_all:
            return ""
        is_html = self._content_type == "text/html"
        if (is_html and start.startswith(b"<")) or (
            not self._content_type and _HTML.match(start[:_HTML_BYTES])
        ):
            raise MalformedStream("the server sent a web page instead of an answer; check base_url")
        if self._content_type.endswith("json"):
            return "stream" if _STREAM_START.match(start) else "json"
        return "json" if self.accepts_json and start.startswith(b"{") else "stream"

    def _read_end(self) -> None:
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback refers to this decoder
        if not self._format and not self.ended:
            self._read_stream(self._hold(b"", is_all=True))
        if self._format == "json":
            self._read_json(bytes(self._held))
        else:
            self._end_stream()

    def _read_json(self, body: bytes) -> None:
        """Read a whole answer in JSON, which is its own end marker."""
        raise NotImplementedError

    def _read_stream(self, data: bytes) -> None:
        raise NotImplementedError

    def _end_stream(self) -> None:
        """Finish a stream; ``ended`` says whether its end marker has come."""
        raise NotImplementedError


class WholeBody(BodyDecoder):
    """Decodes the response to a GET: its text is what ``read`` makes of the complete body."""

    def __init__(self, read: Callable[[bytes], str]) -> None:
        super().__init__()
        self._format = "json"
        self._read = read

    def _read_json(self, body: bytes) -> None:
        self._deltas += [self._read(body), Finish()]
