"""Splits streamed Markdown into blocks: the finished ones, and the one that is still growing.

A block is finished when a complete line after it belongs to another block. List items and lines of
a code block are returned one by one, so only a small part of an answer is ever unfinished.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

LIVE_CODE_LINES = 2
"""Lines of an open code block that are held back: the last ones may still grow."""


@dataclass(frozen=True)
class Block:
    """A part of a Markdown text that can be shown on its own."""

    source: str
    joined: bool = False
    """Whether it continues the list or code before it, without an empty line between them."""
    code_before: str = ""
    """The lines of the same code block that were returned earlier."""


def parser() -> MarkdownIt:
    """Return a parser that drops nothing: HTML and link definitions stay text."""
    rules = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    return rules.disable(["reference", "html_block", "html_inline"])


class BlockSplitter:
    """Splits text that arrives in chunks into finished blocks, each returned once and in order."""

    def __init__(self) -> None:
        self._parser = parser()
        self._tail = ""
        self._joined = False
        self._code_before = ""

    def feed(self, text: str) -> None:
        """Add text."""
        self._tail += text

    def finished(self) -> list[Block]:
        """Return the blocks finished since the last call."""
        complete = self._tail[: self._tail.rfind("\n") + 1]
        if not complete:
            return []
        starts, tokens = self._starts(complete)
        lines = split_lines(complete)
        blocks = []
        for (start, _), (end, joined) in itertools.pairwise(starts):
            blocks.append(self._block("".join(lines[start:end])))
            self._joined, self._code_before = joined, ""
        if starts:
            self._tail = "".join(lines[starts[-1][0] :]) + self._tail[len(complete) :]
            if tokens[-1].type == "fence":
                blocks += self._code_lines(tokens[-1], starts[-1][0])
        return blocks

    def unfinished(self) -> Block | None:
        """Return the block that is not finished yet, without removing it."""
        return self._block(self._tail) if self._tail.strip() else None

    def _block(self, source: str) -> Block:
        return Block(source, self._joined, self._code_before)

    def _starts(self, complete: str) -> tuple[list[tuple[int, bool]], list[Token]]:
        """Return the start lines of blocks and items, and the tokens of the blocks.

        Each start line is paired with whether it continues a list. The first one is line 0, even if
        there are empty lines before the block.
        """
        starts: list[tuple[int, bool]] = []
        top: list[Token] = []
        for token in self._parser.parse(complete):
            if token.map is None or token.nesting < 0:
                continue
            line = token.map[0] if starts else 0
            if token.level == 0:
                top.append(token)
                starts.append((line, False))
            elif token.type == "list_item_open" and token.level == 1 and line > starts[-1][0]:
                starts.append((line, True))
        return starts, top

    def _code_lines(self, token: Token, start: int) -> Iterator[Block]:
        """Yield the lines of an open code block; keep its fence for the lines still to come."""
        first, end = token.map or (0, 0)
        opening, *lines = split_lines(self._tail)[first - start :]  # after empty lines
        is_closed = token.content.count("\n") < end - first - 1
        ready = len(lines) - LIVE_CODE_LINES
        if is_closed or ready <= 0:
            return
        yield self._block(opening + "".join(lines[:ready]))
        self._tail = opening + "".join(lines[ready:])
        self._joined = True
        self._code_before += "".join(split_lines(token.content)[:ready])


def split_lines(text: str) -> list[str]:
    """Split after line feeds only, as Markdown does; ``splitlines`` knows ten other line ends."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)
