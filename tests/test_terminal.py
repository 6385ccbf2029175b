"""The terminal's modules: Markdown blocks, their rendering, screens, and the live region."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from providers_sync.terminal.live import LiveRegion, ScreenLine
from providers_sync.terminal.markdown import Renderer
from providers_sync.terminal.markdown_blocks import Block, BlockSplitter
from providers_sync.terminal.screens import MarkdownScreen, PlainScreen, Screen, TerminalScreen
from providers_sync.terminal.spinner import Spinner
from providers_sync.types import TextDelta

# --- blocks of streamed Markdown

FRAGMENTS = st.sampled_from(
    [
        *("word ", "**bold", "** ", "`code` ", "\n", "\n\n", "- item\n", "  - inner\n", "1. one\n"),
        *("2. two\n", "3.", "```python\n", "x = 1\n", "```\n", "~~~", "> quote\n", "# Title\n"),
        *("| a | b |\n", "|---|---|\n", "| 1 | 2 | 3 |\n", "<b>html</b> ", "<div>\n", "&amp; "),
        *("[1]: http://x.y\n", "[t](http://a.b/c) ", "![i](u.png)", "---\n", "===\n", "    four\n"),
        *(
            "   ```\n",
            "\t",
            "\\(x\\) ",
            "\u2028",
            "😀",
            "  \n",
            "10. ten\n",
            "* star\n",
            "    - in\n",
        ),
    ]
)


def split_blocks(source: str, sizes: Sequence[int]) -> list[Block]:
    """Feed the source in chunks of these sizes; return the blocks in the order they finish."""
    splitter, blocks, at = BlockSplitter(), [], 0
    for size in [*sizes, len(source)]:
        splitter.feed(source[at : at + size])
        blocks += splitter.finished()
        at += size
    unfinished = splitter.unfinished()
    return [*blocks, unfinished] if unfinished else blocks


@settings(deadline=None, max_examples=200)
@given(st.lists(FRAGMENTS, max_size=25), st.lists(st.integers(1, 12), max_size=40))
@example(["```python\n", "x = 1\n", "---\n", "```\n", "word "], [9, 12])
def test_blocks_contain_every_letter_once(parts: list[str], sizes: list[int]) -> None:
    """However the text is split into chunks, the blocks and their rendering contain all of it."""
    source = "".join(parts)
    blocks = split_blocks(source, sizes)
    joined = ""
    for block in blocks:  # each part of a split code block starts with its fence
        joined += block.source.split("\n", 1)[-1] if block.code_before else block.source
    assert joined.strip() == source.strip()
    renderer = Renderer(sys.stdout)
    lines = [line for block in blocks for line in renderer.lines(block, 60)]
    letters = re.findall("[a-zA-Z😀]", re.sub(r"(```|~~~).*|&amp;", "", source))
    shown = "".join(re.sub(r"\x1b\[[\d;]*m", "", line.text) for line in lines)
    for letter in set(letters):
        assert shown.count(letter) >= letters.count(letter)
    assert all(line.cells <= 60 for line in lines)


def test_blocks_are_finished_one_by_one() -> None:
    """Paragraphs, list items and lines of code are finished before the answer ends."""
    blocks = BlockSplitter()
    blocks.feed("Intro\n\n1. one\n   more\n2. two\n3. th")
    assert [block.source for block in blocks.finished()] == ["Intro\n\n", "1. one\n   more\n"]
    blocks.feed("ree\n\n```py\n" + "".join(f"a = {i}\n" for i in range(9)))
    finished = blocks.finished()
    assert [block.source for block in finished[:2]] == ["2. two\n", "3. three\n\n"]
    assert finished[0].joined
    assert finished[2].source.count("\n") == 8  # the fence and seven of nine lines
    blocks.feed("```\nEnd\n")
    (code,) = blocks.finished()
    assert code.code_before.count("\n") == 7
    assert blocks.unfinished() == Block("End\n")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a <b>c</b> <script>d</script>", "a <b>c</b> <script>d</script>"),
        ("<div>\nx\n</div>", "<div>\nx\n</div>"),
        ("<!-- note -->", "<!-- note -->"),
        ("[1]: http://x.y", "[1]: http://x.y"),
        ("![pic](a.png) and [site](http://b.c)", "![pic](a.png) and site (http://b.c)"),
        ("one\ntwo", "one\ntwo"),
        ("7. seven", " 7. seven"),
        ("| a |\n|---|\n| 1 | 2 |", "| a |\n|---|\n| 1 | 2 |"),
        ("a &lt; b & c", "a < b & c"),
    ],
)
def test_rendering_drops_nothing(source: str, expected: str) -> None:
    """Text that Markdown would hide stays readable."""
    lines = Renderer(sys.stdout).lines(Block(source), 60)
    assert "\n".join(line.text for line in lines) == expected


def test_table_that_is_too_wide_keeps_every_cell() -> None:
    """Cells wrap, or the table becomes rows of text; no cell is cut with an ellipsis."""
    for columns in (4, 30):
        row = "|" + "|".join(f"cell{i:02}word" for i in range(columns)) + "|\n"
        source = row + "|---" * columns + "|\n" + row
        lines = Renderer(sys.stdout).lines(Block(source), 40)
        assert all(line.cells <= 40 for line in lines)
        joined = "".join(line.text for line in lines)
        assert joined.count("c") >= 2 * columns
        assert "…" not in joined


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<http://a%1B]0;x%07b>", "http://a␛]0;x␇b (http://a%1B%5D0;x%07b)"),
        ("<http://a%E2%80%AEb>", "http://a<U+202E>b (http://a%E2%80%AEb)"),
        ("a &#x202e;b&ZeroWidthSpace;c &rlm;", "a <U+202E>b<U+200B>c <U+200F>"),
        ("## a&#x202e;", "a<U+202E>"),
        ("- **a&#x2066;**", " • a<U+2066>"),
        ("![a](x\u202e)", "![a](x%E2%80%AE)"),
        ("`a\x1bb`", "a␛b"),
        ("```\na\u202eb\n```", "a<U+202E>b"),
        ("| a&#x202e; |\n|---|", " a<U+202E>\n ─────────"),
        ("[a](http://x 'b&#x202e;')", "[a](http://x 'b&#x202e;')"),
    ],
)
def test_rendering_restores_no_hidden_character(source: str, expected: str) -> None:
    """Entities and escaped addresses become characters only when the Markdown is parsed."""
    lines = Renderer(io.StringIO()).lines(Block(source), 60)
    assert "\n".join(line.text for line in lines) == expected
    assert [line.cells for line in lines] == [len(line) for line in expected.split("\n")]


@pytest.mark.parametrize(
    "unit", ["é\u200d", "😀\u200d", "ا\u200c", "क\u094d\u200d", "👨\u200d👩\u200d👧 "]
)
def test_no_line_is_wider_than_measured(unit: str) -> None:
    """Terminals may support joiners or not: no line is wider in either, and joiners are kept."""
    source = unit * 100 + "é"
    fence, title = f"```\n{source}\n{source}", f"[a](http://x '{source}')"
    for block in (Block(source), Block(fence, code_before="x\n"), Block(title)):
        lines = Renderer(io.StringIO()).lines(block, 40)
        assert all(cell_len(line.text.replace("\u200d", "")) <= line.cells <= 40 for line in lines)
        shown = "".join(line.text for line in lines)
        shown = re.sub(r"\x1b\[[\d;]*m", "", shown).replace(" ", "")
        assert source.replace(" ", "") in shown


# --- the screens


@pytest.mark.parametrize("kind", [TerminalScreen, MarkdownScreen])
def test_screen_shows_control_characters_and_keeps_an_emoji_that_arrives_in_chunks(
    kind: type[Screen],
) -> None:
    """The emoji is split across chunks; the last character is shown, too."""
    out = io.StringIO()
    screen = kind(out)
    for _ in range(2):
        for chunk in ("a\x1b[2J\u202e 👨", "\u200d", "👩\u200d", "👧 x\u200d", "y\r", "\nz\u200c"):
            screen.show(TextDelta(chunk))
        screen.end(None, None)
    shown = "a␛[2J<U+202E> 👨\u200d👩\u200d👧 x<U+200D>y\nz<U+200C>\n"
    assert out.getvalue().replace("\x1b[K\n", "\n") == shown * 2


def test_spinner_shows_a_sanitized_label() -> None:
    """Control characters in the label are made visible."""
    drawn = threading.Event()

    class Out(io.StringIO):
        def flush(self) -> None:
            drawn.set()

    out = Out()
    spinner = Spinner(out, "la\x1b[2Jbel")
    assert drawn.wait(10)
    spinner.stop()
    assert out.getvalue().startswith("\r\x1b[K| la␛[2Jbel")


def test_piped_text_is_unchanged() -> None:
    """Piped output is data, so control characters are kept."""
    out = io.StringIO()
    screen = PlainScreen(out)
    for chunk in ("a\x1b[2J\u202e", "\u200d\r", "\n"):
        screen.show(TextDelta(chunk))
    screen.end(None, None)
    assert out.getvalue() == "a\x1b[2J\u202e\u200d\r\n"


# --- the live region


class FakeTerminal:
    """The part of a terminal that the live region uses: it scrolls and keeps the scrollback."""

    def __init__(self, columns: int, lines: int) -> None:
        self.columns, self.lines = columns, lines
        self.scrollback: list[str] = []
        self.rows = [""]
        self.row = self.column = 0

    def write(self, data: str) -> None:
        for part in re.findall(r"\x1b\[\d*[A-Z]|\n|\r|[^\x1b\n\r]+", data):
            if part == "\n":
                self._down()
            elif part == "\r":
                self.column = 0
            elif part.endswith("A") and part[0] == "\x1b":
                self.row = max(self.row - int(part[2:-1]), 0)
            elif part in ("\x1b[K", "\x1b[J"):
                self.rows[self.row] = self.rows[self.row][: self.column]
                if part == "\x1b[J":
                    del self.rows[self.row + 1 :]
            else:
                row = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = row[: self.column] + part + row[self.column + len(part) :]
                self.column += len(part)

    def _down(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.rows):
            self.rows.append("")
        if len(self.rows) > self.lines:
            self.scrollback.append(self.rows.pop(0))
            self.row -= 1

    def flush(self) -> None:
        pass

    def size(self) -> os.terminal_size:
        return os.terminal_size((self.columns, self.lines))

    def content(self) -> list[str]:
        return [*self.scrollback, *self.rows]


LINES = st.text("ab", max_size=9)
STEPS = st.lists(st.tuples(st.lists(LINES, max_size=4), st.lists(LINES, max_size=9)), max_size=12)


@settings(deadline=None)
@given(STEPS, st.integers(2, 8))
def test_live_region_never_loses_or_repeats_a_line(steps: Any, height: int) -> None:
    """Finished lines are shown once and in order, however the live lines change."""
    terminal = FakeTerminal(20, height)
    region = LiveRegion(terminal, terminal.size)  # type: ignore[arg-type]
    done: list[str] = []
    for finished, live in steps:
        done += finished
        region.update(
            [ScreenLine(text, len(text)) for text in finished],
            [ScreenLine(text, len(text)) for text in live],
        )
        shown = live[len(live) - min(len(live), max(height * 2 // 3, 1)) :]
        assert terminal.content()[: len(done)] == done
        assert terminal.content()[len(done) :] == (shown or [""] if done or shown else [""])


def test_live_region_leaves_the_last_column_free() -> None:
    """Terminals wrap full lines differently."""
    terminal = FakeTerminal(20, 5)
    assert LiveRegion(terminal, terminal.size).width == 19  # type: ignore[arg-type]
