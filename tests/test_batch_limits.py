"""Tests of a batch's rate limit, of pauses after a 429, and of retries."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tenacity
from numpy import int64

from providers_sync import OpenAICompatible, RateLimitError, batch
from providers_sync.testing import (
    Request,
    ScriptedProvider,
    cut,
    pause,
    reasoning,
    serve,
    status,
    wait,
)

QUICK = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())


def run(url: str, rows: int, retry: Any = QUICK, **options: Any) -> list[batch.Result]:
    """Return the results of a batch of ``rows`` rows."""
    provider = OpenAICompatible("m", base_url=url, retry=retry)
    return list(batch.map(provider, map(str, range(rows)), **options))


def in_turn(*scripts: Any) -> Callable[[Request], Any]:
    """Return a script that plays one script per request; the last one repeats."""
    return lambda request: scripts[min(request.number, len(scripts)) - 1]


def test_rate_spaces_requests_over_all_workers() -> None:
    """At 1200 per minute, 11 requests take half a second, whatever the number of workers."""
    with serve("Hi") as server:
        run(server.url, 11, concurrency=8, rate=1200)
        times = [request.at for request in server.requests]
    assert times[-1] - times[0] >= 8 * 0.05  # the first may have been late, the last early
    assert all(later - sooner > 0.01 for sooner, later in zip(times, times[2:], strict=False))


def test_any_type_of_numbers_is_a_rate() -> None:
    assert [each.text for each in batch.map(ScriptedProvider("Hi"), ["one"], rate=int64(60))] == [
        "Hi"
    ]


def test_rate_counts_retries_too() -> None:
    """Four rows that are sent twice take eight turns."""
    seen: set[bytes] = set()

    def script(request: Request) -> Any:
        is_retry = request.body in seen
        seen.add(request.body)
        return "Hi" if is_retry else status(500)

    with serve(script) as server:
        run(server.url, 4, rate=600, concurrency=4)
        times = [request.at for request in server.requests]
    assert len(times) == 8
    assert times[-1] - times[0] >= 5 * 0.1


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_finished_batch_with_a_rate_ends_at_once(ordered: bool, concurrency: int) -> None:
    """At one per minute, the end of the inputs is noticed before the next turn."""
    started = time.monotonic()
    provider = ScriptedProvider("Hi")
    options: Any = {"rate": 1, "ordered": ordered, "concurrency": concurrency}
    assert [result.text for result in batch.map(provider, iter(["a"]), **options)] == ["Hi"]
    assert time.monotonic() - started < 5


def test_a_batch_whose_last_row_was_retried_ends_at_once() -> None:
    """It takes three turns, a tenth of a second apart, and waits for no fourth one."""
    with serve(in_turn(status(500), "Hi")) as server:
        assert len(run(server.url, 2, rate=600, concurrency=1, ordered=True)) == 2
        assert time.monotonic() - server.requests[-1].at < 0.1
        assert len(server.requests) == 3


def test_a_failed_row_with_a_long_retry_after_does_not_delay_the_end() -> None:
    """With ``Retry-After: 60`` and no rows left, the batch ends at once."""
    started = time.monotonic()
    with serve(status(429, "Slow", headers={"Retry-After": "60"})) as server:
        (result,) = run(server.url, 1, retry=None)
    assert isinstance(result.error, RateLimitError)
    assert time.monotonic() - started < 5


def test_rows_that_need_no_request_take_no_turn(tmp_path: Path) -> None:
    """These are recorded or invalid rows, before and after one that is sent."""
    path = tmp_path / "answers.jsonl"
    provider = ScriptedProvider("Hi")
    known = [{"custom_id": f"known {n}", "prompt": "x"} for n in range(4)]
    list(batch.map(provider, known, ledger=path))
    inputs = [{"prompt": 1}, *known[:2], "new", {"bad": 2}, *known[2:], {"bad": 3}]
    started = time.monotonic()
    results = list(batch.map(provider, inputs, ledger=path, rate=1))
    assert time.monotonic() - started < 5
    assert sum(result.recorded for result in results) == 4
    assert sum(result.error is not None for result in results) == 3
    assert len(provider.requests) == 5


def test_a_row_is_read_early_only_if_nothing_is_in_progress() -> None:
    """One row is read, to detect the end of the input; it is sent at the next turn."""
    read_rows: list[int] = []

    def inputs() -> Iterator[str]:
        for number in range(20):
            read_rows.append(number)
            yield str(number)

    provider = ScriptedProvider("Hi")
    results = batch.map(provider, inputs(), rate=240, concurrency=8, ordered=True)
    for number in range(1, 5):
        assert next(results).input == str(number - 1)
        assert len(read_rows) == number
    results.close()


def test_a_row_read_early_waits_for_the_rest_of_the_interval() -> None:
    """Ten turns take nine intervals."""
    with serve("Hi") as server:
        run(server.url, 10, concurrency=1, rate=1200)
        times = [request.at for request in server.requests]
    assert times[-1] - times[0] >= 7 * 0.05


def test_an_error_of_the_inputs_is_not_delayed_by_the_rate() -> None:
    """It is raised once the results of the sent rows have been yielded."""

    def inputs() -> Iterator[str]:
        yield "one"
        raise LookupError("the file is missing")

    results = batch.map(ScriptedProvider("Hi"), inputs(), rate=1)
    started = time.monotonic()
    assert next(results).text == "Hi"
    with pytest.raises(LookupError, match="the file is missing"):
        next(results)
    assert time.monotonic() - started < 5


def test_a_batch_that_waits_for_a_turn_is_interrupted_at_once() -> None:
    """The row that was read early is not sent."""
    provider = ScriptedProvider("Hi")
    results = batch.map(provider, map(str, range(9)), rate=1)
    next(results)
    threading.Timer(0.2, raise_in_main).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert time.monotonic() - started < 5
    assert len(provider.requests) == 1


def raise_in_main() -> None:
    """Send SIGINT, as Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)


def test_a_429_pauses_all_workers() -> None:
    """While one row waits for its ``Retry-After``, no other row is sent."""
    second = threading.Event()

    def script(request: Request) -> Any:
        if request.number == 1:
            second.wait(5)
            return status(429, "Slow down", headers={"Retry-After": "0.6"})
        second.set()
        return [pause(0.1), "Hi"]

    with serve(script) as server:
        results = run(server.url, 6, concurrency=2)
        first, other, *later = [request.at for request in server.requests]
    assert all(result.error is None for result in results)
    assert sorted(result.attempts for result in results) == [1, 1, 1, 1, 1, 2]
    assert later[0] >= max(first, other) + 0.6


def test_a_limited_server_answers_every_row_in_the_end() -> None:
    """It takes fifty per second, else sends 429 with ``Retry-After: 1``: no row is given up."""
    window = [0.0, 0]
    lock = threading.Lock()

    def script(request: Request) -> Any:
        with lock:
            if request.at - window[0] >= 1:
                window[:] = [request.at, 0]
            window[1] += 1
            allowed = window[1] <= 50
        return "Hi" if allowed else status(429, "Slow", headers={"Retry-After": "1"})

    started = time.monotonic()
    with serve(script) as server:
        results = run(server.url, 160, concurrency=64, retry=3)
    assert [result.error for result in results] == [None] * 160
    assert time.monotonic() - started < 10


def test_a_429_without_progress_counts_as_an_attempt() -> None:
    """With a key without quota, the row fails after the policy's attempts."""
    with serve(status(429, "No quota", headers={"Retry-After": "0"})) as server:
        (result,) = run(server.url, 1)
        assert len(server.requests) == 3
    assert isinstance(result.error, RateLimitError)
    assert result.attempts == 3


def test_a_wait_of_hours_ends_the_batch() -> None:
    """Rows in progress finish, the others are not sent, and the error has the time."""
    limit = status(429, "Daily limit", headers={"Retry-After": "7200"})
    with serve(in_turn("Hi", limit)) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        results = batch.map(provider, map(str, range(100)), concurrency=1)
        assert next(results).text == "Hi"
        assert isinstance(next(results).error, RateLimitError)
        with pytest.raises(RateLimitError, match="requests a wait of 7200 s"):
            next(results)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("retry", "attempts"),
    [
        (QUICK, 3),
        (None, 1),
        (1, 1),
        (tenacity.Retrying(stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_none()), 5),
    ],
)
def test_a_row_is_sent_as_often_as_the_policy_allows(retry: Any, attempts: int) -> None:
    """The provider's ``retry`` has the same meaning as in ``stream()``."""
    with serve(status(500, "No")) as server:
        (result,) = run(server.url, 1, retry=retry)
        assert len(server.requests) == attempts
    assert result.attempts == attempts


@pytest.mark.parametrize(
    ("script", "attempts"),
    [
        (status(400, "No"), 1),
        ([reasoning("Hm"), cut()], 1),
        ([cut()], 3),
    ],
)
def test_only_retryable_failures_are_retried(script: Any, attempts: int) -> None:
    """A bad request is not retried, nor an answer that had started."""
    with serve(script) as server:
        (result,) = run(server.url, 1)
    assert result.attempts == attempts


def test_waiting_for_a_retry_does_not_block_other_rows() -> None:
    """A row in back-off occupies no worker."""
    done = threading.Event()
    slow = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_fixed(0.5))

    def script(request: Request) -> Any:
        if request.number == 1:
            return status(500)
        if request.number == 9:
            done.set()
        return "Hi"

    with serve(script) as server:
        results = run(server.url, 9, retry=slow, concurrency=1)
        times = [request.at for request in server.requests]
    assert results[-1].attempts == 2
    assert times[8] - times[0] < 0.5 <= times[9] - times[0]
    assert done.is_set()


def test_seconds_count_requests_and_not_the_wait() -> None:
    """Two very short requests, half a second apart."""
    go = threading.Event()
    go.set()
    slow = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_fixed(0.5))
    with serve(in_turn(status(500), [wait(go), "Hi"])) as server:
        (result,) = run(server.url, 1, retry=slow)
    assert (result.attempts, result.error) == (2, None)
    assert result.seconds < 0.4
