"""Markdown while it is written: which blocks are finished, and the one that still grows.

A block is finished when a whole line after it belongs to another block. Items of a list and lines
of a code block are handed out one by one, so that only little of an answer is ever unfinished.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

LIVE_CODE_LINES = 2
"""Lines of an open code block that are not handed out yet: the last ones may still grow."""


@dataclass(frozen=True)
class Block:
    """A piece of Markdown that can be shown on its own."""

    source: str
    joined: bool = False
    """Whether it goes on with the list or the code before it, without a gap."""
    code_before: str = ""
    """The lines of the same code block that were handed out already."""


def parser() -> MarkdownIt:
    """Return a parser that swallows nothing: HTML and link definitions stay text."""
    rules = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    return rules.disable(["reference", "html_block", "html_inline"])


class BlockSplitter:
    """Takes text as it comes and hands out finished blocks, each once and in order."""

    def __init__(self) -> None:
        self._parser = parser()
        self._tail = ""
        self._joined = False
        self._code_before = ""

    def feed(self, text: str) -> None:
        """Add text."""
        self._tail += text

    def finished(self) -> list[Block]:
        """Return the blocks that have been finished since the last call."""
        whole = self._tail[: self._tail.rfind("\n") + 1]
        if not whole:
            return []
        starts, tokens = self._starts(whole)
        lines = split_lines(whole)
        blocks = []
        for (start, _), (end, joined) in itertools.pairwise(starts):
            blocks.append(self._block("".join(lines[start:end])))
            self._joined, self._code_before = joined, ""
        if starts:
            self._tail = "".join(lines[starts[-1][0] :]) + self._tail[len(whole) :]
            if tokens[-1].type == "fence":
                blocks += self._code_lines(tokens[-1], starts[-1][0])
        return blocks

    def rest(self) -> Block | None:
        """Return what is not finished yet, without taking it."""
        return self._block(self._tail) if self._tail.strip() else None

    def _block(self, source: str) -> Block:
        return Block(source, self._joined, self._code_before)

    def _starts(self, whole: str) -> tuple[list[tuple[int, bool]], list[Token]]:
        """Return where blocks and items begin, with whether they go on with a list; and the blocks.

        The first one begins at the top, whatever empty lines there are.
        """
        starts: list[tuple[int, bool]] = []
        top: list[Token] = []
        for token in self._parser.parse(whole):
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
        """Hand out the lines of an open code block; the fence stays, for what comes after."""
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
    """Split after line feeds only, as Markdown counts lines; ``splitlines`` knows ten more."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)
