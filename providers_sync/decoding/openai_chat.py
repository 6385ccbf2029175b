"""Decoders for OpenAI's chat completions protocol (event streams and JSON) and for plain text.

Reference: OpenAI API, "Chat Completions", object ``chat.completion.chunk``; the stream ends with
``data: [DONE]``. DeepSeek and vLLM send ``reasoning_content``, OpenRouter and Groq ``reasoning``;
Mistral sends ``content`` as a list of typed parts.
"""

from __future__ import annotations

import codecs
import json
from typing import Any

from ..errors import MalformedStream, StreamCut, StreamTruncated
from ..types import Finish, ReasoningDelta, Refusal, ServedModel, ToolCallStarted, Usage
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


class OpenAIDecoder(BodyDecoder):
    """Decodes one answer; it is truncated without ``[DONE]`` or a finish reason."""

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._text = SurrogateJoiner()
        self._joiners: dict[type[str] | type[ReasoningDelta] | type[Refusal], SurrogateJoiner]
        self._joiners = {
            str: self._text,
            ReasoningDelta: SurrogateJoiner(),
            Refusal: SurrogateJoiner(),
        }
        self._calls = ToolCallAssembler()
        self._model: str | None = None
        self._finished = False

    def _read_stream(self, data: bytes) -> None:
        for name, event in self._events.feed(data):
            if event == "[DONE]":
                self._finish()
                self.ended = True
                return
            if name == "error":
                raise server_error(event)
            if event and not event.isspace():  # some proxies send empty data to keep a connection
                self._read_chunk(parse_json(event), "delta")

    def _end_stream(self) -> None:
        self._events.end()
        self._flush_surrogates()
        if not self._finished:
            raise StreamTruncated(
                "the stream ended without its end marker ([DONE] or a finish reason)"
            )

    def _read_answer(self, answer: Any) -> None:
        self._read_chunk(answer, "message")
        self._finish()

    def _read_chunk(self, value: Any, key: str) -> None:
        """Read a chunk (``key`` is ``delta``) or a JSON answer (``message``)."""
        if not isinstance(value, dict):
            raise MalformedStream(f"an event is not a JSON object: {short_repr(value)}")
        if value.get("error"):
            raise server_error(value)
        choices = value.get("choices")
        if choices is None and "choices" not in value and "usage" not in value:
            raise MalformedStream(f"an event has no 'choices': {short_repr(value)}")
        if self._model is None and isinstance(model := value.get("model"), str):
            self._model = model
            self._deltas.append(ServedModel(join_surrogates(model)))
        if choices:
            try:
                choice = choices[0]
                delta = choice.get(key) or {}
                text = delta.get("content")
                if len(delta) > 1 or text.__class__ is not str:
                    self._read_other(delta)
                if text.__class__ is str and text.isascii() and not self._text.held:
                    if text:
                        self._deltas.append(text)
                elif text:
                    self._read_content(text)
                if reason := choice.get("finish_reason"):
                    self._finish(join_surrogates(str(reason)))
            except WRONG_SHAPE as error:
                raise MalformedStream(
                    f"an event's 'choices' has the wrong shape: {error}"
                ) from error
        if isinstance(usage := value.get("usage"), dict):
            names = ("prompt_tokens", "completion_tokens", "total_tokens")
            self._deltas.append(Usage(*(token_count(usage.get(name)) for name in names)))

    def _read_other(self, delta: dict[str, Any]) -> None:
        """Read reasoning, refusals and tool calls of a delta."""
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            self._add(ReasoningDelta, reasoning)
        if (refusal := delta.get("refusal")) and isinstance(refusal, str):
            self._add(Refusal, refusal)
        for index, call in enumerate(delta.get("tool_calls") or ()):
            function = call.get("function") or {}
            arguments = function.get("arguments")
            self._calls.add(
                index if call.get("index") is None else call["index"],
                call.get("id") or "",
                function.get("name") or "",
                arguments if isinstance(arguments, str) else json.dumps(arguments or {}),
            )
            self._deltas.append(ToolCallStarted())

    def _read_content(self, content: Any) -> None:
        """Read text, or text and reasoning of a list of parts."""
        if isinstance(content, str):
            self._add(str, content)
            return
        if not isinstance(content, list):
            raise MalformedStream(f"an event's content is not text: {short_repr(content)}")
        for part in content:
            if part.get("type") == "thinking":
                thinking = part.get("thinking")
                for inner in thinking if isinstance(thinking, list) else [{"text": thinking}]:
                    if (reasoning := inner.get("text")) and isinstance(reasoning, str):
                        self._add(ReasoningDelta, reasoning)
            elif isinstance(text := part.get("text"), str) and text:
                self._add(str, text)

    def _add(self, kind: type[str] | type[ReasoningDelta] | type[Refusal], text: str) -> None:
        text = self._joiners[kind].feed(text)
        if kind is str and self._format == "json":
            text += self._text.end()  # no more of it will come
        if text:
            self._deltas.append(kind(text))

    def _flush_surrogates(self) -> None:
        for kind, joiner in self._joiners.items():
            if rest := joiner.end():
                self._deltas.append(kind(rest))

    def _finish(self, reason: str | None = None) -> None:
        self._flush_surrogates()
        if not self._finished:
            self._finished = True
            self._deltas.extend(self._calls.finished())
            self._deltas.append(Finish(reason))


class TextDecoder(OpenAIDecoder):
    """Decodes UTF-8 text as it arrives; it has no end marker. JSON sent instead may be OpenAI's."""

    accepts_json = False

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        if content_type and self._format != "json":
            self._format = "stream"
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_empty = True

    def _read_stream(self, data: bytes) -> None:
        if text := self._decoder.decode(data):
            self._is_empty = False
            self._deltas.append(text)

    def _end_stream(self) -> None:
        if self._decoder.getstate()[0]:
            raise StreamCut("the answer ends inside a character")
        if self._is_empty:
            raise StreamTruncated("the answer is empty")

    def _read_json(self, body: bytes) -> None:
        """Read an error, OpenAI's format, or simply text."""
        try:
            value = parse_json(body.decode("utf-8-sig", "replace"))
        except MalformedStream:
            value = None
        if isinstance(value, dict) and ("error" in value or "choices" in value):
            self._read_answer(value)
        elif text := body.decode("utf-8", "replace"):
            self._deltas.append(text)
        else:
            raise StreamTruncated("the answer is empty")
