"""Anthropic's Messages protocol, streamed or whole.

Source: Anthropic API reference, "Streaming Messages": blocks of content start, grow and stop
between ``message_start`` and ``message_stop``; new kinds of events and blocks may come at any
time and are passed over.
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
    excerpt,
    join_surrogates,
    parse_json,
    read_whole,
    server_error,
    sniff_format,
    token_count,
)
from .sse import events


def decode_anthropic(chunks: Iterable[bytes], content_type: str) -> Iterator[Delta]:
    """Decode an answer; ``StreamTruncated`` where it ends without ``message_stop``."""
    source = iter(chunks)
    if content_type != "text/event-stream":
        kind, source = sniff_format(source)
        if kind == "html" and not content_type:
            raise MalformedStream("the server sent a web page instead of an answer")
        if kind == "json" or content_type.endswith("json"):
            return _Message().whole(source)
    return _Message().streamed(source)


class _Message:
    """The state of one answer."""

    def __init__(self) -> None:
        self._text = SurrogateJoiner()
        self._thought = SurrogateJoiner()
        self._calls = ToolCallAssembler()
        self._model: str | None = None
        self._reason: str | None = None
        self._input: int | None = None
        self._output: int | None = None

    def streamed(self, chunks: Iterator[bytes]) -> Iterator[Delta]:
        template = EventTemplate()
        for event in events(chunks):
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
                raise MalformedStream(f"an event is not a JSON object: {excerpt(value)}")
            kind = value.get("type") or event.event
            if kind == "error" or value.get("error"):
                raise server_error(value)
            try:
                yield from self._event(kind, value)
            except WRONG_SHAPE as error:
                raise MalformedStream(f"a {kind} event has the wrong shape: {error}") from error
            if kind == "message_stop":
                return
            if kind == "content_block_delta" and value["delta"]["type"] == "text_delta":
                template.learn(data, value, value["delta"], "text")
        yield from self._halves()
        raise StreamTruncated("the stream ended without its end marker (message_stop)")

    def whole(self, chunks: Iterator[bytes]) -> Iterator[Delta]:
        """Decode an answer that came as one JSON object, which is its own end marker."""
        text = read_whole(chunks).decode("utf-8-sig", "replace")
        if not text.strip():
            raise StreamTruncated("the answer is empty")
        value = parse_json(text)
        if not isinstance(value, dict) or value.get("error"):
            raise server_error(value)
        try:
            yield from self._event("message_start", {"message": value})
            for index, block in enumerate(value["content"]):
                yield from self._block(index, block)
            self._count(value.get("usage"))
            if reason := value.get("stop_reason"):
                self._reason = join_surrogates(str(reason))
        except WRONG_SHAPE as error:
            raise MalformedStream(f"the answer has the wrong shape: {error}") from error
        yield from self._end()

    def _event(self, kind: str, value: dict[str, Any]) -> Iterator[Delta]:
        if kind == "content_block_delta":
            yield from self._grown(value["index"], value["delta"])
        elif kind == "content_block_start":
            yield from self._block(value["index"], value["content_block"])
        elif kind == "content_block_stop":
            yield from self._rest()
        elif kind == "message_start":
            message = value["message"]
            if self._model is None and (model := message.get("model")):
                self._model = join_surrogates(str(model))
                yield ServedModel(self._model)
            self._count(message.get("usage"))
        elif kind == "message_delta":
            if reason := value["delta"].get("stop_reason"):
                self._reason = join_surrogates(str(reason))
            self._count(value.get("usage"))
        elif kind == "message_stop":
            yield from self._end()

    def _grown(self, index: int, delta: dict[str, Any]) -> Iterator[Delta]:
        kind = delta["type"]
        if kind == "text_delta":
            if text := self._text.feed(delta["text"]):
                yield text
        elif kind == "thinking_delta":
            if thought := self._thought.feed(delta["thinking"] or ""):
                yield ReasoningDelta(thought)
        elif kind == "input_json_delta":
            self._calls.add(index, "", "", delta["partial_json"])
            yield ToolCallStarted()

    def _block(self, index: int, block: dict[str, Any]) -> Iterator[Delta]:
        """A block begins; in a whole answer this is all of it."""
        kind = block["type"]
        if kind == "text" and block.get("text"):
            yield self._text.feed(block["text"]) + self._text.end()
        elif kind == "thinking" and block.get("thinking"):
            yield ReasoningDelta(self._thought.feed(block["thinking"]) + self._thought.end())
        elif kind == "tool_use":
            self._calls.start(index, block["id"], block["name"], block.get("input"))
            yield ToolCallStarted()

    def _rest(self) -> Iterator[Delta]:
        yield from self._halves()
        yield from self._calls.finished()

    def _halves(self) -> Iterator[Delta]:
        if rest := self._text.end():
            yield rest
        if rest := self._thought.end():
            yield ReasoningDelta(rest)

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            given = token_count(usage.get("input_tokens")), token_count(usage.get("output_tokens"))
            self._input = given[0] if given[0] is not None else self._input
            self._output = given[1] if given[1] is not None else self._output

    def _end(self) -> Iterator[Delta]:
        yield from self._rest()
        if self._input is not None or self._output is not None:
            total = (self._input or 0) + (self._output or 0)
            yield Usage(self._input, self._output, token_count(total))
        yield Finish(self._reason)
