"""Decoder for Gemini's protocol: ``streamGenerateContent`` and ``generateContent``.

Reference: Gemini API, ``GenerateContentResponse``. The end marker is a ``finishReason``, or the
``blockReason`` of a prompt that was not answered.
"""

from __future__ import annotations

from typing import Any

from ..error_words import as_text
from ..errors import MalformedStream
from ..types import ReasoningDelta, ToolCallStarted, Usage
from .counts import RAW_COUNTS, gemini_usage
from .events import EventsDecoder
from .gemini_calls import FunctionCalls
from .gemini_parts import (
    ReturnedParts,
    are_cited_whole,
    grounding_citations,
    media_of,
    recited_citations,
)
from .json_array import ArrayParser
from .parsing import WRONG_SHAPE, SurrogateJoiner, json_text, parse_json, short_repr
from .server_errors import is_error_name, reports_error, server_error

_EVENT_KEYS = frozenset(
    {
        *("candidates", "usageMetadata", "modelVersion", "responseId", "createTime"),
        *("promptFeedback", "error"),
    }
)
_CANDIDATE_KEYS = frozenset(
    {"content", "finishReason", "index", "groundingMetadata", "citationMetadata", "tokenCount"}
)
_PART_KEYS = frozenset({"text", "thought", "functionCall", "inlineData", "fileData"})
_CITATION_KEYS = frozenset({"citationSources", "citations"})
_GROUNDING_KEYS = frozenset({"groundingChunks", "groundingSupports"})
_UNSPECIFIED = (
    "FINISH_REASON_UNSPECIFIED",
    "BLOCK_REASON_UNSPECIFIED",
    "BLOCKED_REASON_UNSPECIFIED",
)
_OUTPUT_COUNTS = frozenset({"candidatesTokenCount", "thoughtsTokenCount"})
_PLACE = "candidates[0]."


class GeminiDecoder(EventsDecoder):
    """Decodes one answer; it is truncated without a ``finishReason``."""

    protocol = "gemini"
    end_marker = "a finishReason"

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._array: ArrayParser | None = None
        self._reasoning = SurrogateJoiner()
        self._calls = FunctionCalls()
        self._returned = ReturnedParts()
        self._response_id = ""
        self._counts: dict[str, Any] = {}
        self._usage: Usage | None = None
        self._cited: set[tuple[Any, ...]] = set()

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
        is_answer = not _EVENT_KEYS.isdisjoint(value.keys() - {"error"})
        if reports_error(value, is_answer=is_answer):
            raise server_error(value)
        self._read_model(value.get("modelVersion"))
        self._response_id = self._response_id or as_text(value.get("responseId") or "")
        try:
            for position, candidate in enumerate(value.get("candidates") or ()):
                if candidate.get("index", position) or position:
                    self._add_extra(f"candidates[{candidate.get('index', position)}]", candidate)
                else:
                    self._read_candidate(candidate)
            self._read_feedback(value.get("promptFeedback") or {})
            self._read_counts(value.get("usageMetadata") or {})
        except WRONG_SHAPE as error:
            raise MalformedStream(f"an event has the wrong shape: {error}") from error
        if not value.keys() <= _EVENT_KEYS:
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
            self._read_part(part)
        if grounding := candidate.get("groundingMetadata"):
            self._cite(grounding_citations(grounding))
            whole = are_cited_whole(grounding.get("groundingSupports"))
            known = _GROUNDING_KEYS if whole else _GROUNDING_KEYS - {"groundingSupports"}
            self._add_extras(grounding, known, f"{_PLACE}groundingMetadata.")
        if citations := candidate.get("citationMetadata"):
            self._cite(recited_citations(citations))
            self._add_extras(citations, _CITATION_KEYS, f"{_PLACE}citationMetadata.")
        if not candidate.keys() <= _CANDIDATE_KEYS:
            self._add_extras(candidate, _CANDIDATE_KEYS, _PLACE)
        self._note_resumption(before)
        self._note_end(candidate.get("finishReason"))

    def _note_end(self, reason: Any) -> None:
        if reason and reason not in _UNSPECIFIED and not (self.finished and reason == "STOP"):
            self._note_reason(reason)  # STOP says less than what may stand before it

    def _read_part(self, part: dict[str, Any]) -> None:
        is_thought = bool(part.get("thought"))
        if "functionCall" in part:
            self._read_call(part["functionCall"] or {}, part)
        else:
            self._returned.add(part)
        text = part.get("text")
        if isinstance(text, str):
            if not is_thought:
                self._read_text(text)
            elif text := self._reasoning.feed(text):
                self._deltas.append(ReasoningDelta(text))
        elif text is not None:
            raise TypeError("text is no string")
        known = _PART_KEYS
        if "inlineData" in part or "fileData" in part:
            media = None if is_thought else media_of(part)
            if media is not None:
                self._deltas.append(media)
            else:
                known = known - {"inlineData", "fileData"}
        if not part.keys() <= known:
            self._add_extras(part, known, f"{_PLACE}content.parts.")

    def _read_call(self, piece: dict[str, Any], part: dict[str, Any]) -> None:
        count = len(self._calls.calls)
        call = self._calls.add(piece, self._response_id)
        self._deltas.append(ToolCallStarted())
        if call is None:
            return
        if len(self._calls.calls) > count:
            self._returned.add_call(call)
        call.part.update({key: part[key] for key in part.keys() - {"functionCall"}})

    def _cite(self, citations: Any) -> None:
        """Append sources, which may stand in every event."""
        for citation in citations:
            key = (citation.url, citation.title, citation.text, citation.start, citation.end)
            if key not in self._cited:
                self._cited.add(key)
                self._deltas.append(citation)

    def _read_feedback(self, feedback: dict[str, Any]) -> None:
        self._note_end(feedback.get("blockReason"))
        self._add_extras(feedback, frozenset(), "promptFeedback.")

    def _read_counts(self, counts: dict[str, Any]) -> None:
        if not isinstance(counts, dict):
            raise TypeError("usageMetadata is no object")
        if not counts:
            return
        if not _OUTPUT_COUNTS.isdisjoint(counts):  # those of one event belong together
            self._counts = {k: v for k, v in self._counts.items() if k not in _OUTPUT_COUNTS}
        if len(self._counts) <= RAW_COUNTS:
            self._counts.update(counts)
        usage = gemini_usage(self._counts)
        if usage is not None and usage != self._usage:  # most events repeat it
            self._usage = usage
            self._deltas.append(usage)

    # --- the end

    def _read_answer(self, answer: Any) -> None:
        self._read_value(answer)
        self._check_end()
        self._conclude()

    def _flush_surrogates(self) -> None:
        super()._flush_surrogates()
        if rest := self._reasoning.end():
            self._deltas.append(ReasoningDelta(rest))

    def _finish(self) -> None:
        self._deltas.extend(self._calls.finished())

    def _message_fields(self) -> dict[str, Any]:
        parts = self._returned.parts()
        return {"parts": parts} if parts else {}
