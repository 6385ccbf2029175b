"""Content blocks and citations of Anthropic's Messages protocol."""

from __future__ import annotations

import json
from typing import Any

from ..error_words import as_text
from ..types import Citation
from .parsing import join_surrogates
from .tool_calls import parse_arguments

_PORTABLE_KEYS = frozenset({"type", "text", "citations", "id", "name", "input"})


class ContentBlock:
    """A content block that grows."""

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = dict(start)
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
            elif key == "signature":  # not that of the start, if it has one already
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


def returned_block(block: dict[str, Any]) -> dict[str, Any] | None:
    """Return a block as the protocol takes it back; ``None`` for text without any letter.

    >>> returned_block({"type": "tool_use", "id": "1", "name": "f", "input": "{"})["input"]
    {'input': '{'}

    The protocol refuses blank text, input that is not an object, and the usual ``caller``.
    """
    kind = block["type"]
    if kind == "text" and not as_text(block.get("text") or "").strip():
        return None
    block = {name: value for name, value in block.items() if value is not None}
    if block.get("caller") == {"type": "direct"}:
        del block["caller"]
    if kind.endswith("tool_use") and not isinstance(block.get("input"), dict):
        text = block.get("input")
        block["input"] = {"input": text} if text else {}
    return block


def are_portable(blocks: list[dict[str, Any]]) -> bool:
    """Return whether the text and the calls of a message say as much as its blocks."""
    if all(block["type"] in ("thinking", "redacted_thinking") for block in blocks):
        return True  # the protocol refuses a turn without anything else
    kinds = [block["type"] for block in blocks]
    return kinds == sorted(kinds) and all(  # the text comes first
        block["type"] in ("text", "tool_use") and block.keys() <= _PORTABLE_KEYS for block in blocks
    )


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
