"""Reads the text of OpenAI's Responses API, which comes in deltas and again as a whole.

Reference: OpenAI API, "Responses", streaming events. A whole (``….done``, an item, the response at
the end) repeats the deltas of a part, and is read where a server has sent none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

from ..error_words import as_text
from ..types import ReasoningDelta, Refusal
from .events import EventsDecoder
from .openai_parts import citation_of, text_of
from .parsing import SurrogateJoiner, json_text
from .responses_items import text_parts

TEXT_EVENTS = {
    "response.output_text": "output_text",
    "response.refusal": "refusal",
    "response.reasoning_text": "reasoning_text",
    "response.reasoning_summary_text": "summary_text",
    "response.reasoning": "reasoning_text",
    "response.reasoning_summary": "summary_text",
}
"""The kind of part that an event is about; the last two are names that vLLM and others used."""
_REASONING = ("reasoning_text", "summary_text")
_PART_KEYS = frozenset({"type", "text", "refusal", "annotations", "logprobs"})


class TextsDecoder(EventsDecoder):
    """The base of ``ResponsesDecoder``: knows texts and parts, and nothing of items."""

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._reasoning = SurrogateJoiner()
        self._refusal = SurrogateJoiner()
        self._said: set[tuple[Hashable, str, Any]] = set()
        """Parts that have said something: item, kind and index."""
        self._said_parts: Counter[tuple[Hashable, str]] = Counter()
        """How many parts of each kind that are, of each item."""
        self._has_answer = False
        """Whether there was text or a refusal."""
        self._cited: set[str] = set()

    def _add_text(self, place: Hashable, kind: str, index: Any, text: str) -> None:
        """Append a piece of a part."""
        if not text:
            return
        if (part := (place, kind, index)) not in self._said:
            self._said.add(part)
            self._said_parts[place, kind] += 1
        if kind in _REASONING:
            if text := self._reasoning.feed(text):
                self._deltas.append(ReasoningDelta(text))
            return
        self._has_answer = True
        if kind == "refusal":
            if text := self._refusal.feed(text):
                self._deltas.append(Refusal(text))
        else:
            self._read_text(text)

    def _add_whole(self, place: Hashable, kind: str, index: Any, text: str) -> None:
        """Append the text of a part that has said nothing yet."""
        if (place, kind, index) not in self._said:
            self._add_text(place, kind, index, text)

    def _read_part(self, place: Hashable, index: Any, part: dict[str, Any], kind: str = "") -> None:
        """Read a part, whole or as it begins."""
        kind = part.get("type") or kind
        where = f"output[{place}].content[{index}]"
        if kind in ("output_text", "text", *_REASONING):
            kind = "output_text" if kind == "text" else kind
            self._add_whole(place, kind, index, text_of(part.get("text")))
            self._cite(part.get("annotations") or ())
            self._add_extra(f"{where}.logprobs", part.get("logprobs"))
            self._add_extras(part, _PART_KEYS, f"{where}.")
        elif kind == "refusal":
            self._add_whole(place, kind, index, text_of(part.get("refusal")))
        else:
            self._add_extra(where, part)

    def _read_item_texts(self, place: Hashable, item: dict[str, Any]) -> None:
        """Read the parts of an item; events may have counted them in another way."""
        parts = list(text_parts(item))
        whole = Counter(kind for kind, _, part in parts if text_of(part))
        places = {place, as_text(item.get("id") or ""), ""}  # deltas may have no index, or no id
        said = {kind: max(self._said_parts[each, kind] for each in places) for kind in whole}
        for kind, index, part in parts:
            if whole[kind] and said[kind] >= whole[kind]:
                self._said.add((place, kind, index))
            self._read_part(place, index, part, kind)

    def _cite(self, annotations: Any) -> None:
        for annotation in annotations:
            same = json_text(annotation)
            if same not in self._cited:
                self._cited.add(same)
                self._deltas.append(citation_of(annotation))

    def _flush_surrogates(self) -> None:
        super()._flush_surrogates()
        if rest := self._reasoning.end():
            self._deltas.append(ReasoningDelta(rest))
        if rest := self._refusal.end():
            self._deltas.append(Refusal(rest))
