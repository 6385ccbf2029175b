"""What the decoders of all protocols share: text, extras, the model, and how an answer ends."""

from __future__ import annotations

import json
import re
from typing import Any

from ..errors import MalformedStream, StreamTruncated
from ..returned_messages import is_shallow
from ..types import (
    Citation,
    Delta,
    Extra,
    Finish,
    ProtocolMessage,
    ReasoningDelta,
    Refusal,
    ServedModel,
    Usage,
)
from .bodies import BodyDecoder
from .parsing import SurrogateJoiner, is_empty, join_surrogates, json_text
from .server_errors import is_failed_reason, server_error

_NO_REASONS = ("null", "None")
"""How some servers write that there is no finish reason yet."""
_IS_CONTENT = re.compile(
    r"line$|(.*\.)?logprobs$|.*content[\[.]|output\[|event\..*\.delta$|candidates\[\d+\]($|\.logprobs)"
    r"|choices\[\d+\]$|choices\[0\]\.delta\.(?!role$|name$)"
)
"""Places of extra values that are not repetitions where they are equal."""
_LAST_VALUES = 256
"""How many places of extra values are remembered, to tell those that repeat."""
VALUES_IN_EVENT = 100_000
"""How many values may stand in one event: they are all read in one turn."""
MESSAGE_BYTES = 16 * 1024 * 1024
"""Maximum size of what goes back to the protocol with the next request."""


class AnswerDecoder(BodyDecoder):
    """The base of the decoders that read JSON; it knows what makes an answer complete."""

    protocol = ""
    end_marker = ""

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._text = SurrogateJoiner()
        self._reasoning = SurrogateJoiner()
        self._refusal = SurrogateJoiner()
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
        """Read a whole answer in JSON, which comes in place of a stream."""
        raise MalformedStream("the server sent one JSON document instead of a stream")

    def _finish(self) -> None:
        """Append what the end of a whole answer completes, but not its ``Finish``."""

    def _message_fields(self) -> dict[str, Any]:
        """Return what the protocol wants back with the next request, if anything."""
        return {}

    # --- the end

    def _check_end(self) -> None:
        """Raise ``StreamTruncated`` if the stream has ended without its end marker."""
        if not (self.ended or self.finished):
            self._flush_surrogates()
            raise StreamTruncated(
                f"the stream ended without its end marker ({self.end_marker}){self._quoted_words()}"
            )

    def _conclude(self) -> None:
        """Finish a whole answer."""
        self._flush_surrogates()
        self._raise_failure()
        self._finish()
        if not self._says_something:
            self._note_meaning(self._deltas)
        if not self._says_something and self._reason is None:
            raise StreamTruncated(f"the answer is empty{self._quoted_words()}")
        fields = self._message_fields()
        if fields and _is_small_json(fields):
            self._deltas.append(ProtocolMessage(self.protocol, fields))
        self._deltas.append(Finish(self._reason))

    def _quoted_words(self) -> str:
        return f"; the server said: {join_surrogates(self._words)}" if self._words else ""

    def _flush_surrogates(self) -> None:
        if rest := self._text.end():
            self._deltas.append(rest)
        if rest := self._reasoning.end():
            self._deltas.append(ReasoningDelta(rest))
        if rest := self._refusal.end():
            self._deltas.append(Refusal(rest))

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

    def _read_reasoning(self, text: str) -> None:
        if text := self._reasoning.feed(text):
            self._deltas.append(ReasoningDelta(text))

    def _read_refusal(self, text: str) -> None:
        if text := self._refusal.feed(text):
            self._deltas.append(Refusal(text))

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
        """Append what stands under keys that are not ``known``, in their order."""
        if values.keys() <= known:
            return
        for key, value in values.items():
            if key not in known:
                self._add_extra(f"{place}{join_surrogates(key)}", value)

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
