"""Decoder for Anthropic's Messages protocol: event streams and single JSON answers.

Reference: Anthropic API, "Streaming Messages". Content blocks start, grow and stop between
``message_start`` and ``message_stop``.
"""

from __future__ import annotations

from typing import Any

from ..errors import MalformedStream
from .anthropic_content import ContentDecoder
from .counts import RAW_COUNTS, anthropic_usage
from .parsing import WRONG_SHAPE, json_text, short_repr
from .server_errors import is_error_name, reports_error, server_error

_MESSAGE_KEYS = frozenset(
    {"id", "type", "role", "content", "model", "stop_reason", "usage", "stop_sequence"}
)
_EVENT_KEYS = frozenset({"type", "message", "delta", "usage", "index", "content_block"})
_KNOWN_AT_START = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def _is_other_event(kind: Any) -> bool:
    """Return whether an event has a type of its own, which is not that of an error."""
    return kind != "message" and isinstance(kind, str) and not is_error_name(kind)


class AnthropicDecoder(ContentDecoder):
    """Decodes one answer; it is truncated without ``message_stop`` or a stop reason."""

    protocol = "anthropic"
    end_marker = "message_stop or a stop reason"

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._message_id: Any = None
        self._counts: dict[str, Any] = {}

    # --- events

    def _read_value(self, value: Any) -> None:
        self._read_named_value("message", value)

    def _read_named_value(self, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise MalformedStream(f"an event is not a JSON object: {short_repr(value)}")
        kind = value.get("type") or name
        before = len(self._deltas)
        try:
            if kind == "content_block_delta":
                self._read_delta(value.get("index", self._last_index), value["delta"])
            elif kind == "content_block_start":
                index = value.get("index", len(self._blocks))
                self._start_block(index, value["content_block"])
            elif kind == "content_block_stop":
                self._end_block(value.get("index", self._last_index))
            else:
                self._read_message_event(kind, value)
                return
        except WRONG_SHAPE as error:
            raise MalformedStream(f"a {kind} event has the wrong shape: {error}") from error
        if not value.keys() <= _EVENT_KEYS:
            self._add_extras(value, _EVENT_KEYS)
        if self.finished:
            self._note_resumption(before)

    def _read_message_event(self, kind: Any, value: dict[str, Any]) -> None:
        if kind == "message_start":
            self._read_message(value["message"])
        elif kind == "message_delta":
            self._read_message_delta(value)
        elif kind == "message_stop":
            self._read_counts(value.get("usage"), is_final=True)
            self.ended = True
        elif kind == "message" and "content" in value:
            self._read_message(value)
        elif reports_error(value, is_answer=_is_other_event(kind)):
            raise server_error(value)
        elif kind == "ping":
            pass
        else:
            self._add_extra(f"event.{kind}", {k: v for k, v in value.items() if k != "type"})
            self._words = self._words or short_repr(json_text(value))
            return
        if not value.keys() <= _EVENT_KEYS and kind != "message":
            self._add_extras(value, _EVENT_KEYS)

    def _read_message(self, message: dict[str, Any]) -> None:
        """Read the start of a message, or all of it."""
        self._check_same_message(message.get("id"))
        self._read_model(message.get("model"))
        self._read_counts(message.get("usage"), is_final=bool(message.get("stop_reason")))
        if self._blocks:  # a summary of what the events have said
            self._add_extra("message.content", message.get("content"))
        else:
            for index, block in enumerate(message.get("content") or ()):
                self._start_block(index, block)
                self._end_block(index)
        self._read_stop(message)
        self._add_extras(message, _MESSAGE_KEYS, "message.")

    def _check_same_message(self, message_id: Any) -> None:
        if self._blocks and message_id and self._message_id not in (None, message_id):
            raise MalformedStream("the server began another answer in the middle of one")
        self._message_id = message_id or self._message_id

    def _read_message_delta(self, value: dict[str, Any]) -> None:
        delta = value.get("delta") or {}
        self._read_stop(delta)
        self._add_extras(delta, _MESSAGE_KEYS, "delta.")
        self._read_counts(value.get("usage") or delta.get("usage"), is_final=True)

    def _read_stop(self, source: dict[str, Any]) -> None:
        if reason := source.get("stop_reason"):
            self._note_reason(reason)
            self._note_failure(source)
        self._add_extra("delta.stop_sequence", source.get("stop_sequence"))

    def _read_counts(self, counts: Any, *, is_final: bool) -> None:
        if not isinstance(counts, dict) or not counts:
            return
        if len(self._counts) <= RAW_COUNTS:
            known = {name: value for name, value in counts.items() if value is not None}
            for name in _KNOWN_AT_START:  # some servers set them to 0 at the end
                if known.get(name) == 0 and self._counts.get(name):
                    del known[name]
            self._counts.update(known)
        if (usage := anthropic_usage(self._counts, is_final=is_final)) is not None:
            self._deltas.append(usage)

    # --- the end

    def _read_answer(self, answer: Any) -> None:
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        if not isinstance(answer, dict) or answer.get("error") or "content" not in answer:
            raise server_error(answer)
        self._read_value(answer)
        self._conclude()
