"""What the text after a break repeats of the text before it."""

from __future__ import annotations

import contextlib
import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync import MalformedStream
from providers_sync.providers.continuation_request import BrokenAnswer
from providers_sync.providers.seams import LONG, Seam


def joined(said: str, *pieces: str, asked: str = "") -> str:
    """Return the text that a caller gets."""
    seam = Seam(said, asked)
    return said + "".join(map(seam.feed, pieces)) + seam.end()


ROW = "| alpha | beta | gamma |\n"
KING = "Once upon a time there was a king"


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
        ("| n ", "| square |", "| n | square |"),
        ("Hel", "Hello", "Hello"),
        ("ha ha", " ha", "ha ha ha"),
        ("1, 2, 10", "10, 11", "1, 2, 1010, 11"),  # could be 1010
        ("今天天气很好", "天气很好,我们", "今天天气很好,我们"),
        ("The end.", "", "The end."),
        ("The end.", "The end.", "The end."),
        ("", "The end.", "The end."),
        ("- apples\n- pears\n", "- apples and more\n", "- apples\n- pears\n- apples and more\n"),
        ("Say it (the", "the word)", "Say it (the word)"),
        # What stands twice already may come again.
        (ROW * 3, ROW + "| end |\n", ROW * 4 + "| end |\n"),
        (f"Rows:\n{ROW}{ROW}", f"{ROW}Sum", f"Rows:\n{ROW * 3}Sum"),
        ("Row row row your boat, row row ", "row your", "Row row row your boat, row row row your"),
        ("A title\n" + "-" * 30, "-" * 20 + "\n", "A title\n" + "-" * 50 + "\n"),
        ("AA" + "A" * 40, "A" * 20 + "B", "A" * 62 + "B"),
        ("Then three and three", "three four", "Then three and three four"),
        ("ha ha ha", "ha ha, no", "ha ha ha, no"),  # not "haha"
        (f"{KING} of {KING[:9]}", f"{KING[:9]} else", f"{KING} of {KING[:9]} else"),
        (f"Rows:\n{ROW}{ROW}", f"\n{ROW}Sum", f"Rows:\n{ROW * 3}Sum"),  # after "gamma |"
        # Lines that begin alike.
        (f"{ROW}{ROW[:18]}", f"{ROW[:18]}no |", f"{ROW}{ROW[:18]}no |"),
        # The middle of a word is not where a model begins to repeat.
        (f"Rows:\n{ROW}{ROW[:4]}", f"{ROW[4:]}{ROW[:4]}.", f"Rows:\n{ROW}{ROW}{ROW[:4]}."),
        # The whole text with other white space before it.
        (KING, f" \n{KING} who", f"{KING} \n{KING} who"),  # lines may be equal
        (KING, f" {KING} who", f"{KING} who"),
        (f"{KING}\nHe", f"\n\n{KING}\nHe said", f"{KING}\nHe said"),
        (f"\n\n{KING}", f"{KING} who", f"\n\n{KING} who"),
        (KING, f"\n{KING[:20]} is no more", f"{KING}\n{KING[:20]} is no more"),
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
        (KING, f" {KING[:20]} is a queen"),
        (f"\n\n{KING}", f"{KING[:20]} is a queen"),
        (f"{KING}\n\nHe said\n\n", f"{KING[:20]} is a queen"),
        (f"{KING}\n\nHe said\n\n", f"\n{KING[:20]} is a queen"),
    ],
)
def test_text_told_anew_in_other_words_is_an_error(said: str, more: str) -> None:
    for pieces in ([more], list(more)):
        with pytest.raises(MalformedStream, match="started over with different words"):
            joined(said, *pieces)


@pytest.mark.parametrize("more", ["Sure! One, two", "1. One", "ONE TWO", "Two"])
def test_capital_in_the_middle_of_a_word_begins_anew(more: str) -> None:
    """Where the model was asked to repeat the last words, and does not."""
    said = "One two three"
    if more[0].isupper():
        with pytest.raises(MalformedStream, match="started over with different words"):
            joined(said, *more, asked="two three")
    else:
        assert joined(said, more, asked="two three") == said + more
    assert joined(said, more) == said + more
    assert joined(f"{said}. ", "Sure!", asked="two three. ") == f"{said}. Sure!"
    assert joined("I met John", "John Smith", asked="I met John") == "I met John Smith"


def test_beginning_in_the_middle_of_a_sentence_begins_anew() -> None:
    said, more = "The cat is an animal that ", "The cat is a pet"
    for pieces in ([more], list(more)):
        with pytest.raises(MalformedStream, match="started over with different words"):
            joined(said, *pieces, asked="animal that ")
    assert joined(said, more) == said + more
    for said, more in [
        ("The cat is an animal with four legs. ", "The cat is a pet"),
        ("I know it, and ", "I know more"),
        ("Copenhagen is big, and ", "Copenhagens"),
    ]:
        assert joined(said, more, asked=said) == said + more


def test_what_is_held_at_another_break_is_kept_if_it_is_new() -> None:
    seam = Seam("One and two and three")
    assert [seam.feed(" and"), seam.give_up(), seam.feed(" four")] == ["", " and", " four"]
    seam = Seam("One and two and three")
    assert [seam.feed("three"), seam.give_up()] == ["", ""]
    seam = Seam("One and two and three")
    assert [seam.feed("One and two"), seam.give_up()] == ["", ""]


@pytest.mark.parametrize(
    ("said", "asked", "more", "whole"),
    [
        (ROW * 3, ROW[8:] + ROW, ROW[8:] + ROW * 2 + "end", ROW * 4 + "end"),
        (ROW * 3, ROW[8:] + ROW, ROW + "end", ROW * 4 + "end"),
        ("One two three\n\n", "two three\n\n", "two three\nFour", "One two three\n\nFour"),
        ("One two three ", "two three ", "\ntwo three four", "One two three four"),
        ("One two three", "two three", "two three", "One two three"),
        ("One two three", "two three", " four", "One two three four"),
        ("la " * 20, "la " * 20, "la " * 25, "la " * 25),
    ],
)
def test_words_that_were_asked_for_are_taken_off_once(
    said: str, asked: str, more: str, whole: str
) -> None:
    assert joined(said, more, asked=asked) == whole
    assert joined(said, *more, asked=asked) == whole


def test_words_that_were_asked_for_are_no_news_at_another_break() -> None:
    seam = Seam("One and two and three", "two and three")
    assert [seam.feed("two and"), seam.give_up(), seam.feed(" four")] == ["", "", " four"]


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
        pairs = enumerate(zip(said.lstrip() + "1", more.lstrip() + "2", strict=False))
        common = next(place for place, (one, other) in pairs if one != other)
        assert common >= min(LONG, max(2, (len(said.lstrip()) + 1) // 2))
        return
    assert joined(said, more) == whole
    left = whole[len(said) :]
    taken = more[: len(more) - len(left)]
    assert taken + left == more
    assert said.endswith(taken) or said.strip() == taken.strip()


@settings(max_examples=500)
@given(text=st.text("ab \n", min_size=2, max_size=200), data=st.data())
def test_model_that_does_what_it_is_asked_loses_and_doubles_nothing(
    text: str, data: st.DataObject
) -> None:
    """Whatever the text repeats itself, and however the answer is split."""
    place = data.draw(st.integers(1, len(text) - 1))
    said, rest = text[:place], text[place:]
    asked = BrokenAnswer(said, None, "").last_words
    pieces = data.draw(st.lists(st.integers(0, len(asked) + len(rest)), max_size=5))
    edges = [0, *sorted(pieces), len(asked) + len(rest)]
    more = [(asked + rest)[a:b] for a, b in itertools.pairwise(edges)]
    whole = joined(said, *more, asked=asked)
    assert whole == text if said.strip() else whole.split() == text.split()


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
