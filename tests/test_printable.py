"""Control and invisible characters are made visible, in full texts and chunks, and quickly."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync.printable import VisibleChunks, one_line, visible

FAMILY = "👨\u200d👩\u200d👧"
CONTROL_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of Unicode: controls, formats, surrogates, and the two separators."""
SHOWN_FORMATS = {"\u0600", "\u0601", "\u0602", "\u0603", "\u0604", "\u0605", "\u06dd", "\u070f"}
"""Number signs: format characters by category, but visible."""
SHOWN_FORMATS |= {"\u0890", "\u0891", "\u08e2", "\U000110bd", "\U000110cd"}
SHOWN_FORMATS |= {
    chr(code) for code in range(0x13430, 0x13440)
}  # hieroglyph joiners, which are visible

ODD = st.sampled_from(
    [*"a1é😀\n\r\t \x1b\u200b\u200c\u200d\ufe0e\ufe0f\u202e\ud800", "\r\n", FAMILY]
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;x\x07\x00\x7f\x9b2J\x85", "a␛]0;x␇␀␡<U+009B>2J<U+0085>"),
        ("line\r\nline\rover\n\ttab", "line\nline␍over\n\ttab"),
        ("abc\u202edef\u2066\u200f\u061c", "abc<U+202E>def<U+2066><U+200F><U+061C>"),
        ("a\u200bb\ufeff\u00ad\u2060\u3164", "a<U+200B>b<U+FEFF><U+00AD><U+2060><U+3164>"),
        ("a\u2028b\ufff9\ud83d", "a<U+2028>b<U+FFF9><U+D83D>"),
        ("hi\U000e0068\U000e0069", "hi<U+E0068><U+E0069>"),
        ("ad\u200dmin x\u200c", "ad<U+200D>min x<U+200C>"),
        ("é\u200d é\u200d\u200dé", "é<U+200D> é<U+200D><U+200D>é"),
        ("\ufe0fa\ufe0f é\ufe0f\ufe0f\u200dé", "<U+FE0F>a<U+FE0F> é\ufe0f<U+FE0F><U+200D>é"),
        ("é\ufe01", "é<U+FE01>"),
    ],
)
def test_control_and_invisible_characters_are_shown(text: str, shown: str) -> None:
    """Control characters by their symbols, all others by their code points."""
    assert visible(text) == shown
    assert visible(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        f"Grüße, {FAMILY}! ❤️\u200d🔥 1️⃣ #️⃣ ☺︎ 👍🏽",
        "می\u200cخواهم",
        "क्\u200dष",
        "שלום العربية 中文 e\u0301\xa0|\u3000|\n\t",
        "",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    """Emoji families, Persian and the scripts of India need their joiners."""
    assert visible(text) == text


def test_every_invisible_character_is_shown() -> None:
    """All that Unicode classifies as control, format, surrogate or line separator."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) in CONTROL_CATEGORIES and character not in SHOWN_FORMATS:
            assert (visible(f"a{character}b") != f"a{character}b") == (character not in "\n\t")


@settings(deadline=None)
@given(st.lists(ODD, max_size=20), st.lists(st.integers(1, 3), max_size=60))
def test_chunks_are_shown_like_the_full_text(parts: list[str], sizes: list[int]) -> None:
    """Wherever an emoji family or a line end is split; the next text starts from scratch."""
    text = "".join(parts)
    chunks = VisibleChunks()
    for _ in range(2):
        shown, at = "", 0
        for size in [*sizes, len(text)]:
            shown += chunks.feed(text[at : at + size])
            at += size
        assert shown + chunks.end() == visible(text)


def test_chunks_are_returned_immediately() -> None:
    """Only a character that depends on the next one waits for it."""
    chunks = VisibleChunks()
    assert [chunks.feed(each) for each in ("a\u202e", "é\u200d", "é", "\r", "\n")] == [
        *("a<U+202E>", "é", "\u200dé", "", "\n")
    ]
    assert chunks.end() == ""


def test_one_line_is_one_line() -> None:
    """Even with characters that break lines or columns."""
    assert one_line(" a\r\n\x0b b\u2028c\x85\td\x1b ") == "a b c d␛"


@pytest.mark.parametrize("unit", ["\u202e", "é\u200d", "\u200d", "\r", "é\ufe0f\u200d", "word "])
def test_cost_is_linear_in_the_length(unit: str) -> None:
    """Ten times the text takes about ten times as long; a million characters take seconds."""

    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        started = time.thread_time()  # CPU time: unaffected by other processes
        visible(text)
        return time.thread_time() - started

    small = min(seconds(10_000) for _ in range(3))
    assert min(seconds(100_000) for _ in range(2)) < 40 * small + 0.05
