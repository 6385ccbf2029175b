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
    more_of,
    reasoning_of,
    text_of,
)
from .parsing import WRONG_SHAPE, SurrogateJoiner, join_surrogates, json_text, short_repr
from .server_errors import is_error, reports_error, server_error
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
_FUNCTION_KEYS = _CALL_KEYS | {"input", "description"}
_AUDIO_KEYS = frozenset({"id", "data", "transcript"})
_TEXT_PART_KEYS = frozenset({"type", "text", "annotations", "index", "id"})
_CALLS = ("tool_calls", "function_call")
_SAME = ((*REASONING_KEYS, *REASONING_LISTS), _CALLS)
"""Keys of a delta that say the same, in other words."""


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
        self._message: dict[str, Any] = {}
        """The last one that stood beside a delta, which mostly repeats what the deltas said."""
        self._said: set[str] = set()
        """Keys under which deltas have said something, besides ``content``."""
        self._has_text = False
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
        if isinstance(value, dict) and any(value.get(k) for k in ("choices", "error", "usage")):
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
                self._has_text = True
                self._deltas.append(text)
        elif text:
            self._has_text = True
            self._read_content(text)
        elif text is None and "text" in choice:
            self._read_content(choice["text"] or "")
        if not choice.keys() <= CHOICE_KEYS:
            self._read_usage(choice.get("usage"))
            self._add_extras(choice, _READ_CHOICE_KEYS, "choices[0].")
            if is_error(error := choice.get("error")):
                raise server_error({"error": error})
            if choice.get("delta") and isinstance(message := choice.get("message"), dict):
                self._message = message
        if self.finished:
            self._note_resumption(before)
        if reason := choice.get("finish_reason"):
            self._note_reason(reason)

    def _other_delta(self, choice: dict[str, Any]) -> dict[str, Any]:
        """Return what stands in place of a delta, without what the deltas have said."""
        message = choice.get("message") or {}
        if not isinstance(message, dict):
            message = {"content": message}
        if not (self._reads_messages or self._has_text or self._said):
            self._reads_messages = bool(message)
        return message if self._reads_messages else self._unsaid(message)

    def _unsaid(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a message that no delta has had."""
        said = self._said | {"content"} if self._has_text else set(self._said)
        for keys in _SAME:
            if not said.isdisjoint(keys):
                said.update(keys)
        return {key: value for key, value in message.items() if key not in said}

    # --- the parts of a delta

    def _read_delta(self, delta: dict[str, Any]) -> None:
        """Read everything of a delta but its text."""
        self._said.update([key for key, value in delta.items() if value and key not in PLAIN_KEYS])
        self._read_reasoning(delta)
        if refusal := text_of(delta.get("refusal")):
            self._add_refusal(refusal)
        if calls := delta.get("tool_calls"):
            self._read_calls(calls)
        elif call := delta.get("function_call"):
            self._add_call("function_call", 0, None, call.get("name"), call.get("arguments"))
        if annotations := delta.get("annotations"):
            self._cite(annotations)
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
        for key in (*REASONING_KEYS, *REASONING_LISTS):
            if (parts := delta.get(key)) and not isinstance(parts, str):
                if key in REASONING_LISTS:
                    joined_parts(self._reasoning_parts.setdefault(key, []), parts)
                self._add_more(parts, f"choices[0].delta.{key}")

    def _add_more(self, parts: Any, place: str) -> None:
        """Append what reasoning parts hold besides their text: signatures and encrypted text."""
        for path, value in more_of(parts, place):
            self._add_extra(path, value)

    def _read_calls(self, calls: Any) -> None:
        for position, call in enumerate([calls] if isinstance(calls, dict) else calls):
            custom = call.get("custom")
            function = custom or call.get("function") or (call if "name" in call else {})
            arguments = text_of(custom.get("input")) if custom else function.get("arguments")
            added = self._add_call(
                call.get("index"), position, call.get("id"), function.get("name"), arguments
            )
            added.is_custom = added.is_custom or bool(custom)
            if not (call.keys() <= _CALL_KEYS and function.keys() <= _FUNCTION_KEYS):
                place = f"choices[0].delta.tool_calls[{self._calls.calls.index(added)}]."
                added.more.update((k, v) for k, v in call.items() if k not in _CALL_KEYS)
                self._add_extras(call, _CALL_KEYS, place)
                self._add_extras(function, _FUNCTION_KEYS, f"{place}function.")

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
        self._add_extras(audio, _AUDIO_KEYS, "choices[0].delta.audio.")

    def _flush_audio(self) -> None:
        """Read the rest of sound whose base64 has no padding."""
        if rest := self._audio_data:
            self._audio_data = ""
            self._read_audio({"data": rest + "=" * (-len(rest) % 4)})

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
            self._add_more(part, "choices[0].delta.content")
        elif kind == "refusal":
            self._add_refusal(text_of(part.get("refusal")))
        elif kind == "reference":
            for source in part.get("reference_ids") or ():
                cited = citation_of(source)
                self._deltas.append(replace(cited, raw=part))
        elif isinstance(text := part.get("text"), str):
            self._read_text(text)
            self._cite(part.get("annotations") or ())
            self._add_extras(part, _TEXT_PART_KEYS, "choices[0].delta.content.")
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
        else:
            self._add_extra("usage", counts)

    def _read_other_keys(self, value: dict[str, Any]) -> None:
        is_answer = "choices" in value or bool(value.get("usage"))
        if reports_error(value, is_answer=is_answer):
            raise server_error(value)
        groq = value.get("x_groq")
        if isinstance(groq, dict):
            if is_error(groq.get("error")):
                raise server_error(groq)
            self._read_usage(groq.get("usage"))
            self._add_extras(groq, _READ_GROQ_KEYS, "x_groq.")
        for key in ("search_results", "citations"):
            self._cite(value.get(key) or ())
        self._add_extras(value, _READ_CHUNK_KEYS)
        if not (is_answer or value.get("type") in ("ping", "keepalive")):
            self._words = self._words or short_repr(json_text(value))

    def _cite(self, sources: Any) -> None:
        """Append the sources of a list, which may stand in every event."""
        for source in [sources] if isinstance(sources, (str, dict)) else sources:
            same = source if isinstance(source, str) else json_text(source)
            if same not in self._cited:
                citation = citation_of(source)
                self._cited.update((same, citation.url or same))
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
        if rest := self._unsaid(self._message):
            self._read_choice({"delta": rest})
            self._flush_surrogates()
        self._flush_audio()
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
