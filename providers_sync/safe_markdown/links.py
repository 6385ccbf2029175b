"""Patterns of Markdown links, and the check and escaping of their destinations."""

from __future__ import annotations

import html
import re

_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])|(&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|\w{1,32});)")
_IGNORED = str.maketrans("", "", "\t\n\r")
"""Browsers ignore these anywhere in a URL."""
_ALLOWED = re.compile(r"https?://[^/?#\s]|mailto:.|#", re.I)
_UNSAFE = re.compile(r"%(?![0-9A-Fa-f]{2})|@(?=@)|[^%\w\-.:/?#@&+,;=]", re.A)

_TITLE = r"""(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\((?:[^()\\\n]|\\.)*\))"""
_GAP = r"[ \t]*(?:\n[ \t]*)?"
_ANGLED = r"<((?:[^<>\n\\]|\\.)*)>"
_BARE = r"((?:[^\s()<\\]|\\.|\((?:[^\s()<\\]|\\.)*\))+)"
INLINE = re.compile(rf"\({_GAP}(?:{_ANGLED}|{_BARE}){_GAP}(?:(?<=\s){_TITLE}{_GAP})?\)")
"""What follows the link text of an inline link: ``(destination "title")``."""
REFERENCE = re.compile(r"\[([^\[\]]{0,999})\]")
DEFINITION = re.compile(
    rf"\[((?:[^\[\]\\]|\\.){{1,999}})\]:[ \t]*(?:{_ANGLED}|(\S+))[ \t]*(?:(?<=\s){_TITLE}[ \t]*)?$"
)
AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^\s<>]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)>", re.I)


def safe_destination(source: str) -> str | None:
    r"""Return a link destination that is safe in Markdown and HTML; ``None`` if it is not allowed.

    Allowed are the web, mail and anchors on the page itself: anything else might run a script or
    read from the notebook's server.

    >>> safe_destination("https://example.org/a_(b)?x=1&y")
    'https://example.org/a_%28b%29?x=1&amp;y'
    >>> safe_destination(r"java&Tab;script\:f()")
    """
    url = _ESCAPE.sub(_unescape, source).translate(_IGNORED).strip()
    if not _ALLOWED.match(url):
        return None
    return _UNSAFE.sub(_percent_encode, url).replace("&", "&amp;")


def normalize_label(text: str) -> str:
    """Return a link label in the normalized form in which labels are compared."""
    return " ".join(text.split()).casefold()


def _unescape(match: re.Match[str]) -> str:
    return match[1] or html.unescape(match[2])


def _percent_encode(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "replace"))
