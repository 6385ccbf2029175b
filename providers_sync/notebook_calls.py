"""How a notebook shows the tool calls of an answer: a line each, which unfolds to all of it."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import Stream, ToolCall, ToolResult
from .notebook_bundles import DIMMED, Bundle
from .printable import counted, short_line, visible

SHOWN_NAME = SHOWN_ARGUMENTS = 60
SHOWN_RESULT = 100
"""Characters of the name, the arguments and the result in the line about a tool call."""
UNFOLDED = 20_000
"""Characters of the arguments and of the result below the line."""
TOGETHER = 300_000
"""Characters of HTML of many calls that are shown together; the others are counted."""


@dataclass
class ShownCall:
    """A tool call on the page; ``call`` is ``None`` if only its result is known."""

    call: ToolCall | None
    result: ToolResult | None = None
    display: Any = None
    """Its own display; ``None``: it is shown together with others."""

    def bundle(self, ending: str = "") -> Bundle:
        """Return its line, which unfolds to the arguments and the result.

        ``ending`` follows where there is no result.
        """
        line = call_line(self.call, self.result, ending)
        parts = []
        if self.call is not None:
            parts.append(_part("arguments", _arguments(self.call)))
        if self.result is not None:
            name = "error" if self.result.is_error else "result"
            parts.append(_part(name, self.result.content))
        # In <code> and <pre> nothing is taken for a formula.
        summary = f'<summary style="{DIMMED}"><code>{html.escape(line)}</code></summary>'
        markup = f"<details>{summary}{''.join(parts)}</details>"
        return {"text/html": markup, "text/plain": line}


class ShownCalls:
    """The tool calls that have no result yet."""

    def __init__(self) -> None:
        self.open: list[ShownCall] = []

    def add(self, shown: ShownCall) -> None:
        self.open.append(shown)

    def take(self, result: ToolResult) -> ShownCall | None:
        """Return the call of a result: by name, as the next round may use the same ids."""
        for place, shown in enumerate(self.open):
            if shown.call is not None and shown.call.name == result.name:
                shown.result = result
                return self.open.pop(place)
        return None


def together(calls: Sequence[ShownCall], ending: str = "") -> Bundle:
    """Return many calls as one output: a line with their number, which unfolds to all of them."""
    parts: list[str] = []
    lines: list[str] = []
    size = 0
    for shown in calls:
        bundle = shown.bundle(ending)
        size += len(bundle["text/html"])
        if size > TOGETHER and parts:
            lines.append(f"… and {len(calls) - len(parts):,} more")
            break
        parts.append(bundle["text/html"])
        lines.append(bundle["text/plain"])
    title = counted(len(calls), "more tool call")
    summary = f'<summary style="{DIMMED}">{title}</summary>'
    rest = f'<div style="{DIMMED}">{lines[-1]}</div>' if len(lines) > len(parts) else ""
    markup = f"<details>{summary}{''.join(parts)}{rest}</details>"
    return {"text/html": markup, "text/plain": "\n".join([f"{title}:", *lines])}


def call_line(call: ToolCall | None, result: ToolResult | None = None, ending: str = "") -> str:
    """Return the line about a call, or about its result, made visible and shortened.

    ``call`` is ``None`` if only the result is known; ``ending`` follows where there is no result.
    """
    name = short_line(result.name if result else call.name if call else "", SHOWN_NAME)
    line = f"{name}({short_line(call.raw, SHOWN_ARGUMENTS) if call else '…'})"
    if result is None:
        return line + ending
    words = ("error: " if result.is_error else "") + result.content
    return f"{line}: {short_line(words, SHOWN_RESULT)}"


def ending_of(stream: Stream) -> str:
    """Return what follows a call that has no result when the answer has ended."""
    return ": no result" if hasattr(stream, "rounds") else ""


def _arguments(call: ToolCall) -> str:
    if call.arguments is None:
        return call.raw
    try:
        return json.dumps(call.arguments, ensure_ascii=False, indent=2)
    except ValueError:  # an integer with more digits than Python writes
        return call.raw


def _part(name: str, text: str) -> str:
    rest = len(text) - UNFOLDED
    shown = text if rest <= 0 else f"{text[:UNFOLDED]}… ({rest:,} more characters)"
    return f'<div style="{DIMMED}">{name}</div><pre>{html.escape(visible(shown))}</pre>'
