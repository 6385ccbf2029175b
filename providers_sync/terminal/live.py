"""The live region: the last lines on the screen, which are redrawn until they are final.

Final lines are printed once and never touched again, so an answer longer than the screen is neither
lost nor repeated. Only as many live lines are shown as can be redrawn later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, TextIO

DEFAULT_SIZE = os.terminal_size((80, 24))
"""Used if the terminal does not report its size."""


class ScreenLine(NamedTuple):
    """One line as it is written to the terminal, and its width in columns."""

    text: str
    cells: int


class LiveRegion:
    """Redraws the last lines of a terminal, each time with a single write to avoid flicker."""

    def __init__(self, out: TextIO, size: Callable[[], os.terminal_size] | None = None) -> None:
        self._out = out
        self._size = size or self._terminal_size
        self._lines: list[ScreenLine] = []
        self._columns = 0

    @property
    def width(self) -> int:
        """The columns to use: all but the last, since terminals wrap full lines differently."""
        return max(self._size().columns - 1, 1)

    def update(self, done: Sequence[ScreenLine], live: Sequence[ScreenLine] = ()) -> None:
        """Replace the live lines with the finished lines, and show the new live lines below."""
        live = self._crop(live)
        new = [*done, *live]
        if new == self._lines and not done:
            return
        unchanged = 0
        for old_line, new_line in zip(self._lines, new, strict=False):
            if old_line != new_line:
                break
            unchanged += 1
        if unchanged == len(new) < len(self._lines):
            unchanged = max(unchanged - 1, 0)  # the cursor must end up after the last line
        # Clear last: tmux saves lines that are cleared from the top of the screen in its history.
        self._out.write(
            self._move_to(unchanged, is_end=unchanged == len(new))
            + "\x1b[K\n".join(line.text for line in new[unchanged:])
            + ("\x1b[J" if self._lines else "")
            + ("\n" if new and not live else "")
        )
        self._out.flush()
        self._lines, self._columns = list(live), self._size().columns

    def _move_to(self, unchanged: int, is_end: bool) -> str:
        """Return the codes that move the cursor to the start of the first changed line."""
        changed = self._lines[unchanged:]
        if not changed:
            return "\n" if self._lines and not is_end else ""
        up = sum(map(self._rows, changed)) - 1
        move = f"\r\x1b[{up}A" if up else "\r"
        # The terminal remembers which lines it has wrapped until they are cleared.
        return move + ("\x1b[J" if self._size().columns != self._columns else "")

    def _rows(self, line: ScreenLine) -> int:
        """Return the screen rows of a line: a terminal that was made narrower has wrapped it."""
        return max(1, -(-line.cells // max(self._size().columns, 1)))

    def _crop(self, live: Sequence[ScreenLine]) -> list[ScreenLine]:
        """Keep the last lines: those that have scrolled off the screen cannot be redrawn."""
        remaining = max(self._size().lines * 2 // 3, 1)
        shown: list[ScreenLine] = []
        for line in reversed(live):
            remaining -= self._rows(line)
            if remaining < 0:
                break
            shown.insert(0, line)
        return shown

    def _terminal_size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._out.fileno())
        except (OSError, ValueError):
            return DEFAULT_SIZE
        return os.terminal_size(
            (size.columns or DEFAULT_SIZE.columns, size.lines or DEFAULT_SIZE.lines)
        )
