"""An HTML table of a JSON value, for notebooks: what is in it is text, whatever it contains."""

from __future__ import annotations

import contextlib
import html
import json
import re
from typing import Any

from .json_answer import MAX_VALUES, AnswerReader
from .json_reader import InvalidJSON
from .printable import counted, visible

MAX_ROWS = 100
MAX_COLUMNS = 30
MAX_CELL = 300
"""Characters of one cell, the rest of which unfolds, and of the name of a column."""
UNFOLDED = 20_000
"""Characters that unfold."""
MAX_HTML = 500_000
"""Characters of the rows: with more, a notebook becomes slow."""
_WRAPPERS = ("items", "value")
"""Under which key a list, or anything else that is not an object, is sent."""
_STYLE = "text-align: left; vertical-align: top; white-space: pre-wrap; max-width: 40em"
_FENCE = re.compile(r"```\w*\s*$")
_FENCE_END = re.compile(r"^\s*```")
_FORMULA_SIGNS = {ord(sign): f"<span>&#{ord(sign)};</span>" for sign in "$\\"}
"""Jupyter's MathJax does not match a formula across elements."""


def html_answer(value: Any, text: str) -> str:
    """Return the JSON value of an answer as a table, with all else that its text says around it.

    The table takes the place of the JSON that it shows all of, the longest if there are several. If
    there is none, it follows the text; a text with one JSON has the table in its place, too, and
    the JSON unfolds below it: it has more fields or items than the value, or a mistake.
    """
    places = _places(value, text)
    shown = [(begin, end) for begin, end, is_shown in places if is_shown]
    if not shown and len(places) != 1:
        return _prose(text) + html_table(value)
    begin, end = max(shown or [places[0][:2]], key=lambda place: place[1] - place[0])
    before, after = text[:begin], text[end:]
    if _FENCE.search(before):
        before, after = _FENCE.sub("", before), _FENCE_END.sub("", after)
    raw = "" if shown else _unfolding("all of the JSON", text[begin:end])
    return _prose(before) + html_table(value) + raw + _prose(after)


def _places(value: Any, text: str) -> list[tuple[int, int, bool]]:
    """Return begin and end of each JSON in a text, and whether the value has all that is in it."""
    kinds = {"lists": not isinstance(value, dict), "scalars": not isinstance(value, (dict, list))}
    places: list[tuple[int, int, bool]] = []
    at = 0
    while len(places) < MAX_VALUES:
        reader = AnswerReader(report_depth=0, **kinds)
        reader.feed(text[at:])
        with contextlib.suppress(InvalidJSON):
            reader.end()
        if not reader.has_begun:
            break
        begin, at = at + reader.begin, at + reader.position
        is_whole = reader.is_complete or at == len(text)  # else there is a mistake in it
        places.append((begin, at, is_whole and _covers_answer(value, reader.partial())))
        if not reader.is_complete:
            break
    return places


def _covers_answer(value: Any, plain: Any) -> bool:
    """Return whether a value has all fields and items of the JSON of an answer."""
    if isinstance(plain, dict) and len(plain) == 1:
        (name,) = plain
        if name in _WRAPPERS and _covers(value, plain[name]):
            return True
    return _covers(value, plain)


def _covers(value: Any, plain: Any) -> bool:
    if isinstance(plain, dict) and isinstance(value, dict):
        return all(name in value and _covers(value[name], each) for name, each in plain.items())
    if isinstance(plain, list) and isinstance(value, list):
        return len(value) == len(plain) and all(map(_covers, value, plain))
    return bool(value == plain) or _shown(value) == _shown(plain)


def _prose(text: str) -> str:
    text = text.strip()
    return f'<div style="white-space: pre-wrap">{html_text(text)}</div>' if text else ""


def html_table(value: Any) -> str:
    """Return a table: a list is its rows, an object its keys and values; else the value alone.

    Lists and objects in a cell are compact JSON. What is left out of a large value is said below.

    >>> html_table({"a": 1}).count("<tr>"), html_table([{"a": 1}, {"b": [2]}]).count("<tr>")
    (1, 3)
    """
    if isinstance(value, dict):
        pairs = [_cell(key, "th") + _cell(each) for key, each in _first(value.items())]
        return _table("", pairs, len(value), "field")
    if not isinstance(value, list):
        text = _cut(_shown(value), MAX_HTML)
        return f'<span style="white-space: pre-wrap">{html_text(text)}</span>'
    items = list(_first(value))
    if not items or not all(isinstance(each, dict) for each in items):
        return _table("", [_cell(each) for each in items], len(value), "row")
    names = list(dict.fromkeys(name for each in items for name in each))
    shown = names[:MAX_COLUMNS]
    rows = [
        "".join(_cell(each[name]) if name in each else "<td></td>" for name in shown)
        for each in items
    ]
    header = "".join(_cell(name, "th") for name in shown)
    return _table(header, rows, len(value), "row") + _left_out(len(names) - len(shown), "column")


def _first(items: Any) -> Any:
    return list(items)[:MAX_ROWS]


def _table(header: str, rows: list[str], count: int, name: str) -> str:
    lines, size = [header] if header else [], 0
    shown = 0
    for row in rows:
        size += len(row)
        if size > MAX_HTML:
            break
        lines.append(row)
        shown += 1
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>{table}</table>{_left_out(count - shown, name)}"


def _left_out(number: int, name: str) -> str:
    return f"<div>… {counted(number, f'more {name}')}</div>" if number else ""


def _cell(value: Any, tag: str = "td") -> str:
    text = _shown(value)
    if len(text) <= MAX_CELL or tag == "th":
        content = html_text(_cut(text, MAX_CELL))
    else:
        content = _unfolding(text[:MAX_CELL] + "…", text[MAX_CELL:])
    return f'<{tag} style="{_STYLE}">{content}</{tag}>'


def _unfolding(summary: str, text: str) -> str:
    rest = f'<div style="white-space: pre-wrap">{html_text(_cut(text, UNFOLDED))}</div>'
    return f"<details><summary>{html_text(summary)}</summary>{rest}</details>"


def _cut(text: str, limit: int) -> str:
    rest = len(text) - limit
    return text if rest <= 0 else f"{text[:limit]}… ({rest:,} more characters)"


def html_text(text: str) -> str:
    """Return text as HTML that shows it as it is, with control characters made visible."""
    return html.escape(visible(text)).translate(_FORMULA_SIGNS)


def _shown(value: Any) -> str:
    """Return a text as it is, all else as compact JSON."""
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except ValueError:  # an integer with more digits than Python writes
        return "…"
