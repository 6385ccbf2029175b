"""Sanitizing of inline Markdown: code spans, formulas and safe links stay, HTML is escaped."""

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
_BLOCK_START = re.compile(r"\n[ \t]*(?:(?:[-+*#>|]|\d{1,9}[.)])[ \t]*|(?=\n))")
"""Where another block may start; no code span and no link continues across it."""
_TABLE_ROW = re.compile(r"^[ \t]*\|.*$", re.M)
"""A line of a table, where a ``|`` in code follows a backslash."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,31});", re.A)
_DOLLARS = re.compile(r"\$((?:\\.|[^$\\\n])+)\$(?![\d$])")
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_CHECKBOX = re.compile(r"\[[ xX]\](?=[ \t])")
_BEFORE_CHECKBOX = re.compile(r"[ \t]*(?:[-+*]|\d{1,9}[.)])[ \t]+$")
MAX_DELIMITERS = 1000
"""A paragraph or list item with more is shown as code: notebooks take minutes to parse it."""
_NOT_FOUND = float("inf")


class _OpeningBracket(NamedTuple):
    """An opening bracket that may start a link."""

    part: int
    """Its index in the list of output parts."""
    start: int
    """Where the link text starts."""


def render_inline(text: str, definitions: Mapping[str, str]) -> str:
    """Return some lines as harmless Markdown; ``definitions`` maps link labels to destinations."""
    if _count_delimiters(text) <= MAX_DELIMITERS:
        return _Inline(text, definitions).render()
    parts: list[str] = []
    rendered = at = 0
    for boundary in [*_BLOCK_START.finditer(text), None]:
        end = boundary.start() if boundary else len(text)
        if _count_delimiters(text[at:end]) > MAX_DELIMITERS:
            parts += [_Inline(text[rendered:at], definitions).render(), code_span(text[at:end])]
            rendered = end
        at = boundary.end() if boundary else end
    return "".join(parts) + _Inline(text[rendered:], definitions).render()


def _count_delimiters(text: str) -> int:
    return sum(map(text.count, "*_~\\$<[&"))


class _Inline:
    """A single pass over the text: each search continues where the last one ended."""

    def __init__(self, text: str, definitions: Mapping[str, str]) -> None:
        self._text = text
        self._definitions = definitions
        self._parts: list[str] = []
        self._brackets: list[_OpeningBracket] = []
        self._last_link = -1
        self._used_ends: set[float] = set()
        self._find_cache: dict[str, float] = {}
        self._block_starts = [match.start() for match in _BLOCK_START.finditer(text)]
        rows = list(_TABLE_ROW.finditer(text))
        self._row_starts, self._row_ends = [r.start() for r in rows], [r.end() for r in rows]
        self._backtick_strings: dict[int, list[int]] = {}
        for match in re.finditer("`+", text):
            self._backtick_strings.setdefault(len(match[0]), []).append(match.start())

    def render(self) -> str:
        at = 0
        while match := _TOKEN.search(self._text, at):
            if at < match.start():
                self._parts.append(self._text[at : match.start()])
            at = self._process(match[0], match.start(), match.end())
        self._parts.append(self._text[at:])
        return "".join(self._parts)

    def _process(self, token: str, at: int, end: int) -> int:
        """Append what replaces this token; return where to continue."""
        kind = token[0]
        if kind == "`":
            return self._code_span(len(token), end)
        if kind == "$":
            return self._dollars(at, end)
        if kind == "\\":
            return self._backslash(at)
        if kind == "&":
            return self._entity(at)
        if kind == "<":
            return self._less_than(at)
        if kind == "]":
            return self._closing_bracket(at)
        if token[-1] == "[":
            return self._opening_bracket(token, at, end)
        if token == "!" * len(token) and self._text[end : end + 1] != "<":
            self._parts.append(token)
        elif kind == "\n":
            self._brackets.clear()
            self._parts.append(token)
        elif kind in "fF":  # notebooks turn these URLs into links, too
            self._parts.append(f"{token[:-1]}&#58;")
        else:  # "~~~" or ":::"; "!" before a link; "@@", as in JupyterLab's placeholders
            self._parts.append(as_entities(token))
        return end

    # --- code spans

    def _code_span(self, length: int, start: int) -> int:
        end = self._next(self._backtick_strings.get(length, []), start)
        if end >= self._next_block(start):
            self._parts.append("&#96;" * length)
            return start
        code = self._text[start : int(end)]
        row = bisect_left(self._row_starts, start) - 1
        in_table = row >= 0 and start < self._row_ends[row]
        self._parts.append(code_span(code, in_table))
        return int(end) + length

    def _next_block(self, start: int) -> float:
        return self._next(self._block_starts, start)

    @staticmethod
    def _next(positions: list[int], start: int) -> float:
        index = bisect_left(positions, start)
        return positions[index] if index < len(positions) else _NOT_FOUND

    # --- formulas

    def _dollars(self, at: int, end: int) -> int:
        if end - at == 2:
            return self._formula(end, "$$", True) or self._literal(at, end)
        match = _DOLLARS.match(self._text, at) if end - at == 1 else None
        if match and not match[1][0].isspace() and not match[1][-1].isspace():
            follows_word = self._text[at - 1 : at].isalnum()
            if (
                not follows_word
                and not is_price(match[1])
                and self._append_formula(formula(match[1], False))
            ):
                return match.end()
        return self._literal(at, end)

    def _formula(self, start: int, closing: str, display: bool) -> int:
        """Append the formula that ends at ``closing``; return where to continue, or 0 if none."""
        end = self._find(closing, start)
        is_nested = closing == "\\)" and self._find("\\(", start) < end
        if is_nested or not self._can_end(start, end):
            return 0
        shown = self._append_formula(formula(self._text[start : int(end)], display))
        return int(end) + len(closing) if shown else 0

    def _can_end(self, start: int, end: float) -> bool:
        """Return whether a formula may end there: in its paragraph, at a delimiter not yet tried.

        Otherwise a thousand opening delimiters before one closing one would each scan up to it.
        """
        if end >= self._find("\n\n", start) or end in self._used_ends:
            return False
        self._used_ends.add(end)
        return True

    def _append_formula(self, formula: str | None) -> bool:
        if formula is None:
            return False
        if self._parts and self._parts[-1].endswith("$"):
            self._parts.append(" ")  # two inline formulas must not form a "$$"
        self._parts.append(formula)
        return True

    def _find(self, delimiter: str, start: int) -> float:
        """Return the next position of a delimiter; a text without it is searched only once."""
        if self._find_cache.get(delimiter, -1) < start:
            at = self._text.find(delimiter, start)
            self._find_cache[delimiter] = at if at >= 0 else _NOT_FOUND
        return self._find_cache[delimiter]

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
            return self._literal(at + 1, at + 2)
        return self._literal(at, at + 1)

    def _environment(self, at: int) -> int:
        match = ENVIRONMENT.match(self._text, at)
        if not match:
            return 0
        closing = f"\\end{{{match[1]}}}"
        end = self._find(closing, match.end())
        if not self._can_end(match.end(), end):
            return 0
        after = int(end) + len(closing)
        return after if self._append_formula(formula(self._text[at:after], True)) else 0

    def _entity(self, at: int) -> int:
        match = _ENTITY.match(self._text, at)
        character = html.unescape(match[0]) if match else ""
        if not match or character == match[0]:
            self._parts.append("&amp;")
            return at + 1
        self._parts.append(escape(clean(character)))
        return match.end()

    def _less_than(self, at: int) -> int:
        match = links.AUTOLINK.match(self._text, at)
        if match:
            url = match[1] if ":" in match[1] else f"mailto:{match[1]}"
            if destination := links.safe_destination(url):
                self._parts.append(f"[{escape(match[1])}]({destination})")
                self._last_link = len(self._parts)
                return match.end()
        self._parts.append("&lt;")
        return at + 1

    def _literal(self, at: int, end: int) -> int:
        self._parts.append(escape(self._text[at:end]))
        return end

    # --- links

    def _opening_bracket(self, token: str, at: int, end: int) -> int:
        if _CHECKBOX.match(self._text, at) and self._starts_list_item(at):
            self._parts.append(self._text[at : at + 3])
            return at + 3
        self._parts.append(as_entities(token[:-2]))
        self._brackets.append(_OpeningBracket(len(self._parts), end))
        self._parts.append(as_entities(token[-2:]))
        return end

    def _starts_list_item(self, at: int) -> bool:
        line = self._text.rfind("\n", max(0, at - 40), at) + 1
        return bool(_BEFORE_CHECKBOX.match(self._text[max(line, at - 40) : at]))

    def _closing_bracket(self, at: int) -> int:
        bracket = self._brackets.pop() if self._brackets else None
        if bracket and self._next_block(bracket.start) >= at and self._last_link < bracket.part:
            destination, end = self._link_destination(bracket, at)
            if destination:
                if not "".join(self._parts[bracket.part + 1 :]).strip():
                    self._parts.append(as_entities(html.unescape(destination)))
                self._parts[bracket.part] = "["
                self._parts.append(f"]({destination})")
                self._last_link = len(self._parts)
                return end
        self._parts.append("&#93;")
        return at + 1

    def _link_destination(self, bracket: _OpeningBracket, at: int) -> tuple[str | None, int]:
        """Return the destination of the link whose text ends at ``at``, and where the link ends."""
        if match := links.INLINE.match(self._text, at + 1):
            destination = match[2] if match[1] is None else match[1]
            return links.safe_destination(destination), match.end()
        if not self._definitions:
            return None, at
        label, end = self._text[bracket.start : min(at, bracket.start + 1000)], at + 1
        if match := links.REFERENCE.match(self._text, at + 1):
            label, end = match[1] or label, match.end()
        return self._definitions.get(links.normalize_label(label)), end
