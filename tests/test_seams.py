"""What the text after a break repeats of the text before it."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync import MalformedStream
from providers_sync.providers.seams import LONG, Seam


def joined(said: str, *pieces: str) -> str:
    """Return the text that a caller gets."""
    seam = Seam(said)
    return said + "".join(map(seam.feed, pieces)) + seam.end()


@pytest.mark.parametrize(
    ("said", "more", "whole"),
    [
        ("One two three", " four", "One two three four"),
        ("One two three", "three four", "One two three four"),
        ("One two three", "two three four", "One two three four"),
        ("One two three", "One two three four", "One two three four"),
        ("One two three ", " four", "One two three four"),
        ("One two\n\n", "\n\nThree", "One two\n\nThree"),
        ("Hello wor", "ld", "Hello world"),
        ("Hello wor", "world", "Hello world"),
        ("Hello wor", "Hello world", "Hello world"),
        ("Hel", "lo", "Hello"),
        ("Hel", "Hello", "Hello"),
        ("ha ha", " ha", "ha ha ha"),
        ("1, 2, 10", "10, 11", "1, 2, 1010, 11"),  # could be 1010
        ("今天天气很好", "天气很好,我们", "今天天气很好,我们"),
        ("The end.", "", "The end."),
        ("The end.", "The end.", "The end."),
        ("", "The end.", "The end."),
        ("- apples\n- pears\n", "- apples and more\n", "- apples\n- pears\n- apples and more\n"),
        ("Say it (the", "the word)", "Say it (the word)"),
    ],
)
def test_repetition_is_taken_off(said: str, more: str, whole: str) -> None:
    """However the text is split."""
    assert joined(said, more) == whole
    assert joined(said, *more) == whole
    for place in range(1, len(more)):
        assert joined(said, more[:place], more[place:]) == whole


@pytest.mark.parametrize(
    ("said", "more"),
    [
        ("The answer is forty", "The answer should be 42."),
        ("Hello wor", "Hello there"),
        ("Hel", "He is"),
        ("Once upon a time there was a king", "Once upon a time there lived a queen"),
        ("Once upon a time there was a king", "Once upon a time"),  # and it ends there
        ("- apples\n- pears\n", "- apples\n- plums\n"),
        ("The sum is 4. The sum", "The sum is 5."),
    ],
)
def test_text_told_anew_in_other_words_is_an_error(said: str, more: str) -> None:
    for pieces in ([more], list(more)):
        with pytest.raises(MalformedStream, match="began again with other words"):
            joined(said, *pieces)


def test_what_is_held_at_another_break_is_kept_if_it_is_new() -> None:
    seam = Seam("One and two and three")
    assert [seam.feed(" and"), seam.give_up(), seam.feed(" four")] == ["", " and", " four"]
    seam = Seam("One and two and three")
    assert [seam.feed("three"), seam.give_up()] == ["", ""]
    seam = Seam("One and two and three")
    assert [seam.feed("One and two"), seam.give_up()] == ["", ""]


texts = st.text("ab \n", max_size=40)


@settings(max_examples=500)
@given(said=texts, more=texts, data=st.data())
def test_nothing_but_a_repetition_is_taken_off(said: str, more: str, data: st.DataObject) -> None:
    """What is left is the end of the new text, what is taken off the end of the old one."""
    places = sorted(data.draw(st.lists(st.integers(0, len(more)), max_size=5)))
    pieces = [more[a:b] for a, b in zip([0, *places], [*places, len(more)], strict=True)]
    try:
        whole = joined(said, *pieces)
    except MalformedStream:
        common = next((i for i, (a, b) in enumerate(zip(said, more, strict=False)) if a != b), None)
        common = min(len(said), len(more)) if common is None else common
        assert common >= min(LONG, max(2, (len(said) + 1) // 2))
        return
    assert joined(said, more) == whole
    left = whole[len(said) :]
    taken = more[: len(more) - len(left)]
    assert taken + left == more
    assert said.endswith(taken)


@settings(max_examples=300)
@given(
    words=st.lists(st.text("abc", min_size=1, max_size=4), min_size=6, max_size=30), data=st.data()
)
def test_long_repetition_is_always_found(words: list[str], data: st.DataObject) -> None:
    text = " ".join(words)
    place = data.draw(st.integers(1, len(text)))
    said, rest = text[:place], text[place:]
    start = data.draw(st.integers(0, max(0, place - LONG)))
    if place - start < LONG or "\n" in text:
        return
    try:
        whole = joined(said, said[start:] + rest)
    except MalformedStream:
        return
    assert len(whole) <= len(text)
    assert said + rest == text
    assert whole == text or whole.startswith(said)


@pytest.mark.parametrize("unit", ["a", "ab", "aab ", "x" * 999 + "y"])
def test_hostile_text_costs_little(unit: str) -> None:
    """A megabyte that repeats itself, in single characters."""
    said = unit * (1_000_000 // len(unit))
    seam = Seam(said + "b")
    start = time.process_time()
    with contextlib.suppress(MalformedStream):
        for _ in range(100_000):
            seam.feed(unit[0])
        seam.end()
    assert time.process_time() - start < 3
