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
    "total": "the answer took longer than {} s in total",
}


class Deadlines:
    """The deadline of one timeout at a time, and that of ``total``."""

    def __init__(self, timeouts: Timeouts, started_at: float | None = None) -> None:
        self.since = monotonic()
        """When the current timeout started to run; setting it restarts the timeout."""
        self.started_at = self.since if started_at is None else started_at
        """When the call started, and with it ``total``."""
        self._total_at = self.started_at + (timeouts.total or math.inf)
        self._timeout, self._seconds = "total", math.inf

    def set(self, timeout: str, seconds: float | None) -> None:
        """Start ``timeout``, which expires after ``seconds`` (``None``: never)."""
        self._timeout, self._seconds, self.since = timeout, seconds or math.inf, monotonic()

    def only_total(self) -> None:
        """Clear every deadline except ``total``."""
        self._seconds = math.inf

    def clear(self) -> None:
        """Clear every deadline."""
        self._seconds = self._total_at = math.inf

    @property
    def next_due(self) -> tuple[float, str]:
        """The earlier deadline: its moment, on the monotonic clock, and the timeout's name."""
        at = self.since + self._seconds
        return (at, self._timeout) if at < self._total_at else (self._total_at, "total")

    def time_left(self) -> float:
        """Return the seconds until the next deadline."""
        return self.next_due[0] - monotonic()

    def total_time_left(self) -> float:
        """Return the seconds until ``total`` expires."""
        return self._total_at - monotonic()


def timeout_error(
    timeout: str, timeouts: Timeouts, seconds: float | None = None, waits_for: str = ""
) -> APITimeoutError:
    """Return the error to raise when ``timeout`` has expired, or a shorter one in its place.

    ``waits_for``: what the request still waited for, if it was not sent.
    """
    limit = f"{seconds or getattr(timeouts, timeout):g}"
    text = f"{_TEXT[timeout].format(limit)} ({timeout} timeout)"
    if waits_for:
        text += f"; the request was not sent: it waited for {waits_for}"
    return APITimeoutError(text, clock=timeout)
