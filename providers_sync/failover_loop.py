"""``FailoverLoop``: the source of one call's answer, from several providers."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace

from . import call_log
from .circuit_breaker import CircuitBreakers, ProviderHealth
from .clock import monotonic
from .config import Timeouts
from .errors import (
    APIStatusError,
    APITimeoutError,
    FailoverError,
    InvalidRequestError,
    ProviderError,
    ProviderFailure,
)
from .failure_reasons import CONTENT_FILTER, CONTEXT_LENGTH, UNKNOWN_MODEL
from .providers.attempts import Readings
from .providers.base import Provider, describe
from .providers.continuation_request import BrokenAnswer
from .stream import CallEnded, Channel, Source, in_context

_REQUEST_STATUSES = {400, 413, 422}
_REQUEST_REASONS = (CONTENT_FILTER, CONTEXT_LENGTH, UNKNOWN_MODEL)
"""What is caused by the request: it does not show that the provider is unhealthy."""


class Candidate:
    """One provider within one call: its prepared request, and whether its answer has started."""

    def __init__(
        self, index: int, provider: Provider, source: Source, timeouts: Timeouts, model: str
    ) -> None:
        self.index = index
        self.provider = provider
        self.timeouts = timeouts
        self.model = model
        self.started_at = 0.0
        self.has_ended = False
        self._source = source

    def readings(self, channel: Channel) -> Readings:
        """Yield the provider's responses."""
        self.started_at = monotonic()
        channel.model = self.model
        if (observer := channel.observer) is not None:  # the caller may take it away at any time
            observer.use(self.provider, self.model)
        return self._source(channel)

    def seconds(self) -> float:
        """Return the seconds since it was tried."""
        return monotonic() - self.started_at


class FailoverLoop:
    """The source of one call's answer: tries the providers until one starts to answer."""

    def __init__(
        self,
        candidates: list[Candidate],
        breakers: CircuitBreakers,
        moves_on: Callable[[ProviderError], bool],
        broken: BrokenAnswer | None,
    ) -> None:
        self._candidates = candidates
        self._breakers = breakers
        self._moves_on = moves_on
        self._broken = broken

    def __call__(self, channel: Channel) -> Readings:
        context = copy_context()  # the caller's: no hook has run yet
        channel.waits_for_first_event = True
        total = channel.timeouts.total
        failures_before = len(channel.failures)  # those of an outer Failover
        remaining = {candidate.index: candidate for candidate in self._candidates}
        call = self._breakers.next_call()
        broken_by = channel.failures[-1].provider if self._broken and channel.failures else None
        failure: ProviderFailure | None = None
        while remaining:
            candidate = remaining.pop(self._pick(remaining, call, broken_by))
            if failure is not None:
                _note_failover(failure, candidate.provider, channel)
                failure = None
            channel.timeouts = replace(candidate.timeouts, total=total)
            try:
                readings = self._try(candidate, call, channel)
                is_first = len(remaining) == len(self._candidates) - 1
                yield from readings if is_first else in_context(context.copy(), readings)
                return
            except ProviderError as error:
                failure = ProviderFailure(candidate.provider, error, candidate.seconds())
                is_final = self._is_final(error, channel)
                if not (
                    isinstance(error, FailoverError) or (is_final and not channel.may_continue)
                ):
                    channel.failures.append(failure)  # an inner Failover has added its own
                if is_final:
                    raise
        raise _failover_error(channel.failures[failures_before:])

    def _pick(self, remaining: dict[int, Candidate], call: int, broken_by: Provider | None) -> int:
        """Return which provider to try next.

        For the rest of an answer, that whose answer has broken comes first if its server keeps the
        rest, or else last.
        """
        indexes = list(remaining)
        if self._broken is not None:
            is_kept = getattr(self._broken.decoder, "is_kept", False)
            indexes = [
                each for each in indexes if (remaining[each].provider is broken_by) == is_kept
            ]
        return self._breakers.pick(indexes or list(remaining), call)

    def _is_final(self, error: ProviderError, channel: Channel) -> bool:
        """Return whether a failure ends the call, so that no other provider may be tried."""
        if isinstance(error, APITimeoutError) and error.clock == "total":
            return True
        if channel.started or isinstance(error, InvalidRequestError):
            return True
        return not (isinstance(error, FailoverError) or self._moves_on(error))

    def _try(self, candidate: Candidate, call: int, channel: Channel) -> Readings:
        """Yield one provider's responses, and record how its answer ended."""
        # Record the start and the end at once, in whichever thread notices it: the caller may send
        # the next request immediately.
        outer = channel.on_start, channel.on_end
        channel.on_start = lambda: self._breakers.record_start(candidate.index)
        channel.on_end = lambda: self._record_end(
            candidate, call, channel, _health_after_end(candidate, channel)
        )
        health = ProviderHealth.UNKNOWN
        try:
            yield from candidate.readings(channel)
        except ProviderError as error:
            health = _health_after_error(error)
            raise
        except (CallEnded, GeneratorExit):
            health = _health_after_end(candidate, channel)
            raise
        finally:
            channel.on_start, channel.on_end = outer
            self._record_end(candidate, call, channel, health)

    def _record_end(
        self, candidate: Candidate, call: int, channel: Channel, health: ProviderHealth
    ) -> None:
        with channel.lock:
            if not candidate.has_ended:
                candidate.has_ended = True
                self._breakers.record_end(candidate.index, call, health)


def _note_failover(failure: ProviderFailure, following: Provider, channel: Channel) -> None:
    names = describe(failure.provider), describe(following)
    call_log.write(
        "failover",
        provider=names[0],
        seconds=failure.seconds,
        error=call_log.reason(failure.error),
        next_provider=names[1],
    )
    if (observer := channel.observer) is not None:
        observer.note("failover", failure.error, {"failed": names[0], "next": names[1]})


def _health_after_error(error: ProviderError) -> ProviderHealth:
    if isinstance(error, APITimeoutError):
        return ProviderHealth.TIMED_OUT
    if isinstance(error, InvalidRequestError):
        return ProviderHealth.UNKNOWN
    about_request = error.reason in _REQUEST_REASONS or (
        isinstance(error, APIStatusError) and error.status_code in _REQUEST_STATUSES
    )
    return ProviderHealth.UNKNOWN if about_request else ProviderHealth.BAD


def _health_after_end(candidate: Candidate, channel: Channel) -> ProviderHealth:
    """Return a provider's health after a good end, a timeout or the caller has ended the call."""
    with channel.lock:  # ``ended`` is set before ``error``
        error, is_stopped = channel.error, channel.is_stopped
    if not isinstance(error, APITimeoutError):
        has_answered = channel.started or not (error or is_stopped)
        return ProviderHealth.GOOD if has_answered else ProviderHealth.UNKNOWN
    if error.clock == "total":
        if channel.waits_for:
            return ProviderHealth.UNKNOWN
        # A slow caller or earlier providers may have used up the time: blame the longest wait.
        longest = max((failure.seconds for failure in channel.failures), default=0.0)
        if channel.started or candidate.seconds() < longest:
            return ProviderHealth.UNKNOWN
    return ProviderHealth.TIMED_OUT


def _failover_error(failures: list[ProviderFailure]) -> FailoverError:
    reasons = "; ".join(
        f"{type(failure.provider).__name__} after {failure.seconds:.1f} s: {failure.error}"
        for failure in failures
    )
    error = FailoverError(f"no provider answered: {reasons}")
    error.attempts = tuple(failures)
    error.__cause__ = failures[-1].error
    return error
