"""The command ``providers-sync batch``: run a file of prompts, show progress and a summary."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TextIO

from ..clock import monotonic
from ..finish_reasons import explain_end
from ..printable import one_line
from ..providers import Provider
from . import CONCURRENCY, map, read
from .results import Result

TERMINAL_INTERVAL_S = 0.2
"""Time between two updates of the progress line in a terminal."""
LOG_INTERVAL_S = 10.0
"""The same in a file or a pipe, where each update is a new line."""
ENDINGS_SHOWN = 10
"""How many kinds of endings the summary names: a server may give a new reason each time."""
_CONTENT = ("tool_calls", "images", "audio")
"""Keys of a message for what an answer may have besides text."""


class AnswerEnd(NamedTuple):
    """How an answer ended, as far as words are made of it."""

    reason: str | None
    is_empty: bool
    refusal: str
    has_reasoning: bool

    @classmethod
    def of(cls, result: Result) -> AnswerEnd:
        """Return how the answer of a result ended."""
        message, usage = result.message, result.usage
        is_empty = not (result.text.strip() or any(message.get(key) for key in _CONTENT))
        has_reasoning = message.get("reasoning_content") or (usage and usage.reasoning_tokens)
        refusal = "refused" if message.get("refusal") else ""
        return cls(result.finish_reason, is_empty, refusal, is_empty and bool(has_reasoning))

    def words(self, count: int) -> str:
        """Return in words why ``count`` answers are not whole, or empty; ``""`` otherwise."""
        return explain_end("complete", **self._asdict(), count=count)


@dataclass
class Tally:
    """Counts of a batch's results so far."""

    total: int
    started: float = field(default_factory=monotonic)
    answered: int = 0
    recorded: int = 0
    requests: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    endings: Counter[AnswerEnd] = field(default_factory=Counter)
    """Those of the answers that are not whole, or empty, also of the recorded ones."""

    def add(self, result: Result) -> None:
        """Count one result."""
        if result.error is None and (ending := AnswerEnd.of(result)).words(1):
            self.endings[ending] += 1
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
        """Number of failed rows."""
        return sum(self.errors.values())

    @property
    def done(self) -> int:
        """Number of rows that have an answer or have failed."""
        return self.recorded + self.answered + self.failed

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return monotonic() - self.started

    def rate(self) -> str:
        """Return rows per second, without those read from the ledger."""
        return f"{(self.answered + self.failed) / max(self.seconds, 1e-3):.1f} rows/s"

    def time_left(self) -> str:
        """Return the estimated time left at the current rate."""
        finished = self.answered + self.failed
        if not finished:
            return "-:--"
        seconds = round((self.total - self.done) * self.seconds / finished)
        minutes, hours = seconds // 60, seconds // 3600
        if hours:
            return f"{hours}:{minutes % 60:02}:{seconds % 60:02}"
        return f"{minutes}:{seconds % 60:02}"

    def table(self) -> str:
        """Return the summary, one line per value."""
        rows = {
            "rows": f"{self.done} of {self.total}",
            "answered": f"{self.answered}",
            "from the ledger": f"{self.recorded}",
            "failed": f"{self.failed}",
            "requests": f"{self.requests}",
            "tokens": f"{self.tokens['in']} in, {self.tokens['out']} out",
            "time": f"{self.seconds:.1f} s, {self.rate()}",
        }
        lines = [f"{name:<16} {value}" for name, value in rows.items()]
        for name, count in self.errors.most_common():
            lines.append(f"{count} × {name}, for example {one_line(self.examples[name])}")
        named = self.endings.most_common(ENDINGS_SHOWN)
        lines += [one_line(ending.words(count)) for ending, count in named]
        if others := self.endings.total() - sum(count for _, count in named):
            lines.append(f"{others} more ended in other ways")
        return "\n".join(lines)


class ProgressDisplay(Protocol):
    """Shows the progress of a batch."""

    def show(self, tally: Tally) -> None:
        """Update the display, unless the last update was just now."""


class ProgressLine:
    """Progress as one line: rewritten in place in a terminal, repeated now and then in a log."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._shown_at = monotonic()

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
            end = "\n" if last or not self._is_terminal else ""
            print(
                f"\r{text:<70}" if self._is_terminal else text, end=end, file=self._out, flush=True
            )


@contextlib.contextmanager
def progress(total: int, out: TextIO) -> Iterator[ProgressDisplay]:
    """Show progress: a bar in a terminal if rich is installed, otherwise a line."""
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
        text = f"· {tally.rate()} · {tally.failed} failed · {tally.time_left()} left"
        self._bar.update(self._task, completed=tally.done, description=text)


def run(
    provider: Provider,
    source: str,
    target: str,
    *,
    concurrency: int = CONCURRENCY,
    rate: float | None = None,
) -> int:
    """Run every row of the file ``source``, record in ``target``, and report to the terminal.

    Returns 0 when every row has an answer, else 1. Raises what ``read`` and ``map`` raise.
    """
    tally = Tally(total=sum(1 for _ in read(source)))  # finds broken lines before the first request
    results = map(provider, read(source), concurrency=concurrency, ledger=target, rate=rate)
    try:
        with contextlib.closing(results), progress(tally.total, sys.stderr) as bar:
            for result in results:
                tally.add(result)
                bar.show(tally)
    except KeyboardInterrupt:
        print(
            f"\nStopped. The finished rows are in {one_line(target)}: "
            "run the same command again to resume.",
            file=sys.stderr,
        )
        raise
    finally:
        if tally.done:
            print(tally.table())
    return 0 if tally.answered + tally.recorded == tally.total else 1
