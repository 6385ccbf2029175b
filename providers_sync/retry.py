"""Retries: which failures are retried, and after how long. The only importer of tenacity."""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Union

from .clock import monotonic
from .config import BACKOFF_FIRST_S, BACKOFF_MAX_S, RETRY_AFTER_CAP_S
from .errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    InvalidRequestError,
    ProviderError,
    ServerError,
    StreamCancelled,
    StreamCut,
    StreamTruncated,
)

if TYPE_CHECKING:
    import tenacity

Retry = Union[int, "tenacity.BaseRetrying", None]
"""What ``retry=`` takes: the number of attempts, a ``tenacity.Retrying``, or ``None`` for one."""

_STATUSES = {408, 409, 429}
_PERMANENT = re.compile(
    "invalid|authentication|unauthorized|permission|forbidden|denied|notfound|unsupported"
    "|badrequest|contextlength|toolarge|contentfilter|contentpolicy|safety"
)
_TEMPORARY = re.compile(
    "overload|ratelimit|unavailable|capacity|servererror|^apierror$|timeout|timedout"
    "|badgateway|internalerror|^internal$|connectionerror|throttl|toomanyrequests|slowdown"
    "|resourceexhausted"
)
"""Parts of the types and codes of errors in a stream, in lower case and without punctuation."""
_LENT = ("stop", "wait", "retry", "before_sleep")
"""What a user's ``tenacity.Retrying`` lends."""


def validate_policy(value: Any) -> Any:
    """Return ``value`` if it is valid for ``retry=``: ``None``, a number, a ``tenacity.Retrying``.

    Raises ``InvalidRequestError`` for anything else.
    """
    if hasattr(value, "stop") and hasattr(value, "wait"):
        for name in _LENT:
            _refuse_coroutine_function(getattr(value, name, None), name)
        return value
    if value is None:
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequestError(
            "retry must be a number of attempts (1 or more), None or a tenacity.Retrying, "
            f"not {value!r}"
        )
    return value


def _refuse_coroutine_function(function: Any, name: str) -> None:
    """Refuse what would have to be awaited: the attempts run in a thread without an event loop."""
    call = getattr(type(function), "__call__", None)  # noqa: B004 (it may be a coroutine function)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        raise InvalidRequestError(f"retry: {name} must be a plain function, not a coroutine")


def is_retryable(error: BaseException) -> bool:
    """Return whether another attempt may help, given that no event of the answer has arrived."""
    if isinstance(error, APIConnectionError):
        return error.retryable
    if isinstance(error, APITimeoutError):
        return error.clock == "connect"
    if isinstance(error, (APIStatusError, ServerError)) and error.quota_exhausted:
        return False
    if isinstance(error, APIStatusError):
        return _is_temporary_response(error)
    if isinstance(error, ServerError):
        return _is_temporary_event(error)
    return isinstance(error, (StreamCut, StreamTruncated))


def _is_temporary_response(error: APIStatusError) -> bool:
    """Return what the server says in ``x-should-retry``, or else what its status means."""
    advice = str(error.headers.get("x-should-retry", "")).strip().lower()
    if advice in ("true", "false"):
        return advice == "true"
    return _is_temporary_status(error.status_code)


def _is_temporary_status(status: int) -> bool:
    return status in _STATUSES or status >= 500


def _is_temporary_event(error: ServerError) -> bool:
    """Return whether an error event means what a temporary status means.

    The status it names decides, then its code, then its type, which says less.
    """
    if error.status_code is not None:
        return _is_temporary_status(error.status_code)
    for name in (error.code, error.type):
        letters = re.sub("[^a-z]", "", (name or "").lower())
        if _PERMANENT.search(letters):
            return False
        if _TEMPORARY.search(letters):
            return True
    return False


def may_retry(policy: Any, error: BaseException) -> bool:
    """Return whether ``policy`` (``retry=``) may retry after this error, if its ``stop`` agrees."""
    if policy in (None, 1) or _is_final(error):
        return False
    return _has_own_rule(policy) or is_retryable(error)


def allows_retry(policy: Any, error: ProviderError) -> bool:
    """Return whether the rule of ``policy``, its own or ours, retries after this error."""
    import tenacity

    if not may_retry(policy, error) or not _has_own_rule(policy):
        return may_retry(policy, error)
    state = tenacity.RetryCallState(policy, None, (), {})
    state.set_exception((type(error), error, None))
    return bool(policy.retry(state))


def _is_final(error: BaseException) -> bool:
    """Return whether no rule may retry: the call is invalid, stopped, or has used up its time."""
    if isinstance(error, APITimeoutError):
        return error.clock != "connect"
    is_ours = isinstance(error, ProviderError)
    return not is_ours or isinstance(error, (InvalidRequestError, StreamCancelled))


def _has_own_rule(policy: Any) -> bool:
    """Return whether a lent policy has a ``retry`` other than tenacity's default."""
    import tenacity

    rule = getattr(policy, "retry", None)
    is_default = type(rule) is tenacity.retry_if_exception_type and rule.exception_types in (
        Exception,
        (Exception,),
    )
    return rule is not None and not is_default


Report = Callable[[BaseException, float, int], None]
"""Called before each wait with the failure, the seconds to wait and the number of the attempt."""


def attempts(
    policy: Any,
    sleep: Callable[[float], None],
    time_left: Callable[[], float],
    has_started: Callable[[], bool],
    started_at: float | None = None,
    report: Report = lambda error, seconds, attempt: None,
) -> Generator[tenacity.AttemptManager, None, None]:
    """Yield tenacity's attempts; the body of each runs under ``with attempt:``.

    Nothing is retried once ``has_started()``: the caller has received part of the answer.
    ``sleep`` must end early when the call is stopped. If a wait would outlast ``time_left()``
    seconds, or ``Retry-After`` exceeds the cap, the failure is raised at once instead.
    ``started_at``: when the call began, by ``monotonic()``; by default now.
    """
    import tenacity  # imported late: it loads asyncio if tornado is installed

    rules = _Rules(policy, time_left, has_started, started_at, report)
    return iter(
        tenacity.Retrying(
            before=rules.before,
            retry=rules.retry,
            wait=rules.wait,
            stop=rules.stop,
            before_sleep=rules.before_sleep,
            sleep=sleep,
            reraise=True,
        )
    )


class _Rules:
    """A policy, the caller's or ours, within the limits of a call: tenacity's five callbacks."""

    def __init__(
        self,
        policy: Any,
        time_left: Callable[[], float],
        has_started: Callable[[], bool],
        started_at: float | None,
        report: Report,
    ) -> None:
        import tenacity

        self._lent = policy if hasattr(policy, "stop") else None
        self._stop = self._lent.stop if self._lent else tenacity.stop_after_attempt(policy or 1)
        self._rule = policy.retry if _has_own_rule(policy) else None
        self._time_left = time_left
        self._has_started = has_started
        self._started_at = monotonic() if started_at is None else started_at
        self._report = report

    def before(self, state: tenacity.RetryCallState) -> None:
        """Let ``stop_after_delay`` and the like count from the start of the call, by our clock."""
        state.start_time = self._started_at

    def retry(self, state: tenacity.RetryCallState) -> bool:
        error = _failure(state)
        if error is None or self._has_started() or _is_final(error):
            return False
        state.outcome_timestamp = monotonic()  # tenacity reads a clock that may stand still
        return is_retryable(error) if self._rule is None else bool(self._rule(state))

    def wait(self, state: tenacity.RetryCallState) -> float:
        statistics = state.retry_object.statistics  # of this thread; attempts may change threads
        statistics.update({"idle_for": 0, "attempt_number": 0, **statistics})
        retry_after = _retry_after(state)
        if retry_after is not None:
            return retry_after * random.uniform(1.0, 1.1)  # so that many clients spread out
        return float(self._lent.wait(state)) if self._lent else _backoff(state.attempt_number)

    def stop(self, state: tenacity.RetryCallState) -> bool:
        error = _failure(state)
        if error is None or _is_final(error):  # tenacity.TryAgain, which ``retry`` never sees
            return True
        retry_after = _retry_after(state) or 0
        is_too_long = state.upcoming_sleep >= self._time_left()
        return bool(self._stop(state)) or retry_after > RETRY_AFTER_CAP_S or is_too_long

    def before_sleep(self, state: tenacity.RetryCallState) -> None:
        error = _failure(state)
        assert error is not None
        self._report(error, state.upcoming_sleep, state.attempt_number)
        before_sleep = getattr(self._lent, "before_sleep", None)
        if before_sleep is not None:
            before_sleep(state)


def _failure(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _retry_after(state: tenacity.RetryCallState) -> float | None:
    error = _failure(state)
    return error.retry_after if isinstance(error, APIStatusError) else None


def _backoff(attempt: int) -> float:
    """Return the wait after the ``attempt``-th attempt, in seconds."""
    longest = min(BACKOFF_FIRST_S * 2.0 ** (attempt - 1), BACKOFF_MAX_S)
    return longest * random.uniform(0.5, 1.0)
