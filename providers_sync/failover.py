"""Several providers as one: they are asked in turn until an answer begins, and that one stays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from .circuit_breaker import CircuitBreakers, ProviderHealth
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
from .providers.base import Provider
from .stream import CallEnded, Channel, PreparedCall, Source
from .types import Delta, Prompt, ServedModel, Usage

if TYPE_CHECKING:
    from .aio import AsyncStream

STRATEGIES = ("order", "round_robin")
_ABOUT_THE_REQUEST = {400, 413, 422}
"""Statuses that say nothing of the provider's health: the next caller's request may be fine."""


class Failover(Provider):
    """Several providers as one; itself a provider, so it can be used wherever one can.

    ::

        provider = Failover([OpenAICompatible("qwen3", base_url=…), Vitalentum()])
        for chunk in provider.stream("Hello"):
            print(chunk, end="")

    - ``stream()`` returns when the first event is there (text, reasoning, refusal or tool call) or
      a good end. Until then any failure moves on to the next provider; after it the answer stays
      with the one who began it. The failures before are in the stream's ``.attempts``; when nobody
      answers, ``FailoverError`` lists them all. Bad input and ``cancel`` never move on.
    - ``strategy``: ``"order"`` asks the first provider first; ``"round_robin"`` begins with
      another one at each call.
    - A provider that fails ``failures`` times in a row, or once by letting a clock run out, rests
      for ``cooldown`` seconds: meanwhile it is asked last, not never, so resting costs no call its
      answer. Then one call probes it. This is remembered per object and process.
    - A ``model`` given to a call passes over the providers that do not know it; without one, each
      uses its own. Messages, options and headers of a call go to each provider that is asked.
    - Each provider keeps its own ``connect``, ``first_token`` and ``idle`` clocks. ``total`` spans
      the whole call: the one given to the call, or else the longest of theirs.
    - Each gets one request unless ``retry=`` is given, to it or to the call: the next provider is
      the retry.
    """

    url = api_endpoint = default_base_url = base_url_variable = ""

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        strategy: Literal["order", "round_robin"] = "order",
        failures: int = FAILOVER_FAILURES,
        cooldown: float = FAILOVER_COOLDOWN_S,
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
        self._health: dict[int, CircuitBreakers] = {}

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
    ) -> tuple[Source, Timeouts, str]:
        """Prepare the call for everyone who knows the model: bad input shows before the first."""
        turns = []
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
                )
            except ModelNotSupportedError as error:
                unknown.append(str(error))
            else:
                turns.append(_Turn(index, provider, *prepared))
        if not turns:
            raise ModelNotSupportedError("; ".join(unknown))
        totals = [turn.timeouts.total for turn in turns]
        total = None if None in totals else max(filter(None, totals))
        clocks = replace(turns[0].timeouts, total=total)
        return _Source(turns, self._memory()), clocks, turns[0].model

    @classmethod
    def create_async_generator(
        cls, model: str, messages: Prompt, proxy: str | None = None, **kwargs: Any
    ) -> AsyncStream:
        """Refuse, as everything does, at the first ``await``: the class has no providers to ask."""
        from .aio import AsyncStream  # late: it loads asyncio

        def prepare() -> PreparedCall:
            raise InvalidRequestError(
                "Failover asks the providers it was made with: aio.stream(Failover([…]), messages)"
            )

        return AsyncStream(prepare)

    def _memory(self) -> CircuitBreakers:
        """Return this process's memory: a lock that a fork found taken would stay so."""
        pid = os.getpid()
        if pid not in self._health:
            rotates = self._strategy == "round_robin"
            health = CircuitBreakers(len(self.providers), rotates, self._failures, self._cooldown_s)
            self._health.setdefault(pid, health)
        return self._health[pid]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_health": {}}

    def __repr__(self) -> str:
        return f"Failover({self.providers!r}, strategy={self._strategy!r})"


def _checked_providers(providers: object) -> list[Provider]:
    if not isinstance(providers, Sequence) or isinstance(providers, str) or not providers:
        raise InvalidRequestError("Failover needs a list of one provider or more")
    for index, provider in enumerate(providers):
        if not isinstance(provider, Provider):
            hint = "; make an object of it" if isinstance(provider, type) else ""
            raise InvalidRequestError(f"providers[{index}] is no provider: {provider!r}{hint}")
    return list(providers)


class _Turn:
    """One provider within one call: what it is going to be asked, and whether it has begun."""

    def __init__(
        self, index: int, provider: Provider, source: Source, timeouts: Timeouts, model: str
    ) -> None:
        self.index = index
        self.provider = provider
        self.timeouts = timeouts
        self.model = model
        self.asked_at = 0.0
        self.has_begun = False
        self.has_ended = False
        self._source = source

    def deltas(self, pipe: Channel, on_begin: Callable[[int], None]) -> Iterator[Delta]:
        """Yield the answer's deltas; those before its first event are held until it is there."""
        self.asked_at = time.monotonic()
        held: dict[type[Delta], Delta] = {ServedModel: ServedModel(self.model)}
        deltas = self._source(pipe)
        for delta in deltas:
            held[type(delta)] = delta  # of counts and names the newest stands for all
            if not isinstance(delta, (Usage, ServedModel)):
                self.has_begun = True
                on_begin(self.index)
                break
        yield from held.values()
        yield from deltas

    def seconds(self) -> float:
        """Return the seconds since it was asked."""
        return time.monotonic() - self.asked_at

    def is_final(self, error: ProviderError, pipe: Channel) -> bool:
        """Tell whether a failure is the call's, so that nobody else may be asked."""
        if isinstance(error, APITimeoutError):
            # The clock may fire while the first event is being decoded: then nobody has seen it.
            return error.clock == "total" or pipe.started
        return self.has_begun or isinstance(error, InvalidRequestError)


class _Source:
    """One call in its thread: a turn for each provider until an answer begins."""

    def __init__(self, turns: list[_Turn], health: CircuitBreakers) -> None:
        self._turns = turns
        self._health = health

    def __call__(self, pipe: Channel) -> Iterator[Delta]:
        pipe.waits_for_first_event = True
        total = pipe.timeouts.total
        failures_before = len(pipe.failures)  # those of a Failover around this one
        waiting = {turn.index: turn for turn in self._turns}
        call = self._health.next_call()
        while waiting:
            turn = waiting.pop(self._health.pick(list(waiting), call))
            pipe.timeouts = replace(turn.timeouts, total=total)
            try:
                yield from self._take(turn, call, pipe)
                return
            except ProviderError as error:
                if turn.is_final(error, pipe):
                    raise
                if not isinstance(error, FailoverError):  # which has noted its own
                    pipe.failures.append(ProviderFailure(turn.provider, error, turn.seconds()))
        raise _nobody(pipe.failures[failures_before:])

    def _take(self, turn: _Turn, call: int, pipe: Channel) -> Iterator[Delta]:
        """Yield one provider's answer, and note how it went."""
        # At once, not when this thread hears of it: the caller may ask again right away.
        pipe.on_end = lambda: self._note_end(turn, call, pipe, _verdict_of_stopped(turn, pipe))
        verdict = ProviderHealth.UNKNOWN
        try:
            yield from turn.deltas(pipe, self._health.began)
            verdict = ProviderHealth.GOOD
        except ProviderError as error:
            verdict = _verdict(error)
            raise
        except CallEnded:
            verdict = _verdict_of_stopped(turn, pipe)
            raise
        finally:
            pipe.on_end = None
            self._note_end(turn, call, pipe, verdict)

    def _note_end(self, turn: _Turn, call: int, pipe: Channel, verdict: ProviderHealth) -> None:
        with pipe.lock:
            if not turn.has_ended:
                turn.has_ended = True
                self._health.ended(turn.index, call, verdict)


def _verdict(error: ProviderError) -> ProviderHealth:
    if isinstance(error, APITimeoutError):
        return ProviderHealth.SILENT
    if isinstance(error, InvalidRequestError):
        return ProviderHealth.UNKNOWN
    about_request = isinstance(error, APIStatusError) and error.status_code in _ABOUT_THE_REQUEST
    return ProviderHealth.UNKNOWN if about_request else ProviderHealth.BAD


def _verdict_of_stopped(turn: _Turn, pipe: Channel) -> ProviderHealth:
    """Judge a turn that a clock or the reader has ended."""
    with pipe.lock:  # the end is set before its reason
        error = pipe.error
    if not isinstance(error, APITimeoutError):
        return ProviderHealth.GOOD if turn.has_begun else ProviderHealth.UNKNOWN
    if error.clock == "total":
        # A slow reader, or those before it, may have used the time up: blame the longest wait.
        longest = max((failure.seconds for failure in pipe.failures), default=0.0)
        if turn.has_begun or turn.seconds() < longest:
            return ProviderHealth.UNKNOWN
    return ProviderHealth.SILENT


def _nobody(failures: list[ProviderFailure]) -> FailoverError:
    said = "; ".join(
        f"{type(each.provider).__name__} after {each.seconds:.1f} s: {each.error}"
        for each in failures
    )
    error = FailoverError(f"no provider has answered: {said}")
    error.attempts = tuple(failures)
    error.__cause__ = failures[-1].error
    return error
