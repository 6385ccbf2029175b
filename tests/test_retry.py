"""Retries: what is retried, after how long, how often, and never after the first event."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
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
    Failover,
    InvalidRequestError,
    OpenAICompatible,
    Provider,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamCancelled,
    StreamCut,
    Timeouts,
    batch,
)
from providers_sync.config import NOT_GIVEN
from providers_sync.retry import attempts
from providers_sync.testing import (
    Request,
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


@pytest.mark.parametrize("in_batch", [False, True], ids=["call", "batch"])
def test_stop_after_delay_counts_from_the_call(in_batch: bool) -> None:
    """The duration of the first attempt counts."""
    policy = tenacity.Retrying(stop=tenacity.stop_after_delay(0.2), wait=tenacity.wait_none())
    with serve(answer(before=[pause(0.3)], status=503)) as server:
        provider = openai(server.url, retry=policy)
        if in_batch:
            [result] = batch.map(provider, ["Hi"])
            assert isinstance(result.error, APIStatusError)
        else:
            with pytest.raises(APIStatusError):
                provider.complete("Hi")
        assert len(server.requests) == 1


def test_retry_of_a_retrying_decides_about_a_429_of_a_batch_that_gets_on() -> None:
    """Such a 429 counts as no attempt, but may not be retried at all."""
    policy = lent(retry=tenacity.retry_if_exception_type(StreamCut))

    def script(request: Request) -> Any:
        slow = answer(before=[pause(0.2)], status=429)
        return slow if "slow" in str(request.json()) else GOOD

    with serve(script) as server:
        rows = batch.map(openai(server.url, retry=policy), ["slow", "quick"], concurrency=2)
        assert sorted(type(result.error).__name__ for result in rows) == [
            "NoneType",
            "RateLimitError",
        ]
        assert len(server.requests) == 2


def lent(attempts: int = 3, **settings: Any) -> tenacity.Retrying:
    """Return a policy of three quick attempts with these settings."""
    stop, wait = tenacity.stop_after_attempt(attempts), tenacity.wait_fixed(0.01)
    return tenacity.Retrying(**{"stop": stop, "wait": wait, **settings})


def test_sleep_and_reraise_of_a_retrying_are_ignored() -> None:
    """Cancellation must end a wait at once, and the error is ours."""
    slept: list[float] = []
    with serve(status(503)) as server:
        with pytest.raises(APIStatusError):
            openai(server.url, retry=lent(sleep=slept.append, reraise=False)).complete("Hi")
        assert len(server.requests) == 3
    assert slept == []


RULES: dict[str, tuple[Any, int, int]] = {  # rule, status, requests
    "by the status, which we do not retry": (
        tenacity.retry_if_exception(lambda e: getattr(e, "status_code", 0) == 404),
        404,
        3,
    ),
    "never": (tenacity.retry_never, 503, 1),
    "for another class": (tenacity.retry_if_exception_type(KeyError), 503, 1),
    "for this class": (tenacity.retry_if_exception_type(APIStatusError), 404, 3),
    "always": (tenacity.retry_always, 404, 3),
    "tenacity's default": (tenacity.retry_if_exception_type(), 404, 1),
    "tenacity's default, a temporary status": (tenacity.retry_if_exception_type(), 503, 3),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("in_batch", [False, True], ids=["call", "batch"])
def test_retry_of_a_retrying_decides_in_place_of_our_rule(rule: str, in_batch: bool) -> None:
    """Unless it is tenacity's default, which means that the user has not set one."""
    retry, code, requests = RULES[rule]
    with serve(status(code)) as server:
        provider = openai(server.url, retry=lent(retry=retry))
        if in_batch:
            [result] = batch.map(provider, ["Hi"])
            assert isinstance(result.error, APIStatusError)
        else:
            with pytest.raises(APIStatusError):
                provider.complete("Hi")
        assert len(server.requests) == requests


def test_retry_of_a_retrying_is_not_asked_about_a_good_answer() -> None:
    """The result that tenacity would show it is not the answer."""
    policy = lent(retry=tenacity.retry_if_result(lambda result: result is None))
    with serve([GOOD, GOOD]) as server:
        assert openai(server.url, retry=policy).complete("Hi").text == "Hello"
        assert len(server.requests) == 1


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_retry_of_a_retrying_repeats_no_expired_timeout(timeout: str) -> None:
    """Nor an answer that has started."""
    script, timeouts = TIMEOUTS[timeout]
    with serve(script) as server:
        policy = lent(retry=tenacity.retry_always)
        with pytest.raises(APITimeoutError):
            openai(server.url, timeouts=timeouts, retry=policy).complete("Hi")
        assert len(server.requests) == 1


def test_retry_of_a_retrying_repeats_no_answer_that_has_started() -> None:
    """Whatever it says: the caller has the text."""
    with serve([answer("Hel", cut()), GOOD]) as server:
        with pytest.raises(StreamCut):
            openai(server.url, retry=lent(retry=tenacity.retry_always)).complete("Hi")
        assert len(server.requests) == 1


def test_retry_after_and_total_hold_for_a_retrying_with_its_own_retry() -> None:
    """A wait of an hour is not begun, and ``Retry-After`` wins over the policy's wait."""
    policy = lent(retry=tenacity.retry_always, wait=tenacity.wait_fixed(9))
    long, short = ({"Retry-After": "3600"}, {"Retry-After": "0"})
    with serve([status(503, headers=short), status(503, headers=long), GOOD]) as server:
        with pytest.raises(APIStatusError, match="3600 s"):
            openai(server.url, retry=policy).complete("Hi")
        assert len(server.requests) == 2


@pytest.mark.parametrize("in_batch", [False, True], ids=["call", "batch"])
def test_before_sleep_of_a_retrying_sees_each_failure(in_batch: bool) -> None:
    """The wait, the attempt's number and the error, from which the key is removed."""
    seen: list[tuple[float, int, BaseException]] = []

    def before_sleep(state: tenacity.RetryCallState) -> None:
        assert state.next_action is not None
        assert state.outcome is not None
        error = state.outcome.exception()
        assert error is not None
        seen.append((state.next_action.sleep, state.attempt_number, error))

    policy = lent(wait=tenacity.wait_incrementing(0.01, 0.01), before_sleep=before_sleep)
    key = "sk-0123456789abcdef"
    with serve([status(503, f"no {key}"), status(502), GOOD]) as server:
        provider = openai(server.url, api_key=key, retry=policy)
        if in_batch:
            [result] = batch.map(provider, ["Hi"])
            assert result.text == "Hello"
        else:
            assert provider.complete("Hi").text == "Hello"
    assert [(wait, number) for wait, number, _ in seen] == [(0.01, 1), (0.02, 2)]
    assert [getattr(error, "status_code", None) for _, _, error in seen] == [503, 502]
    assert all(key not in str(error) for _, _, error in seen)


@pytest.mark.parametrize("name", ["stop", "wait", "retry", "before_sleep"])
def test_coroutine_function_of_a_retrying_is_rejected(name: str) -> None:
    """Nobody would await it."""

    async def asynchronous(state: Any) -> bool:
        return True

    with pytest.raises(InvalidRequestError, match=f"{name} must be a plain function"):
        OpenAICompatible("m", retry=lent(**{name: asynchronous}))


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


# --- what the server says


@pytest.mark.parametrize(("advice", "code", "requests"), [("false", 503, 1), ("true", 404, 2)])
@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_x_should_retry_decides_over_the_status(
    advice: str, code: int, requests: int, spelling: Callable[[str], str]
) -> None:
    """In both directions."""
    with serve([status(code, headers={"X-Should-Retry": spelling(advice)}), GOOD]) as server:
        with contextlib.suppress(APIStatusError):
            openai(server.url).complete("Hi")
        assert len(server.requests) == requests


def refusal_of(code: int, body: str, headers: dict[str, str] | None = None) -> Any:
    """Return an answer with an error status and this body."""
    kind = "application/json"
    return answer(
        body.encode(), status=code, headers=headers, content_type=kind, framing="length", end=False
    )


QUOTA = {
    "OpenAI": (429, {"error": {"type": "insufficient_quota", "code": "insufficient_quota"}}),
    "OpenAI, the type only": (429, {"error": {"type": "insufficient_quota", "code": None}}),
    "OpenAI, the code only": (429, {"error": {"code": "credit_balance_exhausted"}}),
    "OpenAI, a hard limit": (400, {"error": {"code": "billing_hard_limit_reached"}}),
    "Moonshot": (429, {"error": {"type": "exceeded_current_quota_error"}}),
    "Zhipu": (429, {"error": {"code": "1113"}}),
    "Anthropic": (429, {"error": {"details": {"error_code": "enforced_spend_limit_reached"}}}),
    "DeepSeek": (402, {"error": {"type": "unknown_error", "code": "invalid_request_error"}}),
    "without an envelope": (429, {"type": "insufficient_quota"}),
    "in a list": (429, [{"error": {"code": "insufficient_quota"}}]),
    "as text": (429, {"error": "insufficient_quota"}),
}


@pytest.mark.parametrize("vendor", QUOTA)
def test_exhausted_quota_is_not_retried_and_says_what_to_do(vendor: str) -> None:
    """Not even if the server asks for a wait."""
    code, body = QUOTA[vendor]
    headers = {} if code == 402 else {"Retry-After": "0", "x-should-retry": "true"}
    with serve([refusal_of(code, json.dumps(body), headers), GOOD]) as server:
        with pytest.raises(APIStatusError, match="add credit or raise the limit") as caught:
            openai(server.url).complete("Hi")
        assert caught.value.quota_exhausted
        assert len(server.requests) == 1


def test_exhausted_quota_ends_a_batch_without_a_pause() -> None:
    """The rows in progress cost one request each, the others none."""
    body = json.dumps({"error": {"type": "insufficient_quota"}})
    with serve(refusal_of(429, body)) as server:
        start = time.monotonic()
        provider = OpenAICompatible("m", base_url=server.url)
        results = list(batch.map(provider, map(str, range(24)), concurrency=8))
        assert time.monotonic() - start < 0.9
        assert len(results) == 24
        assert len(server.requests) <= 8


@pytest.mark.parametrize(
    "body", ["", "not JSON", "[]", '"text"', "{}", '{"error": {"type": ["insufficient_quota"]}}']
)
def test_other_rate_limits_are_retried(body: str) -> None:
    """A 429 whose body says nothing of the kind."""
    with serve([refusal_of(429, body), GOOD]) as server:
        assert openai(server.url).complete("Hi").text == "Hello"
        assert len(server.requests) == 2


FIRST_EVENTS: dict[str, tuple[Any, bool]] = {  # error, whether it is temporary
    "type server_error": ({"type": "server_error"}, True),
    "type api_error": ({"type": "api_error"}, True),
    "type timeout_error": ({"type": "timeout_error"}, True),
    "type InternalServerError": ({"type": "InternalServerError"}, True),
    "type overloaded_error": ({"type": "overloaded_error"}, True),
    "type engine_overloaded_error": ({"type": "engine_overloaded_error"}, True),
    "code rate_limit_exceeded": ({"type": "tokens", "code": "rate_limit_exceeded"}, True),
    "code 500": ({"code": 500}, True),
    "code 502 as text": ({"code": "502"}, True),
    "code 503, status UNAVAILABLE": ({"code": 503, "status": "UNAVAILABLE"}, True),
    "status 504": ({"status": 504}, True),
    "status_code 529": ({"status_code": "529"}, True),
    "code 408": ({"code": 408}, True),
    "invalid_request_error": ({"type": "invalid_request_error"}, False),
    "api_error with an invalid key": ({"type": "api_error", "code": "invalid_api_key"}, False),
    "authentication_error": ({"type": "authentication_error"}, False),
    "permission_error": ({"type": "permission_error"}, False),
    "code 400": ({"code": 400, "type": "api_error"}, False),
    "code 401 as text": ({"code": "401"}, False),
    "code 404": ({"code": 404}, False),
    "context_length_exceeded": ({"code": "context_length_exceeded"}, False),
    "an unknown type": ({"type": "broken"}, False),
    "no type": ({}, False),
    "insufficient_quota": ({"type": "insufficient_quota", "code": 429}, False),
    "exceeded_current_quota_error": ({"type": "exceeded_current_quota_error"}, False),
    "code 402": ({"code": 402}, False),
}


@pytest.mark.parametrize("name", FIRST_EVENTS)
def test_error_as_the_first_event_is_retried_like_its_status(name: str) -> None:
    """Nothing has come, so an answer with status 200 is no different from one with status 500."""
    error, is_temporary = FIRST_EVENTS[name]
    with serve([answer(event({"error": {"message": "No", **error}})), GOOD]) as server:
        with contextlib.nullcontext() if is_temporary else pytest.raises(ServerError, match="No"):
            assert openai(server.url).complete("Hi").text == "Hello"
        assert len(server.requests) == 1 + is_temporary


@pytest.mark.parametrize(
    "error",
    [
        {"error": "Bad gateway", "status": 502},
        {"error": {"message": "Bad gateway"}, "code": 502},
        {"error": True, "message": "Bad gateway", "statusCode": 502},
    ],
    ids=["text", "beside it", "true"],
)
def test_status_beside_an_error_event_counts_too(error: dict[str, Any]) -> None:
    """Some servers put it next to ``error`` and not into it."""
    with serve(answer(event(error))) as server:
        with pytest.raises(ServerError, match="Bad gateway") as caught:
            openai(server.url).complete("Hi")
        assert caught.value.status_code == 502
        assert len(server.requests) == 3


def test_exhausted_quota_in_a_stream_says_what_to_do() -> None:
    """Like the status does."""
    with serve(answer(event({"error": {"code": "insufficient_quota"}}))) as server:
        with pytest.raises(ServerError, match="add credit or raise the limit") as caught:
            openai(server.url).complete("Hi")
        assert caught.value.quota_exhausted


def test_temporary_first_event_is_retried_after_a_failover_and_in_a_batch() -> None:
    """A Failover moves on after one request, or repeats it if it has ``retry=``."""
    failed = answer(event({"error": {"message": "No", "code": 500}}))
    with serve(failed) as bad, serve(GOOD) as good:
        provider = Failover([openai(bad.url, retry=NOT_GIVEN), openai(good.url)])
        assert provider.complete("Hi").text == "Hello"
        assert len(bad.requests) == 1
        assert provider.complete("Hi", retry=AT_ONCE).text == "Hello"
        assert len(bad.requests) == 1 + 3
    with serve([failed, GOOD]) as server:
        [result] = batch.map(openai(server.url), ["Hi"])
        assert (result.text, result.attempts) == ("Hello", 2)


# --- after how long

HEADERS: dict[str, tuple[dict[str, str], float | None]] = {
    "milliseconds": ({"retry-after-ms": "1500"}, 1.5),
    "fractions of milliseconds": ({"retry-after-ms": "0.5"}, 0.0005),
    "milliseconds first": ({"Retry-After": "9", "Retry-After-Ms": "200"}, 0.2),
    "no milliseconds": ({"retry-after-ms": "0", "Retry-After": "9"}, 0.0),
    "negative milliseconds": ({"retry-after-ms": "-1", "Retry-After": "9"}, 9.0),
    "nan milliseconds": ({"retry-after-ms": "nan", "Retry-After": "9"}, 9.0),
    "infinite milliseconds": ({"retry-after-ms": "inf", "Retry-After": "9"}, 9.0),
    "text": ({"retry-after-ms": "soon", "Retry-After": "0.25"}, 0.25),
    "negative": ({"Retry-After": "-3"}, None),
    "infinite": ({"Retry-After": "inf"}, None),
    "soon": ({"Retry-After": "soon"}, None),
    "empty": ({"Retry-After": ""}, None),
    "a date by the server's clock": (
        {"Date": "Thu, 01 Jan 2099 00:00:00 GMT", "Retry-After": "Thu, 01 Jan 2099 00:00:07 GMT"},
        7.0,
    ),
    "a date without a zone": (
        {"Date": "Thu, 01 Jan 2099 00:00:00 GMT", "Retry-After": "Thu, 01 Jan 2099 00:00:07 -0000"},
        7.0,
    ),
    "a past date": (
        {"Date": "Thu, 01 Jan 2099 00:00:09 GMT", "Retry-After": "Thu, 01 Jan 2099 00:00:07 GMT"},
        0.0,
    ),
    "a past date, no clock": ({"Date": "today", "Retry-After": "Sat, 01 Jan 2000 00:00:07 GMT"}, 0),
    "no date": ({"Retry-After": "Thu, 99 Jan 2099 00:00:07 GMT"}, None),
}


@pytest.mark.parametrize("name", HEADERS)
def test_wait_that_the_server_requests_is_read_from_its_headers(name: str) -> None:
    """``retry-after-ms`` before ``Retry-After``; what cannot be waited for is ignored."""
    headers, expected = HEADERS[name]
    with serve(status(503, headers=headers)) as server:
        with pytest.raises(APIStatusError) as caught:
            openai(server.url, retry=None).complete("Hi")
        assert caught.value.retry_after == (expected and pytest.approx(expected))


def test_retry_after_ms_is_obeyed() -> None:
    """Not sooner, and at most a tenth later."""
    with serve([status(429, headers={"retry-after-ms": "300"}), GOOD]) as server:
        assert OpenAICompatible("m", base_url=server.url).complete("Hi").text == "Hello"
        first, second = (request.at for request in server.requests)
        assert 0.3 <= second - first < 0.33 + 0.2


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
