"""Reads the content blocks of Anthropic's Messages protocol, which start, grow and stop.

Reference: Anthropic API, "Streaming Messages". Blocks other than text, thinking and ``tool_use``
(tools that the server executes, their results, compaction, …) are ``Extra`` values; all blocks go
back with the next request where it needs them ("Extended thinking", "Preserving thinking blocks").
"""

from __future__ import annotations

from typing import Any

from ..config import TOOL_CALLS
from ..error_words import as_text
from ..errors import MalformedStream
from ..types import ToolCall, ToolCallStarted
from .anthropic_blocks import ContentBlock, are_portable, can_go_back, citation_of, returned_block
from .events import EventsDecoder
from .parsing import join_surrogates
from .tool_calls import parse_arguments

_DELTA_KEYS = frozenset({"type", "text", "thinking", "partial_json", "citation"})
_TYPE = frozenset({"type"})
_KNOWN_BLOCKS = ("text", "thinking", "tool_use")
_TEXT_KEYS = ("text", "thinking", "signature", "content", "data")
"""Fields of a block that its deltas grow."""

_PROSE = ("text", "thinking")
_PROSE_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "citations_delta": "text",
}
_BLOCK_OF_DELTA = {**_PROSE_DELTAS, "input_json_delta": "tool_use"}
_BLOCK_KEYS = frozenset(
    {"type", "text", "thinking", "signature", "citations", "id", "name", "input"}
)


class ContentDecoder(EventsDecoder):
    """The base of ``AnthropicDecoder``: knows content blocks, and nothing of messages."""

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._blocks: list[ContentBlock] = []
        self._open: dict[int, ContentBlock] = {}
        self._last_index: Any = None
        """That of the latest block: some servers leave the indexes out."""

    def _start_block(self, index: int, block: dict[str, Any]) -> None:
        """Read the start of a block, which may hold all of it."""
        kind = block["type"]
        self._add_block(index, block)
        if kind == "text":
            self._read_text(block.get("text") or "")
        elif kind == "thinking":
            self._read_reasoning(block.get("thinking") or "")
        elif kind == "tool_use":
            self._deltas.append(ToolCallStarted())
        for citation in block.get("citations") or ():
            self._deltas.append(citation_of(citation))

    def _add_block(self, index: int, start: dict[str, Any]) -> ContentBlock:
        if len(self._blocks) >= TOOL_CALLS:
            raise MalformedStream(f"the answer has more than {TOOL_CALLS} content blocks")
        self._report_block(index)  # one that has not been ended
        block = self._open[index] = ContentBlock(start)
        self._last_index = index
        block.is_reported = False
        self._blocks.append(block)
        return block

    def _read_delta(self, index: int, delta: dict[str, Any]) -> None:
        kind, known = delta["type"], _DELTA_KEYS
        block = self._open.get(index)
        if block is None or (
            block.kind in _PROSE and _PROSE_DELTAS.get(kind) not in (None, block.kind)
        ):
            block = self._add_block(index, {"type": _BLOCK_OF_DELTA.get(kind, kind)})
        if kind == "text_delta":
            text = delta["text"] or ""
            block.texts.append(text)
            if self._text.held or not text.isascii():
                text = self._text.feed(text)
            if text:
                self._deltas.append(text)
        elif kind == "thinking_delta":
            self._read_reasoning(delta["thinking"] or "")
            block.add("thinking", delta["thinking"] or "")
        elif kind == "input_json_delta":
            block.add("input", delta["partial_json"] or "")
            if block.kind == "tool_use":
                self._deltas.append(ToolCallStarted())
        elif kind == "citations_delta":
            block.citations.append(delta["citation"])
            self._deltas.append(citation_of(delta["citation"]))
        else:
            known = _TYPE
        if not delta.keys() <= known:
            self._read_other_fields(index, block, delta, known)
        block.is_reported = False

    def _read_other_fields(
        self, index: int, block: ContentBlock, delta: dict[str, Any], known: frozenset[str]
    ) -> None:
        """Add fields of a delta to the block: its signature, the text of a compaction, …"""
        for key in delta.keys() - known:
            value = delta[key]
            if key in _TEXT_KEYS and isinstance(value, str):
                block.add(key, value)
                continue
            self._add_extra(f"content[{index}].{key}", value)
            if block.kind not in _KNOWN_BLOCKS and value is not None:
                block.start[key] = value

    def _end_block(self, index: Any) -> None:
        """Report a block that has ended; if more of it comes, again at the end of the message."""
        self._flush_surrogates()
        block = self._open.get(index)
        if block is not None and not block.has_ended:
            block.has_ended = True
            self._report_block(index)

    def _report_block(self, index: Any) -> None:
        """Append what a block holds beyond text, thinking and calls."""
        block = self._open.get(index)
        if block is None or block.is_reported:
            return
        block.is_reported = True
        if block.kind not in _KNOWN_BLOCKS:
            self._add_extra(f"content[{index}]", block.value())
            return
        value = block.value()
        self._add_extra(f"content[{index}].signature", value.get("signature"))
        self._add_extras(value, _BLOCK_KEYS, f"content[{index}].")

    def _finish(self) -> None:
        for index in list(self._open):
            self._report_block(index)
        nameless: list[str] = []
        for block in self._blocks:
            if block.kind == "tool_use":
                call_id, name = (as_text(block.start.get(key) or "") for key in ("id", "name"))
                raw = block.raw_input()
                if name:
                    names = join_surrogates(call_id), join_surrogates(name)
                    self._deltas.append(ToolCall(*names, parse_arguments(raw), raw))
                elif call_id or raw:
                    nameless.append(f"{call_id} {raw[:2000]}".strip())
        if nameless:
            raise MalformedStream(f"the model calls a tool without naming it: {nameless[0]}")

    def _message_fields(self) -> dict[str, Any]:
        values = [block.value() for block in self._blocks]
        if not all(map(can_go_back, values)):
            return {}
        blocks = [block for block in map(returned_block, values) if block is not None]
        return {} if are_portable(blocks) else {"content": blocks}
