"""The live end of the screen: lines that may still change, and the cursor's way back to them.

Lines that are done are printed once and never touched again, so an answer longer than the screen
is neither lost nor repeated: of the live lines only as many are shown as can be painted over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, TextIO

SIZE = os.terminal_size((80, 24))
"""Where the terminal does not say."""


class ScreenLine(NamedTuple):
    """One line as the terminal gets it, and how many columns it takes."""

    text: str
    cells: int


class LiveRegion:
    """Paints onto a terminal; whole lines go out in one write, so that nothing flickers."""

    def __init__(self, out: TextIO, size: Callable[[], os.terminal_size] | None = None) -> None:
        self._out = out
        self._size = size or self._ask_size
        self._lines: list[ScreenLine] = []
        self._columns = 0

    @property
    def width(self) -> int:
        """The columns to use; the last one stays free, as terminals differ on what follows it."""
        return max(self._size().columns - 1, 1)

    def update(self, done: Sequence[ScreenLine], live: Sequence[ScreenLine] = ()) -> None:
        """Put the finished lines where the live ones were, and the new live ones below."""
        live = self._cropped(live)
        new = [*done, *live]
        if new == self._lines and not done:
            return
        kept = 0
        for old, fresh in zip(self._lines, new, strict=False):
            if old != fresh:
                break
            kept += 1
        if kept == len(new) < len(self._lines):
            kept = max(kept - 1, 0)  # the cursor must come to stand behind its last line
        self._out.write(
            self._way_to(kept, is_end=kept == len(new))
            + "\x1b[K\n".join(line.text for line in new[kept:])
            + ("\x1b[J" if self._lines else "")  # at its beginning tmux would keep what it clears
            + ("\n" if new and not live else "")
        )
        self._out.flush()
        self._lines, self._columns = list(live), self._size().columns

    def _way_to(self, kept: int, is_end: bool) -> str:
        """Return what brings the cursor to where the line after the kept ones begins."""
        changed = self._lines[kept:]
        if not changed:
            return "\n" if self._lines and not is_end else ""
        up = sum(map(self._rows, changed)) - 1
        way = f"\r\x1b[{up}A" if up else "\r"
        # Lines that were wrapped remember it, until they are cleared.
        return way + ("\x1b[J" if self._size().columns != self._columns else "")

    def _rows(self, line: ScreenLine) -> int:
        """A terminal that has become narrower has wrapped the lines that are on it."""
        return max(1, -(-line.cells // max(self._size().columns, 1)))

    def _cropped(self, live: Sequence[ScreenLine]) -> list[ScreenLine]:
        """Keep the end: what has left the screen could not be painted over."""
        left = max(self._size().lines * 2 // 3, 1)
        shown: list[ScreenLine] = []
        for line in reversed(live):
            left -= self._rows(line)
            if left < 0:
                break
            shown.insert(0, line)
        return shown

    def _ask_size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._out.fileno())
        except (OSError, ValueError):
            return SIZE
        return os.terminal_size((size.columns or SIZE.columns, size.lines or SIZE.lines))
