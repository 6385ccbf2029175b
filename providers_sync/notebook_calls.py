"""How a notebook shows the tool calls of an answer: a line each, which unfolds to all of it."""

from __future__ import annotations

import html
import json
from typing import Any

from . import Stream, ToolCall, ToolResult
from .notebook_bundles import DIMMED, Bundle
from .printable import short_line, visible

SHOWN_ARGUMENTS = 60
SHOWN_RESULT = 100
"""Characters of the arguments and of the result in the line about a tool call."""
UNFOLDED = 20_000
"""Characters of the arguments and of the result below the line."""


class ShownCalls:
    """The tool calls that have no result yet, each with its display."""

    def __init__(self) -> None:
        self.open: list[tuple[ToolCall, Any]] = []

    def add(self, call: ToolCall, handle: Any = None) -> None:
        self.open.append((call, handle))

    def take(self, result: ToolResult) -> tuple[ToolCall | None, Any]:
        """Return the call of a result: by name, as the next round may use the same ids."""
        for place, (call, _) in enumerate(self.open):
            if call.name == result.name:
                return self.open.pop(place)
        return None, None


def call_line(call: ToolCall | None, result: ToolResult | None = None, ending: str = "") -> str:
    """Return the line about a call, or about its result, made visible and shortened.

    ``call`` is ``None`` if only the result is known; ``ending`` follows where there is no result.
    """
    name = visible(result.name if result else call.name if call else "")
    line = f"{name}({short_line(call.raw, SHOWN_ARGUMENTS) if call else '…'})"
    if result is None:
        return line + ending
    words = ("error: " if result.is_error else "") + result.content
    return f"{line}: {short_line(words, SHOWN_RESULT)}"


def ending_of(stream: Stream) -> str:
    """Return what follows a call that has no result when the answer has ended."""
    return ": no result" if hasattr(stream, "rounds") else ""


def call_bundle(
    call: ToolCall | None, result: ToolResult | None = None, ending: str = ""
) -> Bundle:
    """Return the same line, which unfolds to the arguments and the result."""
    line = call_line(call, result, ending)
    parts = []
    if call is not None:
        parts.append(_part("arguments", _arguments(call)))
    if result is not None:
        parts.append(_part("error" if result.is_error else "result", result.content))
    # In <code> and <pre> nothing is taken for a formula.
    summary = f'<summary style="{DIMMED}"><code>{html.escape(line)}</code></summary>'
    return {"text/html": f"<details>{summary}{''.join(parts)}</details>", "text/plain": line}


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
