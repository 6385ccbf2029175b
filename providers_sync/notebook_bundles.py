"""What a notebook displays, in the forms that Jupyter chooses from (MIME bundles).

All text in them comes from a model or a server: in HTML it is escaped, in Markdown made safe, and
as plain text made visible.
"""

from __future__ import annotations

from typing import Any

from .printable import visible
from .safe_markdown import make_safe
from .safe_markdown.escaping import escape
from .value_table import html_answer, html_table

Bundle = dict[str, str]
"""MIME type → content; always with ``text/plain``."""

DIMMED = "opacity: 0.6; font-size: 85%"


class OutcomeLine:
    """The line at the end of an answer: its outcome and numbers, and why it is not whole."""

    def __init__(self, facts: str, warning: str) -> None:
        self.text = visible(" · ".join(filter(None, [facts, warning])))
        self.markup = ""
        """HTML that may stand in Markdown."""
        if facts:
            dot = " · " if warning else ""
            self.markup += f'<span style="{DIMMED}">{escape(visible(facts))}{dot}</span>'
        if warning:  # not dimmed: it must be seen
            self.markup += f'<strong style="font-size: 85%">{escape(visible(warning))}</strong>'


def answer_bundle(text: str, line: OutcomeLine | None = None) -> Bundle:
    """Return an answer as Markdown, with the line at its end below it."""
    markdown = make_safe(text)
    if line is not None:
        markdown = "\n\n".join(filter(None, [markdown, line.markup]))
    return {"text/markdown": markdown, "text/plain": _plain(text, line)}


def table_bundle(value: Any, text: str, line: OutcomeLine | None = None) -> Bundle:
    """Return the JSON value of a typed answer as a table, amid what else is in its text."""
    below = "" if line is None else f"<div>{line.markup}</div>"
    return {"text/html": html_answer(value, text) + below, "text/plain": _plain(text, line)}


def growing_table_bundle(value: Any, text: str) -> Bundle:
    """Return the same for an answer that has begun with its JSON and has not ended."""
    return {"text/html": html_table(value), "text/plain": _plain(text, None)}


def _plain(text: str, line: OutcomeLine | None) -> str:
    return "\n\n".join(filter(None, [visible(text), f"— {line.text}" if line else ""]))
