"""Reads a delta, or a whole message, of OpenAI's protocol: reasoning, calls, sources, media."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import MalformedStream
from ..types import Media
from .openai_calls import CallsDecoder
from .openai_parts import (
    REASONING_KEYS,
    REASONING_LISTS,
    PartJoiner,
    citation_of,
    decode_base64,
    media_of,
    more_of,
    reasoning_of,
    text_of,
)
from .parsing import join_surrogates, json_text, short_repr
from .server_errors import is_error, server_error

PLAIN_KEYS = frozenset({"content", "role"})
"""Keys of a delta that holds text."""
_REASONING = frozenset({*REASONING_KEYS, *REASONING_LISTS})
_READ_DELTA_KEYS = PLAIN_KEYS | {
    *("refusal", "tool_calls", "function_call", "annotations", "images", "audio"),
    *(*REASONING_KEYS, *REASONING_LISTS),
    *("token_id", "index", "id", "channel"),
}
_RETURNED_KEYS = ("reasoning_opaque", "extra_content", "provider_specific_fields")
"""Signatures beside the text (Copilot, Gemini, LiteLLM), which go back with the next request."""
_AUDIO_KEYS = frozenset({"id", "data", "transcript"})
_TEXT_PART_KEYS = frozenset({"type", "text", "annotations", "index", "id"})


class DeltaDecoder(CallsDecoder):
    """The base of ``OpenAIDecoder``: knows what a delta holds, and nothing of events."""

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._said: set[str] = set()
        """Keys under which deltas have said something, besides ``content``."""
        self._cited: set[str] = set()
        self._reasoning_pieces: dict[str, list[str]] = {}
        self._reasoning_parts: dict[str, PartJoiner] = {}
        self._returned: dict[str, Any] = {}
        self._audio_id: str | None = None
        self._audio_data = ""

    def _read_delta(self, delta: dict[str, Any]) -> None:
        """Read everything of a delta but its text."""
        self._read_reasoning_texts(delta)
        for key, value in delta.items():
            if value and key not in PLAIN_KEYS:
                self._said.add(key)
                if value.__class__ is not str and key in _REASONING:
                    self._read_reasoning_parts(key, value)
        if refusal := text_of(delta.get("refusal")):
            self._read_refusal(refusal)
        if calls := delta.get("tool_calls"):
            self._read_calls(calls)
        elif call := delta.get("function_call"):
            self._read_function_call(call)
        if annotations := delta.get("annotations"):
            self._cite(annotations)
        if images := delta.get("images"):
            self._read_images(images)
        if audio := delta.get("audio"):
            self._read_audio(audio)
        if is_error(error := delta.get("error")):
            raise server_error({"error": error})
        self._returned.update((key, delta[key]) for key in _RETURNED_KEYS if delta.get(key))
        self._add_extras(delta, _READ_DELTA_KEYS, "choices[0].delta.")

    def _read_reasoning_texts(self, delta: dict[str, Any]) -> None:
        text, key = reasoning_of(delta)
        if text:
            self._read_reasoning(text)
            if key in REASONING_KEYS:
                self._reasoning_pieces.setdefault(key, []).append(text)
            for other in REASONING_KEYS:
                if isinstance(delta.get(other), str) and delta[other] not in ("", text):
                    self._add_extra(f"choices[0].delta.{other}", delta[other])

    def _read_reasoning_parts(self, key: str, parts: Any) -> None:
        if key in REASONING_LISTS:
            self._reasoning_parts.setdefault(key, PartJoiner()).add(parts)
        self._add_more(parts, f"choices[0].delta.{key}")

    def _add_more(self, parts: Any, place: str) -> None:
        """Append what reasoning parts hold besides their text: signatures and encrypted text."""
        for path, value in more_of(parts, place):
            self._add_extra(path, value)

    def _read_audio(self, audio: Any) -> None:
        """Read sound: its transcript is the text."""
        if not isinstance(audio, dict):
            self._add_extra("choices[0].delta.audio", audio)
            return
        self._audio_id = audio.get("id") or self._audio_id
        self._read_text(text_of(audio.get("transcript")))
        data = audio.get("data")
        if data and not isinstance(data, str):
            self._add_extra("choices[0].delta.audio.data", data)
        elif data:
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

    def _read_images(self, images: Any) -> None:
        for image in images if isinstance(images, list) else [images]:
            if isinstance(image, dict):
                self._read_media(image)
            else:
                self._add_extra("choices[0].delta.images", image)

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
            self._read_reasoning(text_of(part))
            self._add_more(part, "choices[0].delta.content")
        elif kind == "refusal":
            self._read_refusal(text_of(part.get("refusal")))
        elif kind == "reference":
            sources = part.get("reference_ids") or ()
            for source in sources if isinstance(sources, list) else [sources]:
                self._deltas.append(replace(citation_of(source), raw=part))
        elif isinstance(text := part.get("text"), str):
            self._read_text(text)
            self._cite(part.get("annotations") or [])
            self._add_extras(part, _TEXT_PART_KEYS, "choices[0].delta.content.")
        else:
            self._read_media(part)

    def _cite(self, sources: Any) -> None:
        """Append the sources of a list, which may stand in every event."""
        for source in sources if isinstance(sources, list) else [sources]:
            if not isinstance(source, (str, dict)):
                self._add_extra("citations", source)
                continue
            same = source if isinstance(source, str) else json_text(source)
            if same not in self._cited:
                citation = citation_of(source)
                self._cited.update((same, citation.url or same))
                self._deltas.append(citation)

    def _message_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = dict(self._returned)
        fields |= {
            key: join_surrogates("".join(pieces)) for key, pieces in self._reasoning_pieces.items()
        }
        for key, joiner in self._reasoning_parts.items():
            if parts := joiner.parts():
                fields[key] = parts
        if self._audio_id:
            fields["audio"] = {"id": self._audio_id}
        more = [call.more_to_return() for call in self._calls.calls if call.name]
        if any(more):
            fields["tool_calls"] = more
        return fields
