"""Where an answer is shown: as plain text, as JSON events, or as Markdown on a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import ProviderError
from ..printable import VisibleChunks
from ..stream import Stream
from ..types import Event, ReasoningDelta, Refusal, Stats, TextDelta, ToolCall, Usage
from .spinner import Spinner

if TYPE_CHECKING:
    from .live import ScreenLine
    from .markdown_blocks import Block

PAINT_EVERY_S = 0.05
"""Between two paintings; what arrives meanwhile is painted together."""


class Screen:
    """One answer after another: ``begin``, ``show`` for each event, ``rest``, then ``end``."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def begin(self) -> None:
        """A question goes out."""

    def show(self, event: Event) -> None:
        """Take an event of the answer."""

    def flush(self) -> None:
        """Show what has been taken: nothing more is at hand for the moment."""

    def end(self, stream: Stream | None, error: ProviderError | None) -> None:
        """The answer is over; ``stream`` is ``None`` where none has begun."""

    def close(self) -> None:
        """Leave the screen in order, whatever has happened."""


class PlainScreen(Screen):
    """The model's text as it is, and a line break at the end if it has none."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._last = ""

    def show(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self.out.write(event.text)
            self._last = event.text

    def flush(self) -> None:
        self.out.flush()

    def end(self, stream: Stream | None, error: ProviderError | None) -> None:
        if self._last and not self._last.endswith("\n"):
            self.out.write("\n")
        self._last = ""
        self.out.flush()


class JsonScreen(Screen):
    """One JSON object a line: the events with their ``type``, then ``end`` with the verdict."""

    def show(self, event: Event) -> None:
        self._write(_KINDS.get(type(event), "finish"), event.__dict__)

    def flush(self) -> None:
        self.out.flush()

    def end(self, stream: Stream | None, error: ProviderError | None) -> None:
        outcome = error.outcome if error else stream and stream.outcome
        self._write(
            "end",
            {
                "outcome": outcome and str(outcome),
                "error": error and type(error).__name__,
                "message": error and str(error),
                "model": stream and stream.model,
                "stats": stream and stream.stats.__dict__,
            },
        )
        self.out.flush()

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        self.out.write(json.dumps({"type": kind, **fields}) + "\n")


_KINDS: dict[type, str] = {
    TextDelta: "text",
    ReasoningDelta: "reasoning",
    Refusal: "refusal",
    ToolCall: "tool_call",
    Usage: "usage",
}


class TerminalScreen(PlainScreen):
    """Plain text for somebody who watches: a spinner first, and nothing that steers or hides."""

    def __init__(self, out: TextIO, spins: bool = True) -> None:
        super().__init__(out)
        self._spins = spins
        self._spinner: Spinner | None = None
        self._chunks = VisibleChunks()

    def begin(self) -> None:
        self._chunks = VisibleChunks()
        if self._spins:
            self._spinner = Spinner(self.out)

    def show(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self.close()
            self.write(self._chunks.feed(event.text))
        elif isinstance(event, ReasoningDelta) and self._spinner:
            self._spinner.label = "thinking"

    def write(self, text: str) -> None:
        """Take text that is fit for a terminal."""
        if text:
            super().show(TextDelta(text))

    def end(self, stream: Stream | None, error: ProviderError | None) -> None:
        self.close()
        self.write(self._chunks.end())
        super().end(stream, error)

    def close(self) -> None:
        if self._spinner:
            self._spinner.stop()
            self._spinner = None


class MarkdownScreen(TerminalScreen):
    """Markdown: finished blocks are printed for good, and the last one is painted anew."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        from .live import LiveRegion, ScreenLine
        from .markdown import Renderer  # where rich is missing this raises, before anything else

        self._gap = ScreenLine("", 0)
        self._lines: Callable[[Block, int], list[ScreenLine]] = Renderer(out).lines
        self._painter = LiveRegion(out)
        self._reset()

    def _reset(self) -> None:
        from .markdown_blocks import BlockSplitter

        self._blocks = BlockSplitter()
        self._is_first = True
        self._painted_at = 0.0

    def write(self, text: str) -> None:
        self._blocks.feed(text)

    def flush(self) -> None:
        if self._spinner:
            return
        wait = self._painted_at + PAINT_EVERY_S - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._paint(is_over=False)
        self._painted_at = time.monotonic()

    def end(self, stream: Stream | None, error: ProviderError | None) -> None:
        self.close()
        self.write(self._chunks.end())
        self._paint(is_over=True)
        self._reset()

    def _paint(self, is_over: bool) -> None:
        done: list[ScreenLine] = []
        for block in self._blocks.finished():
            done += self._block(block)
            self._is_first = False
        rest = self._blocks.rest()
        live = self._block(rest) if rest else []
        self._painter.update([*done, *live] if is_over else done, [] if is_over else live)

    def _block(self, block: Block) -> list[ScreenLine]:
        lines = self._lines(block, self._painter.width)
        gap = lines and not (self._is_first or block.joined)
        return [self._gap, *lines] if gap else lines


def choose(*, as_json: bool = False, plain: bool = False) -> Screen:
    """Return the screen for standard output: Markdown where it is a terminal that can show it."""
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
    except ImportError:  # without the extra
        return TerminalScreen(out)


def summary(stream: Stream) -> str:
    """Return the line of ``--stats``: verdict, chunks, times, tokens."""
    stats: Stats = stream.stats
    parts = [f"{stream.outcome}: {stats.chunks} chunks"]
    if stats.first_chunk_s is not None:
        parts.append(f"the first after {stats.first_chunk_s:.2f} s")
    parts.append(f"{stats.duration_s:.2f} s in all")
    if stream.usage:
        asked, answered = stream.usage.input_tokens, stream.usage.output_tokens
        parts.append(f"tokens: {asked} in, {answered} out")
    return ", ".join(parts)
