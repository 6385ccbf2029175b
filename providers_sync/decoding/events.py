"""The base of the decoders whose streams are server-sent events with JSON.

Real servers put much else on the line: their words in lines that are no event, a whole JSON answer
in place of a stream, pings under any name, quotes around the end marker. Reading that is common to
all protocols, and so is what makes an answer complete.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ..errors import MalformedStream, StreamCut, StreamTruncated
from ..returned_messages import is_shallow
from ..types import Citation, Delta, Extra, Finish, ProtocolMessage, ServedModel, Usage
from .bodies import BodyDecoder
from .parsing import (
    SHOWN_CHARACTERS,
    SurrogateJoiner,
    is_empty,
    join_surrogates,
    json_text,
    json_values,
    parse_json,
    short_repr,
    without_prefix,
)
from .server_errors import is_error_name, is_failed_reason, server_error
from .sse import BARE, EventParser

_PINGS = ("ping", "keepalive", "keep-alive", "heartbeat")
_SPECIAL_EVENTS = ("error", BARE, *_PINGS)
_DONE = ("[DONE]", "DONE")
_NO_REASONS = ("null", "None")
"""How some servers write that there is no finish reason yet."""
_IS_CONTENT = re.compile(
    r"line$|content\[|choices\[\d+\](\.logprobs)?$|choices\[0\]\.delta\.(?!role$|name$)"
)
"""Places of extra values that are not repetitions where they are equal."""
_LAST_VALUES = 256
"""How many places of extra values are remembered, to tell those that repeat."""
VALUES_IN_EVENT = 100_000
"""How many values may stand in one event: they are all read in one turn."""
MESSAGE_BYTES = 16 * 1024 * 1024
"""Maximum size of what goes back to the protocol with the next request."""


class EventsDecoder(BodyDecoder):
    """Decodes events with JSON; a subclass reads the values, and knows the end marker."""

    protocol = ""
    end_marker = ""
    detects_pages = True  # what PHP relays send has the type of a page, unless somebody sets it

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._events = EventParser()
        self._text = SurrogateJoiner()
        self._model: str | None = None
        self._reason: str | None = None
        self._failure = ""
        self._words = ""
        """What the server said outside its protocol, for an error."""
        self._last_values: dict[str, Any] = {}

    # --- for a subclass to define

    def _read_value(self, value: Any) -> None:
        """Read the JSON of one event."""
        raise NotImplementedError

    def _read_answer(self, answer: Any) -> None:
        """Read a whole answer in JSON."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Append what the end of a whole answer completes, but not its ``Finish``."""
        raise NotImplementedError

    def _message_fields(self) -> dict[str, Any]:
        """Return what the protocol wants back with the next request, if anything."""
        return {}

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
        """Read an event that has a name, or is no JSON object."""
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
        """Read value after value; return what is no JSON."""
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
        """Read lines that are no event: the end marker, an error, JSON, or the server's words."""
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
        if not (self.ended or self.finished):
            self._flush_surrogates()
            raise StreamTruncated(
                f"the stream ended without its end marker ({self.end_marker}){self._quoted_words()}"
            )
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

    def _conclude(self) -> None:
        """Finish a whole answer."""
        self._flush_surrogates()
        self._raise_failure()
        self._finish()
        if not self._says_something:
            self._note_meaning(self._deltas)
        if not self._says_something and self._reason is None:
            raise StreamTruncated(f"the answer says nothing{self._quoted_words()}")
        fields = self._message_fields()
        if fields and _is_small_json(fields):
            self._deltas.append(ProtocolMessage(self.protocol, fields))
        self._deltas.append(Finish(self._reason))

    def _quoted_words(self) -> str:
        return f"; the server said: {join_surrogates(self._words)}" if self._words else ""

    def _flush_surrogates(self) -> None:
        if rest := self._text.end():
            self._deltas.append(rest)

    # --- shared by the protocols

    def _read_model(self, name: Any) -> None:
        if self._model is None and isinstance(name, str) and name.strip():
            self._model = join_surrogates(name)
            self._deltas.append(ServedModel(self._model))

    def _read_text(self, text: str) -> None:
        if self._text.held or not text.isascii():
            text = self._text.feed(text)
        if self._format == "json":
            text += self._text.end()  # no more of it will come
        if text:
            self._deltas.append(text)

    def _add_extra(self, path: str, value: Any) -> None:
        """Append something else that was said; not what is empty, or the same as before."""
        try:
            if is_empty(value):
                return
            if _IS_CONTENT.match(path):
                self._deltas.append(Extra(path, value))
                return
            if self._last_values.get(path) == value:
                return
        except RecursionError as error:
            raise MalformedStream(f"{path} is nested too deeply") from error
        if len(self._last_values) >= _LAST_VALUES:
            self._last_values.clear()
        self._last_values[path] = value
        self._deltas.append(Extra(path, value))

    def _add_extras(self, values: dict[str, Any], known: frozenset[str], place: str = "") -> None:
        """Append what stands under keys that are not ``known``."""
        for key in values.keys() - known:
            self._add_extra(f"{place}{join_surrogates(key)}", values[key])

    def _note_reason(self, reason: Any) -> None:
        if reason in _NO_REASONS:
            return
        self._reason = join_surrogates(reason if isinstance(reason, str) else str(reason))
        self.finished = True

    def _note_resumption(self, before: int) -> None:
        """Take a finish reason back if something was said since there were ``before`` deltas."""
        if self.finished and any(_is_said(delta) for delta in self._deltas[before:]):
            self.finished, self.resumed = False, True

    def _note_failure(self, value: Any) -> None:
        """Keep the event of a reason that says that the answer broke off; why may come next."""
        if self._reason is not None and is_failed_reason(self._reason):
            self._failure = json_text(value)

    def _raise_failure(self) -> None:
        if self._reason is not None and is_failed_reason(self._reason):
            raise server_error(
                f"the answer broke off (finish reason {self._reason})", self._failure
            )


def _is_said(delta: Delta) -> bool:
    return not isinstance(delta, (ServedModel, Extra, Citation, Usage))


def _is_small_json(value: Any) -> bool:
    try:
        return is_shallow(value) and len(json.dumps(value, allow_nan=False)) <= MESSAGE_BYTES
    except (ValueError, RecursionError):
        return False
