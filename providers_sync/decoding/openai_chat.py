"""Decoder for OpenAI's chat completions protocol, as the servers that speak it really do.

Reference: OpenAI API, "Chat Completions", object ``chat.completion.chunk``; the stream ends with
``data: [DONE]``. What else is read: the older completions (``text``), ``message`` in place of
``delta``, DeepSeek's ``reasoning_content``, OpenRouter's ``reasoning`` and ``reasoning_details``,
Mistral's ``content`` as a list of typed parts, Groq's ``x_groq``, Perplexity's ``citations``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import MalformedStream
from ..types import Media, ReasoningDelta, Refusal, ToolCallStarted, Usage
from .counts import openai_usage
from .events import EventsDecoder
from .openai_parts import (
    REASONING_KEYS,
    REASONING_LISTS,
    citation_of,
    decode_base64,
    joined_parts,
    media_of,
    reasoning_of,
    text_of,
)
from .parsing import WRONG_SHAPE, SurrogateJoiner, join_surrogates, json_text, short_repr
from .server_errors import reports_error, server_error
from .tool_calls import PartialCall, ToolCallAssembler

_BOOKKEEPING = frozenset({"id", "object", "created", "model", "system_fingerprint", "service_tier"})
CHUNK_KEYS = _BOOKKEEPING | {"choices", "usage", "obfuscation"}
"""Keys of a usual event; all others are looked at."""
_READ_CHUNK_KEYS = CHUNK_KEYS | {
    *("x_groq", "citations", "search_results", "error", "type", "request_id"),
}
_READ_GROQ_KEYS = frozenset({"id", "usage", "seed", "error"})
CHOICE_KEYS = frozenset({"index", "delta", "finish_reason"})
_READ_CHOICE_KEYS = CHOICE_KEYS | {"message", "text", "usage", "error", "seed"}
PLAIN_KEYS = frozenset({"content", "role"})
"""Keys of a delta that holds text."""
_READ_DELTA_KEYS = PLAIN_KEYS | {
    *("refusal", "tool_calls", "function_call", "annotations", "images", "audio"),
    *(*REASONING_KEYS, *REASONING_LISTS),
    *("token_id", "index", "id", "channel"),
}
_CALL_KEYS = frozenset({"index", "id", "type", "function", "custom", "name", "arguments"})


class OpenAIDecoder(EventsDecoder):
    """Decodes one answer; it is truncated without ``[DONE]`` or a finish reason."""

    protocol = "openai-chat"
    end_marker = "[DONE] or a finish reason"

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._reasoning = SurrogateJoiner()
        self._refusal = SurrogateJoiner()
        self._calls = ToolCallAssembler()
        self._usage: Usage | None = None
        self._choice_index: Any = None
        self._reads_messages = False
        """Whether choices have a ``message`` in place of a delta."""
        self._cited: set[str] = set()
        self._reasoning_pieces: dict[str, list[str]] = {}
        self._reasoning_parts: dict[str, list[dict[str, Any]]] = {}
        self._audio_id: str | None = None
        self._audio_data = ""

    # --- one event

    def _read_value(self, value: Any) -> None:
        if value.__class__ is not dict:
            if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
                value = value[0]
            else:
                raise MalformedStream(f"an event is not a JSON object: {short_repr(value)}")
        choices = value.get("choices")
        if self._model is None and "model" in value:
            self._read_model(value["model"])
        if choices:
            try:
                if len(choices) > 1:
                    self._read_choices(choices)
                else:
                    self._read_choice(choices[0])
            except WRONG_SHAPE as error:
                raise MalformedStream(
                    f"an event's 'choices' has the wrong shape: {error}"
                ) from error
        if usage := value.get("usage"):
            self._read_usage(usage)
        if not value.keys() <= CHUNK_KEYS or "choices" not in value:
            self._read_other_keys(value)
        if self.finished:
            self._raise_failed_reason(value)

    def _read_named_value(self, name: str, value: Any) -> None:
        if isinstance(value, dict) and ("choices" in value or value.get("error")):
            self._read_value(value)
        else:
            self._add_extra(f"event.{name}", value)

    def _read_choices(self, choices: list[dict[str, Any]]) -> None:
        """Read the first choice; the others are of no use to a reader of one answer.

        Copilot puts the text into the first choice of a whole answer, and the tool calls into the
        second one.
        """
        indexes = [choice.get("index") for choice in choices]
        first = indexes.index(self._choice_index) if self._choice_index in indexes else 0
        self._read_choice(choices[first])
        is_whole = isinstance(choices[first].get("message"), dict)
        for position, choice in enumerate(choices):
            if position != first:
                calls = (choice.get("message") or {}).get("tool_calls")
                if is_whole and calls and not self._calls.calls:
                    self._read_calls(calls)
                self._add_extra(f"choices[{position}]", choice)

    def _read_choice(self, choice: dict[str, Any]) -> None:
        if (index := choice.get("index")) != self._choice_index and index is not None:
            if self._choice_index is not None:
                self._add_extra(f"choices[{index}]", choice)
                return
            self._choice_index = index
        before = len(self._deltas)
        delta = choice.get("delta") or self._other_delta(choice)
        text = delta.get("content")
        if not delta.keys() <= PLAIN_KEYS:
            self._read_delta(delta)
        if text.__class__ is str and text.isascii() and not self._text.held:
            if text:
                self._deltas.append(text)
        elif text:
            self._read_content(text)
        elif text is None and "text" in choice:
            self._read_content(choice["text"] or "")
        if not choice.keys() <= CHOICE_KEYS:
            self._read_usage(choice.get("usage"))
            self._add_extras(choice, _READ_CHOICE_KEYS, "choices[0].")
            if error := choice.get("error"):
                raise server_error({"error": error})
        if self.finished:
            self._note_resumption(before)
        if reason := choice.get("finish_reason"):
            self._note_reason(reason)

    def _other_delta(self, choice: dict[str, Any]) -> dict[str, Any]:
        """Return what stands in place of a delta, unless it repeats the text of the deltas."""
        message = choice.get("message")
        if not message:
            return {}
        if not self._says_something:
            self._note_meaning(self._deltas)
        if self._says_something and not self._reads_messages:
            return {}
        self._reads_messages = True
        return message if isinstance(message, dict) else {"content": message}

    # --- the parts of a delta

    def _read_delta(self, delta: dict[str, Any]) -> None:
        """Read everything of a delta but its text."""
        self._read_reasoning(delta)
        if refusal := text_of(delta.get("refusal")):
            self._add_refusal(refusal)
        if calls := delta.get("tool_calls"):
            self._read_calls(calls)
        if call := delta.get("function_call"):
            self._add_call("function_call", 0, None, call.get("name"), call.get("arguments"))
        for annotation in delta.get("annotations") or ():
            self._deltas.append(citation_of(annotation))
        for image in delta.get("images") or ():
            self._read_media(image)
        if audio := delta.get("audio"):
            self._read_audio(audio)
        self._add_extras(delta, _READ_DELTA_KEYS, "choices[0].delta.")

    def _read_reasoning(self, delta: dict[str, Any]) -> None:
        text, key = reasoning_of(delta)
        if text:
            self._add_reasoning(text)
            if key in REASONING_KEYS:
                self._reasoning_pieces.setdefault(key, []).append(text)
        for key in REASONING_LISTS:
            if parts := delta.get(key):
                joined_parts(self._reasoning_parts.setdefault(key, []), parts)
                self._add_sealed_reasoning(key, parts)

    def _add_sealed_reasoning(self, key: str, parts: Any) -> None:
        """Append what reasoning parts hold besides their text: signatures and encrypted text."""
        for part in parts if isinstance(parts, list) else [parts]:
            for name in ("signature", "data"):
                if isinstance(part, dict):
                    self._add_extra(f"choices[0].delta.{key}.{name}", part.get(name))

    def _read_calls(self, calls: Any) -> None:
        for position, call in enumerate([calls] if isinstance(calls, dict) else calls):
            custom = call.get("custom")
            function = custom or call.get("function") or (call if "name" in call else {})
            arguments = text_of(custom.get("input")) if custom else function.get("arguments")
            added = self._add_call(
                call.get("index"), position, call.get("id"), function.get("name"), arguments
            )
            added.is_custom = added.is_custom or bool(custom)
            if not call.keys() <= _CALL_KEYS:
                number = self._calls.calls.index(added)
                added.more.update((k, v) for k, v in call.items() if k not in _CALL_KEYS)
                self._add_extras(call, _CALL_KEYS, f"choices[0].delta.tool_calls[{number}].")

    def _add_call(
        self, index: Any, position: int, call_id: Any, name: Any, arguments: Any
    ) -> PartialCall:
        if name or arguments:
            self._deltas.append(ToolCallStarted())
        return self._calls.add(index, position, call_id, name, arguments)

    def _read_audio(self, audio: dict[str, Any]) -> None:
        """Read sound: its transcript is the text."""
        self._audio_id = audio.get("id") or self._audio_id
        self._read_text(text_of(audio.get("transcript")))
        if data := audio.get("data"):
            self._audio_data += data
            length = len(self._audio_data) // 4 * 4
            whole, self._audio_data = self._audio_data[:length], self._audio_data[length:]
            if (sound := decode_base64(whole)) is not None:
                self._deltas.append(Media("audio", None, sound))
            else:
                self._add_extra("choices[0].delta.audio.data", whole)

    def _read_media(self, part: dict[str, Any]) -> None:
        media = list(media_of(part))
        self._deltas += media
        if not media:
            self._add_extra(f"choices[0].delta.content.{part.get('type')}", part)

    def _read_content(self, content: Any) -> None:
        """Read text, or a list of typed parts."""
        if isinstance(content, str):
            self._read_text(content)
            return
        if not isinstance(content, list):
            raise MalformedStream(f"an event's content is not text: {short_repr(content)}")
        for part in content:
            self._read_part(part)

    def _read_part(self, part: dict[str, Any]) -> None:
        kind = part.get("type")
        if kind in ("thinking", "reasoning"):
            self._add_reasoning(text_of(part))
        elif kind == "refusal":
            self._add_refusal(text_of(part.get("refusal")))
        elif kind == "reference":
            for source in part.get("reference_ids") or ():
                cited = citation_of(source)
                self._deltas.append(replace(cited, raw=part))
        elif isinstance(text := part.get("text"), str):
            self._read_text(text)
        else:
            self._read_media(part)

    def _add_reasoning(self, text: str) -> None:
        if text := self._reasoning.feed(text):
            self._deltas.append(ReasoningDelta(text))

    def _add_refusal(self, text: str) -> None:
        if text := self._refusal.feed(text):
            self._deltas.append(Refusal(text))

    # --- what stands beside the choices

    def _read_usage(self, counts: Any) -> None:
        usage = openai_usage(counts, self._usage)
        if usage is not None:
            self._usage = usage
            self._deltas.append(usage)

    def _read_other_keys(self, value: dict[str, Any]) -> None:
        is_answer = "choices" in value or bool(value.get("usage"))
        if reports_error(value, is_answer=is_answer):
            raise server_error(value)
        groq = value.get("x_groq")
        if isinstance(groq, dict):
            if groq.get("error"):
                raise server_error(groq)
            self._read_usage(groq.get("usage"))
            self._add_extras(groq, _READ_GROQ_KEYS, "x_groq.")
        for key in ("search_results", "citations"):
            for source in value.get(key) or ():
                self._cite_once(source)
        self._add_extras(value, _READ_CHUNK_KEYS)
        if not (is_answer or value.get("type") in ("ping", "keepalive")):
            self._words = self._words or short_repr(json_text(value))

    def _cite_once(self, source: Any) -> None:
        """Append a source of a list that stands in every event."""
        citation = citation_of(source)
        if citation.url not in self._cited:
            self._cited.add(citation.url or "")
            self._deltas.append(citation)

    # --- the end

    def _read_answer(self, answer: Any) -> None:
        self._read_value(answer)
        self._conclude()

    def _flush_surrogates(self) -> None:
        super()._flush_surrogates()
        if rest := self._reasoning.end():
            self._deltas.append(ReasoningDelta(rest))
        if rest := self._refusal.end():
            self._deltas.append(Refusal(rest))

    def _finish(self) -> None:
        self._deltas.extend(self._calls.finished())

    def _message_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            key: join_surrogates("".join(pieces)) for key, pieces in self._reasoning_pieces.items()
        }
        fields.update(self._reasoning_parts)
        if self._audio_id:
            fields["audio"] = {"id": self._audio_id}
        more = [call.more for call in self._calls.calls if call.name]
        if any(more):
            fields["tool_calls"] = more
        return fields
