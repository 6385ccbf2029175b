"""Renders Markdown blocks as lines for the terminal; the only terminal module that imports rich.

Nothing is dropped: HTML, images and link addresses stay readable, lines break where the model broke
them, and a block that Markdown would shorten is shown as source. Control and invisible characters
are made visible after parsing as well, since entities and escaped addresses can produce them.
"""

from __future__ import annotations

import html
import io
import re
from collections import Counter
from typing import TextIO

import rich.markdown
from markdown_it.token import Token
from pygments import token as kinds  # type: ignore[import-untyped]
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment, Segments
from rich.style import Style
from rich.syntax import ANSISyntaxTheme, Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from ..printable import visible
from .live import ScreenLine
from .markdown_blocks import Block, parser, split_lines

CODE_THEME = ANSISyntaxTheme(
    {
        kinds.Comment: Style(dim=True),
        kinds.Keyword: Style(color="magenta"),
        kinds.Operator.Word: Style(color="magenta"),
        kinds.Name.Builtin: Style(color="cyan"),
        kinds.Name.Function: Style(color="cyan"),
        kinds.Name.Class: Style(color="cyan"),
        kinds.Name.Decorator: Style(color="yellow"),
        kinds.Name.Tag: Style(color="magenta"),
        kinds.String: Style(color="green"),
        kinds.Number: Style(color="yellow"),
        kinds.Generic.Deleted: Style(color="red"),
        kinds.Generic.Inserted: Style(color="green"),
    }
)
"""The terminal's own colours and no background: readable whether the terminal is dark or light."""
PLAIN_THEME = ANSISyntaxTheme({kinds.Token: Style(color="cyan")})
"""For code of no language, which would look like prose."""
MAX_WIDTH = 10_000
"""Width of the internal console: it prints finished lines and must never wrap or cut them."""
MIN_COLUMN = 6
"""A table whose columns would be narrower than this is shown as rows of text."""
_JOINER, _PLACEHOLDER = "\u200d", "\u2060"
"""rich counts joined characters as one, but not every terminal does. During layout the joiner is
replaced by another zero-width character, so that no line is wider than its measured width."""
_MARKERS = re.compile(r"^[>\s]*(?:\d+[.)](?=\s|$)|(?:```|~~~)[^\n]*)", re.M)
"""Source that is not text: list numbers, and code fences with their language."""


class _Heading(rich.markdown.Heading):
    LEVEL_ALIGN = dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "left")


class _Code(rich.markdown.CodeBlock):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _syntax(str(self.text).rstrip("\n"), self.lexer_name)


class _Item(rich.markdown.ListItem):
    def render_number(
        self, console: Console, options: ConsoleOptions, number: int, last_number: int
    ) -> RenderResult:
        style = console.get_style("markdown.item.number", default="none")
        numeral = f" {number}. "
        inner = options.update(width=max(options.max_width - len(numeral), 1))
        for index, line in enumerate(console.render_lines(self.elements, inner, pad=False)):
            yield Segment(" " * len(numeral) if index else numeral, style)
            yield from line
            yield Segment("\n")


class _Table(rich.markdown.TableElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        header = self.header.row.cells if self.header and self.header.row else []
        rows = [
            [cell.content for cell in row.cells] for row in (self.body.rows if self.body else [])
        ]
        if options.max_width < MIN_COLUMN * len(header):
            for row in [[cell.content for cell in header], *rows]:
                yield Text(" | ").join(row)
            return
        table = Table(box=rich.box.SIMPLE, pad_edge=False, style="dim", collapse_padding=True)
        for cell in header:
            title = cell.content.copy()
            title.stylize("bold")
            table.add_column(title, overflow="fold", justify=cell.justify)
        for row in rows:
            table.add_row(*row)
        yield table


class _Markdown(rich.markdown.Markdown):
    elements = {
        **rich.markdown.Markdown.elements,
        "heading_open": _Heading,
        "fence": _Code,
        "code_block": _Code,
        "list_item_open": _Item,
        "table_open": _Table,
    }

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = tokens


class Renderer:
    """Renders blocks as lines, in the colours that ``out`` supports (none with ``NO_COLOR``)."""

    def __init__(self, out: TextIO) -> None:
        detected = Console(file=out)
        self._console = Console(
            file=io.StringIO(),
            force_terminal=True,
            color_system=detected.color_system,  # type: ignore[arg-type]
            no_color=detected.no_color,
            width=MAX_WIDTH,
            legacy_windows=False,
            highlight=False,
            markup=False,
            emoji=False,
            theme=Theme({"markdown.code": "bold cyan"}),  # without rich's black background
        )
        self._has_colors = bool(detected.color_system) and not detected.no_color
        self._parser = parser()

    def lines(self, block: Block, width: int) -> list[ScreenLine]:
        """Return the block's lines, none wider than ``width``."""
        tokens = self._parser.parse(block.source)
        if block.code_before and tokens and tokens[0].type == "fence":
            code, skipped = tokens[0].content, block.code_before.count("\n")
            renderable = _syntax(_prepare(block.code_before + code), tokens[0].info.split(" ")[0])
            renderable.line_range = (skipped + 1, None)
            lines = self._layout(renderable, width) if code else []
            # Text after the code is in the same block until its first line is complete.
            _, end = tokens[0].map or (0, 0)
            after = self.lines(Block("".join(split_lines(block.source)[end:])), width)
            return [*lines, ScreenLine("", 0), *after] if after else lines
        lines = self._layout(_Markdown(list(map(_preserve, tokens))), width)
        source = html.unescape(_MARKERS.sub("", block.source))
        if _count_letters(source) - _count_letters("".join(t for t, _ in lines)):
            lines = self._layout(Text(_prepare(block.source.rstrip())), width)
        return lines

    def _layout(self, renderable: RenderableType, width: int) -> list[ScreenLine]:
        options = self._console.options.update(width=width, height=None)
        rows = self._console.render_lines(renderable, options, pad=False)
        lines = [self._line(row) for row in rows]
        while lines and not lines[-1].cells:
            lines.pop()
        while lines and not lines[0].cells:
            lines.pop(0)
        return lines

    def _line(self, row: list[Segment]) -> ScreenLine:
        while row and not (self._has_colors and row[-1].style and row[-1].style.bgcolor):
            text = row[-1].text.rstrip(" ")
            row = [*row[:-1], Segment(text, row[-1].style)] if text else row[:-1]
            if text:
                break
        with self._console.capture() as captured:
            self._console.print(Segments(row), end="")
        text = captured.get().replace(_PLACEHOLDER, _JOINER)
        return ScreenLine(text, Segment.get_line_length(row))


def _syntax(code: str, language: str) -> Syntax:
    syntax = Syntax(code.removesuffix("\n"), language or "text", theme=CODE_THEME, word_wrap=True)
    if syntax.lexer is None or syntax.lexer.name == "Text only":
        return Syntax(syntax.code, "text", theme=PLAIN_THEME, word_wrap=True)
    return syntax


def _preserve(token: Token) -> Token:
    """Change a token to show images as text, keep line breaks and hide nothing; return it."""
    token.content = _prepare(token.content)
    if token.children:
        token.children = [_preserve(_preserve_inline(child)) for child in token.children]
    return token


def _preserve_inline(token: Token) -> Token:
    if token.type == "image":
        return Token("text", "", 0, content=f"![{token.content}]({token.attrs.get('src')})")
    if token.type == "softbreak":
        return Token("hardbreak", "br", 0)
    return token


def _prepare(text: str) -> str:
    """Return text that is ready for layout: visible, and without joiners."""
    return visible(text).replace(_JOINER, _PLACEHOLDER)


def _count_letters(text: str) -> Counter[str]:
    return Counter(re.findall(r"[^\W_]", re.sub(r"\x1b\[[\d;]*m", "", text)))
