"""Decoders for OpenAI's chat completions protocol (event streams and JSON) and for plain text.

Reference: OpenAI API, "Chat Completions", object ``chat.completion.chunk``; the stream ends with
``data: [DONE]``. DeepSeek and vLLM send ``reasoning_content``, OpenRouter and Groq ``reasoning``;
Mistral sends ``content`` as a list of typed parts.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import MalformedStream, StreamCut, StreamTruncated
from ..types import (
    Delta,
    Finish,
    ReasoningDelta,
    Refusal,
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


def decode_openai(chunks: Iterable[bytes], content_type: str) -> Iterator[Delta]:
    """Decode an answer; raise ``StreamTruncated`` if it ends without its end marker."""
    source = iter(chunks)
    if content_type == "text/event-stream":
        return _ChatDecoder().decode_stream(source)
    kind, source = sniff_format(source)
    if kind == "html" and not content_type:
        raise MalformedStream("the server sent a web page instead of an answer; check base_url")
    if kind == "json" or content_type.endswith("json"):
        return _ChatDecoder().decode_json(source)
    return _ChatDecoder().decode_stream(source)


class _ChatDecoder:
    """Decodes one answer."""

    def __init__(self) -> None:
        self._text = SurrogateJoiner()
        self._other_text: dict[type[ReasoningDelta] | type[Refusal], SurrogateJoiner]
        self._other_text = {ReasoningDelta: SurrogateJoiner(), Refusal: SurrogateJoiner()}
        self._calls = ToolCallAssembler()
        self._model: str | None = None
        self._finished = False

    def decode_stream(self, chunks: Iterator[bytes]) -> Iterator[Delta]:
        join = self._text.feed
        template = EventTemplate()
        match = template.match
        for event in parse_events(chunks):
            data = event.data
            if (text := match(data)) is not None:
                if text := join(text):
                    yield text
                continue
            if data == "[DONE]":
                yield from self._finish()
                return
            if event.event == "error":
                raise server_error(data)
            if not data.strip():
                continue  # some proxies send empty data to keep the connection alive
            value = parse_json(data)
            kinds = []
            for delta in self._deltas(value, "delta"):
                kinds.append(delta.__class__)
                if delta.__class__ is not str:
                    yield from self._join_other_text(delta)
                elif text := join(delta):
                    yield text
            if kinds == [str]:
                template.learn(data, value, value["choices"][0]["delta"], "content")
        yield from self._flush_surrogates()
        if not self._finished:
            raise StreamTruncated(
                "the stream ended without its end marker ([DONE] or a finish reason)"
            )

    def decode_json(self, chunks: Iterator[bytes]) -> Iterator[Delta]:
        """Decode an answer that came as one JSON object, which is its own end marker."""
        text = read_whole(chunks).decode("utf-8-sig", "replace")
        if not text.strip():
            raise StreamTruncated("the answer is empty")
        for delta in self._deltas(parse_json(text), "message"):
            if isinstance(delta, str):
                yield self._text.feed(delta) + self._text.end()
            else:
                yield from self._join_other_text(delta)
        yield from self._finish()

    def _join_other_text(self, delta: Delta) -> Iterator[Delta]:
        """Join surrogates in reasoning and refusals; yield other deltas unchanged."""
        if isinstance(delta, (ReasoningDelta, Refusal)):
            kind = type(delta)
            if text := self._other_text[kind].feed(delta.text):
                yield kind(text)
        else:
            yield delta

    def _flush_surrogates(self) -> Iterator[Delta]:
        if rest := self._text.end():
            yield rest
        for kind, joiner in self._other_text.items():
            if rest := joiner.end():
                yield kind(rest)

    def _finish(self, reason: str | None = None) -> Iterator[Delta]:
        yield from self._flush_surrogates()
        if not self._finished:
            self._finished = True
            yield from self._calls.finished()
            yield Finish(reason)

    def _deltas(self, value: Any, key: str) -> Iterator[Delta]:
        """Yield the deltas of a chunk (``key`` is ``delta``) or a JSON answer (``message``)."""
        if not isinstance(value, dict):
            raise MalformedStream(f"an event is not a JSON object: {short_repr(value)}")
        if value.get("error"):
            raise server_error(value)
        choices = value.get("choices")
        if "choices" not in value and "usage" not in value:
            raise MalformedStream(f"an event has no 'choices': {short_repr(value)}")
        if self._model is None and isinstance(model := value.get("model"), str):
            self._model = model
            yield ServedModel(join_surrogates(model))
        if choices:
            yield from self._choice_deltas(choices, key)
        if isinstance(usage := value.get("usage"), dict):
            names = ("prompt_tokens", "completion_tokens", "total_tokens")
            yield Usage(*(token_count(usage.get(name)) for name in names))

    def _choice_deltas(self, choices: Any, key: str) -> Iterator[Delta]:
        try:
            choice = choices[0]
            delta = choice.get(key) or {}
            text = delta.get("content")
            if len(delta) > 1 or text.__class__ is not str:
                yield from self._other_deltas(delta)
            if text:
                if text.__class__ is str:
                    yield text
                else:
                    yield from _content_parts(text)
            if reason := choice.get("finish_reason"):
                yield from self._finish(join_surrogates(str(reason)))
        except WRONG_SHAPE as error:
            raise MalformedStream(f"an event's 'choices' has the wrong shape: {error}") from error

    def _other_deltas(self, delta: dict[str, Any]) -> Iterator[Delta]:
        """Yield reasoning, refusals and tool calls of a delta."""
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            yield ReasoningDelta(reasoning)
        if (refusal := delta.get("refusal")) and isinstance(refusal, str):
            yield Refusal(refusal)
        for index, call in enumerate(delta.get("tool_calls") or ()):
            function = call.get("function") or {}
            arguments = function.get("arguments")
            self._calls.add(
                index if call.get("index") is None else call["index"],
                call.get("id") or "",
                function.get("name") or "",
                arguments if isinstance(arguments, str) else json.dumps(arguments or {}),
            )
            yield ToolCallStarted()


def _content_parts(content: Any) -> Iterator[Delta]:
    """Yield text and reasoning of a ``content`` that is a list of parts."""
    if not isinstance(content, list):
        raise MalformedStream(f"an event's content is not text: {short_repr(content)}")
    for part in content:
        if part.get("type") == "thinking":
            thinking = part.get("thinking")
            for inner in thinking if isinstance(thinking, list) else [{"text": thinking}]:
                if (reasoning := inner.get("text")) and isinstance(reasoning, str):
                    yield ReasoningDelta(reasoning)
        elif isinstance(text := part.get("text"), str) and text:
            yield text


def decode_text(chunks: Iterable[bytes], content_type: str) -> Iterator[Delta]:
    """Decode a plain UTF-8 answer as it arrives; it has no end marker.

    Raises ``StreamCut`` if it ends inside a character and ``StreamTruncated`` for an empty body.
    """
    source = iter(chunks)
    if content_type.endswith("json"):
        yield from _decode_json_body(source)
        return
    if not content_type:
        kind, source = sniff_format(source)
        if kind == "html":
            raise MalformedStream("the server sent a web page instead of an answer; check base_url")
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    empty = True
    for data in source:
        if text := decoder.decode(data):
            empty = False
            yield text
    if decoder.getstate()[0]:
        raise StreamCut("the answer ends inside a character")
    if empty:
        raise StreamTruncated("the answer is empty")


def _decode_json_body(chunks: Iterator[bytes]) -> Iterator[Delta]:
    """Decode a JSON body sent instead of plain text: an error, OpenAI's format, or simply text."""
    data = read_whole(chunks)
    try:
        value = parse_json(data.decode("utf-8-sig", "replace"))
    except MalformedStream:
        value = None
    if isinstance(value, dict) and ("error" in value or "choices" in value):
        yield from _ChatDecoder().decode_json(iter([data]))
    elif text := data.decode("utf-8", "replace"):
        yield text
    else:
        raise StreamTruncated("the answer is empty")
