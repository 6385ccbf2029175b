"""Decoder for Gemini's protocol: ``streamGenerateContent`` and ``generateContent``.

Reference: Gemini API, ``GenerateContentResponse``. The end marker is a ``finishReason``, or the
``blockReason`` of a prompt that was not answered.
"""

from __future__ import annotations

from typing import Any

from ..error_words import as_text
from ..errors import MalformedStream, StreamCut
from ..types import ToolCallStarted, Usage
from .counts import gemini_counts, gemini_usage
from .events import EventsDecoder
from .gemini_calls import CALL_KEYS, FunctionCalls
from .gemini_parts import PLAIN_KEYS, ReturnedParts, media_of, split_candidates
from .gemini_sources import Sources
from .json_array import ArrayParser
from .parsing import WRONG_SHAPE, json_text, parse_json, short_repr
from .server_errors import is_error_name, reports_error, server_error

_ANSWER_KEYS = frozenset(
    {
        *("candidates", "usageMetadata", "modelVersion", "responseId", "createTime"),
        "promptFeedback",
    }
)
_EVENT_KEYS = _ANSWER_KEYS | {"error"}
_CANDIDATE_KEYS = frozenset(
    {"content", "finishReason", "index", "groundingMetadata", "citationMetadata"}
)
_CONTENT_KEYS = frozenset({"parts", "role"})
_FILES = frozenset({"inlineData", "fileData"})
_FILE_KEYS = frozenset({"mimeType", "data", "fileUri"})
_PART_KEYS = frozenset({"text", "thought", "functionCall", *_FILES})
_FEEDBACK_KEYS = frozenset({"blockReason"})
_CITATION_KEYS = frozenset({"citationSources", "citations"})
_GROUNDING_KEYS = frozenset({"groundingChunks", "groundingSupports"})
_UNSPECIFIED = "_UNSPECIFIED"
"""How the names of reasons end that are none."""
_PLACE = "candidates[0]."
_PARTS = "candidates[0].content.parts."


class GeminiDecoder(EventsDecoder):
    """Decodes one answer; it is truncated without a ``finishReason``."""

    protocol = "gemini"
    end_marker = "a finishReason"

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._array: ArrayParser | None = None
        self._calls = FunctionCalls()
        self._returned = ReturnedParts()
        self._response_id = ""
        self._last_counts: dict[str, Any] = {}
        self._counts: dict[str, Any] = {}
        self._usage: Usage | None = None
        self._sources = Sources()

    # --- the body: events, or a list of what they hold

    def _detect_format(self, is_all: bool) -> str:
        if self._held.lstrip().startswith(b"["):
            self._array = ArrayParser()
            return "stream"
        return super()._detect_format(is_all)

    def _read_stream(self, data: bytes) -> None:
        if self._array is None:
            super()._read_stream(data)
            return
        for value in self._array.feed(data):
            self._read_value(parse_json(value.decode("utf-8", "replace")))

    # --- one event

    def _read_value(self, value: Any) -> None:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, dict):
            raise MalformedStream(f"an event is not a JSON object: {short_repr(value)}")
        is_answer = not _ANSWER_KEYS.isdisjoint(value)
        is_error = reports_error(value, is_answer=is_answer)
        self._read_model(value.get("modelVersion"))
        self._response_id = self._response_id or as_text(value.get("responseId") or "")
        try:
            first, others = split_candidates(value.get("candidates"))
            if first is not None:
                self._read_candidate(first)
            for index, candidate in others:
                self._add_extra(f"candidates[{index}]", candidate)
            if feedback := value.get("promptFeedback"):
                self._read_feedback(feedback)
            self._read_counts(value.get("usageMetadata") or {})
        except WRONG_SHAPE as error:
            if not is_error:
                raise MalformedStream(f"an event has the wrong shape: {error}") from error
        if is_error:
            raise server_error(value)
        self._add_extras(value, _EVENT_KEYS)
        if not is_answer:
            self._words = self._words or short_repr(json_text(value))
        if self.finished:
            self._note_failure(value)

    def _read_named_value(self, name: str, value: Any) -> None:
        if isinstance(value, dict) and is_error_name(name) and "candidates" not in value:
            raise server_error(value)
        self._read_value(value)

    def _read_candidate(self, candidate: dict[str, Any]) -> None:
        before = len(self._deltas)
        content = candidate.get("content") or {}
        parts = content.get("parts") or ()
        for part in [parts] if isinstance(parts, dict) else parts:
            if part:
                self._read_part(part)
        self._add_extras(content, _CONTENT_KEYS, f"{_PLACE}content.")
        if grounding := candidate.get("groundingMetadata"):
            place = f"{_PLACE}groundingMetadata."
            self._deltas += self._sources.grounding(grounding)
            self._add_extra(f"{place}groundingSupports", self._sources.unnamed(grounding))
            self._add_extras(grounding, _GROUNDING_KEYS, place)
        if citations := candidate.get("citationMetadata"):
            self._deltas += self._sources.recited(citations)
            self._add_extras(citations, _CITATION_KEYS, f"{_PLACE}citationMetadata.")
        if not candidate.keys() <= _CANDIDATE_KEYS:
            self._add_extras(candidate, _CANDIDATE_KEYS, _PLACE)
        self._note_resumption(before)
        self._note_end(candidate.get("finishReason"))

    def _note_end(self, reason: Any) -> None:
        if not reason or str(reason).endswith(_UNSPECIFIED):
            return
        if not (self.finished and reason == "STOP"):  # which says less than what stood before it
            self._note_reason(reason)

    def _read_part(self, part: dict[str, Any]) -> None:
        is_thought = bool(part.get("thought"))
        if "functionCall" in part:
            self._read_call(part["functionCall"] or {}, part)
        else:
            self._returned.add(part)
        text = part.get("text")
        if isinstance(text, str):
            if is_thought:
                self._read_reasoning(text)
            else:
                self._read_text(text)
        elif text is not None:
            raise TypeError("text is not a string")
        if not part.keys() <= PLAIN_KEYS:
            for key in part.keys() & _FILES:
                self._read_file(part[key], key, is_thought)
            self._add_extras(part, _PART_KEYS, _PARTS)

    def _read_file(self, source: Any, key: str, is_thought: bool) -> None:
        media = None if is_thought else media_of(source)
        if media is None:
            self._add_extra(f"{_PARTS}{key}", source)
            return
        self._deltas.append(media)
        self._add_extras(source, _FILE_KEYS, f"{_PARTS}{key}.")

    def _read_call(self, piece: dict[str, Any], part: dict[str, Any]) -> None:
        count = len(self._calls.calls)
        call = self._calls.add(piece, self._response_id)
        self._deltas.append(ToolCallStarted())
        if not piece.keys() <= CALL_KEYS:
            self._add_extras(piece, CALL_KEYS, f"{_PARTS}functionCall.")
        if call is None:
            return
        if len(self._calls.calls) > count:
            self._returned.add_call(call)
        call.part.update({key: part[key] for key in part.keys() - {"functionCall"}})

    def _read_feedback(self, feedback: dict[str, Any]) -> None:
        self._note_end(feedback.get("blockReason"))
        self._add_extras(feedback, _FEEDBACK_KEYS, "promptFeedback.")

    def _read_counts(self, counts: dict[str, Any]) -> None:
        if not isinstance(counts, dict):
            raise TypeError("usageMetadata is not an object")
        if not counts or counts == self._last_counts:  # most events repeat them
            return
        self._last_counts = counts
        self._counts = gemini_counts(self._counts, counts)
        usage = gemini_usage(self._counts)
        if usage is not None and usage != self._usage:
            self._usage = usage
            self._deltas.append(usage)

    # --- the end

    def _end_stream(self) -> None:
        if self._array is not None and self._array.is_inside_value and self.resumed:
            raise StreamCut("the stream ends inside an event")
        super()._end_stream()

    def _check_end(self) -> None:
        self.ended = self.ended and self.finished  # a proxy's [DONE] proves nothing
        super()._check_end()

    def _read_answer(self, answer: Any) -> None:
        self._read_value(answer)
        self._check_end()
        self._conclude()

    def _finish(self) -> None:
        self._deltas.extend(self._calls.finished())

    def _message_fields(self) -> dict[str, Any]:
        parts = self._returned.parts()
        return {"parts": parts} if parts else {}
