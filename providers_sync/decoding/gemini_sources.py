"""Sources that a Gemini answer names, as citations.

Reference: Gemini API, ``GroundingMetadata``, ``CitationMetadata``. Positions in the answer are in
bytes of UTF-8; the protocol leaves out those that are 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..types import Citation
from .parsing import join_surrogates

_FIELDS = 16
"""How many fields a source or a passage may have: each citation has those of both."""


def text_of(value: Any) -> str | None:
    """Return a text without surrogates; ``None`` for anything else, and for an empty one."""
    return join_surrogates(value) if isinstance(value, str) and value else None


class Sources:
    """The sources of one answer, each of which is handed out once."""

    def __init__(self) -> None:
        self._chunks: list[dict[str, Any]] = []
        """The last ``groundingChunks``: passages name them by their numbers."""
        self._cited: set[tuple[Any, ...]] = set()

    def grounding(self, metadata: dict[str, Any]) -> list[Citation]:
        """Return a citation for each passage and source, then the sources that no passage names."""
        chunks = [_checked(chunk or {}) for chunk in metadata.get("groundingChunks") or ()]
        self._chunks = chunks or self._chunks
        return list(self._new(self._grounding(metadata, chunks)))

    def _grounding(
        self, metadata: dict[str, Any], chunks: list[dict[str, Any]]
    ) -> Iterator[Citation]:
        named: set[int] = set()
        for support in metadata.get("groundingSupports") or ():
            segment = _checked(support).get("segment") or {}
            for index in self._indexes(support):
                named.add(index)
                yield _citation(self._chunks[index], segment, support)
        for index, chunk in enumerate(chunks):
            if index not in named and chunk:
                yield _citation(chunk, {})

    def unnamed(self, metadata: dict[str, Any]) -> list[Any]:
        """Return the passages of which no source is known."""
        supports = metadata.get("groundingSupports") or ()
        return [support for support in supports if not self._indexes(support)]

    def recited(self, metadata: dict[str, Any]) -> list[Citation]:
        """Return the sources of text that the model recites."""
        found = metadata.get("citationSources") or metadata.get("citations") or ()
        return list(self._new([_citation(source, source) for source in found]))

    def _indexes(self, support: dict[str, Any]) -> list[int]:
        indexes = support.get("groundingChunkIndices") or ()
        known = range(len(self._chunks))
        found = (index for index in indexes if type(index) is int and index in known)
        return list(dict.fromkeys(found))

    def _new(self, citations: Iterable[Citation]) -> Iterator[Citation]:
        """Yield those that no event has had: many have all sources so far."""
        for citation in citations:
            key = (citation.url, citation.title, citation.text, citation.start, citation.end)
            if key not in self._cited:
                self._cited.add(key)
                yield citation


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    if len(fields) > _FIELDS:
        raise TypeError(f"a source has more than {_FIELDS} fields")
    return fields


def _citation(
    chunk: dict[str, Any], segment: dict[str, Any], support: dict[str, Any] | None = None
) -> Citation:
    """Return the citation of a source: itself, or in a ``{"web": {…}}``, ``{"maps": {…}}``, …"""
    source = next((value for value in chunk.values() if isinstance(value, dict)), chunk)
    start, end = _number(segment.get("startIndex")), _number(segment.get("endIndex"))
    excerpt = source.get("ragChunk")
    return Citation(
        url=text_of(source.get("uri")) or text_of(source.get("sourceUri")),
        title=text_of(source.get("title")),
        text=text_of(source.get("text"))
        or text_of(excerpt.get("text") if isinstance(excerpt, dict) else None),
        start=0 if start is None and end is not None else start,
        end=end,
        raw={**chunk, **(support or {})},
    )


def _number(value: Any) -> int | None:
    return value if type(value) is int else None
