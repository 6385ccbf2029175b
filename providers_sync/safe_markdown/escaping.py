"""Escaping of text and code so that no Markdown parser sees markup in them."""

from __future__ import annotations

import re

_CONTROL_PICTURES: dict[int, str] = {
    code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"
}
_LINE_BREAKS = dict.fromkeys((0x0D, 0x2028, 0x2029), "\n")
"""JavaScript treats the last two as line ends; Python and Markdown do not."""
_NOT_CHARACTERS = dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), "\ufffd")
_CLEAN_TABLE = {**_CONTROL_PICTURES, **_LINE_BREAKS, **_NOT_CHARACTERS, 0x7F: "␡"}

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~\t\n]")
_HARMFUL = re.compile(r"[<$\\`]|&[#A-Za-z]|!\[|\]\s*[\[(:]|@@|~~~")
"""What code must not contain if a notebook might parse it as text."""


def clean(text: str) -> str:
    """Return ``text`` with LF line ends only, and with other control characters made visible."""
    return text.replace("\r\n", "\n").translate(_CLEAN_TABLE)


def as_entities(text: str) -> str:
    """Return ``text`` with every ASCII punctuation mark as an entity: it contains no Markdown, no
    HTML and no URL that a notebook would turn into a link.

    >>> as_entities("<b>")
    '&#60;b&#62;'
    """
    return _PUNCTUATION.sub(lambda match: f"&#{ord(match[0])};", text)


def escape(text: str) -> str:
    r"""Return ``as_entities(text)`` in a form that MathJax does not take for a formula either.

    MathJax reads the rendered page, where an entity is a plain character again, but it never
    matches a formula across an element boundary.

    >>> escape("$*")
    '<span>&#36;</span>&#42;'
    """
    return "".join(
        f"<span>&#{ord(character)};</span>" if character in "$\\" else as_entities(character)
        for character in text
    )


def is_harmless(code: str) -> bool:
    """Return whether this code is harmless even if a notebook parses it as text."""
    return not _HARMFUL.search(code)


def code_span(code: str, in_table: bool = False) -> str:
    """Return a code span: as Markdown if that is harmless, else as HTML."""
    code = code.replace("\n", " ")
    if in_table:
        code = code.replace("\\|", "|")
    if is_harmless(code) and not (in_table and "|" in code):
        return f"`{code}`"
    if code[0] == code[-1] == " " and code.strip():
        code = code[1:-1]
    return f"<code>{as_entities(code)}</code>"


def code_block(lines: list[str]) -> str:
    """Return a code block as one line of HTML, which no surrounding Markdown can split."""
    code = "\n".join(lines)
    return f"<pre><code>{as_entities(code)}</code></pre>"
