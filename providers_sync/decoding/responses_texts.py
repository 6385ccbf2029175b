"""Reads the text of OpenAI's Responses API, which comes in deltas and again as a whole.

Reference: OpenAI API, "Responses", streaming events. A whole (``….done``, an item, the response at
the end) repeats the deltas of a part, and is read where a server has sent none.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from .events import EventsDecoder
from .openai_parts import citation_of, media_of, text_of
from .parsing import json_text
from .responses_items import ITEM_KEYS, image_of, kind_of, text_parts
from .responses_outputs import OutputItem

TEXT_EVENTS = {
    "response.output_text": "output_text",
    "response.refusal": "refusal",
    "response.reasoning_text": "reasoning_text",
    "response.reasoning_summary_text": "summary_text",
    "response.reasoning": "reasoning_text",
    "response.reasoning_summary": "summary_text",
}
"""The kind of part that an event is about; the last two are names that vLLM and others used."""
FAMILIES = {
    **dict.fromkeys(("output_text", "refusal"), "message"),
    **dict.fromkeys(("reasoning_text", "summary_text"), "reasoning"),
}
"""The type of the items that have a part of each kind."""
_SAME = {"summary_text": "reasoning_text", "reasoning_text": "summary_text"}
"""Kinds of parts that may have the same text: a summary, and the reasoning itself."""
_PART_KEYS = frozenset({"type", "text", "refusal", "annotations", "logprobs"})


class TextsDecoder(EventsDecoder):
    """The base of ``ResponsesDecoder``: knows texts and parts of items."""

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._characters: Counter[str] = Counter()
        """How much was said in items of each family."""
        self._once: set[int] = set()
        """Hashes of what servers send several times."""
        self.goes_on = False
        """Whether it reads the rest of an answer that has broken."""

    def _add_text(self, item: OutputItem, kind: str, index: Any, text: str) -> None:
        """Append a piece of a part."""
        if not text:
            return
        item.add(kind, index, len(text))
        self._characters[FAMILIES[kind]] += len(text)
        if kind == "output_text":
            self._read_text(text)
        elif kind == "refusal":
            self._read_refusal(text)
        else:
            self._read_reasoning(text)

    def _add_whole(self, item: OutputItem, kind: str, index: Any, text: str) -> None:
        """Append the text of a part that has said nothing yet.

        If it is longer than what the deltas have said, it is an ``Extra``: some were lost. After a
        break it is the rest.
        """
        said = item.said.get((kind, index))
        if said is None:
            self._add_text(item, kind, index, text)
        elif len(text) > said and self.goes_on:
            self._add_text(item, kind, index, text[said:])
        elif len(text) > said:
            self._add_once(f"{_place(item, kind, index)}.text", text)

    def _add_logprobs(self, item: OutputItem, kind: str, index: Any, value: Any) -> None:
        """Append log probabilities as a whole, unless deltas have brought them."""
        if value and ("logprobs", index) not in item.said:
            item.said["logprobs", index] = 0
            self._add_extra(f"{_place(item, kind, index)}.logprobs", value)

    def _read_text_event(self, item: OutputItem, kind: str, verb: str, value: Any) -> None:
        """Read a piece of a text, or all of it."""
        index = value.get("summary_index" if kind == "summary_text" else "content_index", 0)
        if verb != "delta":
            self._add_whole(item, kind, index, text_of(value.get("text") or value.get("refusal")))
            self._add_logprobs(item, kind, index, value.get("logprobs"))
            self._cite(value.get("annotations"))
            return
        delta = value.get("delta", value.get("text"))
        if text := text_of(delta):
            self._add_text(item, kind, index, text)
        else:
            self._add_extra(f"{_place(item, kind, index)}.delta", delta)
        if logprobs := value.get("logprobs"):
            item.said["logprobs", index] = 0
            self._add_extra(f"{_place(item, kind, index)}.logprobs", logprobs)

    def _read_part(self, item: OutputItem, index: Any, part: dict[str, Any], kind: str) -> None:
        """Read a part, whole or as it begins."""
        where = _place(item, kind, index)
        if kind in FAMILIES:
            self._add_whole(item, kind, index, text_of(part.get("text") or part.get("refusal")))
            self._cite(part.get("annotations"))
            self._add_logprobs(item, kind, index, part.get("logprobs"))
            for key in part.keys() - _PART_KEYS:
                self._add_once(f"{where}.{key}", part[key])
        elif self._is_new(where, part):
            media = list(media_of(part))
            self._deltas += media
            if not media:
                self._add_extra(where, part)

    def _read_item_texts(self, item: OutputItem, value: dict[str, Any], *, is_said: bool) -> None:
        """Read the parts of an item; events may have counted them in another way.

        ``is_said``: all of their texts have come before, wherever.
        """
        parts = text_parts(value)
        count, lengths = Counter[str](), Counter[str]()
        for kind, _, part in parts:
            length = len(text_of(part))
            count[kind] += length > 0
            lengths[kind] += length
        known: dict[str, bool] = {}
        for kind, index, part in parts:
            if kind not in known:
                other = _SAME.get(kind, "")
                is_repeated = 0 < lengths[kind] == item.characters[other]
                known[kind] = is_said or 0 < count[kind] <= item.parts[kind] or is_repeated
            if known[kind] and (is_said or (kind, index) not in item.said):
                item.said[kind, index] = len(text_of(part))
            self._read_part(item, index, part, kind)

    def _report_item(self, path: str, item: dict[str, Any]) -> None:
        """Append what an item holds beyond texts and calls."""
        if (known := ITEM_KEYS.get(kind_of(item))) is not None:
            self._add_extras(item, known, f"{path}.")
            return
        if item.get("type") == "image_generation_call" and (image := image_of(item)) is not None:
            self._deltas.append(image)
            item = {key: value for key, value in item.items() if key != "result"}
        self._add_extra(path, item)

    def _cite(self, annotations: Any) -> None:
        for annotation in annotations if isinstance(annotations, list) else ():
            if annotation and self._is_new("", annotation):
                self._deltas.append(citation_of(annotation))

    def _add_once(self, path: str, value: Any) -> None:
        if self._is_new(path, value):
            self._add_extra(path, value)

    def _is_new(self, path: str, value: Any) -> bool:
        """Return whether this value comes for the first time at this place."""
        same = hash((path, json_text(value)))
        is_new = same not in self._once
        self._once.add(same)
        return is_new


def _place(item: OutputItem, kind: str, index: Any) -> str:
    return f"{item.path}.{'summary' if kind == 'summary_text' else 'content'}[{index}]"
