"""A parser that splits Markdown into text, code blocks and block quotes, even inside lists."""

from __future__ import annotations

import re
from typing import NamedTuple, Union

from . import links

MAX_QUOTES = 6
MAX_LISTS = 12
"""Deeper nesting is escaped: a thousand levels make notebooks slow, or fail."""
DEFAULT_LANGUAGE = "text"

_FENCE = re.compile(r"(`{3,})([^`\n]*)$|(~{3,})(.*)$")
_LANGUAGE = re.compile(r"[\w+#.-]{1,40}", re.A)
_LIST_MARKER = re.compile(r"([-+*]|[0-9]{1,9}[.)])([ \t]+|$)")
_THEMATIC_BREAK = re.compile(r"(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_HEADING = re.compile(r"#{1,6}(?:\s|$)")


class Text(NamedTuple):
    """Lines that are not code."""

    lines: list[str]


class Code(NamedTuple):
    """A code block; ``first`` is the prefix of its first line, ``rest`` that of all others."""

    lines: list[str]
    language: str = DEFAULT_LANGUAGE
    first: str = ""
    rest: str = ""
    is_top_level: bool = False
    """Whether it is outside all lists and block quotes."""


class Quote(NamedTuple):
    """A block quote; ``first`` is the prefix of its first line, ``rest`` that of all others."""

    blocks: list[Block]
    first: str
    rest: str


Block = Union[Text, Code, Quote]
Definitions = dict[str, str]
"""The destinations of link reference definitions, by link label."""


def split(text: str) -> tuple[list[Block], Definitions]:
    """Return the blocks of a text and its link reference definitions."""
    definitions: Definitions = {}
    return _Splitter(text.split("\n"), definitions).blocks(), definitions


class _Splitter:
    """A single pass over the lines; block quotes take one more pass per level."""

    def __init__(self, lines: list[str], definitions: Definitions, quote_depth: int = 0) -> None:
        self._lines = lines
        self._position = 0
        self._definitions = definitions
        self._quote_depth = quote_depth
        self._content_columns: list[int] = []
        """The columns where the contents of the open list items start."""
        self._in_paragraph = False
        self._blocks: list[Block] = []

    def blocks(self) -> list[Block]:
        while self._position < len(self._lines):
            indent, body = _split_indent(self._lines[self._position])
            if not body:
                self._in_paragraph = False
                self._add_text("")
                continue
            while self._content_columns and self._content_columns[-1] > indent:
                self._content_columns.pop()
            if indent - self._base < 4:
                self._take_block(indent, body)
            elif self._in_paragraph:
                self._add_text(" " * self._base + body)
            else:
                self._take_indented_code()
        return self._blocks

    @property
    def _base(self) -> int:
        return self._content_columns[-1] if self._content_columns else 0

    def _take_block(self, indent: int, body: str) -> None:
        """Take the block that starts in this line, after the list markers before it."""
        prefix = " " * indent
        while not _THEMATIC_BREAK.match(body) and (match := _LIST_MARKER.match(body)):
            if len(self._content_columns) == MAX_LISTS:
                end = len(match[1])
                body = f"{body[: end - 1]}&#{ord(body[end - 1])};{body[end:]}"
                break
            marker = f"{match[1]} " if match[2] == "\t" or len(match[2]) > 4 else match[0]
            prefix += marker
            indent += max(len(marker), len(match[1]) + 1)
            body = body[match.end() :]
            self._content_columns.append(indent)
            self._in_paragraph = False
        if body.startswith(">"):
            self._take_quote(prefix, indent, body)
        elif match := _FENCE.match(body):
            self._take_fence(match, prefix, indent)
        else:
            self._take_text(prefix, body)

    def _take_text(self, prefix: str, body: str) -> None:
        match = None if self._in_paragraph else links.DEFINITION.match(body)
        destination = match and links.safe_destination(match[3] if match[2] is None else match[2])
        if match and destination:
            self._definitions.setdefault(links.normalize_label(match[1]), destination)
            body = ""
        self._in_paragraph = not (body == "" or _THEMATIC_BREAK.match(body) or _HEADING.match(body))
        self._add_text(prefix + body)

    def _add_text(self, line: str) -> None:
        last = self._blocks[-1] if self._blocks else None
        if isinstance(last, Text):
            last.lines.append(line)
        else:
            self._blocks.append(Text([line]))
        self._position += 1

    def _take_quote(self, prefix: str, indent: int, body: str) -> None:
        if self._quote_depth == MAX_QUOTES:
            markers = len(body) - len(body.lstrip("> "))
            self._take_text(prefix, body[:markers].replace(">", "&gt;") + body[markers:])
            return
        lines = []
        while body.startswith(">"):
            lines.append(body[1:].removeprefix(" "))
            self._position += 1
            if self._position == len(self._lines):
                break
            line_indent, body = _split_indent(self._lines[self._position])
            if not self._base <= line_indent < self._base + 4:
                break
        inner = _Splitter(lines, self._definitions, self._quote_depth + 1)
        self._blocks.append(Quote(inner.blocks(), prefix, " " * indent))
        self._in_paragraph = True  # the next line may continue it lazily

    def _take_fence(self, match: re.Match[str], prefix: str, indent: int) -> None:
        fence, info = match[1] or match[3], (match[2] or match[4] or "").split()
        lines: list[str] = []
        self._position += 1
        while self._position < len(self._lines):
            line = self._lines[self._position]
            line_indent, body = _split_indent(line)
            if body and line_indent < self._base:  # the list item ends, and its code block too
                break
            self._position += 1
            if (
                line_indent - self._base < 4
                and body.startswith(fence)
                and not body.strip(fence[0] + " \t")
            ):
                break
            lines.append(_dedent(line, indent))
        is_top_level = not self._content_columns and not self._quote_depth
        language = info[0] if info and _is_language(info[0]) else DEFAULT_LANGUAGE
        rest = " " * indent
        self._add_code(Code(lines, language, prefix, rest, is_top_level))

    def _take_indented_code(self) -> None:
        lines: list[str] = []
        base = self._base
        while self._position < len(self._lines):
            line_indent, body = _split_indent(self._lines[self._position])
            if body and line_indent < base + 4:
                break
            lines.append(_dedent(self._lines[self._position], base + 4))
            self._position += 1
        while not lines[-1].strip("\t "):
            lines.pop()
            self._position -= 1
        is_top_level = not self._content_columns and not self._quote_depth
        self._add_code(Code(lines, DEFAULT_LANGUAGE, " " * base, " " * base, is_top_level))

    def _add_code(self, code: Code) -> None:
        self._blocks.append(code)
        self._in_paragraph = False


def _split_indent(line: str) -> tuple[int, str]:
    """Return the indentation of a line in columns, and the rest of the line."""
    body = line.strip("\t ") and line.lstrip("\t ")
    return len(line[: len(line) - len(body)].expandtabs(4)), body


def _dedent(line: str, columns: int) -> str:
    """Return a line with up to ``columns`` columns of indentation removed."""
    if not columns:
        return line
    width, body = _split_indent(line)
    return " " * (width - columns) + body if body else ""


def _is_language(word: str) -> bool:
    """Return whether a word is a safe language name: not ``mermaid``, which notebooks execute."""
    return bool(_LANGUAGE.fullmatch(word)) and not word.lower().startswith("mermaid")
