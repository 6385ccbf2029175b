"""``Seam``: takes off what the text after a break repeats of the text before it."""

from __future__ import annotations

from ..errors import MalformedStream

LONG = 16
"""So many equal characters are no accident."""
_BEGINNING = 10
"""So many, of two words or more, show a beginning in the middle of a sentence."""
_ALIKE = 4
"""So many equal characters before a repetition show that it may be none."""
_SHORTEST = 3
"""The shortest repetition that is taken off: it begins with a word."""
_TAIL = 20_000
"""How much of the end of the earlier text a repetition may cover, unless it covers all of it."""
_SEARCHES = 100
"""How often the place of a repetition is looked for, so that a hostile text costs little."""
_NO_SPACES = "\u2e80"
"""From here on, scripts are written without spaces between words."""
_SHOWN = 200


class Seam:
    """The place where a text goes on after a break; ``said`` is the text before it.

    Only an exact repetition is taken off: of the last words, or of the whole text from its
    beginning. What ``said`` repeats itself, like the rows of a table, may well come again, and is
    kept. ``asked``: the last words that the model was asked to repeat; one that begins with a
    capital in the middle of a word instead has begun again. Without them, it goes on with a prefix.
    Nothing is returned while the new text may still be a repetition.
    """

    def __init__(self, said: str, asked: str = "") -> None:
        self._said = said
        self._start = said.lstrip()
        self._asked = asked.strip()
        self._held = ""
        self._place: int | None = 0
        """Where the held text stands in the earlier one; white space before it may be another."""
        self._searches = 0
        self._is_decided = not said

    def feed(self, text: str) -> str:
        """Return what of this piece is new; raise ``MalformedStream`` if the text begins anew."""
        if self._is_decided:
            return text
        assert self._place is not None
        is_next = self._said.startswith(text, self._place + len(self._held))
        self._held += text
        if not is_next:
            self._place = self._find(max(self._place, 0))
            self._searches += 1
        if self._place is not None and self._searches < _SEARCHES:
            return ""
        return self._decide()

    def end(self) -> str:
        """Return what is new of the text that is held, at the end of an answer; raise like it."""
        return self._decide() if self._held else ""

    def give_up(self) -> str:
        """Return what is new of the text that is held, at another break or a stop."""
        if not self._held:
            return ""
        words = self._held.lstrip()
        space = self._held[: len(self._held) - len(words)]
        is_beginning = self._start.startswith(words) and (
            (self._asked and len(words) >= _SHORTEST) or self._begins_anew(len(words), space)
        )
        if is_beginning or self._asked.startswith(words):
            self._is_decided, self._held = True, ""
        return self._decide(is_whole=False) if self._held else ""

    def _find(self, earliest: int) -> int | None:
        place = self._said.find(self._held, earliest)
        if place >= 0:
            return place
        words = self._held.lstrip()
        space = len(self._held) - len(words)
        if space <= LONG:
            if self._start.startswith(words):
                return len(self._said) - len(self._start) - space
            if self._asked.startswith(words):
                return len(self._said.rstrip()) - len(self._asked) - space
        return None

    def _decide(self, *, is_whole: bool = True) -> str:
        held, said = self._held, self._said
        words = held.lstrip()
        self._is_decided, self._held = True, ""
        if self._asked and words.startswith(self._asked):
            rest = words[len(self._asked) :]
            return rest[_common(said[len(said.rstrip()) :], rest) :]
        if held.startswith(said) and len(said) > 1:
            return held[len(said) :]
        overlap, repeated = _overlap(said, held, may_go_on=not self._asked)
        common = _common(self._start, words)
        if common > overlap and self._begins_anew(common, held[: len(held) - len(words)]):
            if common == len(self._start):
                return words[common:]
            if is_whole and overlap < LONG:
                raise self._began_anew(held)
        is_inside = said[-1].islower() and held[0].isupper()
        if self._asked and is_inside and is_whole and not overlap:
            raise self._began_anew(held)
        return held[repeated:]

    def _began_anew(self, text: str) -> MalformedStream:
        return MalformedStream(
            "the answer broke off, and the model did not continue but started over with different "
            f"words, which are left out: {text[:_SHOWN]!r}"
        )

    def _begins_anew(self, common: int, space: str) -> bool:
        """Return whether so many equal characters at the beginning show that the text is told anew.

        ``space`` is before them. Lines may begin alike: after a whole line more than a line must
        be equal, unless no other line begins like the first.
        """
        said, start = self._said, self._start
        is_same = not space or said.startswith(space + start)
        equal = start[:common]
        least = min(LONG, max(2, (len(start) + 1) // 2)) if is_same else LONG
        if self._asked and is_same and " " in equal.strip() and self._is_sentence_open():
            least = min(least, _BEGINNING)
        if common < least:
            return False
        if common < LONG and not any(map(str.isalnum, equal)):
            return False
        is_line = (said + space).endswith("\n") and "\n" not in equal
        is_only_line = "\n" not in start.rstrip()
        return not (is_line and (is_only_line or "\n" + equal[:LONG] in start))

    def _is_sentence_open(self) -> bool:
        """Return whether a beginning with a capital letter cannot be the next sentence."""
        return self._start[0].isupper() and self._said.rstrip()[-1].islower()


def _common(one: str, other: str) -> int:
    """Return the length of the beginning that two texts have in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.startswith(other[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _overlap(said: str, text: str, *, may_go_on: bool) -> tuple[int, int]:
    """Return how much at the beginning of ``text`` is at the end of ``said``, and is a repetition.

    The second is less where ``text`` may as well go on with what ``said`` repeats itself.

    >>> _overlap("One two three", "three four", may_go_on=False)
    (5, 5)
    >>> _overlap("row, row, ", "row, no", may_go_on=False)
    (5, 0)
    """
    start = text[:_TAIL]
    lengths = [0] * len(start)
    """Of each beginning of the text, the longest part that is at its end, too."""
    length = 0
    for place in range(1, len(start)):
        while length and start[place] != start[length]:
            length = lengths[length - 1]
        length += start[place] == start[length]
        lengths[place] = length
    length = 0
    for character in said[-len(start) :]:
        while length and (length == len(start) or character != start[length]):
            length = lengths[length - 1]
        length += character == start[length]
    overlap = length
    space = len(said) - len(said.rstrip())
    while length and not _is_repetition(said, length, space):
        length = lengths[length - 1]
    periods = {length, length - lengths[length - 1]} if length else set()
    if any(_goes_on(said, length, period, may_go_on) for period in periods):
        while length and length != space:
            length = lengths[length - 1]
    return overlap, length


def _goes_on(said: str, length: int, period: int, is_likely: bool) -> bool:
    """Return whether so many characters at the end go on with what is before them already.

    All of a period must be there already; less if that ``is_likely``, or if else the model would
    have repeated a part of a word. Not where a word would stand there twice without a space.
    """
    place = len(said) - length
    first = said[place]
    is_inner = place > 0 and said[place - 1].isalnum() and first.isalnum()
    if first.isalnum() and first < _NO_SPACES and said[-1].isalnum() and not is_inner:
        return False
    before = min(period, _ALIKE) if is_likely or is_inner else period
    start = place - before
    return start >= 0 and said.startswith(said[start + period : place + period], start)


def _is_repetition(said: str, length: int, space: int) -> bool:
    """Return whether so many characters at the end of ``said`` stand twice by no accident.

    ``space`` of them are white space.
    """
    if length <= space:
        return length == space
    return length >= LONG or _begins_word(said, len(said) - length)


def _begins_word(said: str, place: int) -> bool:
    """Return whether what follows in ``said`` begins with a word."""
    words = said[place:]
    return (
        len(words) >= _SHORTEST
        and words[0].isalnum()
        and any(map(str.isalpha, words))
        and (place == 0 or not said[place - 1].isalnum() or words[0] >= _NO_SPACES)
    )
