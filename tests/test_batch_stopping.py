"""When a batch ends early: where no row can be answered, and where its budget is used up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tenacity

from providers_sync import (
    APITimeoutError,
    AuthenticationError,
    Failover,
    InvalidRequestError,
    OpenAICompatible,
    ProviderError,
    batch,
)
from providers_sync.batch.pacing import InFlight, RetryBudget
from providers_sync.batch.results import failed_reply
from providers_sync.batch.rows import to_row
from providers_sync.batch.stopping import Stopping
from providers_sync.testing import Request, ScriptedProvider, serve, status, text, usage

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
        for result in batch.map(provider, ROWS, concurrency=1, **options):
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


@pytest.mark.parametrize(
    "answer",
    [status(403, "No"), status(404, "Not Found"), MODEL],
    ids=["forbidden", "address", "model"],
)
def test_ten_failures_in_a_row_that_may_be_about_the_row_end_it(answer: Any) -> None:
    """A row may be forbidden, or name a model of its own."""
    rows = [{"body": {"messages": "Hi", "model": "x"}} for _ in range(40)]
    results, error = run_until_stopped(scripted(answer), rows, concurrency=1)
    assert len(results) == 10
    assert str(error).startswith("10 rows in a row failed like this, so no more rows were sent: 40")


def test_no_server_ends_it_after_ten_rows() -> None:
    """Each of them is retried first, as the provider says."""
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
        (status(403, "No"), [*range(1, 10), *range(11, 20)]),
        (status(400, "No"), range(1, 40)),
        (status(500, "No"), range(1, 41)),
    ],
    ids=["key", "model", "forbidden", "invalid", "server"],
)
def test_other_failures_do_not_end_it(answer: Any, numbers: Any) -> None:
    """Nine in a row, before and after an answer, and failures of the row or the moment."""
    results = list(batch.map(scripted(failing_at(numbers, answer)), ROWS, concurrency=1))
    assert sum(each.error is not None for each in results) == len(numbers)
    assert [each.attempts for each in results] == [1] * 40


def test_a_failure_of_another_kind_between_them_counts_anew() -> None:
    """Nine rows are forbidden, and the tenth is invalid: the server does answer."""

    def script(request: Request) -> Any:
        return status(400 if request.number % 10 == 0 else 403, "No")

    assert all(each.attempts for each in batch.map(scripted(script), ROWS, concurrency=1))


def test_a_key_that_is_revoked_ends_it_after_ten_rows() -> None:
    results, _ = run_until_stopped(
        scripted(failing_at(range(3, 41), status(401, "No"))), concurrency=1
    )
    assert len(results) == 12


def test_credit_that_runs_out_ends_it_at_once() -> None:
    results, _ = run_until_stopped(scripted(failing_at(range(3, 41), QUOTA)), concurrency=1)
    assert len(results) == 3


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
    stopping = Stopping(None, None, False)
    row = InFlight(to_row("Hi", 1), RetryBudget(ScriptedProvider()))
    reply = failed_reply(APITimeoutError("Too late", clock=clock))
    for _ in range(9):
        stopping.note(row, reply, answered=5)
    assert stopping.error is None
    stopping.note(row, reply, answered=5)
    error = stopping.error
    assert (error is not None) == ends
    stopping.note(row, reply, answered=5)
    assert stopping.error is error


def test_raise_raises_the_first_failure_itself() -> None:
    provider = scripted(status(401, "Wrong key"))
    with pytest.raises(AuthenticationError):
        list(batch.map(provider, ROWS, concurrency=1, on_error="raise"))
    assert len(provider.requests) == 1


def test_stop_raises_after_the_results_so_far() -> None:
    provider = scripted(failing_at(range(3, 41), QUOTA))
    results, error = run_until_error(provider, on_error="stop")
    assert len(results) == len(provider.requests) == 3
    assert error.__cause__ is results[2].error


def retrying(url: str) -> OpenAICompatible:
    """Return a provider that sends each row a second time, after a while."""
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_fixed(5))
    return OpenAICompatible("m", base_url=url, retry=policy)


def test_rows_that_wait_for_a_retry_are_not_sent_either() -> None:
    def script(request: Request) -> Any:
        return status(500) if b'"0"' in request.body else status(401, "No")

    with serve(script) as server:
        results, _ = run_until_stopped(retrying(server.url), concurrency=1)
        assert len(server.requests) == 2
    assert [each.input for each in results] == ["1"]


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


def test_rows_that_are_not_sent_do_not_count(tmp_path: Path) -> None:
    """An invalid row between the failures changes nothing."""
    rows = [row for number in range(20) for row in ({"prompt": None}, {"prompt": str(number)})]
    results, _ = run_until_stopped(scripted(status(403, "No")), rows, concurrency=1)
    assert sum(each.attempts for each in results) == 10


# --- the budget


def counted(read: int | None, written: int | None) -> Any:
    """Return a script whose answers cost so many tokens."""
    return [text("x" * 40), usage(read, written)]


@pytest.mark.parametrize(
    ("answer", "options", "rows", "message"),
    [
        (counted(3, 7), {"budget": 50}, 5, "(50 of 50 tokens)"),
        (counted(3, 7), {"budget": 51}, 6, "(60 of 51 tokens)"),
        ("x" * 40, {"budget": 100}, 6, "(108 of 100 tokens)"),
        (counted(10_000, 0), {"budget": 0.07, "price": (2, 0)}, 4, "(0.08 of 0.07)"),
        (counted(0, 10_000), {"budget": 0.07, "price": (0, 2.0)}, 4, "(0.08 of 0.07)"),
    ],
    ids=["tokens", "more", "estimated", "input", "output"],
)
def test_no_row_is_sent_after_the_budget(
    answer: Any, options: Any, rows: int, message: str
) -> None:
    """The answer that uses it up is kept."""
    results, error = run_until_error(scripted(answer), **options)
    assert len(results) == rows
    assert str(error) == f"the budget is used up {message}, so no more rows were sent"


def test_a_batch_within_its_budget_ends_without_an_error(tmp_path: Path) -> None:
    """Also one that uses it up with its last row; recorded answers and invalid rows are free."""
    ledger = tmp_path / "answers.jsonl"
    provider = scripted(counted(3, 7))
    assert len(list(batch.map(provider, ROWS, concurrency=1, budget=400, ledger=ledger))) == 40
    rows = [*ROWS, "one", {"prompt": None}]
    again = list(batch.map(provider, rows, concurrency=1, budget=1, ledger=ledger))
    assert len(again) == 42
    assert len(provider.requests) == 41


def test_failed_rows_count_only_if_something_had_arrived() -> None:
    assert len(list(batch.map(scripted(status(400, "No")), ROWS, budget=1))) == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "above 0"),
        ({"budget": True}, "above 0"),
        ({"budget": float("nan")}, "above 0"),
        ({"budget": "5"}, "above 0"),
        ({"budget": 2.5}, "for money, say with price="),
        ({"price": (1, 2)}, "needs budget="),
        ({"budget": 1, "price": (0, 0)}, "two numbers"),
        ({"budget": 1, "price": (1, -2)}, "two numbers"),
        ({"budget": 1, "price": 3}, "two numbers"),
    ],
)
def test_invalid_budgets_are_refused_at_once(options: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        batch.map(ScriptedProvider(), ROWS, **options)
