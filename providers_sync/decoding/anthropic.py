"""Decoder for Anthropic's Messages protocol: event streams and single JSON answers.

Reference: Anthropic API, "Streaming Messages". Content blocks start, grow and stop between
``message_start`` and ``message_stop``; unknown types of events and blocks are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import MalformedStream, StreamTruncated
from ..types import (
    Delta,
    Finish,
    ReasoningDelta,
    ServedModel,
    ToolCallStarted,
    Usage,
)
from .parsing import (
    WRONG_SHAPE,
    EventTemplate,
    SurrogateJoiner,
    ToolCallAssembler,
    join_surrogates,
    parse_json,
    read_whole,
    server_error,
    short_repr,
    sniff_format,
    token_count,
)
from .sse import parse_events


def decode_anthropic(chunks: Iterable[bytes], content_type: str) -> Iterator[Delta]:
    """Decode an answer; raise ``StreamTruncated`` if it ends without ``message_stop``."""
    source = iter(chunks)
    if content_type != "text/event-stream":
        kind, source = sniff_format(source)
        if kind == "html" and not content_type:
            raise MalformedStream("the server sent a web page instead of an answer; check base_url")
        if kind == "json" or content_type.endswith("json"):
            return _MessageDecoder().decode_json(source)
    return _MessageDecoder().decode_stream(source)


class _MessageDecoder:
    """Decodes one answer."""

    def __init__(self) -> None:
        self._text = SurrogateJoiner()
        self._reasoning = SurrogateJoiner()
        self._calls = ToolCallAssembler()
        self._model: str | None = None
        self._stop_reason: str | None = None
        self._input_tokens: int | None = None
        self._output_tokens: int | None = None

    def decode_stream(self, chunks: Iterator[bytes]) -> Iterator[Delta]:
        template = EventTemplate()
        for event in parse_events(chunks):
            data = event.data
            if (text := template.match(data)) is not None:
                if text := self._text.feed(text):
                    yield text
                continue
            if not data.strip():
                continue
            if event.event == "error":
                raise server_error(data)
            value = parse_json(data)
            if not isinstance(value, dict):
                raise MalformedStream(f"an event is not a JSON object: {short_repr(value)}")
            kind = value.get("type") or event.event
            if kind == "error" or value.get("error"):
                raise server_error(value)
            try:
                yield from self._decode_event(kind, value)
            except WRONG_SHAPE as error:
                raise MalformedStream(f"a {kind} event has the wrong shape: {error}") from error
            if kind == "message_stop":
                return
            if kind == "content_block_delta" and value["delta"]["type"] == "text_delta":
                template.learn(data, value, value["delta"], "text")
        yield from self._flush_surrogates()
        raise StreamTruncated("the stream ended without its end marker (message_stop)")

    def decode_json(self, chunks: Iterator[bytes]) -> Iterator[Delta]:
        """Decode an answer that came as one JSON object, which is its own end marker."""
        text = read_whole(chunks).decode("utf-8-sig", "replace")
        if not text.strip():
            raise StreamTruncated("the answer is empty")
        value = parse_json(text)
        if not isinstance(value, dict) or value.get("error"):
            raise server_error(value)
        try:
            yield from self._decode_event("message_start", {"message": value})
            for index, block in enumerate(value["content"]):
                yield from self._start_block(index, block)
            self._update_usage(value.get("usage"))
            if reason := value.get("stop_reason"):
                self._stop_reason = join_surrogates(str(reason))
        except WRONG_SHAPE as error:
            raise MalformedStream(f"the answer has the wrong shape: {error}") from error
        yield from self._end()

    def _decode_event(self, kind: str, value: dict[str, Any]) -> Iterator[Delta]:
        if kind == "content_block_delta":
            yield from self._decode_delta(value["index"], value["delta"])
        elif kind == "content_block_start":
            yield from self._start_block(value["index"], value["content_block"])
        elif kind == "content_block_stop":
            yield from self._end_block()
        elif kind == "message_start":
            message = value["message"]
            if self._model is None and (model := message.get("model")):
                self._model = join_surrogates(str(model))
                yield ServedModel(self._model)
            self._update_usage(message.get("usage"))
        elif kind == "message_delta":
            if reason := value["delta"].get("stop_reason"):
                self._stop_reason = join_surrogates(str(reason))
            self._update_usage(value.get("usage"))
        elif kind == "message_stop":
            yield from self._end()

    def _decode_delta(self, index: int, delta: dict[str, Any]) -> Iterator[Delta]:
        kind = delta["type"]
        if kind == "text_delta":
            if text := self._text.feed(delta["text"]):
                yield text
        elif kind == "thinking_delta":
            if reasoning := self._reasoning.feed(delta["thinking"] or ""):
                yield ReasoningDelta(reasoning)
        elif kind == "input_json_delta":
            self._calls.add(index, "", "", delta["partial_json"])
            yield ToolCallStarted()

    def _start_block(self, index: int, block: dict[str, Any]) -> Iterator[Delta]:
        """Decode the start of a block; in a JSON answer, this is the complete block."""
        kind = block["type"]
        if kind == "text" and block.get("text"):
            yield self._text.feed(block["text"]) + self._text.end()
        elif kind == "thinking" and block.get("thinking"):
            yield ReasoningDelta(self._reasoning.feed(block["thinking"]) + self._reasoning.end())
        elif kind == "tool_use":
            self._calls.start(index, block["id"], block["name"], block.get("input"))
            yield ToolCallStarted()

    def _end_block(self) -> Iterator[Delta]:
        yield from self._flush_surrogates()
        yield from self._calls.finished()

    def _flush_surrogates(self) -> Iterator[Delta]:
        if rest := self._text.end():
            yield rest
        if rest := self._reasoning.end():
            yield ReasoningDelta(rest)

    def _update_usage(self, usage: Any) -> None:
        if isinstance(usage, dict):
            input_tokens = token_count(usage.get("input_tokens"))
            output_tokens = token_count(usage.get("output_tokens"))
            self._input_tokens = input_tokens if input_tokens is not None else self._input_tokens
            self._output_tokens = (
                output_tokens if output_tokens is not None else self._output_tokens
            )

    def _end(self) -> Iterator[Delta]:
        yield from self._end_block()
        if self._input_tokens is not None or self._output_tokens is not None:
            total = (self._input_tokens or 0) + (self._output_tokens or 0)
            yield Usage(self._input_tokens, self._output_tokens, token_count(total))
        yield Finish(self._stop_reason)
