"""``Failover``: a provider that tries several providers in turn until one starts to answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import Any, Literal

from . import call_log
from .circuit_breaker import CircuitBreakers, ProviderHealth
from .clock import monotonic
from .config import FAILOVER_COOLDOWN_S, FAILOVER_FAILURES, NotGiven, Timeouts, seconds
from .errors import (
    APIStatusError,
    APITimeoutError,
    FailoverError,
    InvalidRequestError,
    ModelNotSupportedError,
    ProviderError,
    ProviderFailure,
)
from .failure_reasons import CONTENT_FILTER, CONTEXT_LENGTH, MOVES_ON, REASONS, UNKNOWN_MODEL
from .providers.attempts import Readings
from .providers.base import Provider, describe
from .providers.continuation_request import BrokenAnswer
from .providers.continuing import validate_breaks
from .stream import CallEnded, Channel, Source, in_context
from .types import Prompt

STRATEGIES = ("order", "round_robin")
_REQUEST_STATUSES = {400, 413, 422}
_REQUEST_REASONS = (CONTENT_FILTER, CONTEXT_LENGTH, UNKNOWN_MODEL)
"""What is caused by the request: it does not show that the provider is unhealthy."""


class Failover(Provider):
    """Several providers as one; a provider itself, so it can be used wherever one is expected.

    ::

        provider = Failover([OpenAICompatible("qwen3", base_url=…), Anthropic("claude-sonnet-4-5")])
        for chunk in provider.stream("Hello"):
            print(chunk, end="")

    - ``stream()`` returns at the first event (text, reasoning, refusal or tool call) or at a
      successful end. Before that, a failure moves on to the next provider; after it, the answer
      stays with the provider that started it, unless it breaks and ``continue_after_break`` is
      given. Earlier failures are in the stream's ``.attempts``; if every provider fails,
      ``FailoverError`` lists them all. Bad input and ``cancel`` never move on.
    - ``move_on``: the failures that move on: values of ``error.reason``, or a function that takes
      the error and returns whether it does. By default all but ``"content_filter"``: what a
      provider rejects for its content is not asked elsewhere.
    - ``continue_after_break``: as for ``stream``, the default of each call. The rest is asked for
      from the next provider first.
    - ``strategy``: ``"order"`` tries the first provider first; ``"round_robin"`` starts with the
      next one at each call.
    - A provider that fails ``failures`` times in a row, or that times out once, cools down for
      ``cooldown`` seconds: until then it is tried last, but still tried, so no call fails because
      of a cooldown. Then one call probes it. This state is kept per object and process.
    - A ``model`` given to a call skips the providers that do not support it; without one, each
      uses its own. Messages, options and headers of a call go to each provider that is tried.
    - Each provider keeps its own ``connect``, ``first_token`` and ``idle`` timeouts. ``total``
      spans the complete call: that of the call if given, or else the longest of the providers.
    - Each provider gets one request unless it or the call has ``retry=``: the next provider is the
      retry.

    Raises ``InvalidRequestError`` for an empty list, for anything in it that is not a provider, and
    for invalid settings.
    """

    url = api_endpoint = default_base_url = base_url_variable = ""
    instance_example = "Failover([…])"

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        strategy: Literal["order", "round_robin"] = "order",
        failures: int = FAILOVER_FAILURES,
        cooldown: float = FAILOVER_COOLDOWN_S,
        move_on: Collection[str] | Callable[[ProviderError], bool] = MOVES_ON,
        continue_after_break: int = 0,
    ) -> None:
        self.providers = _checked_providers(providers)
        if strategy not in STRATEGIES:
            raise InvalidRequestError(f"strategy must be one of {STRATEGIES}, not {strategy!r}")
        if isinstance(failures, bool) or not isinstance(failures, int) or failures < 1:
            raise InvalidRequestError(f"failures must be a number, 1 or more, not {failures!r}")
        self.model, self.base_url = None, ""  # each provider has its own
        self._strategy = strategy
        self._failures = failures
        self._cooldown_s = seconds(cooldown, "cooldown")
        self._breakers: dict[int, CircuitBreakers] = {}
        self._move_on = _checked_rule(move_on)
        self._continue_after_break = validate_breaks(continue_after_break)

    @property
    def supports_tools(self) -> bool:  # type: ignore[override]
        """Whether each of the providers has tools."""
        return all(provider.supports_tools for provider in self.providers)

    def _plan_call(
        self,
        messages: Prompt,
        model: str | None,
        options: dict[str, Any],
        *,
        timeouts: Timeouts | float | NotGiven | None,
        retry: Any,
        headers: Mapping[str, str | None] | None,
        attempts: int = 1,
        schema: Mapping[str, Any] | None = None,
        broken: BrokenAnswer | None = None,
    ) -> tuple[Source, Timeouts, str]:
        """Prepare the call for each provider that supports the model; raise for bad input."""
        candidates = []
        unknown = []
        for index, provider in enumerate(self.providers):
            try:
                prepared = provider._plan_call(
                    messages,
                    model,
                    options,
                    timeouts=timeouts,
                    retry=retry,
                    headers=headers,
                    attempts=1,
                    schema=schema,
                    broken=broken,
                )
            except ModelNotSupportedError as error:
                unknown.append(str(error))
            else:
                candidates.append(_Candidate(index, provider, *prepared))
        if not candidates:
            raise ModelNotSupportedError("; ".join(unknown))
        totals = [candidate.timeouts.total for candidate in candidates]
        total = None if None in totals else max(filter(None, totals))
        call_timeouts = replace(candidates[0].timeouts, total=total)
        source = _FailoverLoop(candidates, self._circuit_breakers(), self._moves_on, broken)
        return source, call_timeouts, candidates[0].model

    def _has_tools(self, options: Mapping[str, Any]) -> bool:
        return any(provider._has_tools(options) for provider in self.providers)

    def _moves_on(self, error: ProviderError) -> bool:
        rule = self._move_on
        return bool(rule(error)) if callable(rule) else error.reason in rule

    def close(self) -> None:
        """Close the idle connections of all providers; the next call makes new ones."""
        for provider in self.providers:
            provider.close()

    def _circuit_breakers(self) -> CircuitBreakers:
        """Return those of this process: a lock that was held during a fork would stay locked."""
        pid = os.getpid()
        if pid not in self._breakers:
            rotates = self._strategy == "round_robin"
            breakers = CircuitBreakers(
                len(self.providers), rotates, self._failures, self._cooldown_s
            )
            self._breakers.setdefault(pid, breakers)
        return self._breakers[pid]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_breakers": {}}

    def __repr__(self) -> str:
        return f"Failover({self.providers!r}, strategy={self._strategy!r})"


def _checked_providers(providers: object) -> list[Provider]:
    if not isinstance(providers, Sequence) or isinstance(providers, str) or not providers:
        raise InvalidRequestError("Failover needs a list of one or more providers")
    for index, provider in enumerate(providers):
        if not isinstance(provider, Provider):
            hint = "; create an instance of it" if isinstance(provider, type) else ""
            raise InvalidRequestError(f"providers[{index}] is not a provider: {provider!r}{hint}")
    return list(providers)


def _checked_rule(
    move_on: Collection[str] | Callable[[ProviderError], bool],
) -> frozenset[str] | Callable[[ProviderError], bool]:
    if callable(move_on):
        return move_on
    if isinstance(move_on, str) or not isinstance(move_on, Collection):
        raise InvalidRequestError(
            f"move_on must be a list of reasons or a function of the error, not {move_on!r}"
        )
    for reason in move_on:
        if reason not in REASONS:
            raise InvalidRequestError(
                f"move_on: {reason!r} is no reason; there are {', '.join(REASONS)}"
            )
    return frozenset(move_on)


class _Candidate:
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
        return self._source(channel)

    def seconds(self) -> float:
        """Return the seconds since it was tried."""
        return monotonic() - self.started_at


class _FailoverLoop:
    """The source of one call's answer: tries the providers until one starts to answer."""

    def __init__(
        self,
        candidates: list[_Candidate],
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
                _log_failover(failure, candidate.provider)
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

    def _pick(self, remaining: dict[int, _Candidate], call: int, broken_by: Provider | None) -> int:
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

    def _try(self, candidate: _Candidate, call: int, channel: Channel) -> Readings:
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
        self, candidate: _Candidate, call: int, channel: Channel, health: ProviderHealth
    ) -> None:
        with channel.lock:
            if not candidate.has_ended:
                candidate.has_ended = True
                self._breakers.record_end(candidate.index, call, health)


def _log_failover(failure: ProviderFailure, following: Provider) -> None:
    text = "%s failed after %.2f s: %s; trying %s"
    names = describe(failure.provider), describe(following)
    reason = call_log.reason(failure.error)
    call_log.write(call_log.INFO, text, names[0], failure.seconds, reason, names[1])


def _health_after_error(error: ProviderError) -> ProviderHealth:
    if isinstance(error, APITimeoutError):
        return ProviderHealth.TIMED_OUT
    if isinstance(error, InvalidRequestError):
        return ProviderHealth.UNKNOWN
    about_request = error.reason in _REQUEST_REASONS or (
        isinstance(error, APIStatusError) and error.status_code in _REQUEST_STATUSES
    )
    return ProviderHealth.UNKNOWN if about_request else ProviderHealth.BAD


def _health_after_end(candidate: _Candidate, channel: Channel) -> ProviderHealth:
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
