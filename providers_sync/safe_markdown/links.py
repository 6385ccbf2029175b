"""Where a link may lead, and how its address is written so that nothing else can be read in it."""

from __future__ import annotations

import html
import re

_WRITTEN = re.compile(r"\\([!-/:-@\[-`{-~])|(&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|\w{1,32});)")
_IGNORED = str.maketrans("", "", "\t\n\r")
"""Browsers leave these out wherever they stand in an address."""
_ALLOWED = re.compile(r"https?://[^/?#\s]|mailto:.|#", re.I)
_UNSAFE = re.compile(r"%(?![0-9A-Fa-f]{2})|@(?=@)|[^%\w\-.:/?#@&+,;=]", re.A)

_TITLE = r"""(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\((?:[^()\\\n]|\\.)*\))"""
_GAP = r"[ \t]*(?:\n[ \t]*)?"
_ANGLED = r"<((?:[^<>\n\\]|\\.)*)>"
_BARE = r"((?:[^\s()<\\]|\\.|\((?:[^\s()<\\]|\\.)*\))+)"
INLINE = re.compile(rf"\({_GAP}(?:{_ANGLED}|{_BARE}){_GAP}(?:(?<=\s){_TITLE}{_GAP})?\)")
"""What stands behind the text of a link: ``(address "title")``."""
REFERENCE = re.compile(r"\[([^\[\]]{0,999})\]")
DEFINITION = re.compile(
    rf"\[((?:[^\[\]\\]|\\.){{1,999}})\]:[ \t]*(?:{_ANGLED}|(\S+))[ \t]*(?:(?<=\s){_TITLE}[ \t]*)?$"
)
AUTOMATIC = re.compile(r"<((?:https?://|mailto:)[^\s<>]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)>", re.I)


def target(written: str) -> str | None:
    r"""Return the address of a link as it can stand in Markdown and HTML; ``None`` to refuse it.

    Only the web, mail and places on the page itself: everything else may run a script or read
    what the notebook's server has.

    >>> target("https://example.org/a_(b)?x=1&y")
    'https://example.org/a_%28b%29?x=1&amp;y'
    >>> target(r"java&Tab;script\:f()")
    """
    address = _WRITTEN.sub(_meant, written).translate(_IGNORED).strip()
    if not _ALLOWED.match(address):
        return None
    return _UNSAFE.sub(_percent, address).replace("&", "&amp;")


def label(text: str) -> str:
    """Return the name of a definition in the form in which names are compared."""
    return " ".join(text.split()).casefold()


def _meant(found: re.Match[str]) -> str:
    return found[1] or html.unescape(found[2])


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "replace"))
