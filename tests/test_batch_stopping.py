"""When a batch ends early: where no row can be answered, and where its budget is used up."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tenacity

from providers_sync import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    Failover,
    OpenAICompatible,
    ProviderError,
    batch,
)
from providers_sync.batch.pacing import InFlight, RateLimiter, RetryBudget
from providers_sync.batch.results import failed_reply
from providers_sync.batch.rows import to_row
from providers_sync.batch.stopping import Stopping
from providers_sync.testing import Request, ScriptedProvider, serve, status

ROWS = [str(number) for number in range(40)]
QUOTA = status(429, "No credit", type="insufficient_quota")
MODEL = status(404, "There is no m", type="model_not_found")


def run_until_stopped(
    provider: Any, inputs: Any = ROWS, **options: Any
) -> tuple[list[batch.Result], batch.NotSentError]:
    """Return the results of the rows that were sent, and the error of all the others."""
    results = list(batch.map(provider, inputs, **options))
    assert len(results) == len(inputs)
    sent = [each for each in results if not isinstance(each.error, batch.NotSentError)]
    others = [each for each in results if each not in sent]
    (error,) = {each.error for each in others}
    assert isinstance(error, batch.NotSentError)
    assert {each.attempts for each in others} == {0}
    return sent, error


def run_until_error(provider: Any, **options: Any) -> tuple[list[batch.Result], ProviderError]:
    """Return the results, and the error that ended the batch."""
    results = []
    with pytest.raises(batch.NotSentError) as caught:  # noqa: PT012 (the results before count)
        for result in batch.map(provider, ROWS, concurrency=1, on_error="stop", **options):
            results.append(result)
    return results, caught.value


def scripted(script: Any) -> ScriptedProvider:
    """Return a provider that does not retry."""
    return ScriptedProvider(script, retry=None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(status(401, "Wrong key"), "authentication"), (QUOTA, "quota"), (MODEL, "unknown_model")],
    ids=["key", "quota", "model"],
)
def test_a_batch_that_cannot_work_ends_at_the_first_failure(answer: Any, reason: str) -> None:
    """The other rows have its error, too."""
    provider = scripted(answer)
    results, error = run_until_stopped(provider, concurrency=1)
    assert len(provider.requests) == 1
    (result,) = results
    assert error.__cause__ is result.error
    assert error.reason == reason
    assert str(error) == f"no row can be answered, so no more rows were sent: {result.error}"


def test_no_more_than_the_requests_in_progress_are_sent(tmp_path: Path) -> None:
    """The ledger has only these; a rerun sends all rows."""
    ledger = tmp_path / "answers.jsonl"
    with serve(status(401, "Wrong key")) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        results, _ = run_until_stopped(provider, concurrency=4, ledger=ledger)
        assert len(server.requests) == len(results) <= 4
    assert ledger.read_bytes().count(b"\n") == len(results)
    provider = ScriptedProvider("Hi")
    assert len(list(batch.map(provider, ROWS, ledger=ledger))) == 40
    assert len(provider.requests) == 40


OWN_MODEL = [{"body": {"messages": row, "model": "x"}} for row in ROWS]
OWN_OPTIONS = [{"body": {"messages": row, "max_tokens": 9}} for row in ROWS]


@pytest.mark.parametrize(
    ("answer", "rows"),
    [
        (status(404, "Not Found"), ROWS),
        (status(405, "Method Not Allowed"), ROWS),
        (status(401, "No"), OWN_MODEL),
        (status(401, "No"), OWN_OPTIONS),
        (status(402, "Too few credits"), OWN_OPTIONS),
    ],
    ids=["address", "method", "key", "key-options", "credit"],
)
def test_ten_failures_in_a_row_that_may_be_about_the_row_end_it(answer: Any, rows: Any) -> None:
    """A row may have a model or options of its own, which the key or the credit excludes."""
    results, error = run_until_stopped(scripted(answer), rows, concurrency=1)
    assert len(results) == 10
    assert str(error).startswith("10 consecutive rows failed like this, so no more rows were sent")


def test_one_row_with_a_model_of_its_own_ends_nothing() -> None:
    def script(request: Request) -> Any:
        return status(401, "Not for you") if request.json()["model"] == "x" else "Hi"

    first, *others = batch.map(scripted(script), [OWN_MODEL[0], *ROWS], concurrency=1)
    assert isinstance(first.error, AuthenticationError)
    assert {each.error for each in others} == {None}


@pytest.mark.parametrize("answer", [MODEL, status(404, "Not Found")], ids=["name", "status"])
def test_a_model_that_rows_name_ends_only_these_rows(answer: Any) -> None:
    """After ten in a row; rows of other models between them do not count."""

    def script(request: Request) -> Any:
        return answer if request.json()["model"] == "x" else "Hi"

    mixed = [row for pair in zip(OWN_MODEL, ROWS, strict=True) for row in pair]
    provider = scripted(script)
    results = list(batch.map(provider, mixed, concurrency=1))
    assert len(provider.requests) == 50
    assert sum(each.error is None for each in results) == 40
    (error,) = {each.error for each in results if isinstance(each.error, batch.NotSentError)}
    assert str(error).startswith("10 consecutive rows with this model failed like this, so no more")


def test_a_model_that_answers_between_is_not_given_up() -> None:
    script = failing_at([*range(1, 10), *range(11, 20)], MODEL)
    assert all(each.attempts for each in batch.map(scripted(script), OWN_MODEL, concurrency=1))


def test_forbidden_rows_end_nothing() -> None:
    """A rerun sends them first again: it would never come to the others."""
    results = list(
        batch.map(scripted(failing_at(range(1, 31), status(403, "Flagged"))), ROWS, concurrency=1)
    )
    assert sum(each.error is None for each in results) == 10


@pytest.mark.parametrize("code", [401, 404])
def test_failures_that_are_faster_than_answers_end_nothing(code: int) -> None:
    """Up to twice as many rows as there are requests at a time may fail between two answers."""
    stopping = Stopping(None, None, False, 32)
    row = InFlight(to_row(OWN_OPTIONS[0], 1), RetryBudget(ScriptedProvider()))
    error = APIStatusError("No", status_code=code)
    for _ in range(63):
        stopping.note(row, failed_reply(error), answered=0)
    assert stopping.error is None
    stopping.note(row, failed_reply(error), answered=0)
    assert stopping.error is not None


def test_missing_things_end_nothing_once_rows_have_answers() -> None:
    script = failing_at(range(2, 41), status(404, "No such file"))
    assert all(each.attempts for each in batch.map(scripted(script), ROWS, concurrency=1))


def test_a_key_that_is_wrong_by_its_words_ends_it_at_once() -> None:
    """Gemini says it with status 400."""
    answer = status(400, "API key not valid. Please pass a valid API key.")
    results, error = run_until_stopped(scripted(answer), concurrency=1)
    assert len(results) == 1
    assert error.reason == "authentication"


def unreachable() -> tuple[InFlight, Any]:
    """Return a row, and the reply to it from no server."""
    row = InFlight(to_row("Hi", 1), RetryBudget(ScriptedProvider()))
    return row, failed_reply(APIConnectionError("Refused"))


def test_no_server_ends_it_after_ten_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to pause for."""
    monkeypatch.delattr(RateLimiter, "pause_for_outage")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # without listen()
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        provider = OpenAICompatible("m", base_url=url, retry=None)
        results, error = run_until_stopped(provider, concurrency=1)
    assert len(results) == 10
    assert error.reason == "connection"


def failing_at(numbers: Any, answer: Any) -> Callable[[Request], Any]:
    """Return a script that answers all requests but these."""
    return lambda request: answer if request.number in numbers else "Hi"


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        (status(401, "No"), range(2, 11)),
        (MODEL, range(2, 11)),
        (status(404, "No"), [*range(1, 10), *range(11, 20)]),
        (status(400, "No"), range(1, 40)),
        (status(500, "No"), range(1, 41)),
    ],
    ids=["key", "model", "forbidden", "invalid", "server"],
)
def test_other_failures_do_not_end_it(answer: Any, numbers: Any) -> None:
    """Nine in a row before and after an answer, and failures of the row or the moment."""
    results = list(batch.map(scripted(failing_at(numbers, answer)), ROWS, concurrency=1))
    assert sum(each.error is not None for each in results) == len(numbers)
    assert [each.attempts for each in results] == [1] * 40


def test_a_failure_of_another_kind_between_them_counts_anew() -> None:
    """Nine rows find nothing, and the tenth is invalid: the server does answer."""

    def script(request: Request) -> Any:
        return status(400 if request.number % 10 == 0 else 404, "No")

    assert all(each.attempts for each in batch.map(scripted(script), ROWS, concurrency=1))


def test_a_key_that_is_revoked_ends_it_after_ten_rows() -> None:
    results, _ = run_until_stopped(
        scripted(failing_at(range(3, 41), status(401, "No"))), concurrency=1
    )
    assert len(results) == 12


def test_credit_that_runs_out_ends_it_at_once() -> None:
    results, _ = run_until_stopped(scripted(failing_at(range(3, 41), QUOTA)), concurrency=1)
    assert len(results) == 3


def test_credit_that_pays_for_other_rows_does_not_end_it() -> None:
    """Another row was answered since this one was sent."""
    row, reply = unreachable()
    stopping = Stopping(None, None, False, 1)
    error = APIStatusError("No credit", status_code=402)
    stopping.note(row, replace(reply, error=error), answered=1)
    assert stopping.error is None
    row.answered_before = 1
    stopping.note(row, replace(reply, error=error), answered=1)
    assert stopping.error is not None


def test_a_failover_ends_it_if_none_of_its_providers_can_work() -> None:
    """A server that is busy may answer a later row."""
    results, _ = run_until_stopped(
        Failover([scripted(status(401, "No")), scripted(QUOTA)]), concurrency=1
    )
    assert len(results) == 10
    mixed = Failover([scripted(status(401, "No")), scripted(status(503, "Busy"))])
    assert all(each.attempts for each in batch.map(mixed, ROWS, concurrency=1))


@pytest.mark.parametrize(("clock", "ends"), [("connect", True), ("first_token", False)])
def test_host_that_does_not_answer_is_like_no_server(clock: str, ends: bool) -> None:
    """Unlike a server that takes the request, and is slow."""
    stopping = Stopping(None, None, False, 4)
    row = InFlight(to_row("Hi", 1), RetryBudget(ScriptedProvider()))
    reply = failed_reply(APITimeoutError("Too late", clock=clock))
    for _ in range(9):
        stopping.note(row, reply, answered=0)
    assert stopping.error is None
    stopping.note(row, reply, answered=0)
    error = stopping.error
    assert (error is not None) == ends
    stopping.note(row, reply, answered=0)
    assert stopping.error is error


def test_raise_raises_the_first_failure_itself() -> None:
    provider = scripted(status(401, "Wrong key"))
    with pytest.raises(AuthenticationError):
        list(batch.map(provider, ROWS, concurrency=1, on_error="raise"))
    assert len(provider.requests) == 1


def test_stop_raises_after_the_results_so_far() -> None:
    provider = scripted(failing_at(range(3, 41), QUOTA))
    results, error = run_until_error(provider)
    assert len(results) == len(provider.requests) == 3
    assert error.__cause__ is results[2].error


def retrying(url: str) -> OpenAICompatible:
    """Return a provider that sends each row a second time, after a while."""
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_fixed(5))
    return OpenAICompatible("m", base_url=url, retry=policy)


@pytest.mark.parametrize("on_error", ["record", "stop"])
def test_rows_that_wait_for_a_retry_are_not_sent_again(on_error: Any) -> None:
    """They keep their own failure."""

    def script(request: Request) -> Any:
        return status(500) if b'"0"' in request.body else status(401, "No")

    with serve(script) as server:
        results = batch.map(
            retrying(server.url), ROWS[:3], concurrency=1, on_error=on_error, ordered=True
        )
        first, second = next(results), next(results)
        if on_error == "record":
            assert isinstance(next(results).error, batch.NotSentError)
        else:
            with pytest.raises(batch.NotSentError):
                next(results)
        assert len(server.requests) == 2
    assert isinstance(first.error, APIStatusError)
    assert first.error.status_code == 500
    assert first.attempts == second.attempts == 1


def test_rows_in_progress_are_not_sent_again() -> None:
    """The second row fails after the first one has said that no row can be answered."""
    stopped = threading.Event()

    def script(request: Request) -> Any:
        if b'"0"' in request.body:
            return status(401, "No")
        stopped.wait(10)
        return status(500)

    with serve(script) as server:
        attempts = {}
        for result in batch.map(retrying(server.url), ["0", "1"]):
            attempts[result.input] = result.attempts
            stopped.set()
    assert attempts == {"0": 1, "1": 1}


def test_recorded_answers_are_yielded_where_no_row_can_be_answered(tmp_path: Path) -> None:
    ledger = tmp_path / "answers.jsonl"
    known = [{"custom_id": row, "prompt": row} for row in ROWS]
    list(batch.map(ScriptedProvider("Hi"), known, ledger=ledger))
    inputs = ["new", *known, "other"]
    first, *recorded, last = batch.map(
        scripted(status(401, "No")), inputs, concurrency=1, ledger=ledger, ordered=True
    )
    assert first.attempts == 1
    assert len(recorded) == 40
    assert all(each.recorded for each in recorded)
    assert isinstance(last.error, batch.NotSentError)


def test_stop_yields_the_recorded_answers_that_follow(tmp_path: Path) -> None:
    """And reads no more when it has them all."""
    ledger = tmp_path / "answers.jsonl"
    known = [{"custom_id": row, "prompt": row} for row in ROWS]
    list(batch.map(ScriptedProvider("Hi"), known, ledger=ledger))

    def inputs() -> Any:
        yield from ["new", "newer", *known]
        yield from itertools.repeat("other")

    results = []
    with pytest.raises(batch.NotSentError):  # noqa: PT012 (the results before count)
        for result in batch.map(
            scripted(status(401, "No")),
            inputs(),
            concurrency=1,
            ledger=ledger,
            ordered=True,
            on_error="stop",
        ):
            results.append(result)
    assert [each.recorded for each in results] == [False] + [True] * 40


def test_a_batch_that_ends_early_closes_its_input() -> None:
    """At once, while its error is still there."""
    closed = []

    def inputs() -> Any:
        try:
            yield from ROWS
        finally:
            closed.append(True)

    results = batch.map(
        scripted(status(401, "No")), inputs(), concurrency=1, on_error="stop", ordered=True
    )
    assert next(results).attempts == 1
    with pytest.raises(batch.NotSentError):
        next(results)
    assert closed == [True]


def test_stop_raises_only_if_a_row_is_not_sent() -> None:
    """The tenth failure is that of the last row."""
    results = batch.map(scripted(status(404, "No")), ROWS[:10], concurrency=1, on_error="stop")
    assert [each.attempts for each in results] == [1] * 10


def test_rows_that_are_not_sent_do_not_count(tmp_path: Path) -> None:
    """An invalid row between the failures changes nothing."""
    rows = [row for number in range(20) for row in ({"prompt": None}, {"prompt": str(number)})]
    results, _ = run_until_stopped(scripted(status(404, "No")), rows, concurrency=1)
    assert sum(each.attempts for each in results) == 10
