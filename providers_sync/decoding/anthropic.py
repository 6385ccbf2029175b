"""Decoder for Anthropic's Messages protocol: event streams and single JSON answers.

Reference: Anthropic API, "Streaming Messages". Content blocks start, grow and stop between
``message_start`` and ``message_stop``; unknown types of events and blocks are ignored.
"""

from __future__ import annotations

from typing import Any

from ..errors import MalformedStream, StreamTruncated
from ..types import Finish, ReasoningDelta, ServedModel, ToolCallStarted, Usage
from .bodies import BodyDecoder
from .parsing import (
    WRONG_SHAPE,
    SurrogateJoiner,
    ToolCallAssembler,
    join_surrogates,
    parse_json,
    server_error,
    short_repr,
    token_count,
)


class AnthropicDecoder(BodyDecoder):
    """Decodes one answer; it is truncated without ``message_stop``."""

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._text = SurrogateJoiner()
        self._reasoning = SurrogateJoiner()
        self._calls = ToolCallAssembler()
        self._model: str | None = None
        self._stop_reason: str | None = None
        self._tokens: dict[str, int | None] = {"input_tokens": None, "output_tokens": None}

    def _read_stream(self, data: bytes) -> None:
        for name, event in self._events.feed(data):
            if not event or event.isspace():
                continue
            if name == "error":
                raise server_error(event)
            value = parse_json(event)
            if not isinstance(value, dict):
                raise MalformedStream(f"an event is not a JSON object: {short_repr(value)}")
            kind = value.get("type") or name
            if kind == "error" or value.get("error"):
                raise server_error(value)
            try:
                self._read_event(kind, value)
            except WRONG_SHAPE as error:
                raise MalformedStream(f"a {kind} event has the wrong shape: {error}") from error
            if self.ended:
                return

    def _end_stream(self) -> None:
        self._events.end()
        self._flush_surrogates()
        raise StreamTruncated("the stream ended without its end marker (message_stop)")

    def _read_answer(self, answer: Any) -> None:
        if not isinstance(answer, dict) or answer.get("error"):
            raise server_error(answer)
        try:
            self._read_start(answer)
            for index, block in enumerate(answer["content"]):
                self._start_block(index, block)
            self._read_stop_reason(answer)
        except WRONG_SHAPE as error:
            raise MalformedStream(f"the answer has the wrong shape: {error}") from error
        self._finish()

    def _read_event(self, kind: str, value: dict[str, Any]) -> None:
        if kind == "content_block_delta":
            self._read_delta(value["index"], value["delta"])
        elif kind == "content_block_start":
            self._start_block(value["index"], value["content_block"])
        elif kind == "content_block_stop":
            self._end_block()
        elif kind == "message_start":
            self._read_start(value["message"])
        elif kind == "message_delta":
            self._read_stop_reason(value["delta"])
            self._read_usage(value.get("usage"))
        elif kind == "message_stop":
            self._finish()
            self.ended = True

    def _read_start(self, message: dict[str, Any]) -> None:
        if self._model is None and (model := message.get("model")):
            self._model = join_surrogates(str(model))
            self._deltas.append(ServedModel(self._model))
        self._read_usage(message.get("usage"))

    def _read_delta(self, index: int, delta: dict[str, Any]) -> None:
        kind = delta["type"]
        if kind == "text_delta":
            text = delta["text"]
            if self._text.held or not text.isascii():
                text = self._text.feed(text)
            if text:
                self._deltas.append(text)
        elif kind == "thinking_delta":
            if reasoning := self._reasoning.feed(delta["thinking"] or ""):
                self._deltas.append(ReasoningDelta(reasoning))
        elif kind == "input_json_delta":
            self._calls.add(index, "", "", delta["partial_json"])
            self._deltas.append(ToolCallStarted())

    def _start_block(self, index: int, block: dict[str, Any]) -> None:
        """Read the start of a block; in a JSON answer, this is the complete block."""
        kind = block["type"]
        if kind == "text" and block.get("text"):
            self._deltas.append(self._text.feed(block["text"]) + self._text.end())
        elif kind == "thinking" and block.get("thinking"):
            reasoning = self._reasoning.feed(block["thinking"]) + self._reasoning.end()
            self._deltas.append(ReasoningDelta(reasoning))
        elif kind == "tool_use":
            self._calls.start(index, block["id"], block["name"], block.get("input"))
            self._deltas.append(ToolCallStarted())

    def _end_block(self) -> None:
        self._flush_surrogates()
        self._deltas.extend(self._calls.finished())

    def _flush_surrogates(self) -> None:
        if rest := self._text.end():
            self._deltas.append(rest)
        if rest := self._reasoning.end():
            self._deltas.append(ReasoningDelta(rest))

    def _read_stop_reason(self, source: dict[str, Any]) -> None:
        if reason := source.get("stop_reason"):
            self._stop_reason = join_surrogates(str(reason))

    def _read_usage(self, usage: Any) -> None:
        if isinstance(usage, dict):
            for name in self._tokens:
                if (count := token_count(usage.get(name))) is not None:
                    self._tokens[name] = count

    def _finish(self) -> None:
        self._end_block()
        counts = self._tokens["input_tokens"], self._tokens["output_tokens"]
        if counts != (None, None):
            self._deltas.append(Usage(*counts, token_count(sum(n or 0 for n in counts))))
        self._deltas.append(Finish(self._stop_reason))
