"""OpenAI's chat completions protocol, streamed or whole; plain text beside it.

Source: OpenAI API reference, "Chat Completions", object ``chat.completion.chunk``; the stream ends
with ``data: [DONE]``. ``reasoning_content`` is DeepSeek's and vLLM's word, ``reasoning``
OpenRouter's and Groq's; a content of typed parts is Mistral's.
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
    excerpt,
    join_surrogates,
    parse_json,
    read_whole,
    server_error,
    sniff_format,
    token_count,
)
from .sse import events


def decode_openai(chunks: Iterable[bytes], content_type: str) -> Iterator[Delta]:
    """Decode an answer; ``StreamTruncated`` where it ends without its end marker."""
    source = iter(chunks)
    if content_type == "text/event-stream":
        return _Chat().streamed(source)
    kind, source = sniff_format(source)
    if kind == "html" and not content_type:
        raise MalformedStream("the server sent a web page instead of an answer")
    if kind == "json" or content_type.endswith("json"):
        return _Chat().whole(source)
    return _Chat().streamed(source)


class _Chat:
    """The state of one answer."""

    def __init__(self) -> None:
        self._text = SurrogateJoiner()
        self._beside: dict[type[ReasoningDelta] | type[Refusal], SurrogateJoiner]
        self._beside = {ReasoningDelta: SurrogateJoiner(), Refusal: SurrogateJoiner()}
        self._calls = ToolCallAssembler()
        self._model: str | None = None
        self._finished = False

    def streamed(self, chunks: Iterator[bytes]) -> Iterator[Delta]:
        mend = self._text.feed
        template = EventTemplate()
        match = template.match
        for event in events(chunks):
            data = event.data
            if (text := match(data)) is not None:
                if text := mend(text):
                    yield text
                continue
            if data == "[DONE]":
                yield from self._end()
                return
            if event.event == "error":
                raise server_error(data)
            if not data.strip():
                continue  # some proxies keep the connection alive so
            value = parse_json(data)
            kinds = []
            for delta in self._deltas(value, "delta"):
                kinds.append(delta.__class__)
                if delta.__class__ is not str:
                    yield from self._printable(delta)
                elif text := mend(delta):
                    yield text
            if kinds == [str]:
                template.learn(data, value, value["choices"][0]["delta"], "content")
        yield from self._halves()
        if not self._finished:
            raise StreamTruncated(
                "the stream ended without its end marker ([DONE] or a finish reason)"
            )

    def whole(self, chunks: Iterator[bytes]) -> Iterator[Delta]:
        """Decode an answer that came as one JSON object, which is its own end marker."""
        text = read_whole(chunks).decode("utf-8-sig", "replace")
        if not text.strip():
            raise StreamTruncated("the answer is empty")
        for delta in self._deltas(parse_json(text), "message"):
            if isinstance(delta, str):
                yield self._text.feed(delta) + self._text.end()
            else:
                yield from self._printable(delta)
        yield from self._end()

    def _printable(self, delta: Delta) -> Iterator[Delta]:
        """Mend what is text of another kind."""
        if isinstance(delta, (ReasoningDelta, Refusal)):
            kind = type(delta)
            if text := self._beside[kind].feed(delta.text):
                yield kind(text)
        else:
            yield delta

    def _halves(self) -> Iterator[Delta]:
        if rest := self._text.end():
            yield rest
        for kind, halves in self._beside.items():
            if rest := halves.end():
                yield kind(rest)

    def _end(self, reason: str | None = None) -> Iterator[Delta]:
        yield from self._halves()
        if not self._finished:
            self._finished = True
            yield from self._calls.finished()
            yield Finish(reason)

    def _deltas(self, value: Any, key: str) -> Iterator[Delta]:
        """Yield what one chunk (``key`` is ``delta``) or one whole answer (``message``) says."""
        if not isinstance(value, dict):
            raise MalformedStream(f"an event is not a JSON object: {excerpt(value)}")
        if value.get("error"):
            raise server_error(value)
        choices = value.get("choices")
        if "choices" not in value and "usage" not in value:
            raise MalformedStream(f"an event has no 'choices': {excerpt(value)}")
        if self._model is None and isinstance(model := value.get("model"), str):
            self._model = model
            yield ServedModel(join_surrogates(model))
        if choices:
            yield from self._choice(choices, key)
        if isinstance(usage := value.get("usage"), dict):
            names = ("prompt_tokens", "completion_tokens", "total_tokens")
            yield Usage(*(token_count(usage.get(name)) for name in names))

    def _choice(self, choices: Any, key: str) -> Iterator[Delta]:
        try:
            choice = choices[0]
            delta = choice.get(key) or {}
            text = delta.get("content")
            if len(delta) > 1 or text.__class__ is not str:
                yield from self._other(delta)
            if text:
                if text.__class__ is str:
                    yield text
                else:
                    yield from _parts(text)
            if reason := choice.get("finish_reason"):
                yield from self._end(join_surrogates(str(reason)))
        except WRONG_SHAPE as error:
            raise MalformedStream(f"an event's 'choices' has the wrong shape: {error}") from error

    def _other(self, delta: dict[str, Any]) -> Iterator[Delta]:
        """Yield what a delta says beside text."""
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought and isinstance(thought, str):
            yield ReasoningDelta(thought)
        if (refusal := delta.get("refusal")) and isinstance(refusal, str):
            yield Refusal(refusal)
        for place, call in enumerate(delta.get("tool_calls") or ()):
            function = call.get("function") or {}
            arguments = function.get("arguments")
            self._calls.add(
                place if call.get("index") is None else call["index"],
                call.get("id") or "",
                function.get("name") or "",
                arguments if isinstance(arguments, str) else json.dumps(arguments or {}),
            )
            yield ToolCallStarted()


def _parts(content: Any) -> Iterator[Delta]:
    """Yield the text and the thoughts of a content that is a list of parts."""
    if not isinstance(content, list):
        raise MalformedStream(f"an event's content is not text: {excerpt(content)}")
    for part in content:
        if part.get("type") == "thinking":
            thought = part.get("thinking")
            for piece in thought if isinstance(thought, list) else [{"text": thought}]:
                if (thought := piece.get("text")) and isinstance(thought, str):
                    yield ReasoningDelta(thought)
        elif isinstance(text := part.get("text"), str) and text:
            yield text


def decode_text(chunks: Iterable[bytes], content_type: str) -> Iterator[Delta]:
    """Decode an answer of plain UTF-8 text, piece by piece as it comes; it has no end marker.

    Raises ``StreamCut`` at half a character and ``StreamTruncated`` for an empty body.
    """
    source = iter(chunks)
    if content_type.endswith("json"):
        yield from _plain_json(source)
        return
    if not content_type:
        kind, source = sniff_format(source)
        if kind == "html":
            raise MalformedStream("the server sent a web page instead of an answer")
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


def _plain_json(chunks: Iterator[bytes]) -> Iterator[Delta]:
    """A JSON body where plain text is due: an error, OpenAI's shape, or simply the text."""
    data = read_whole(chunks)
    try:
        value = parse_json(data.decode("utf-8-sig", "replace"))
    except MalformedStream:
        value = None
    if isinstance(value, dict) and ("error" in value or "choices" in value):
        yield from _Chat().whole(iter([data]))
    elif text := data.decode("utf-8", "replace"):
        yield text
    else:
        raise StreamTruncated("the answer is empty")
