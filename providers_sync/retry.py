"""Retries: which failures are retried, and after how long. The only importer of tenacity."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .config import BACKOFF_FIRST_S, BACKOFF_MAX_S, RETRY_AFTER_CAP_S
from .errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    InvalidRequestError,
    ServerError,
    StreamCut,
    StreamTruncated,
)

if TYPE_CHECKING:
    import tenacity

_STATUSES = {408, 409, 429}


def validate_policy(value: Any) -> Any:
    """Return ``value`` if it is valid for ``retry=``: ``None``, a number, a ``tenacity.Retrying``.

    Raises ``InvalidRequestError`` for anything else.
    """
    if value is None or (hasattr(value, "stop") and hasattr(value, "wait")):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequestError(
            "retry must be a number of attempts (1 or more), None or a tenacity.Retrying, "
            f"not {value!r}"
        )
    return value


def is_retryable(error: BaseException) -> bool:
    """Return whether another attempt may help, given that no event of the answer has arrived."""
    if isinstance(error, APIConnectionError):
        return error.retryable
    if isinstance(error, APITimeoutError):
        return error.clock == "connect"
    if isinstance(error, APIStatusError):
        return error.status_code in _STATUSES or error.status_code >= 500
    if isinstance(error, ServerError):
        return error.overloaded
    return isinstance(error, (StreamCut, StreamTruncated))


def attempts(
    policy: Any,
    sleep: Callable[[float], None],
    time_left: Callable[[], float],
    has_started: Callable[[], bool],
) -> Iterator[tenacity.AttemptManager]:
    """Yield tenacity's attempts; the body of each runs under ``with attempt:``.

    Nothing is retried once ``has_started()``: the caller has received part of the answer.
    ``sleep`` must end early when the call is stopped. If a wait would outlast ``time_left()``
    seconds, or ``Retry-After`` exceeds the cap, the failure is raised at once instead.
    """
    import tenacity  # imported late: it loads asyncio if tornado is installed

    def give_up(state: tenacity.RetryCallState) -> bool:
        retry_after = _retry_after(state)
        return (retry_after or 0) > RETRY_AFTER_CAP_S or state.upcoming_sleep >= time_left()

    def wait(state: tenacity.RetryCallState) -> float:
        retry_after = _retry_after(state)
        if retry_after is not None:
            return retry_after * random.uniform(1.0, 1.1)  # so that many clients spread out
        return float(policy.wait(state)) if is_custom else _backoff(state.attempt_number)

    is_custom = hasattr(policy, "stop")
    stop = policy.stop if is_custom else tenacity.stop_after_attempt(policy or 1)
    return iter(
        tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda e: is_retryable(e) and not has_started()),
            stop=lambda state: stop(state) or give_up(state),
            wait=wait,
            sleep=sleep,
            reraise=True,
        )
    )


def _retry_after(state: tenacity.RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome else None
    return error.retry_after if isinstance(error, APIStatusError) else None


def _backoff(attempt: int) -> float:
    """Return the wait after the ``attempt``-th attempt, in seconds."""
    longest = min(BACKOFF_FIRST_S * 2.0 ** (attempt - 1), BACKOFF_MAX_S)
    return longest * random.uniform(0.5, 1.0)
