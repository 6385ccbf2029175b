"""Output formats for an answer: plain text, JSON events, or Markdown on a terminal."""

from __future__ import annotations

import base64
import json
import os
import reprlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from ..clock import monotonic
from ..errors import ProviderError
from ..printable import VisibleChunks, counted, visible
from ..stream import Stream, explain, requests_of
from ..types import (
    Citation,
    Event,
    Extra,
    Finish,
    Join,
    Media,
    ReasoningDelta,
    Refusal,
    Stats,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from . import log_lines
from .spinner import Spinner

if TYPE_CHECKING:
    from .live import ScreenLine
    from .markdown_blocks import Block

REDRAW_EVERY_S = 0.05
"""The interval between redraws; text that arrives in between is drawn together."""


class Screen:
    """Base class of the output formats; shows answers one after another.

    For each answer: ``begin``, ``show`` per event, ``flush`` before each wait, then ``end``.
    """

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def begin(self) -> None:
        """Start an answer; its request is sent next."""

    def show(self, event: Event) -> None:
        """Add an event of the answer."""

    def show_value(self, value: Any) -> None:
        """Add the value of a typed answer, after its events."""

    def flush(self) -> None:
        """Show the events added so far: the next one has not arrived yet."""

    def pause(self) -> None:
        """Finish what is shown so far: something else is printed next."""

    def resume(self, label: str = "") -> None:
        """Show that the answer goes on; ``label`` is what it waits for."""

    def end(self, stream: Stream | None, error: ProviderError | None) -> None:
        """Finish the answer; ``stream`` is ``None`` if none was started."""

    def close(self) -> None:
        """Clean up the screen, also after an error."""


class PlainScreen(Screen):
    """Writes the model's text unchanged, and a line break at the end if it has none."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._last = ""

    def show(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self.out.write(event.text)
            self._last = event.text

    def show_value(self, value: Any) -> None:
        self.out.write(_to_json(value, indent=2, ensure_ascii=False) + "\n")

    def flush(self) -> None:
        self.out.flush()

    def end(self, stream: Stream | None, error: ProviderError | None) -> None:
        if self._last and not self._last.endswith("\n"):
            self.out.write("\n")
        self._last = ""
        self.out.flush()


class JsonScreen(Screen):
    """Writes a JSON object per line: events with their ``type``, then ``end`` with the outcome.

    Before ``end`` comes the ``value`` of a typed answer.
    """

    def show(self, event: Event) -> None:
        fields = dict(event.__dict__)
        if isinstance(event, Media) and event.data is not None:
            fields["data"] = base64.b64encode(event.data).decode("ascii")
        self._write(_TYPES[type(event)], fields)

    def show_value(self, value: Any) -> None:
        self._write("value", {"value": value})

    def flush(self) -> None:
        self.out.flush()

    def end(self, stream: Stream | None, error: ProviderError | None) -> None:
        outcome = error.outcome if error else stream and stream.outcome
        self._write(
            "end",
            {
                "outcome": outcome and str(outcome),
                "is_whole": stream is not None and stream.is_whole,
                "note": (stream and explain(stream)) or None,
                "error": error and type(error).__name__,
                "message": error and str(error),
                "model": stream and stream.model,
                "stats": stream and stream.stats.__dict__,
            },
        )
        self.out.flush()

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        self.out.write(_to_json({"type": kind, **fields}) + "\n")


def _to_json(value: Any, **layout: Any) -> str:
    """Return a value as JSON; what a server sends may hold what JSON lacks, or be nested deeply."""
    try:
        return json.dumps(value, allow_nan=False, **layout)
    except ValueError:  # NaN or infinity: as text
        return json.dumps(json.loads(json.dumps(value), parse_constant=str), **layout)
    except RecursionError:
        if not isinstance(value, dict):
            return json.dumps(_shortened(value), **layout)
        return json.dumps({name: _shortened(item) for name, item in value.items()}, **layout)


def _shortened(value: object) -> object:
    return value if value is None or isinstance(value, (str, int, float)) else reprlib.repr(value)


_TYPES: dict[type, str] = {
    TextDelta: "text",
    ReasoningDelta: "reasoning",
    Refusal: "refusal",
    ToolCall: "tool_call",
    ToolResult: "tool_result",
    Citation: "citation",
    Media: "media",
    Extra: "extra",
    Usage: "usage",
    Finish: "finish",
    Join: "join",
}


class TerminalScreen(PlainScreen):
    """Plain text for a terminal: a spinner, then text with control characters made visible."""

    def __init__(self, out: TextIO, spins: bool = True) -> None:
        super().__init__(out)
        self._spins = spins
        self._spinner: Spinner | None = None
        self._chunks = VisibleChunks()

    def begin(self) -> None:
        self._chunks = VisibleChunks()
        self.resume()

    def resume(self, label: str = "") -> None:
        if self._spins:
            self._spinner = Spinner(self.out, label)

    def show(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._stop_spinner()
            log_lines.hold(True)
            self.write(self._chunks.feed(event.text))
        elif isinstance(event, ReasoningDelta) and self._spinner:
            self._spinner.label = "thinking"

    def show_value(self, value: Any) -> None:
        self.close()
        self.out.write(visible(_to_json(value, indent=2, ensure_ascii=False)) + "\n")

    def write(self, text: str) -> None:
        """Add text that is safe for a terminal."""
        if text:
            super().show(TextDelta(text))

    def pause(self) -> None:
        self._stop_spinner()
        self.write(self._chunks.end())
        super().end(None, None)
        log_lines.hold(False)

    def end(self, stream: Stream | None, error: ProviderError | None) -> None:
        self.pause()

    def close(self) -> None:
        self._stop_spinner()
        log_lines.hold(False)

    def _stop_spinner(self) -> None:
        if self._spinner:
            self._spinner.stop()
            self._spinner = None


class MarkdownScreen(TerminalScreen):
    """Rendered Markdown: finished blocks are printed permanently, the last one is redrawn."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        from .live import LiveRegion, ScreenLine
        from .markdown import Renderer  # raises ImportError if rich is missing

        self._gap = ScreenLine("", 0)
        self._render_lines: Callable[[Block, int], list[ScreenLine]] = Renderer(out).lines
        self._live_region = LiveRegion(out)
        self._reset()

    def _reset(self) -> None:
        from .markdown_blocks import BlockSplitter

        self._blocks = BlockSplitter()
        self._is_first = True
        self._redrawn_at = 0.0

    def write(self, text: str) -> None:
        self._blocks.feed(text)

    def flush(self) -> None:
        if self._spinner:
            return
        wait = self._redrawn_at + REDRAW_EVERY_S - monotonic()
        if wait > 0:
            time.sleep(wait)
        self._redraw(is_over=False)
        self._redrawn_at = monotonic()

    def pause(self) -> None:
        self._stop_spinner()
        self.write(self._chunks.end())
        self._redraw(is_over=True)
        self._reset()
        log_lines.hold(False)

    def _redraw(self, is_over: bool) -> None:
        done: list[ScreenLine] = []
        for block in self._blocks.finished():
            done += self._block_lines(block)
            self._is_first = False
        unfinished = self._blocks.unfinished()
        live = self._block_lines(unfinished) if unfinished else []
        self._live_region.update([*done, *live] if is_over else done, [] if is_over else live)

    def _block_lines(self, block: Block) -> list[ScreenLine]:
        lines = self._render_lines(block, self._live_region.width)
        gap = lines and not (self._is_first or block.joined)
        return [self._gap, *lines] if gap else lines


def choose_screen(*, as_json: bool = False, plain: bool = False) -> Screen:
    """Return the screen for standard output: Markdown if it is a terminal that can show it."""
    out = sys.stdout
    if as_json:
        return JsonScreen(out)
    if not out.isatty():
        return PlainScreen(out)
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return TerminalScreen(out, spins=False)
    if plain or (out.encoding or "").lower().replace("-", "") != "utf8":
        return TerminalScreen(out)
    try:
        return MarkdownScreen(out)
    except ImportError:  # the extra `cli` is not installed
        return TerminalScreen(out)


def summary(stream: Stream) -> str:
    """Return the line that ``--stats`` prints: outcome, chunks, times, tokens, a known cost."""
    from ..prices import cost_if_installed  # late: no command starts slower for it

    stats: Stats = stream.stats
    parts = [f"{stream.outcome}: {counted(stats.chunks, 'chunk')}"]
    if stats.first_chunk_s is not None:
        parts.append(f"the first after {stats.first_chunk_s:.2f} s")
    parts.append(f"{stats.duration_s:.2f} s in total")
    if stream.usage:
        sent, received = stream.usage.input_tokens, stream.usage.output_tokens
        parts.append(f"tokens: {sent} in, {received} out")
        if (cost := cost_if_installed(requests_of(stream))) is not None and cost.known_usd:
            parts.append(f"cost: {cost}")
    return ", ".join(parts)
