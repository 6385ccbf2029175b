"""Sources, images and sound of Gemini's protocol, and the parts that go back to it.

Reference: Gemini API, ``GroundingMetadata``, ``CitationMetadata``, ``Part``. Positions in the
answer are in bytes of UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..types import Citation, Media
from .gemini_calls import FunctionCall
from .openai_parts import decode_base64
from .parsing import join_surrogates

_SUPPORT_KEYS = frozenset({"segment", "groundingChunkIndices"})
_PLAIN_KEYS = frozenset({"text", "thought"})


def text_of(value: Any) -> str | None:
    """Return a text without surrogates; ``None`` for anything else, and for an empty one."""
    return join_surrogates(value) if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


def grounding_citations(grounding: dict[str, Any]) -> Iterator[Citation]:
    """Yield a citation for each passage and source, then the sources that no passage names."""
    chunks = [_source(chunk) for chunk in grounding.get("groundingChunks") or ()]
    named: set[int] = set()
    for support in grounding.get("groundingSupports") or ():
        segment = support.get("segment") or {}
        for index in support.get("groundingChunkIndices") or ():
            if type(index) is int and 0 <= index < len(chunks):
                named.add(index)
                yield _citation(chunks[index], segment.get("startIndex"), segment.get("endIndex"))
    for index, chunk in enumerate(chunks):
        if index not in named:
            yield _citation(chunk)


def are_cited_whole(supports: Any) -> bool:
    """Return whether the citations hold all that is said of passages; scores are in none."""
    return all(
        support.keys() <= _SUPPORT_KEYS and support.get("groundingChunkIndices")
        for support in supports or ()
    )


def _source(chunk: dict[str, Any]) -> dict[str, Any]:
    """Return the source within a chunk: ``{"web": {…}}``, ``{"retrievedContext": {…}}``, …"""
    return next((value for value in chunk.values() if isinstance(value, dict)), chunk)


def _citation(source: dict[str, Any], start: Any = None, end: Any = None) -> Citation:
    return Citation(
        url=text_of(source.get("uri")),
        title=text_of(source.get("title")),
        text=text_of(source.get("text")),
        start=_number(start),
        end=_number(end),
        raw=source,
    )


def recited_citations(metadata: dict[str, Any]) -> Iterator[Citation]:
    """Yield the sources of text that the model recites."""
    for source in metadata.get("citationSources") or metadata.get("citations") or ():
        yield _citation(source, source.get("startIndex"), source.get("endIndex"))


def media_of(part: dict[str, Any]) -> Media | None:
    """Return the image, sound or other file of a part; ``None`` if it cannot be read."""
    for key in ("inlineData", "fileData"):
        source = part.get(key)
        if not isinstance(source, dict):
            continue
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

    def add(self, part: dict[str, Any]) -> None:
        """Add a part; text goes on with that of the part before it unless one has a signature."""
        last = self._parts[-1] if self._parts else None
        grows = part.keys() <= _PLAIN_KEYS and isinstance(part.get("text"), str)
        if grows and self._texts and isinstance(last, dict) and _is_thought(last, part):
            self._texts.append(part["text"])
            return
        self._join()
        self._parts.append(dict(part))
        self._texts = [part["text"]] if grows else []

    def add_call(self, call: FunctionCall) -> None:
        self._join()
        self._parts.append(call)

    def _join(self) -> None:
        if self._texts and isinstance(last := self._parts[-1], dict):
            last["text"] = "".join(self._texts)
        self._texts = []

    def parts(self) -> list[dict[str, Any]]:
        """Return the parts, empty if the text and the calls say as much."""
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
    return part.keys() <= _PLAIN_KEYS
