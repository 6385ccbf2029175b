"""Decoder for Anthropic's Messages protocol: event streams and single JSON answers.

Reference: Anthropic API, "Streaming Messages". Content blocks start, grow and stop between
``message_start`` and ``message_stop``. Blocks other than text, thinking and ``tool_use`` (tools
that the server executes, their results, compaction, …) are ``Extra`` values; all blocks go back
with the next request where it needs them ("Extended thinking", "Preserving thinking blocks").
"""

from __future__ import annotations

from typing import Any

from ..config import TOOL_CALLS
from ..error_words import as_text
from ..errors import MalformedStream
from ..types import ReasoningDelta, ToolCall, ToolCallStarted
from .anthropic_blocks import ContentBlock, are_portable, can_go_back, citation_of, returned_block
from .counts import RAW_COUNTS, anthropic_usage
from .events import EventsDecoder
from .parsing import WRONG_SHAPE, SurrogateJoiner, join_surrogates, json_text, short_repr
from .server_errors import is_error_name, reports_error, server_error
from .tool_calls import parse_arguments

_MESSAGE_KEYS = frozenset(
    {"id", "type", "role", "content", "model", "stop_reason", "usage", "stop_sequence"}
)
_EVENT_KEYS = frozenset({"type", "message", "delta", "usage", "index", "content_block"})
_DELTA_KEYS = frozenset({"type", "text", "thinking", "partial_json", "citation"})
_TYPE = frozenset({"type"})
_KNOWN_BLOCKS = ("text", "thinking", "tool_use")
_KNOWN_AT_START = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_TEXT_KEYS = ("text", "thinking", "signature", "content", "data")
"""Fields of a block that its deltas grow."""

_PROSE = ("text", "thinking")
_PROSE_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "citations_delta": "text",
}
_BLOCK_OF_DELTA = {**_PROSE_DELTAS, "input_json_delta": "tool_use"}
_BLOCK_KEYS = frozenset(
    {"type", "text", "thinking", "signature", "citations", "id", "name", "input"}
)


def _is_other_event(kind: Any) -> bool:
    """Return whether an event has a type of its own, which is not that of an error."""
    return kind != "message" and isinstance(kind, str) and not is_error_name(kind)


class AnthropicDecoder(EventsDecoder):
    """Decodes one answer; it is truncated without ``message_stop`` or a stop reason."""

    protocol = "anthropic"
    end_marker = "message_stop or a stop reason"

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._reasoning = SurrogateJoiner()
        self._blocks: list[ContentBlock] = []
        self._open: dict[int, ContentBlock] = {}
        self._last_index: Any = None
        """That of the latest block: some servers leave the indexes out."""
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
            self._raise_failed_reason(source)
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

    # --- blocks

    def _start_block(self, index: int, block: dict[str, Any]) -> None:
        """Read the start of a block, which may hold all of it."""
        kind = block["type"]
        self._add_block(index, block)
        if kind == "text":
            self._read_text(block.get("text") or "")
        elif kind == "thinking":
            self._read_reasoning(block.get("thinking") or "")
        elif kind == "tool_use":
            self._deltas.append(ToolCallStarted())
        for citation in block.get("citations") or ():
            self._deltas.append(citation_of(citation))

    def _add_block(self, index: int, start: dict[str, Any]) -> ContentBlock:
        if len(self._blocks) >= TOOL_CALLS:
            raise MalformedStream(f"the answer has more than {TOOL_CALLS} content blocks")
        self._report_block(index)  # one that has not been ended
        block = self._open[index] = ContentBlock(start)
        self._last_index = index
        block.is_reported = False
        self._blocks.append(block)
        return block

    def _read_delta(self, index: int, delta: dict[str, Any]) -> None:
        kind, known = delta["type"], _DELTA_KEYS
        block = self._open.get(index)
        if block is None or (
            block.kind in _PROSE and _PROSE_DELTAS.get(kind) not in (None, block.kind)
        ):
            block = self._add_block(index, {"type": _BLOCK_OF_DELTA.get(kind, kind)})
        if kind == "text_delta":
            text = delta["text"] or ""
            block.texts.append(text)
            if self._text.held or not text.isascii():
                text = self._text.feed(text)
            if text:
                self._deltas.append(text)
        elif kind == "thinking_delta":
            self._read_reasoning(delta["thinking"] or "")
            block.add("thinking", delta["thinking"] or "")
        elif kind == "input_json_delta":
            block.add("input", delta["partial_json"] or "")
            if block.kind == "tool_use":
                self._deltas.append(ToolCallStarted())
        elif kind == "citations_delta":
            block.citations.append(delta["citation"])
            self._deltas.append(citation_of(delta["citation"]))
        else:
            known = _TYPE
        if not delta.keys() <= known:
            self._read_other_fields(index, block, delta, known)
        block.is_reported = False

    def _read_other_fields(
        self, index: int, block: ContentBlock, delta: dict[str, Any], known: frozenset[str]
    ) -> None:
        """Add fields of a delta to the block: its signature, the text of a compaction, …"""
        for key in delta.keys() - known:
            value = delta[key]
            if key in _TEXT_KEYS and isinstance(value, str):
                block.add(key, value)
                continue
            self._add_extra(f"content[{index}].{key}", value)
            if block.kind not in _KNOWN_BLOCKS and value is not None:
                block.start[key] = value

    def _end_block(self, index: Any) -> None:
        """Report a block that has ended; if more of it comes, again at the end of the message."""
        self._flush_surrogates()
        block = self._open.get(index)
        if block is not None and not block.has_ended:
            block.has_ended = True
            self._report_block(index)

    def _report_block(self, index: Any) -> None:
        """Append what a block holds beyond text, thinking and calls."""
        block = self._open.get(index)
        if block is None or block.is_reported:
            return
        block.is_reported = True
        if block.kind not in _KNOWN_BLOCKS:
            self._add_extra(f"content[{index}]", block.value())
            return
        value = block.value()
        self._add_extra(f"content[{index}].signature", value.get("signature"))
        self._add_extras(value, _BLOCK_KEYS, f"content[{index}].")

    def _flush_surrogates(self) -> None:
        super()._flush_surrogates()
        if rest := self._reasoning.end():
            self._deltas.append(ReasoningDelta(rest))

    def _read_reasoning(self, text: str) -> None:
        if text := self._reasoning.feed(text):
            self._deltas.append(ReasoningDelta(text))

    # --- the end

    def _read_answer(self, answer: Any) -> None:
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        if not isinstance(answer, dict) or answer.get("error") or "content" not in answer:
            raise server_error(answer)
        self._read_value(answer)
        self._conclude()

    def _finish(self) -> None:
        for index in list(self._open):
            self._report_block(index)
        nameless: list[str] = []
        for block in self._blocks:
            if block.kind == "tool_use":
                call_id, name = (as_text(block.start.get(key) or "") for key in ("id", "name"))
                raw = block.raw_input()
                if name:
                    names = join_surrogates(call_id), join_surrogates(name)
                    self._deltas.append(ToolCall(*names, parse_arguments(raw), raw))
                elif call_id or raw:
                    nameless.append(f"{call_id} {raw[:2000]}".strip())
        if nameless:
            raise MalformedStream(f"the model calls a tool without naming it: {nameless[0]}")

    def _message_fields(self) -> dict[str, Any]:
        values = [block.value() for block in self._blocks]
        if not all(map(can_go_back, values)):
            return {}
        blocks = [block for block in map(returned_block, values) if block is not None]
        return {} if are_portable(blocks) else {"content": blocks}
