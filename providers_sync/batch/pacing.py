"""Shared manners: when the next request may start, and whether a failed row is asked again."""

from __future__ import annotations

import copy
import math
import time
from typing import Any

from ..config import ATTEMPTS, NOT_GIVEN
from ..errors import APIStatusError, ProviderError, RateLimitError
from ..providers import Provider
from ..retry import attempts, is_retryable

CATCH_UP_S = 0.05
"""How late a start may be without slowing the ones behind it; more would be a burst."""
HOLD_S = 1.0
"""For a 429 that does not say how long to wait."""
LONGEST_HOLD_S = 3600.0
"""A server that asks for more ends the batch: somebody else should decide, and resume."""


class RateLimiter:
    """One clock for all requests of a batch: ``rate`` a minute, and none while held back."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 60.0 / rate if rate else 0.0
        self._next = 0.0
        self._held_until = 0.0

    def next_start(self) -> float:
        """Return when the next request may start, by ``time.monotonic()``."""
        return max(self._next, self._held_until)

    def note_start(self) -> None:
        """Note that a request starts now."""
        self._next = max(self._next, time.monotonic() - CATCH_UP_S) + self._interval

    def hold(self, seconds: float) -> None:
        """Let nobody start for so many seconds."""
        self._held_until = max(self._held_until, time.monotonic() + seconds)


def pause_requested(error: ProviderError) -> float | None:
    """Return for how many seconds a server wants everybody to wait, if it does."""
    if not isinstance(error, APIStatusError) or not is_retryable(error):
        return None
    if error.retry_after is not None:
        return error.retry_after
    return HOLD_S if isinstance(error, RateLimitError) else None


class RetryBudget:
    """How often one row is asked: the provider's retry policy, seen by the whole batch.

    A 429 is no failure of its row. It counts as an attempt only if nobody got an answer since the
    row was sent: else 64 workers on a server that takes 50 would give up rows for no reason.
    """

    def __init__(self, provider: Provider) -> None:
        # A Failover has none: the next provider is its retry.
        policy: Any = getattr(provider, "_retry", None)
        self._policy = ATTEMPTS if policy is NOT_GIVEN else policy
        self._wait = 0.0
        self._trials: Any = None
        self._trial: Any = None

    def delay_before_retry(
        self, reply_started: bool, error: ProviderError, progress: bool
    ) -> float | None:
        """Return the seconds until the row is asked again, ``None`` for never.

        ``progress``: whether another row was answered since this one was sent.
        """
        if reply_started or self._policy in (None, 1) or not is_retryable(error):
            return None
        if isinstance(error, RateLimitError):
            if progress:
                return 0.0
            # The hold sees to the wait; the policy only counts.
            error = copy.copy(error)
            error.retry_after = None
        return self._next_trial(error)

    def _next_trial(self, error: ProviderError) -> float | None:
        """Tell tenacity of the failure; it answers by a sleep, which we only note."""
        if self._trials is None:
            self._trials = attempts(self._policy, self._note, lambda: math.inf, lambda: False)
            self._trial = next(self._trials)
        try:
            with self._trial:
                raise error
            self._trial = next(self._trials)
        except ProviderError:
            error.__traceback__ = None
            return None
        return self._wait

    def _note(self, seconds: float) -> None:
        self._wait = seconds
