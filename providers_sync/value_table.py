"""An HTML table of a JSON value, for notebooks: what is in it is text, whatever it contains."""

from __future__ import annotations

import html
import json
from typing import Any

from .printable import visible

MAX_ROWS = 100
MAX_COLUMNS = 30
MAX_CELL = 300
"""Characters of one cell, and of the name of a column."""
MAX_HTML = 500_000
"""Characters of the rows; Jupyter drops outputs of more than some three million."""
_STYLE = "text-align: left; vertical-align: top; white-space: pre-wrap; max-width: 40em"
_FORMULA_SIGNS = {ord(sign): f"<span>&#{ord(sign)};</span>" for sign in "$\\"}
"""Jupyter's MathJax does not match a formula across elements."""


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
        return f"<span>{_text(value)}</span>"
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
    return f"<div>… {number:,} more {name}{'' if number == 1 else 's'}</div>" if number else ""


def _cell(value: Any, tag: str = "td") -> str:
    return f'<{tag} style="{_STYLE}">{_text(value)}</{tag}>'


def _text(value: Any) -> str:
    """Return the text of a cell, as HTML."""
    text = value if isinstance(value, str) else _compact(value)
    if len(text) > MAX_CELL:
        text = f"{text[:MAX_CELL]}… ({len(text) - MAX_CELL:,} more characters)"
    return html.escape(visible(text)).translate(_FORMULA_SIGNS)


def _compact(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except ValueError:  # an integer with more digits than Python writes
        return "…"
