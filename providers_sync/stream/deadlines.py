"""The clocks of one call: which is due next, and what it says when it fires.

They are kept by whoever waits: the reader's own wait ends when the next clock is due, so that
dripped bytes and keep-alives cannot put it off. While nobody waits, the thread looks at them after
each read.
"""

from __future__ import annotations

import math
import time

from ..config import Timeouts
from ..errors import APITimeoutError

_TEXT = {
    "connect": "no connection within {} s",
    "first_token": "no first word within {} s of the request",
    "idle": "the server fell silent for {} s in the middle of the answer",
    "total": "the answer took longer than {} s in all",
}


class Deadlines:
    """One clock runs at a time, beside ``total``; ``due`` is the one of the two that ends first."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.began = time.monotonic()
        self._total = self.began + (timeouts.total or math.inf), "total"
        self.next_due = self._total
        """When, on the monotonic clock, and which."""

    def set(self, clock: str, allowed: float | None, now: float | None = None) -> None:
        """Start ``clock``, which allows so many seconds from now on."""
        at = (now or time.monotonic()) + (allowed or math.inf)
        self.next_due = (at, clock) if at < self._total[0] else self._total

    def only_total(self) -> None:
        """Let none run but ``total``."""
        self.next_due = self._total

    def time_left(self) -> float:
        """Return the seconds until the clock that runs now."""
        return self.next_due[0] - time.monotonic()

    def total_time_left(self) -> float:
        """Return the seconds until ``total``."""
        return self._total[0] - time.monotonic()


def timeout_error(clock: str, timeouts: Timeouts) -> APITimeoutError:
    """Return what is raised when ``clock`` has fired."""
    limit = f"{getattr(timeouts, clock):g}"
    return APITimeoutError(f"{_TEXT[clock].format(limit)} ({clock} clock)", clock=clock)
