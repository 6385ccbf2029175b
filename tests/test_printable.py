"""What steers a terminal or hides text is made visible, whole or in chunks, and quickly."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync.printable import VisibleChunks, one_line, visible

FAMILY = "👨\u200d👩\u200d👧"
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of Unicode: controls, formats, surrogates, and the two separators."""
SHOWN_FORMATS = {"\u0600", "\u0601", "\u0602", "\u0603", "\u0604", "\u0605", "\u06dd", "\u070f"}
"""Signs before numbers: formats by category, and yet they are drawn."""
SHOWN_FORMATS |= {"\u0890", "\u0891", "\u08e2", "\U000110bd", "\U000110cd"}
SHOWN_FORMATS |= {chr(code) for code in range(0x13430, 0x13440)}  # they join hieroglyphs

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
def test_what_steers_or_hides_is_shown(text: str, shown: str) -> None:
    """Control characters by their pictures, all others by their number."""
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
def test_honest_text_stays(text: str) -> None:
    """Emoji families, Persian and the scripts of India need their joiners."""
    assert visible(text) == text


def test_no_invisible_character_is_forgotten() -> None:
    """All that Unicode calls a control, a format, a surrogate or a separator of lines."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) in STEERING and character not in SHOWN_FORMATS:
            assert (visible(f"a{character}b") != f"a{character}b") == (character not in "\n\t")


@settings(deadline=None)
@given(st.lists(ODD, max_size=20), st.lists(st.integers(1, 3), max_size=60))
def test_chunks_are_shown_as_the_whole(parts: list[str], sizes: list[int]) -> None:
    """However a family of emoji or a line's end is cut; and the next text begins anew."""
    text = "".join(parts)
    chunks = VisibleChunks()
    for _ in range(2):
        shown, at = "", 0
        for size in [*sizes, len(text)]:
            shown += chunks.feed(text[at : at + size])
            at += size
        assert shown + chunks.end() == visible(text)


def test_chunks_come_at_once() -> None:
    """Only a character that depends on the next one waits for it."""
    chunks = VisibleChunks()
    assert [chunks.feed(each) for each in ("a\u202e", "é\u200d", "é", "\r", "\n")] == [
        *("a<U+202E>", "é", "\u200dé", "", "\n")
    ]
    assert chunks.end() == ""


def test_one_line_is_one_line() -> None:
    """Whatever breaks lines or columns."""
    assert one_line(" a\r\n\x0b b\u2028c\x85\td\x1b ") == "a b c d␛"


@pytest.mark.parametrize("unit", ["\u202e", "é\u200d", "\u200d", "\r", "é\ufe0f\u200d", "word "])
def test_cost_grows_with_the_length_only(unit: str) -> None:
    """Ten times the text, some ten times the time; a million characters are shown in seconds."""

    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        began = time.thread_time()  # the processor's, whoever else is busy
        visible(text)
        return time.thread_time() - began

    small = min(seconds(10_000) for _ in range(3))
    assert min(seconds(100_000) for _ in range(2)) < 40 * small + 0.05
