"""Candidates, images and sound of Gemini's protocol, and the parts that go back to it.

Reference: Gemini API, ``Candidate``, ``Part``; guide "Thought signatures".
"""

from __future__ import annotations

from typing import Any

from ..types import Media
from .answers import MESSAGE_BYTES
from .gemini_calls import FunctionCall
from .gemini_sources import text_of
from .openai_parts import decode_base64
from .parsing import join_surrogates, json_text

PLAIN_KEYS = frozenset({"text", "thought"})


def split_candidates(value: Any) -> tuple[Any, list[tuple[int, Any]]]:
    """Return the first candidate, if there is one, and the others with their indexes.

    The index 0 may be left out, as JSON of protocol buffers does.
    """
    if isinstance(value, list) and len(value) == 1 and value[0] and not value[0].get("index"):
        return value[0], []  # nearly always
    candidates = [candidate for candidate in value or () if candidate]
    indexes = [candidate.get("index") for candidate in candidates]
    first = next((i for sought in (0, None) for i in _places(indexes, sought)), None)
    others = [
        (position if indexes[position] is None else indexes[position], candidate)
        for position, candidate in enumerate(candidates)
        if position != first
    ]
    return (None if first is None else candidates[first]), others


def _places(values: list[Any], sought: int | None) -> list[int]:
    return [position for position, value in enumerate(values) if value == sought]


def media_of(source: Any) -> Media | None:
    """Return the image, sound or other file of ``inlineData`` or ``fileData``.

    It is ``None`` if it cannot be read.
    """
    if not isinstance(source, dict):
        return None
    mime_type = text_of(source.get("mimeType"))
    kind = (mime_type or "").partition("/")[0] or "file"
    if (data := decode_base64(source.get("data"))) is not None:
        return Media(kind, mime_type, data)
    if url := text_of(source.get("fileUri")):
        return Media(kind, mime_type, url=url)
    return None


class ReturnedParts:
    """Collects the parts of an answer in the form in which the next request returns them."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Any] | FunctionCall] = []
        self._texts: list[str] = []
        """The pieces of the last part, if it is text that may grow."""
        self._size = 0
        """Of the JSON of the parts, about: none of it is kept where it is too large to go back."""

    def add(self, part: dict[str, Any]) -> None:
        """Add a part; text goes on with that of the part before it unless one has a signature.

        Empty text is left out: Vertex AI refuses it in a request.
        """
        is_plain = part.keys() <= PLAIN_KEYS
        if is_plain and not part.get("text"):
            return
        if self._size > MESSAGE_BYTES:
            self._parts, self._texts = [], []
            return
        last = self._parts[-1] if self._parts else None
        grows = is_plain and isinstance(part["text"], str)
        if grows and self._texts and isinstance(last, dict) and _is_thought(last, part):
            self._texts.append(part["text"])
            self._size += len(part["text"])
            return
        self._size += len(json_text(part))
        self._join()
        self._parts.append(dict(part))
        self._texts = [part["text"]] if grows else []

    def add_call(self, call: FunctionCall) -> None:
        self._join()
        self._parts.append(call)

    def _join(self) -> None:
        if self._texts and isinstance(last := self._parts[-1], dict):
            last["text"] = join_surrogates("".join(self._texts))
        self._texts = []

    def parts(self) -> list[dict[str, Any]]:
        """Return the parts, empty if the text and the calls say as much, or they are too large."""
        if self._size > MESSAGE_BYTES:
            return []
        self._join()
        parts = [
            part.returned_part() if isinstance(part, FunctionCall) else part for part in self._parts
        ]
        return [] if all(map(_is_portable, parts)) else parts


def _is_thought(last: dict[str, Any], part: dict[str, Any]) -> bool:
    """Return whether both parts are thoughts, or neither is."""
    return bool(last.get("thought")) is bool(part.get("thought"))


def _is_portable(part: dict[str, Any]) -> bool:
    call = part.get("functionCall")
    if isinstance(call, dict):
        return part.keys() == {"functionCall"} and call.keys() == {"name", "args"}
    return part.keys() <= PLAIN_KEYS
