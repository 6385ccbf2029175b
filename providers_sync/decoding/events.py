"""The base of the decoders whose streams are server-sent events with JSON.

Real servers put much else on the line: their words in lines that are no event, a whole JSON answer
in place of a stream, pings under any name, quotes around the end marker. Reading that is common to
all protocols.
"""

from __future__ import annotations

from typing import Any

from ..errors import MalformedStream, StreamCut, StreamTruncated
from .answers import VALUES_IN_EVENT, AnswerDecoder
from .parsing import SHOWN_CHARACTERS, json_values, parse_json, short_repr, without_prefix
from .server_errors import is_error_name, server_error
from .sse import BARE, EventParser

_PINGS = ("ping", "keepalive", "keep-alive", "heartbeat")
_SPECIAL_EVENTS = ("error", BARE, *_PINGS)
_DONE = ("[DONE]", "DONE")


class EventsDecoder(AnswerDecoder):
    """Decodes events with JSON; a subclass reads the values, and knows the end marker."""

    detects_pages = True  # what PHP relays send has the type of a page, unless somebody sets it

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._events = EventParser()

    def _restart(self, content_type: str) -> None:
        """Read another body, which goes on with the answer."""
        self._events = EventParser()
        self._content_type, self._held, self._error = content_type, bytearray(), None
        self._format = "stream" if content_type == "text/event-stream" else ""
        self.ended = False

    # --- reading a stream

    def _read_stream(self, data: bytes) -> None:
        for name, event in self._events.feed(data):
            if event[:1] == "{" and (name == "message" or name not in _SPECIAL_EVENTS):
                try:
                    value = parse_json(event)
                except MalformedStream:
                    if not self._read_values(name, event):
                        raise
                else:
                    if name == "message":  # nearly all
                        self._read_value(value)
                    else:
                        self._read_named_value(name, value)
            else:
                self._read_other_event(name, event)
            if self.ended:
                return
        if self._events.error:
            raise MalformedStream(self._events.error)

    def _read_other_event(self, name: str, event: str) -> None:
        """Read an event that has a name, or is not a JSON object."""
        word = event.strip().strip("\"'")
        if word in _DONE:
            self._read_done()
        elif name != "message" and is_error_name(name):
            raise server_error(event)
        elif name == BARE:
            self._read_bare_lines(event)
        elif word and word not in _PINGS and word[0] != ":":  # a comment in the place of data
            try:
                value = parse_json(event)
            except MalformedStream:
                if name != "message" and word[0] not in "{[":
                    self._add_extra(f"event.{name}", event)
                elif not self._read_values(name, event):
                    raise
            else:
                self._read_event_values(name, value)

    def _read_event_values(self, name: str, value: Any) -> int:
        """Read the JSON of an event, which may be a list of what others send one by one.

        Return how many values it has.
        """
        values = value if isinstance(value, list) else [value]
        if len(values) > VALUES_IN_EVENT:
            raise MalformedStream(f"an event has more than {VALUES_IN_EVENT} values")
        for each in values:
            if each is None or self.ended:
                continue
            if name == "message":
                self._read_value(each)
            elif isinstance(each, dict):
                if name not in _PINGS or each.keys() - {"type"}:
                    self._read_named_value(name, each)
            elif name not in _PINGS:
                self._add_extra(f"event.{name}", each)
        return max(len(values), 1)

    def _read_named_value(self, name: str, value: Any) -> None:
        """Read the JSON of an event that has a name, which most protocols do not use."""
        self._read_value(value)

    def _read_values(self, name: str, text: str) -> bool:
        """Read several values in one event: a server forgot empty lines, or sent ``data:`` twice.

        Return whether there are any.
        """
        if (rest := self._read_as_far_as_possible(name, text)) == text:
            return False
        if rest:
            raise MalformedStream(f"an event is not JSON: {short_repr(rest)}")
        return True

    def _read_as_far_as_possible(self, name: str, text: str) -> str:
        """Read value after value; return what is not JSON."""
        end = count = 0
        for value, position in json_values(text):
            end = position
            count += self._read_event_values(name, value)
            if count > VALUES_IN_EVENT:
                raise MalformedStream(f"an event has more than {VALUES_IN_EVENT} values")
            if self.ended:
                return ""
        rest = text[without_prefix(text, end) :]
        if rest.startswith(_DONE):
            self._read_done()
            return ""
        return rest

    def _read_done(self) -> None:
        self.ended = True

    def _read_bare_lines(self, text: str) -> None:
        """Read lines that are not events: the end marker, an error, JSON, or the server's words."""
        text = text.strip()
        if text in _DONE:
            self._read_done()
            return
        if text.startswith("error:"):
            raise server_error(text[len("error:") :].strip())
        if text[:1] in ("{", "["):
            text = self._read_as_far_as_possible("message", text)
        if text:
            self._words = f"{self._words} {text}".strip()[:SHOWN_CHARACTERS]
            self._add_extra("line", text)

    # --- the end

    def _read_json(self, body: bytes) -> None:
        """Read a whole answer; some gateways put the end marker of a stream behind it."""
        text = body.decode("utf-8-sig", "replace").strip()
        if text.endswith("[DONE]"):
            text = text.removesuffix("[DONE]").rstrip().removesuffix("data:")
        if not text:
            raise StreamTruncated("the answer is empty")
        try:
            answer = parse_json(text)
        except MalformedStream:
            if not self._read_values("message", text):  # a stream of JSON lines
                raise
            self._end_stream()
        else:
            if isinstance(answer, list) and len(answer) > 1:  # of what others stream
                self._read_event_values("message", answer)
                self._end_stream()
            else:
                self._read_answer(answer)

    def _end_stream(self) -> None:
        if not self.ended:
            self._read_rest()
        self._check_end()
        self._conclude()

    def _read_rest(self) -> None:
        """Read what came after the last empty line, unless it is only a part of an event."""
        try:
            events = self._events.end()
        except StreamCut:
            if self.finished and not self.resumed:
                return
            raise
        if self._events.error:
            raise MalformedStream(self._events.error)
        for name, event in events:
            try:
                self._read_other_event(name, event)
            except MalformedStream:
                self._words = self._words or event[:SHOWN_CHARACTERS]
