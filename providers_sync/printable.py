"""Makes text safe to print: control characters and invisible characters become visible.

Text from a model, a server or a file passes through here before a person sees it. Output that is
data (a pipe, JSON, a ledger) does not.
"""

from __future__ import annotations

import re

_UNSAFE = (
    r"\0-\x08\x0b-\x1f\x7f-\x9f"  # C0, DEL and C1: they control the terminal
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they change the reading order
    r"\u2028\u2029"  # line and paragraph separators, at which terminals do not break
    r"\u00ad\u034f\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff"  # no width
    r"\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # letters that are drawn as nothing
    r"\u180b-\u180d\u180f\ufe00-\ufe0d"  # variation selectors, except those of emoji
    r"\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # annotations, shorthand, music
    r"\ud800-\udfff"  # surrogates: half characters, and bytes that are not text
    r"\U000e0000-\U000e0fff"  # tags: they can hide a complete message
)
_JOINERS = "\u200c\u200d"
"""Persian, the scripts of India and emoji families need them between two letters."""
_SELECTORS = "\ufe0e\ufe0f"
"""They select the emoji or the text form of a character."""
_KEYCAPS = "0123456789#*"
"""Followed by a selector, these start an emoji, too."""
_CONTEXTUAL = f"\r{_JOINERS}{_SELECTORS}"
"""Whether these are shown as they are depends on the characters around them."""
_HIDDEN = re.compile(f"[{_UNSAFE}{_JOINERS}{_SELECTORS}]")
_LOOKBEHIND = 2
"""How many preceding characters may matter for one character."""


def visible(text: str) -> str:
    r"""Return ``text`` with control and invisible characters made visible; LF and tabs stay.

    Control characters become their Unicode symbols, others ``<U+202E>``, and CR LF becomes LF.
    Joiners stay between two letters that are not ASCII, emoji selectors after a possible emoji.

    >>> visible("a\x1b[2Jb\u202e\r\n")
    'a␛[2Jb<U+202E>\n'
    """
    return _visible_slice(text, 0, len(text))


def one_line(text: str) -> str:
    r"""Return ``text`` made visible on one line, with each run of white space as one space.

    >>> one_line("no such\n  model \x07")
    'no such model ␇'
    """
    return visible(" ".join(text.split()))


def short_line(text: str, limit: int) -> str:
    r"""Return ``one_line(text)``, cut off after about ``limit`` characters.

    >>> short_line("one two three", 7)
    'one two…'
    """
    line = one_line(text[: 2 * limit])
    return line if len(line) <= limit and len(text) <= 2 * limit else f"{line[:limit]}…"


def counted(number: int, name: str) -> str:
    """Return a number with the name of what it counts.

    >>> counted(1, "chunk"), counted(0, "chunk"), counted(1200, "more row")
    ('1 chunk', '0 chunks', '1,200 more rows')
    """
    return f"{number:,} {name}{'' if number == 1 else 's'}"


class VisibleChunks:
    r"""Does for text that arrives in chunks what ``visible`` does for the complete text.

    >>> chunks = VisibleChunks()
    >>> chunks.feed("a\u200d") + chunks.feed("b") + chunks.end()
    'a<U+200D>b'
    """

    def __init__(self) -> None:
        self._context = ""
        self._pending = ""

    def feed(self, chunk: str) -> str:
        """Return the text that can be shown; keep a last character that depends on the next one."""
        text = self._context + self._pending + chunk
        start, end = len(self._context), len(text)
        if end > start and text[-1] in f"\r{_JOINERS}":
            end -= 1
        self._context, self._pending = text[max(end - _LOOKBEHIND, 0) : end], text[end:]
        return _visible_slice(text, start, end)

    def end(self) -> str:
        """Return the pending text, and reset for another text."""
        text, start = self._context + self._pending, len(self._context)
        self._context = self._pending = ""
        return _visible_slice(text, start, len(text))


def _visible_slice(text: str, start: int, end: int) -> str:
    """Return ``text[start:end]`` made visible; the text around it is context."""
    parts = []
    for found in _HIDDEN.finditer(text, start, end):
        character, at = found[0], found.start()
        parts.append(text[start:at])
        if not (character in _CONTEXTUAL and _is_harmless(text, at)):
            parts.append(_REPLACEMENTS[character])
        elif character != "\r":
            parts.append(character)
        start = at + 1
    parts.append(text[start:end])
    return "".join(parts)


class _Replacements(dict[str, str]):
    """Caches what each character is shown as: a hostile text may hold a million of them."""

    def __missing__(self, character: str) -> str:
        code = ord(character)
        symbol = chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else ""
        self[character] = symbol or f"<U+{code:04X}>"
        return self[character]


_REPLACEMENTS = _Replacements()


def _is_harmless(text: str, at: int) -> bool:
    """Return whether the contextual character at ``at`` is legitimate in its context."""
    character, before = text[at], text[at - 1] if at else ""
    if character == "\r":
        return text[at + 1 : at + 2] == "\n"
    if character in _SELECTORS:
        return _is_letter(before) or (before != "" and before in _KEYCAPS)
    if at > 1 and before in _SELECTORS:
        before = text[at - 2]
    return _is_letter(before) and _is_letter(text[at + 1 : at + 2])


def _is_letter(character: str) -> bool:
    """Return whether ``character`` is visible and not ASCII."""
    return character > "\xa0" and not character.isspace() and not _HIDDEN.match(character)
