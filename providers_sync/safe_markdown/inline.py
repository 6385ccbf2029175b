"""Text made harmless: code, formulas and checked links stay, all other markup of HTML does not."""

from __future__ import annotations

import html
import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from . import links
from .escaping import as_entities, clean, code_span, escape
from .formulas import ENVIRONMENT, formula, is_price

_TOKEN = re.compile(r"\\|`+|\$+|<|&(?=[#\w])|!+\[?|\[|\]|@@+|~{3,}|:{3,}|(?i:ftp:)|\n\n+")
_BORDER = re.compile(r"\n[ \t]*(?:(?:[-+*#>|]|\d{1,9}[.)])[ \t]*|(?=\n))")
"""Where another block may begin: neither code nor a link goes across."""
_ROW = re.compile(r"^[ \t]*\|.*$", re.M)
"""A line of a table, where a bar in code stands behind a backslash."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,31});", re.A)
_DOLLARS = re.compile(r"\$((?:\\.|[^$\\\n])+)\$(?![\d$])")
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_BOX = re.compile(r"\[[ xX]\](?=[ \t])")
_TASK = re.compile(r"[ \t]*(?:[-+*]|\d{1,9}[.)])[ \t]+$")
MAX_MARKS = 1000
"""A paragraph or item with more is shown as it was written: notebooks take minutes for those."""
_NOWHERE = float("inf")


class _Opener(NamedTuple):
    """A bracket that may begin a link: its part of the output, and where the text begins."""

    part: int
    start: int


def inline(text: str, definitions: Mapping[str, str]) -> str:
    """Return the harmless Markdown of a run of lines; ``definitions`` are targets by label."""
    if _marks(text) <= MAX_MARKS:
        return _Inline(text, definitions).render()
    parts: list[str] = []
    calm = at = 0
    for border in [*_BORDER.finditer(text), None]:
        end = border.start() if border else len(text)
        if _marks(text[at:end]) > MAX_MARKS:
            parts += [_Inline(text[calm:at], definitions).render(), code_span(text[at:end])]
            calm = end
        at = border.end() if border else end
    return "".join(parts) + _Inline(text[calm:], definitions).render()


def _marks(text: str) -> int:
    return sum(map(text.count, "*_~\\$<[&"))


class _Inline:
    """One pass over the text: every search goes forward from where the last one ended."""

    def __init__(self, text: str, definitions: Mapping[str, str]) -> None:
        self._text = text
        self._definitions = definitions
        self._parts: list[str] = []
        self._openers: list[_Opener] = []
        self._last_link = -1
        self._ends: set[float] = set()
        self._found: dict[str, float] = {}
        self._borders = [found.start() for found in _BORDER.finditer(text)]
        rows = list(_ROW.finditer(text))
        self._rows, self._row_ends = [r.start() for r in rows], [r.end() for r in rows]
        self._runs: dict[int, list[int]] = {}
        for found in re.finditer("`+", text):
            self._runs.setdefault(len(found[0]), []).append(found.start())

    def render(self) -> str:
        at = 0
        while found := _TOKEN.search(self._text, at):
            if at < found.start():
                self._parts.append(self._text[at : found.start()])
            at = self._take(found[0], found.start(), found.end())
        self._parts.append(self._text[at:])
        return "".join(self._parts)

    def _take(self, token: str, at: int, end: int) -> int:
        """Write what this token becomes, and return where to go on."""
        kind = token[0]
        if kind == "`":
            return self._code(len(token), end)
        if kind == "$":
            return self._dollars(at, end)
        if kind == "\\":
            return self._backslash(at)
        if kind == "&":
            return self._entity(at)
        if kind == "<":
            return self._angle(at)
        if kind == "]":
            return self._close(at)
        if token[-1] == "[":
            return self._open(token, at, end)
        if token == "!" * len(token) and self._text[end : end + 1] != "<":
            self._parts.append(token)
        elif kind == "\n":
            self._openers.clear()
            self._parts.append(token)
        elif kind in "fF":  # notebooks make links of these addresses, too
            self._parts.append(f"{token[:-1]}&#58;")
        else:  # "~~~" or ":::"; "!" before a link; "@@", of which JupyterLab makes markers
            self._parts.append(as_entities(token))
        return end

    # --- code

    def _code(self, length: int, start: int) -> int:
        end = self._next(self._runs.get(length, []), start)
        if end >= self._border(start):
            self._parts.append("&#96;" * length)
            return start
        code = self._text[start : int(end)]
        row = bisect_left(self._rows, start) - 1
        in_table = row >= 0 and start < self._row_ends[row]
        self._parts.append(code_span(code, in_table))
        return int(end) + length

    def _border(self, start: int) -> float:
        return self._next(self._borders, start)

    @staticmethod
    def _next(places: list[int], start: int) -> float:
        number = bisect_left(places, start)
        return places[number] if number < len(places) else _NOWHERE

    # --- formulas

    def _dollars(self, at: int, end: int) -> int:
        if end - at == 2:
            return self._formula(end, "$$", True) or self._as_is(at, end)
        found = _DOLLARS.match(self._text, at) if end - at == 1 else None
        if found and not found[1][0].isspace() and not found[1][-1].isspace():
            glued = self._text[at - 1 : at].isalnum()
            if not glued and not is_price(found[1]) and self._shows(formula(found[1], False)):
                return found.end()
        return self._as_is(at, end)

    def _formula(self, start: int, closing: str, display: bool) -> int:
        """Write the formula that ends at ``closing``; return where to go on, or 0 if it is none."""
        end = self._find(closing, start)
        is_nested = closing == "\\)" and self._find("\\(", start) < end
        if is_nested or not self._may_end(start, end):
            return 0
        shown = self._shows(formula(self._text[start : int(end)], display))
        return int(end) + len(closing) if shown else 0

    def _may_end(self, start: int, end: float) -> bool:
        """Tell whether a formula may end there: in its paragraph, and where none ended before.

        Else a thousand openings before one end would all read up to it.
        """
        if end >= self._find("\n\n", start) or end in self._ends:
            return False
        self._ends.add(end)
        return True

    def _shows(self, formula: str | None) -> bool:
        if formula is None:
            return False
        if self._parts and self._parts[-1].endswith("$"):
            self._parts.append(" ")  # two inline formulas must not make a "$$"
        self._parts.append(formula)
        return True

    def _find(self, words: str, start: int) -> float:
        """Return where the words are next; a text without them is searched but once."""
        if self._found.get(words, -1) < start:
            at = self._text.find(words, start)
            self._found[words] = at if at >= 0 else _NOWHERE
        return self._found[words]

    # --- escapes, entities and HTML

    def _backslash(self, at: int) -> int:
        following = self._text[at + 1 : at + 2]
        if following == "(" and (end := self._formula(at + 2, "\\)", False)):
            return end
        if following == "[" and (end := self._formula(at + 2, "\\]", True)):
            return end
        if following == "b" and (end := self._environment(at)):
            return end
        if following == "\n":  # a line break
            self._parts.append("\\")
            return at + 1
        if _PUNCTUATION.match(following):
            return self._as_is(at + 1, at + 2)
        return self._as_is(at, at + 1)

    def _environment(self, at: int) -> int:
        found = ENVIRONMENT.match(self._text, at)
        if not found:
            return 0
        closing = f"\\end{{{found[1]}}}"
        end = self._find(closing, found.end())
        if not self._may_end(found.end(), end):
            return 0
        whole = int(end) + len(closing)
        return whole if self._shows(formula(self._text[at:whole], True)) else 0

    def _entity(self, at: int) -> int:
        found = _ENTITY.match(self._text, at)
        meant = html.unescape(found[0]) if found else ""
        if not found or meant == found[0]:
            self._parts.append("&amp;")
            return at + 1
        self._parts.append(escape(clean(meant)))
        return found.end()

    def _angle(self, at: int) -> int:
        found = links.AUTOMATIC.match(self._text, at)
        if found:
            written = found[1] if ":" in found[1] else f"mailto:{found[1]}"
            if target := links.target(written):
                self._parts.append(f"[{escape(found[1])}]({target})")
                self._last_link = len(self._parts)
                return found.end()
        self._parts.append("&lt;")
        return at + 1

    def _as_is(self, at: int, end: int) -> int:
        self._parts.append(escape(self._text[at:end]))
        return end

    # --- links

    def _open(self, token: str, at: int, end: int) -> int:
        if _BOX.match(self._text, at) and self._begins_item(at):
            self._parts.append(self._text[at : at + 3])
            return at + 3
        self._parts.append(as_entities(token[:-2]))
        self._openers.append(_Opener(len(self._parts), end))
        self._parts.append(as_entities(token[-2:]))
        return end

    def _begins_item(self, at: int) -> bool:
        line = self._text.rfind("\n", max(0, at - 40), at) + 1
        return bool(_TASK.match(self._text[max(line, at - 40) : at]))

    def _close(self, at: int) -> int:
        opener = self._openers.pop() if self._openers else None
        if opener and self._border(opener.start) >= at and self._last_link < opener.part:
            target, end = self._target(opener, at)
            if target:
                if not "".join(self._parts[opener.part + 1 :]).strip():
                    self._parts.append(as_entities(html.unescape(target)))
                self._parts[opener.part] = "["
                self._parts.append(f"]({target})")
                self._last_link = len(self._parts)
                return end
        self._parts.append("&#93;")
        return at + 1

    def _target(self, opener: _Opener, at: int) -> tuple[str | None, int]:
        """Return where a link leads whose text ends here, and where it ends itself."""
        if found := links.INLINE.match(self._text, at + 1):
            written = found[2] if found[1] is None else found[1]
            return links.target(written), found.end()
        if not self._definitions:
            return None, at
        name, end = self._text[opener.start : min(at, opener.start + 1000)], at + 1
        if found := links.REFERENCE.match(self._text, at + 1):
            name, end = found[1] or name, found.end()
        return self._definitions.get(links.label(name)), end
