"""Which lines of a Markdown text are code: fences and indentation, within lists and quotes."""

from __future__ import annotations

import re
from typing import NamedTuple, Union

from . import links

MAX_QUOTES = 6
MAX_ITEMS = 12
"""Deeper ones are text: notebooks take long for a thousand of them, or fail."""
PLAIN = "text"

_FENCE = re.compile(r"(`{3,})([^`\n]*)$|(~{3,})(.*)$")
_LANGUAGE = re.compile(r"[\w+#.-]{1,40}", re.A)
_ITEM = re.compile(r"([-+*]|[0-9]{1,9}[.)])([ \t]+|$)")
_RULE = re.compile(r"(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_HEADING = re.compile(r"#{1,6}(?:\s|$)")


class Text(NamedTuple):
    """Lines that are not code."""

    lines: list[str]


class Code(NamedTuple):
    """A block of code; ``first`` and ``rest`` stand before its first line and all others."""

    lines: list[str]
    language: str = PLAIN
    first: str = ""
    rest: str = ""
    is_top: bool = False
    """Whether it stands in no list and no quote."""


class Quote(NamedTuple):
    """A quote; ``first`` and ``rest`` stand before its first line and all others."""

    blocks: list[Block]
    first: str
    rest: str


Block = Union[Text, Code, Quote]
Definitions = dict[str, str]
"""The targets of links that are named elsewhere, by label."""


def split(text: str) -> tuple[list[Block], Definitions]:
    """Return the blocks of a text, and the targets that its definitions name."""
    definitions: Definitions = {}
    return _Splitter(text.split("\n"), definitions).blocks(), definitions


class _Splitter:
    """Goes through the lines once; those of a quote once more for each level."""

    def __init__(self, lines: list[str], definitions: Definitions, quotes: int = 0) -> None:
        self._lines = lines
        self._at = 0
        self._definitions = definitions
        self._quotes = quotes
        self._items: list[int] = []
        """Where the contents of the open list items begin."""
        self._in_paragraph = False
        self._blocks: list[Block] = []

    def blocks(self) -> list[Block]:
        while self._at < len(self._lines):
            indent, body = _measured(self._lines[self._at])
            if not body:
                self._in_paragraph = False
                self._add_text("")
                continue
            while self._items and self._items[-1] > indent:
                self._items.pop()
            if indent - self._base < 4:
                self._take(indent, body)
            elif self._in_paragraph:
                self._add_text(" " * self._base + body)
            else:
                self._take_indented_code()
        return self._blocks

    @property
    def _base(self) -> int:
        return self._items[-1] if self._items else 0

    def _take(self, indent: int, body: str) -> None:
        """Take the block that begins in this line, behind the markers of the items it begins."""
        before = " " * indent
        while not _RULE.match(body) and (found := _ITEM.match(body)):
            if len(self._items) == MAX_ITEMS:
                end = len(found[1])
                body = f"{body[: end - 1]}&#{ord(body[end - 1])};{body[end:]}"
                break
            marker = f"{found[1]} " if found[2] == "\t" or len(found[2]) > 4 else found[0]
            before += marker
            indent += max(len(marker), len(found[1]) + 1)
            body = body[found.end() :]
            self._items.append(indent)
            self._in_paragraph = False
        if body.startswith(">"):
            self._take_quote(before, indent, body)
        elif found := _FENCE.match(body):
            self._take_fence(found, before, indent)
        else:
            self._take_text(before, body)

    def _take_text(self, before: str, body: str) -> None:
        found = None if self._in_paragraph else links.DEFINITION.match(body)
        target = found and links.target(found[3] if found[2] is None else found[2])
        if found and target:
            self._definitions.setdefault(links.label(found[1]), target)
            body = ""
        self._in_paragraph = not (body == "" or _RULE.match(body) or _HEADING.match(body))
        self._add_text(before + body)

    def _add_text(self, line: str) -> None:
        last = self._blocks[-1] if self._blocks else None
        if isinstance(last, Text):
            last.lines.append(line)
        else:
            self._blocks.append(Text([line]))
        self._at += 1

    def _take_quote(self, before: str, indent: int, body: str) -> None:
        if self._quotes == MAX_QUOTES:
            marks = len(body) - len(body.lstrip("> "))
            self._take_text(before, body[:marks].replace(">", "&gt;") + body[marks:])
            return
        lines = []
        while body.startswith(">"):
            lines.append(body[1:].removeprefix(" "))
            self._at += 1
            if self._at == len(self._lines):
                break
            lead, body = _measured(self._lines[self._at])
            if not self._base <= lead < self._base + 4:
                break
        inner = _Splitter(lines, self._definitions, self._quotes + 1)
        self._blocks.append(Quote(inner.blocks(), before, " " * indent))
        self._in_paragraph = True  # which the next line may go on with

    def _take_fence(self, found: re.Match[str], before: str, indent: int) -> None:
        fence, info = found[1] or found[3], (found[2] or found[4] or "").split()
        lines: list[str] = []
        self._at += 1
        while self._at < len(self._lines):
            line = self._lines[self._at]
            lead, body = _measured(line)
            if body and lead < self._base:  # the item ends, and the code with it
                break
            self._at += 1
            if (
                lead - self._base < 4
                and body.startswith(fence)
                and not body.strip(fence[0] + " \t")
            ):
                break
            lines.append(_dedented(line, indent))
        is_top = not self._items and not self._quotes
        language = info[0] if info and _is_language(info[0]) else PLAIN
        rest = " " * indent
        self._add_code(Code(lines, language, before, rest, is_top))

    def _take_indented_code(self) -> None:
        lines: list[str] = []
        base = self._base
        while self._at < len(self._lines):
            lead, body = _measured(self._lines[self._at])
            if body and lead < base + 4:
                break
            lines.append(_dedented(self._lines[self._at], base + 4))
            self._at += 1
        while not lines[-1].strip("\t "):
            lines.pop()
            self._at -= 1
        is_top = not self._items and not self._quotes
        self._add_code(Code(lines, PLAIN, " " * base, " " * base, is_top))

    def _add_code(self, code: Code) -> None:
        self._blocks.append(code)
        self._in_paragraph = False


def _measured(line: str) -> tuple[int, str]:
    """Return how wide the white space before a line is, in columns, and the rest of the line."""
    body = line.strip("\t ") and line.lstrip("\t ")
    return len(line[: len(line) - len(body)].expandtabs(4)), body


def _dedented(line: str, columns: int) -> str:
    """Return a line without so many columns of white space, or without all it has."""
    if not columns:
        return line
    width, body = _measured(line)
    return " " * (width - columns) + body if body else ""


def _is_language(word: str) -> bool:
    """Tell whether a word may name a language: mermaid is none, as notebooks run it."""
    return bool(_LANGUAGE.fullmatch(word)) and not word.lower().startswith("mermaid")
