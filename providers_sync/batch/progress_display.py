"""The progress of a batch in a terminal or a log: a bar, or a line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TextIO

from ..clock import monotonic
from .tally import Tally

TERMINAL_INTERVAL_S = 0.2
"""Time between two updates of the progress line in a terminal."""
LOG_INTERVAL_S = 10.0
"""The same in a file or a pipe, where each update is a new line."""
COUNT_AFTER_S = 2.0
"""Reading that takes longer shows how far it is."""


class ProgressDisplay(Protocol):
    """Shows the progress of a batch."""

    def show(self, tally: Tally) -> None:
        """Update the display, unless the last update was just now."""


class ProgressLine:
    """Progress as one line: rewritten in place in a terminal, repeated now and then in a log."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._is_open = False
        # The first line in a terminal comes at once: reading a large ledger takes a while.
        self._shown_at = monotonic() - (TERMINAL_INTERVAL_S if self._is_terminal else 0)

    def show(self, tally: Tally) -> None:
        """Update the display, unless the last update was just now."""
        now = monotonic()
        last = tally.done == tally.total
        if last or now - self._shown_at >= (
            TERMINAL_INTERVAL_S if self._is_terminal else LOG_INTERVAL_S
        ):
            self._shown_at = now
            percent = 100 * tally.done // max(tally.total, 1)
            text = (
                f"{tally.done}/{tally.total} {percent} % · {tally.rate()} · "
                f"{tally.failed} failed · {tally.time_left()} left"
            )
            self._is_open = self._is_terminal and not last
            end = "" if self._is_open else "\n"
            print(
                f"\r{text:<70}" if self._is_terminal else text, end=end, file=self._out, flush=True
            )

    def end(self) -> None:
        """End the line, if it is to be rewritten: the batch has ended early."""
        if self._is_open:
            print(file=self._out, flush=True)
            self._is_open = False


@contextlib.contextmanager
def progress(total: int, out: TextIO) -> Iterator[ProgressDisplay]:
    """Show progress: a bar in a terminal if rich is installed, otherwise a line."""
    try:
        if not out.isatty():
            raise ImportError
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        line = ProgressLine(out)
        try:
            yield line
        finally:
            line.end()
        return
    columns = [BarColumn(), TextColumn("{task.completed}/{task.total} {task.description}")]
    with Progress(*columns, console=Console(file=out)) as bar:
        yield _RichBar(bar, bar.add_task("", total=total))


class _RichBar:
    def __init__(self, bar: Any, task: Any) -> None:
        self._bar = bar
        self._task = task

    def show(self, tally: Tally) -> None:
        text = f"· {tally.rate()} · {tally.failed} failed · {tally.time_left()} left"
        self._bar.update(self._task, completed=tally.done, description=text)


@contextlib.contextmanager
def count_rows(what: str, out: TextIO) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told a growing number of rows, and shows it if this takes long."""
    is_terminal = out.isatty()
    interval = TERMINAL_INTERVAL_S if is_terminal else LOG_INTERVAL_S
    due = monotonic() + max(COUNT_AFTER_S, interval)
    shown = ""

    def show(count: int) -> None:
        nonlocal due, shown
        if (now := monotonic()) >= due:
            due = now + interval
            shown = f"{what}: {count} rows"
            start, end = ("\r", "") if is_terminal else ("", "\n")
            print(f"{start}{shown}", end=end, file=out, flush=True)

    try:
        yield show
    finally:
        if shown and is_terminal:
            print(f"\r{' ' * len(shown)}\r", end="", file=out, flush=True)
