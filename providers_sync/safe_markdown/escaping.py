"""Characters that mean themselves, in whatever way a notebook reads Markdown."""

from __future__ import annotations

import re

_PICTURES: dict[int, str] = {
    code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"
}
_BREAKS = dict.fromkeys((0x0D, 0x2028, 0x2029), "\n")
"""JavaScript takes the last two for the end of a line, Python and Markdown do not."""
_NOT_TEXT = dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), "\ufffd")
_CLEANED = {**_PICTURES, **_BREAKS, **_NOT_TEXT, 0x7F: "␡"}

_MARKS = re.compile(r"[!-/:-@\[-`{-~\t\n]")
_HARMFUL = re.compile(r"[<$\\`]|&[#A-Za-z]|!\[|\]\s*[\[(:]|@@|~~~")
"""What must not stand in code that a notebook might take for text."""


def clean(text: str) -> str:
    """Return ``text`` with line feeds only, and with other control characters made visible."""
    return text.replace("\r\n", "\n").translate(_CLEANED)


def as_entities(text: str) -> str:
    """Return ``text`` with every ASCII punctuation mark as an entity: it is neither Markdown nor
    HTML, nor an address that is made a link.

    >>> as_entities("<b>")
    '&#60;b&#62;'
    """
    return _MARKS.sub(lambda found: f"&#{ord(found[0])};", text)


def escape(text: str) -> str:
    r"""Return ``encoded`` text that MathJax does not take for a formula either.

    MathJax reads the finished page, where an entity is a plain character again; but it never looks
    for a formula across the border of an element.

    >>> escape("$*")
    '<span>&#36;</span>&#42;'
    """
    return "".join(
        f"<span>&#{ord(character)};</span>" if character in "$\\" else as_entities(character)
        for character in text
    )


def is_harmless(code: str) -> bool:
    """Tell whether this code does nothing where a notebook takes it for text."""
    return not _HARMFUL.search(code)


def code_span(code: str, in_table: bool = False) -> str:
    """Return code within a line, as Markdown where that is harmless."""
    code = code.replace("\n", " ")
    if in_table:
        code = code.replace("\\|", "|")
    if is_harmless(code) and not (in_table and "|" in code):
        return f"`{code}`"
    if code[0] == code[-1] == " " and code.strip():
        code = code[1:-1]
    return f"<code>{as_entities(code)}</code>"


def code_block(lines: list[str]) -> str:
    """Return lines of code as one line of HTML: whatever surrounds it, it cannot be torn apart."""
    code = "\n".join(lines)
    return f"<pre><code>{as_entities(code)}</code></pre>"
