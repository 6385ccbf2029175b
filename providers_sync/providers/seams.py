"""``Seam``: takes off what the text after a break repeats of the text before it."""

from __future__ import annotations

from ..errors import MalformedStream

LONG = 16
"""So many equal characters are no accident."""
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
    beginning. Nothing is returned while the new text may still turn out to be one.
    """

    def __init__(self, said: str) -> None:
        self._said = said
        self._held = ""
        self._place = 0
        """Where the held text stands in the earlier one."""
        self._searches = 0
        self._is_decided = not said

    def feed(self, text: str) -> str:
        """Return what of this piece is new; raise ``MalformedStream`` if the text begins anew."""
        if self._is_decided:
            return text
        is_next = self._said.startswith(text, self._place + len(self._held))
        self._held += text
        if not is_next:
            self._place = self._said.find(self._held, self._place)
            self._searches += 1
        if self._place >= 0 and self._searches < _SEARCHES:
            return ""
        return self._decide()

    def end(self) -> str:
        """Return what is new of the text that is held, at the end of an answer; raise like it."""
        return self._decide() if self._held else ""

    def give_up(self) -> str:
        """Return what is new of the text that is held, at another break."""
        if not self._held:
            return ""
        is_beginning = self._begins_anew(len(self._held)) and self._said.startswith(self._held)
        return "" if is_beginning else self._decide(is_whole=False)

    def _decide(self, *, is_whole: bool = True) -> str:
        held, said = self._held, self._said
        self._is_decided, self._held = True, ""
        if held.startswith(said) and len(said) > 1:
            return held[len(said) :]
        repeated = _repeated(said, held)
        common = _common(said, held)
        if is_whole and common > repeated and self._begins_anew(common):
            raise MalformedStream(
                "the answer broke, and the model did not go on but began again with other words, "
                f"which are left out: {held[:_SHOWN]!r}"
            )
        return held[repeated:]

    def _begins_anew(self, common: int) -> bool:
        """Return whether so many equal characters at the beginning show that the text is told anew.

        Lines may begin alike: after a whole line more than a line must be equal.
        """
        said = self._said
        if said.endswith("\n") and "\n" not in said[:common]:
            return False
        return common >= min(LONG, max(2, (len(said) + 1) // 2))


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


def _repeated(said: str, text: str) -> int:
    """Return how much at the beginning of ``text`` repeats the end of ``said``.

    >>> _repeated("One two three", "three four"), _repeated("Hel", "lo")
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
    while length and not _is_repetition(said, length):
        length = lengths[length - 1]
    return length


def _is_repetition(said: str, length: int) -> bool:
    """Return whether so many characters at the end of ``said`` stand twice by no accident."""
    place = len(said) - length
    words = said[place:]
    if words.isspace():
        return len(said.rstrip()) == place
    if length >= LONG:
        return True
    return (
        length >= _SHORTEST
        and words[0].isalnum()
        and any(map(str.isalpha, words))
        and (place == 0 or not said[place - 1].isalnum() or words[0] >= _NO_SPACES)
    )
