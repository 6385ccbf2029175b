"""A batch for people: a file in, a ledger out, progress on the way, a table at the end."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from ..printable import one_line
from ..providers import Provider
from . import CONCURRENCY, map, read
from .results import Result

EVERY_S = 0.2
"""Between two looks of the line in a terminal."""
EVERY_LOGGED_S = 10.0
"""The same in a file or a pipe, where each look is a line."""


@dataclass
class Tally:
    """What has come so far."""

    total: int
    began: float = field(default_factory=time.monotonic)
    answered: int = 0
    recorded: int = 0
    requests: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Count one result."""
        if result.recorded:
            self.recorded += 1
            return
        self.requests += result.attempts
        if result.error is None:
            self.answered += 1
        else:
            name = type(result.error).__name__
            self.errors[name] += 1
            self.examples.setdefault(name, f"{result.custom_id}: {result.error}")
        if result.usage is not None:
            self.tokens["in"] += result.usage.input_tokens or 0
            self.tokens["out"] += result.usage.output_tokens or 0

    @property
    def failed(self) -> int:
        """Rows without an answer."""
        return sum(self.errors.values())

    @property
    def done(self) -> int:
        """Rows that are settled, one way or the other."""
        return self.recorded + self.answered + self.failed

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began

    def rate(self) -> str:
        """Return rows a second, what was recorded before not counted."""
        return f"{(self.answered + self.failed) / max(self.seconds, 1e-3):.1f}/s"

    def left(self) -> str:
        """Return the time left at the present rate."""
        asked = self.answered + self.failed
        if not asked:
            return "-:--"
        seconds = round((self.total - self.done) * self.seconds / asked)
        minutes, hours = seconds // 60, seconds // 3600
        if hours:
            return f"{hours}:{minutes % 60:02}:{seconds % 60:02}"
        return f"{minutes}:{seconds % 60:02}"

    def table(self) -> str:
        """Return the summary, a line each."""
        rows = {
            "rows": f"{self.done} of {self.total}",
            "answered": f"{self.answered}",
            "answered before": f"{self.recorded}",
            "failed": f"{self.failed}",
            "requests": f"{self.requests}",
            "tokens": f"{self.tokens['in']} in, {self.tokens['out']} out",
            "time": f"{self.seconds:.1f} s, {self.rate()}",
        }
        lines = [f"{name:<16} {value}" for name, value in rows.items()]
        for name, count in self.errors.most_common():
            lines.append(f"{count} × {name}, such as {one_line(self.examples[name])}")
        return "\n".join(lines)


class ProgressDisplay(Protocol):
    """Shows a tally as it grows."""

    def show(self, tally: Tally) -> None:
        """Show it, if it is time."""


class ProgressLine:
    """One line that is written over in a terminal; in a log, a line now and then."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._over = out.isatty()
        self._shown_at = time.monotonic()

    def show(self, tally: Tally) -> None:
        """Show it, if it is time."""
        now = time.monotonic()
        last = tally.done == tally.total
        if last or now - self._shown_at >= (EVERY_S if self._over else EVERY_LOGGED_S):
            self._shown_at = now
            percent = 100 * tally.done // max(tally.total, 1)
            text = (
                f"{tally.done}/{tally.total} {percent} % · {tally.rate()} · "
                f"{tally.failed} errors · {tally.left()} left"
            )
            end = "\n" if last or not self._over else ""
            print(f"\r{text:<70}" if self._over else text, end=end, file=self._out, flush=True)


@contextlib.contextmanager
def progress(total: int, out: TextIO) -> Iterator[ProgressDisplay]:
    """Show progress: rich's bar in a terminal where it is installed, else one line."""
    try:
        if not out.isatty():
            raise ImportError
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        yield ProgressLine(out)
        return
    columns = [BarColumn(), TextColumn("{task.completed}/{task.total} {task.description}")]
    with Progress(*columns, console=Console(file=out)) as bar:
        yield _RichBar(bar, bar.add_task("", total=total))


class _RichBar:
    def __init__(self, bar: Any, task: Any) -> None:
        self._bar = bar
        self._task = task

    def show(self, tally: Tally) -> None:
        text = f"· {tally.rate()} · {tally.failed} errors · {tally.left()} left"
        self._bar.update(self._task, completed=tally.done, description=text)


def run(
    provider: Provider,
    source: str,
    target: str,
    *,
    concurrency: int = CONCURRENCY,
    rate: float | None = None,
) -> int:
    """Ask every row of the file ``source``, record in ``target``, and report to the terminal.

    Returns 0 when every row has an answer, else 1. Raises what ``read`` and ``map`` raise.
    """
    tally = Tally(total=sum(1 for _ in read(source)))  # finds broken lines before money is spent
    results = map(provider, read(source), concurrency=concurrency, ledger=target, rate=rate)
    try:
        with contextlib.closing(results), progress(tally.total, sys.stderr) as bar:
            for result in results:
                tally.add(result)
                bar.show(tally)
    except KeyboardInterrupt:
        print(
            f"\nStopped. {one_line(target)} holds what is done: run the same again to go on.",
            file=sys.stderr,
        )
        raise
    finally:
        if tally.done:
            print(tally.table())
    return 0 if tally.answered + tally.recorded == tally.total else 1
