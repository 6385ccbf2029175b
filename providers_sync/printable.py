"""Text that can neither steer a terminal nor hide anything: odd characters made visible.

What a model, a server or a file says goes through here before a person sees it. Output that is
data (a pipe, JSON, a ledger) does not.
"""

from __future__ import annotations

import re

_ALWAYS = (
    r"\0-\x08\x0b-\x1f\x7f-\x9f"  # C0, DEL and C1: they steer the terminal
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the order of reading
    r"\u2028\u2029"  # breaks of lines and paragraphs that terminals do not break at
    r"\u00ad\u034f\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff"  # no width
    r"\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # letters that show nothing
    r"\u180b-\u180d\u180f\ufe00-\ufe0d"  # variants of the character before, but for emoji
    r"\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # notes between lines, music
    r"\ud800-\udfff"  # halves of characters, and bytes that are no text
    r"\U000e0000-\U000e0fff"  # tags: a whole message can be hidden in them
)
_JOINERS = "\u200c\u200d"
"""Persian, the scripts of India and families of emoji need them between two letters."""
_SELECTORS = "\ufe0e\ufe0f"
"""They choose between an emoji and a plain sign."""
_KEYCAPS = "0123456789#*"
"""With a selector they begin an emoji, too."""
_DEPENDING = f"\r{_JOINERS}{_SELECTORS}"
"""The characters around these decide."""
_HIDDEN = re.compile(f"[{_ALWAYS}{_JOINERS}{_SELECTORS}]")
_BEFORE = 2
"""So many characters before one may decide about it."""


def visible(text: str) -> str:
    r"""Return ``text`` with what steers or hides made visible; line feeds and tabs stay.

    Control characters become their pictures, others ``<U+202E>``, and CR LF becomes LF. Joiners
    stay between two letters that are not ASCII, emoji selectors behind what may be an emoji.

    >>> visible("a\x1b[2Jb\u202e\r\n")
    'a␛[2Jb<U+202E>\n'
    """
    return _made_visible(text, 0, len(text))


def one_line(text: str) -> str:
    r"""Return ``text`` made visible in one line, each run of white space as one space.

    >>> one_line("no such\n  model \x07")
    'no such model ␇'
    """
    return visible(" ".join(text.split()))


class VisibleChunks:
    r"""Makes text visible that comes in chunks, as ``visible`` makes the whole of it.

    >>> chunks = VisibleChunks()
    >>> chunks.feed("a\u200d") + chunks.feed("b") + chunks.end()
    'a<U+200D>b'
    """

    def __init__(self) -> None:
        self._before = ""
        self._held = ""

    def feed(self, chunk: str) -> str:
        """Return what can be shown; a last character that the next one decides on is held back."""
        text = self._before + self._held + chunk
        start, end = len(self._before), len(text)
        if end > start and text[-1] in f"\r{_JOINERS}":
            end -= 1
        self._before, self._held = text[max(end - _BEFORE, 0) : end], text[end:]
        return _made_visible(text, start, end)

    def end(self) -> str:
        """Return what was held back, and be ready for another text."""
        text, start = self._before + self._held, len(self._before)
        self._before = self._held = ""
        return _made_visible(text, start, len(text))


def _made_visible(text: str, start: int, end: int) -> str:
    """Return the part of ``text`` from ``start`` to ``end``, as the characters around it demand."""
    parts = []
    for found in _HIDDEN.finditer(text, start, end):
        character, at = found[0], found.start()
        parts.append(text[start:at])
        if not (character in _DEPENDING and _stays(text, at)):
            parts.append(_NAMES[character])
        elif character != "\r":
            parts.append(character)
        start = at + 1
    parts.append(text[start:end])
    return "".join(parts)


class _Names(dict[str, str]):
    """Remembers what each character is shown as: a hostile text holds a million of them."""

    def __missing__(self, character: str) -> str:
        code = ord(character)
        picture = chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else ""
        self[character] = picture or f"<U+{code:04X}>"
        return self[character]


_NAMES = _Names()


def _stays(text: str, at: int) -> bool:
    """Tell whether a character is no oddity where it stands."""
    character, before = text[at], text[at - 1] if at else ""
    if character == "\r":
        return text[at + 1 : at + 2] == "\n"
    if character in _SELECTORS:
        return _is_letter(before) or (before != "" and before in _KEYCAPS)
    if at > 1 and before in _SELECTORS:
        before = text[at - 2]
    return _is_letter(before) and _is_letter(text[at + 1 : at + 2])


def _is_letter(character: str) -> bool:
    """Tell whether it is a character beyond ASCII that shows something."""
    return character > "\xa0" and not character.isspace() and not _HIDDEN.match(character)
