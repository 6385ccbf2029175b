"""The deadlines of one call: which timeout expires next, when, and the error it raises.

The reader thread enforces them, so bytes that trickle in and keep-alives cannot postpone them.
"""

from __future__ import annotations

import math

from ..clock import monotonic
from ..config import Timeouts
from ..errors import APITimeoutError

_TEXT = {
    "connect": "no connection within {} s",
    "first_token": "the answer did not start within {} s of the request",
    "idle": "the server sent nothing for {} s in the middle of the answer",
    "total": "the answer took longer than {} s in all",
}


class Deadlines:
    """The deadline of one timeout at a time, and that of ``total``; ``next_due`` is the earlier."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.started_at = monotonic()
        self._total = self.started_at + (timeouts.total or math.inf), "total"
        self.next_due = self._total
        """The moment, on the monotonic clock, and the timeout's name."""

    def set(self, timeout: str, seconds: float | None, now: float | None = None) -> None:
        """Start ``timeout``, which expires ``seconds`` after ``now`` (``None``: never)."""
        at = (now or monotonic()) + (seconds or math.inf)
        self.next_due = (at, timeout) if at < self._total[0] else self._total

    def only_total(self) -> None:
        """Clear every deadline except ``total``."""
        self.next_due = self._total

    def clear(self) -> None:
        """Clear every deadline."""
        self.next_due = math.inf, "total"

    def time_left(self) -> float:
        """Return the seconds until the next deadline."""
        return self.next_due[0] - monotonic()

    def total_time_left(self) -> float:
        """Return the seconds until ``total`` expires."""
        return self._total[0] - monotonic()


def timeout_error(timeout: str, timeouts: Timeouts) -> APITimeoutError:
    """Return the error to raise when ``timeout`` has expired."""
    limit = f"{getattr(timeouts, timeout):g}"
    return APITimeoutError(f"{_TEXT[timeout].format(limit)} ({timeout} timeout)", clock=timeout)
