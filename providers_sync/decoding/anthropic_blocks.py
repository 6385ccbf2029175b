"""Content blocks and citations of Anthropic's Messages protocol."""

from __future__ import annotations

import json
from typing import Any

from ..error_words import as_text
from ..types import Citation
from .parsing import join_surrogates
from .tool_calls import parse_arguments


class ContentBlock:
    """A content block that grows."""

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = start
        self.kind = as_text(start.get("type"))
        self.pieces: dict[str, list[str]] = {}
        """The pieces of its fields, and under ``input`` of the JSON of its input."""
        self.texts = self.pieces["text"] = []
        self.citations: list[Any] = []
        self.is_reported = True
        """Whether an ``Extra`` holds what it is now."""
        self.has_ended = False

    def add(self, key: str, piece: Any) -> None:
        if not isinstance(piece, str):
            raise TypeError(f"{key} is not text")
        self.pieces.setdefault(key, []).append(piece)

    def value(self) -> dict[str, Any]:
        """Return the whole block."""
        value = dict(self.start)
        for key, pieces in self.pieces.items():
            if not pieces:
                continue
            text = join_surrogates("".join(pieces))
            if key == "input":
                value[key] = parse_arguments(text) if text else self.start.get(key)
                if value[key] is None:
                    value[key] = text
            else:
                value[key] = as_text(self.start.get(key) or "") + text
        if self.citations:
            value["citations"] = [*(self.start.get("citations") or ()), *self.citations]
        return value

    def raw_input(self) -> str:
        """Return the JSON of its input, or text; that of the deltas holds, if any came."""
        pieces = "".join(self.pieces.get("input", ()))
        start = self.start.get("input")
        text = start if isinstance(start, str) else json.dumps(start) if start else ""
        return join_surrogates(pieces or text)


def can_go_back(block: dict[str, Any]) -> bool:
    """Return whether a block is one of the protocol, not a part in the form of a question."""
    kind = block.get("type")
    return isinstance(kind, str) and kind != "image_url" and not (kind == "image" and kind in block)


def citation_of(value: dict[str, Any]) -> Citation:
    """Return a citation of a search result, a web page or a document ("Citations")."""

    def text(*names: str) -> str | None:
        found = next((v for name in names if isinstance(v := value.get(name), str) and v), None)
        return None if found is None else join_surrogates(found)

    def number(*names: str) -> int | None:
        return next((v for name in names if type(v := value.get(name)) is int), None)

    return Citation(
        url=text("url", "source"),
        title=text("title", "document_title"),
        text=text("cited_text"),
        start=number("start_char_index", "start_page_number", "start_block_index"),
        end=number("end_char_index", "end_page_number", "end_block_index"),
        raw=value,
    )
