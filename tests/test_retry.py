"""Retries: what is retried, after how long, how often, and never after the first event."""

from __future__ import annotations

import concurrent.futures
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import tenacity

from providers_sync import (
    APIStatusError,
    APITimeoutError,
    CancelToken,
    InvalidRequestError,
    OpenAICompatible,
    Provider,
    ProviderError,
    RateLimitError,
    StreamCancelled,
    StreamCut,
    Timeouts,
)
from providers_sync.retry import attempts
from providers_sync.testing import (
    answer,
    comment,
    cut,
    event,
    pause,
    reasoning,
    refusal,
    serve,
    status,
    text,
    tool_call,
    usage,
)

AT_ONCE = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
GOOD = answer("Hello")


def openai(url: str, **settings: Any) -> Provider:
    return OpenAICompatible("m", base_url=url, **{"retry": AT_ONCE, **settings})


# --- what is retried

EVENTS = {
    "text": text("Hel"),
    "reasoning": reasoning("Hm"),
    "refusal": refusal("No"),
    "tool call": tool_call("look", {"up": 1}),
}


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_nothing_is_retried_after_the_first_event(kind: str, before: int) -> None:
    """Whatever the kind of the event, and whichever attempt it arrived in."""
    script = [*[status(503)] * before, answer(EVENTS[kind], cut()), GOOD]
    with serve(script) as server:
        with pytest.raises(StreamCut) as caught:
            openai(server.url).complete("Hi")
        assert caught.value.partial == ("Hel" if kind == "text" else "")
        assert len(server.requests) == before + 1


NOT_EVENTS = {
    "a comment": comment("wait"),
    "a role": event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
    "usage": usage(1, 0),
    "the model's name": event({"model": "m", "choices": []}),
}


@pytest.mark.parametrize("kind", NOT_EVENTS)
def test_deltas_that_are_not_events_do_not_prevent_a_retry(kind: str) -> None:
    """The caller has received nothing of the answer yet."""
    with serve([answer(NOT_EVENTS[kind], cut()), GOOD]) as server:
        stream = openai(server.url).stream("Hi")
        assert stream.read() == "Hello"
        assert stream.stats.attempts == len(server.requests) == 2
        assert stream.usage is None


@pytest.mark.parametrize("code", [408, 409, 429, 500, 501, 502, 503, 504, 520, 529, 599])
def test_temporary_status_is_retried(code: int) -> None:
    """Timeouts, conflicts, rate limits and all server errors."""
    with serve([status(code), GOOD]) as server:
        assert openai(server.url).complete("Hi").text == "Hello"
        assert len(server.requests) == 2


@pytest.mark.parametrize("code", [301, 400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 451])
def test_permanent_status_is_not_retried(code: int) -> None:
    """The same request would fail again."""
    with serve([status(code), GOOD]) as server:
        with pytest.raises(APIStatusError) as caught:
            openai(server.url).complete("Hi")
        assert caught.value.status_code == code
        assert len(server.requests) == 1


TIMEOUTS = {
    "first_token": ([pause(5)], Timeouts(first_token=0.2)),
    "idle": ([text("Hel"), pause(5)], Timeouts(idle=0.2)),
    "total": ([pause(5)], Timeouts(total=0.2)),
}


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_expired_timeout_is_not_retried(timeout: str) -> None:
    """The user has waited as long as the limit allows; only ``connect`` is retried."""
    script, timeouts = TIMEOUTS[timeout]
    with serve(script) as server:
        with pytest.raises(APITimeoutError) as caught:
            openai(server.url, timeouts=timeouts).complete("Hi")
        assert caught.value.clock == timeout
        assert len(server.requests) == 1


def test_every_attempt_sends_the_same_request() -> None:
    """Headers, body and key."""
    with serve([status(503), answer(cut()), GOOD]) as server:
        openai(server.url, api_key="sk-1").complete("Hi", temperature=0)
        first, *others = server.requests
        assert len(others) == 2
        for other in others:
            assert (other.path, other.body) == (first.path, first.body)
            assert other.headers.pairs == first.headers.pairs


# --- how often


@pytest.mark.parametrize(("retry", "requests"), [(None, 1), (1, 1), (2, 2), (4, 4)])
@pytest.mark.parametrize("by_provider", [True, False], ids=["provider", "call"])
def test_number_of_attempts_equals_the_retry_setting(
    retry: int | None, requests: int, by_provider: bool
) -> None:
    """Set on the provider or in the call; with ``Retry-After: 0`` there is no wait."""
    with serve(status(429, headers={"Retry-After": "0"})) as server:
        provider = openai(server.url, **{"retry": retry} if by_provider else {})
        with pytest.raises(RateLimitError):
            provider.complete("Hi", **{} if by_provider else {"retry": retry})
        assert len(server.requests) == requests


def test_default_is_three_attempts_with_growing_waits() -> None:
    """A quarter to half a second, then half a second to a second."""
    with serve(status(503)) as server:
        with pytest.raises(APIStatusError):
            OpenAICompatible("m", base_url=server.url).complete("Hi")
        first, second, third = (request.at for request in server.requests)
        assert 0.25 <= second - first < 0.5 + 0.25
        assert 0.5 <= third - second < 1 + 0.25


@pytest.mark.parametrize("retry", [0, -1, 1.5, True, "3", object()])
def test_invalid_retry_is_rejected_at_once(retry: Any) -> None:
    """By the provider and by the call, before anything is sent."""
    with pytest.raises(InvalidRequestError, match="retry"):
        OpenAICompatible("m", retry=retry)
    with pytest.raises(InvalidRequestError, match="retry"):
        OpenAICompatible("m", base_url="http://127.0.0.1:9").stream("Hi", retry=retry)


# --- tenacity policies


def test_stop_and_wait_of_a_retrying_are_used() -> None:
    """Five attempts, each a little later than the one before."""
    policy = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_incrementing(0.03, 0.03)
    )
    with serve(status(503)) as server:
        with pytest.raises(APIStatusError):
            openai(server.url, retry=policy).complete("Hi")
        times = [request.at for request in server.requests]
    waits = [b - a for a, b in zip(times, times[1:])]  # noqa: B905, RUF007
    assert len(times) == 5
    for wait, expected in zip(waits, (0.03, 0.06, 0.09, 0.12), strict=True):
        assert expected <= wait < expected + 0.1


def test_stop_after_delay_counts_from_the_call() -> None:
    """The duration of the first attempt counts."""
    policy = tenacity.Retrying(stop=tenacity.stop_after_delay(0.2), wait=tenacity.wait_none())
    with serve(answer(before=[pause(0.3)], status=503)) as server:
        with pytest.raises(APIStatusError):
            openai(server.url, retry=policy).complete("Hi")
        assert len(server.requests) == 1


def test_exception_filter_and_sleep_of_a_retrying_are_ignored() -> None:
    """Only ``stop`` and ``wait`` are used, so that cancellation and our retry rules still apply."""
    slept: list[float] = []
    policy = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_fixed(0.01),
        retry=tenacity.retry_if_exception_type(KeyError),
        sleep=slept.append,
        reraise=False,
    )
    with serve(status(503)) as server:
        with pytest.raises(APIStatusError):
            openai(server.url, retry=policy).complete("Hi")
        assert len(server.requests) == 3
    assert slept == []


def test_shared_retrying_counts_separately_for_each_call() -> None:
    """One policy, sixteen threads, three attempts each."""
    with serve(status(503)) as server:
        provider = openai(server.url)

        def call(_: int) -> None:
            with pytest.raises(APIStatusError):
                provider.complete("Hi")

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(call, range(16)))
        assert len(server.requests) == 16 * 3


# --- after how long


def waits(error: Callable[[], ProviderError], count: int = 2) -> list[float]:
    """Return the waits between attempts that all fail with this error."""
    slept: list[float] = []
    with pytest.raises(ProviderError):  # noqa: PT012 (the loop is what raises)
        for attempt in attempts(count, slept.append, lambda: math.inf, lambda: False):
            with attempt:
                raise error()
    return slept


def failure(retry_after: float | None = None) -> Callable[[], ProviderError]:
    return lambda: APIStatusError("busy", status_code=503, retry_after=retry_after)


def assert_spread(values: list[float], low: float, high: float) -> None:
    """Check that every tenth of the range has about a tenth of the values."""
    assert min(values) >= low
    assert max(values) <= high
    for tenth in range(10):
        start = low + (high - low) * tenth / 10
        share = sum(start <= value < start + (high - low) / 10 for value in values) / len(values)
        assert 0.06 < share < 0.14


def test_two_thousand_streams_do_not_retry_at_the_same_time() -> None:
    """Their second and third attempts are spread over the full back-off."""
    first, second = zip(*(waits(failure(), 3) for _ in range(2000)), strict=True)
    assert_spread(list(first), 0.25, 0.5)
    assert_spread(list(second), 0.5, 1.0)


def test_two_thousand_streams_with_retry_after_do_not_retry_at_the_same_time() -> None:
    """Never sooner than ``Retry-After``, and spread over the time after it."""
    assert_spread([waits(failure(2.0))[0] for _ in range(2000)], 2.0, 2.2)


def test_back_off_is_capped() -> None:
    """No wait exceeds eight seconds, however many attempts there are."""
    slept = waits(failure(), 12)
    assert len(slept) == 11
    assert all(4 <= wait <= 8 for wait in slept[5:])


@pytest.mark.parametrize("retry_after", [0.0, 0.25, 7.5, 59.9, 60.0])
def test_retry_after_within_the_cap_is_obeyed(retry_after: float) -> None:
    """Not sooner, and at most a tenth later."""
    [wait] = waits(failure(retry_after))
    assert retry_after <= wait <= retry_after * 1.1


@pytest.mark.parametrize("retry_after", ["60.5", "61", "3600", "86400"])
def test_retry_after_beyond_the_cap_fails_at_once_with_the_number(retry_after: str) -> None:
    """The caller decides what to do."""
    with serve(status(429, "Slow down", headers={"Retry-After": retry_after})) as server:
        start = time.monotonic()
        with pytest.raises(RateLimitError, match=retry_after.replace(".", "[.]")) as caught:
            openai(server.url, retry=5).complete("Hi")
        assert time.monotonic() - start < 0.25
        assert caught.value.retry_after == float(retry_after)
        assert len(server.requests) == 1


# --- the total timeout and cancellation


def test_every_attempt_is_bounded_by_the_total_timeout() -> None:
    """Attempts of 0.2 s under a total of 0.5 s: the third one is stopped in the middle."""
    policy = tenacity.Retrying(stop=tenacity.stop_never, wait=tenacity.wait_none())
    with serve(answer(before=[pause(0.2)], status=503)) as server:
        start = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            openai(server.url, retry=policy, timeouts=0.5).complete("Hi")
        assert 0.5 <= time.monotonic() - start < 0.5 + 0.25
        assert (caught.value.clock, caught.value.outcome) == ("total", "deadline")
        assert len(server.requests) == 3


@pytest.mark.parametrize("wait", [5.0, 0.6])
def test_wait_that_would_outlast_the_total_timeout_is_not_started(wait: float) -> None:
    """The failure itself is raised, at once: it explains more than a timeout."""
    policy = tenacity.Retrying(stop=tenacity.stop_never, wait=tenacity.wait_fixed(wait))
    with serve(status(503, "Down for repair")) as server:
        start = time.monotonic()
        with pytest.raises(APIStatusError, match="Down for repair"):
            openai(server.url, retry=policy, timeouts=0.5).complete("Hi")
        assert time.monotonic() - start < 0.25
        assert len(server.requests) == 1


def test_cancel_ends_a_back_off_at_once_and_nothing_more_is_sent() -> None:
    """Not even the attempt that would have followed."""
    waiting = threading.Event()

    def wait(_: Any) -> float:
        waiting.set()
        return 0.5

    policy = tenacity.Retrying(stop=tenacity.stop_never, wait=wait)
    with serve(status(503)) as server:
        token = CancelToken()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            call = pool.submit(openai(server.url, retry=policy).complete, "Hi", cancel=token)
            assert waiting.wait(5)
            start = time.monotonic()
            token.cancel()
            with pytest.raises(StreamCancelled):
                call.result(5)
            assert time.monotonic() - start < 0.25
        time.sleep(0.6)  # longer than the wait that was cut short
        assert len(server.requests) == 1


def test_error_of_the_last_attempt_is_the_one_that_is_raised() -> None:
    """With its own status and headers, and not wrapped in a tenacity error."""
    script = [status(503), status(502), status(500, "Third", headers={"X-Request-Id": "r3"})]
    with serve(script) as server:
        with pytest.raises(APIStatusError, match="Third") as caught:
            openai(server.url).complete("Hi")
        assert (caught.value.status_code, caught.value.request_id) == (500, "r3")
        assert not isinstance(caught.value.__cause__, tenacity.RetryError)
        assert len(server.requests) == 3
