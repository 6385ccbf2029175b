"""Rate limiting, and the rows in progress with their retry budgets."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

from .. import call_log
from ..clock import monotonic
from ..config import ATTEMPTS, NOT_GIVEN
from ..errors import APIStatusError, InvalidAnswer, ProviderError, RateLimitError
from ..providers import Provider
from ..providers.base import describe
from ..providers.settings import retry_policy_of
from ..retry import allows_retry, attempts, is_retryable, may_retry
from .results import Reply
from .rows import Row

CATCH_UP_S = 0.05
"""How late a request may start without delaying the next ones; more would cause a burst."""
PAUSE_S = 1.0
"""Pause after a 429 without ``Retry-After``."""
LONGEST_OUTAGE_PAUSE_S = 8.0
"""The pauses while a server is unreachable, for example while it restarts, are 1, 2, 4 and 8 s."""
LONGEST_PAUSE_S = 3600.0
"""A longer ``Retry-After`` ends the batch, so that the user can decide when to resume."""


class RateLimiter:
    """Start times of a batch's requests: ``rate`` per minute, and none during a pause."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 60.0 / rate if rate else 0.0
        self._next = 0.0
        self._paused_until = 0.0
        self._outage_pause = PAUSE_S

    def next_start(self) -> float:
        """Return when the next request may start, by ``monotonic()``."""
        return max(self._next, self._paused_until)

    def note_start(self) -> None:
        """Record that a request starts now."""
        self._next = max(self._next, monotonic() - CATCH_UP_S) + self._interval

    def pause(self, seconds: float) -> None:
        """Start no request for this many seconds."""
        self._paused_until = max(self._paused_until, monotonic() + seconds)

    def pause_for_outage(self) -> None:
        """Start no request for a while, as the server cannot be reached; each time for longer."""
        if monotonic() >= self._paused_until:  # else the request was sent before the pause
            self.pause(self._outage_pause)
            self._outage_pause = min(2 * self._outage_pause, LONGEST_OUTAGE_PAUSE_S)

    def note_answer(self) -> None:
        """Record that the server answers."""
        self._outage_pause = PAUSE_S


def pause_requested(error: ProviderError) -> float | None:
    """Return the seconds for which a server asks all workers to wait, or ``None``."""
    if not isinstance(error, APIStatusError) or not is_retryable(error):
        return None
    if error.retry_after is not None:
        return error.retry_after
    return PAUSE_S if isinstance(error, RateLimitError) else None


class RetryBudget:
    """The attempts one row has left, by the provider's retry policy.

    A 429 says nothing about its row. It counts as an attempt only if no other row got an answer
    since the row was sent: otherwise 64 workers on a server that takes 50 would give up rows for no
    reason.
    """

    def __init__(self, provider: Provider) -> None:
        # A Failover has no policy: it retries on its next provider.
        policy = retry_policy_of(provider)
        self._policy = ATTEMPTS if policy is NOT_GIVEN else policy
        self._delay = 0.0
        self._started_at: float | None = None
        self._attempts: Any = None
        self._attempt: Any = None

    def note_start(self) -> None:
        """Record that the row is sent; a policy's delays count from the first time."""
        self._started_at = self._started_at or monotonic()

    def delay_before_retry(
        self, reply_started: bool, error: ProviderError, progress: bool
    ) -> float | None:
        """Return the seconds until the row is sent again, or ``None`` to give it up.

        ``progress``: whether another row was answered since this one was sent.
        """
        if reply_started or isinstance(error, InvalidAnswer) or not may_retry(self._policy, error):
            return None
        if isinstance(error, RateLimitError):
            if progress:
                return 0.0 if allows_retry(self._policy, error) else None
            # The shared pause provides the delay; the policy only counts.
            error = copy.copy(error)
            error.retry_after = None
        return self._count_attempt(error)

    def _count_attempt(self, error: ProviderError) -> float | None:
        """Report the failure to tenacity and return the delay it chooses, without sleeping."""
        if self._attempts is None:
            self._attempts = attempts(
                self._policy,
                self._record_delay,
                lambda: math.inf,
                lambda: False,
                self._started_at,
            )
            self._attempt = next(self._attempts)
        try:
            with self._attempt:
                raise error
            self._attempt = next(self._attempts)
        except ProviderError:
            error.__traceback__ = None
            return None
        return self._delay

    def _record_delay(self, seconds: float) -> None:
        self._delay = seconds


@dataclass
class InFlight:
    """A row between its first request and its result, over one attempt or more."""

    row: Row
    retry_budget: RetryBudget
    attempts: int = 0
    seconds: float = 0.0
    failed: Reply | None = None
    """The reply to the last attempt, if the row is sent again."""
    answered_before: int = 0
    """Number of rows that had an answer when this one was sent."""

    def log_retry(self, provider: Provider, error: ProviderError, seconds: float) -> None:
        """Log that the row is sent again after so many seconds."""
        call_log.write(
            "row_retry",
            row=self.row.number,
            provider=describe(provider),
            delay=seconds,
            attempt=self.attempts,
            error=call_log.reason(error),
        )
