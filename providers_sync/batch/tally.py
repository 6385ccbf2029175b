"""Counts of a batch's results, and the summary at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from ..clock import monotonic
from ..finish_reasons import explain_end
from ..prices import Cost, cost_if_installed
from ..printable import one_line
from .results import Result
from .templates import NAME_CHARACTERS

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
    cost: Cost | None = field(default_factory=Cost)
    """That of the requests, by list prices; ``None`` without the extra ``prices``."""
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
        if self.cost is not None:
            cost = cost_if_installed(result.requests)
            self.cost = None if cost is None else self.cost + cost
        if result.error is None:
            self.answered += 1
        else:
            name = type(result.error).__name__
            self.errors[name] += 1
            self.examples.setdefault(name, f"{result.custom_id[:NAME_CHARACTERS]}: {result.error}")
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
            **({"cost": f"{self.cost}"} if self.cost and self.cost.known_usd else {}),
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
