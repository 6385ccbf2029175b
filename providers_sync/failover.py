"""``Failover``: a provider that tries several providers in turn until one starts to answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from .circuit_breaker import CircuitBreakers
from .config import FAILOVER_COOLDOWN_S, FAILOVER_FAILURES, NotGiven, Timeouts, seconds
from .errors import InvalidRequestError, ModelNotSupportedError, ProviderError
from .failover_loop import Candidate, FailoverLoop
from .failure_reasons import MOVES_ON, REASONS
from .providers.base import Provider
from .providers.continuation_request import BrokenAnswer
from .providers.continuing import validate_breaks
from .stream import Source
from .types import Prompt

STRATEGIES = ("order", "round_robin")


class Failover(Provider):
    """Several providers as one; a provider itself, so it can be used wherever one is expected:

        provider = Failover([OpenAICompatible("qwen3", base_url=…), Anthropic("claude-sonnet-5-5")])
        for chunk in provider.stream("Hello"):
            print(chunk, end="")

    - ``stream()`` returns at the first event (text, reasoning, refusal or tool call) or at a
      successful end. Before that, a failure moves on to the next provider; after it, the answer
      stays with the provider that started it, unless it breaks and ``continue_after_break`` is
      given. Earlier failures are in the stream's ``.attempts``; if every provider fails,
      ``FailoverError`` lists them all. Bad input and ``cancel`` never move on.
    - A ``model`` given to a call skips the providers that do not support it; without one, each
      uses its own. Messages, options and headers of a call go to each provider that is tried.
    - Each provider keeps its own ``connect``, ``first_token`` and ``idle`` timeouts. ``total``
      spans the complete call: that of the call if given, or else the longest of the providers.
    - Each provider gets one request unless it or the call has ``retry=``: the next provider is the
      retry.

    Args:
        providers: The providers, the preferred one first.
        strategy: ``"order"`` tries the first provider first; ``"round_robin"`` starts with the next
            one at each call.
        failures: How many failures in a row start a provider's cooldown (3); a single timeout
            starts one too. During a cooldown the provider is tried last, but still tried, so no
            call fails because of it. Afterwards one call probes the provider. This state is kept
            per object and process.
        cooldown: Seconds that a cooldown lasts (30).
        move_on: The failures that move on to the next provider: values of ``error.reason``, or a
            function that takes the error and returns whether to move on. By default all but
            ``"content_filter"``: a request that one provider rejects for its content is not sent to
            another.
        continue_after_break: The default for each call, as for ``stream``. The next provider is
            asked for the rest first.

    Raises:
        InvalidRequestError: For an empty list, for anything in it that is not a provider, and for
            invalid settings.
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
                candidates.append(Candidate(index, provider, *prepared))
        if not candidates:
            raise ModelNotSupportedError("; ".join(unknown))
        totals = [candidate.timeouts.total for candidate in candidates]
        total = None if None in totals else max(filter(None, totals))
        call_timeouts = replace(candidates[0].timeouts, total=total)
        source = FailoverLoop(candidates, self._circuit_breakers(), self._moves_on, broken)
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
            f"move_on must be a list of reasons or a function that takes the error, not {move_on!r}"
        )
    for reason in move_on:
        if reason not in REASONS:
            raise InvalidRequestError(
                f"move_on: {reason!r} is not a reason; use {', '.join(REASONS)}"
            )
    return frozenset(move_on)
