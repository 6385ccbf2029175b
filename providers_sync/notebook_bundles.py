"""What a notebook displays, in the forms that Jupyter chooses from (MIME bundles).

All text in them comes from a model or a server: in HTML it is escaped, in Markdown made safe, and
as plain text made visible.
"""

from __future__ import annotations

import html

from .printable import visible
from .safe_markdown import make_safe
from .safe_markdown.escaping import escape

Bundle = dict[str, str]
"""MIME type → content; always with ``text/plain``."""

_DIMMED = "opacity: 0.6; font-size: 85%"


class OutcomeLine:
    """The line at the end of an answer: its outcome and numbers, and why it is not whole."""

    def __init__(self, facts: str, warning: str) -> None:
        self.text = visible(" · ".join(filter(None, [facts, warning])))
        self.markup = f'<span style="{_DIMMED}">{escape(visible(facts))}</span>'
        """HTML that may stand in Markdown."""
        if warning:  # not dimmed: it must be seen
            self.markup += f' <strong style="font-size: 85%">· {escape(visible(warning))}</strong>'


def answer_bundle(text: str, line: OutcomeLine | None = None) -> Bundle:
    """Return an answer as Markdown, with the line at its end below it."""
    markdown, plain = make_safe(text), visible(text)
    if line is not None:
        markdown = "\n\n".join(filter(None, [markdown, line.markup]))
        plain = f"{plain}\n\n— {line.text}" if plain else f"— {line.text}"
    return {"text/markdown": markdown, "text/plain": plain}


def call_bundle(line: str) -> Bundle:
    """Return a dimmed line about a tool call."""
    # In <code> nothing is taken for a formula.
    markup = f'<small style="opacity: 0.6"><code>{html.escape(line)}</code></small>'
    return {"text/html": markup, "text/plain": line}
