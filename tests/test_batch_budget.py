"""Where a batch ends because its budget is used up."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy
import pytest
from test_batch_stopping import ROWS, run_until_error, run_until_stopped, scripted

from providers_sync import InvalidRequestError, OpenAICompatible, batch
from providers_sync.batch import stopping
from providers_sync.testing import Request, ScriptedProvider, serve, status, text, usage


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


def test_no_answer_is_lost_where_the_budget_is_used_up() -> None:
    """The rows that were not sent have the error."""
    results, error = run_until_stopped(scripted(counted(3, 7)), budget=30, concurrency=1)
    assert [each.error for each in results] == [None] * 3
    assert str(error).startswith("the budget is used up (30 of 30 tokens)")


def test_the_budget_holds_for_retries() -> None:
    """Each row is busy once; all of them are in progress or wait when the first is answered."""
    seen = set()

    def script(request: Request) -> Any:
        if request.body in seen:
            return counted(10, 90)
        seen.add(request.body)
        return status(503, "Busy")

    with serve(script) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        results = list(batch.map(provider, ROWS, concurrency=4, budget=100))
    assert len(results) == 40
    assert 1 <= sum(each.error is None for each in results) <= 4


def test_failed_rows_count_only_if_something_had_arrived() -> None:
    provider = scripted(status(400, "No"))
    list(batch.map(provider, ROWS, budget=1))
    assert len(provider.requests) == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "above 0"),
        ({"budget": True}, "above 0"),
        ({"budget": float("nan")}, "above 0"),
        ({"budget": "5"}, "above 0"),
        ({"budget": 10**400}, "above 0"),
        ({"budget": 2.5}, "for an amount of money, add the prices"),
        ({"price": (1, 2)}, "needs budget="),
        ({"budget": 1, "price": (0, 0)}, "two numbers"),
        ({"budget": 1, "price": (1, -2)}, "two numbers"),
        ({"budget": 1, "price": 3}, "two numbers"),
        ({"budget": 1, "price": "lists"}, 'or "list" for list prices'),
        ({"price": "list"}, "needs budget="),
    ],
)
def test_invalid_budgets_are_refused_at_once(options: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        batch.map(ScriptedProvider(), ROWS, **options)


def test_stop_says_so_where_only_retries_are_left() -> None:
    """A row that waits for a retry is not sent again."""

    def script(request: Request) -> Any:
        return status(503) if b'"0"' in request.body else counted(1, 9)

    with serve(script) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        results = batch.map(
            provider, ["0", "1"], concurrency=1, budget=10, on_error="stop", ordered=True
        )
        assert [next(results).attempts, next(results).attempts] == [1, 1]
        with pytest.raises(batch.NotSentError, match="the budget is used up"):
            next(results)


@pytest.mark.parametrize(
    "options",
    [
        {"budget": numpy.int64(20)},
        {"budget": Fraction(20)},
        {"budget": 1e-5, "price": (Decimal(0), 1.0)},
        {"budget": 20, "price": (Fraction(10**6), numpy.float32(10**6))},
    ],
    ids=["numpy", "fraction", "decimal", "mixed"],
)
def test_any_type_of_numbers_is_a_budget(options: Any) -> None:
    results, _ = run_until_stopped(scripted(counted(3, 7)), concurrency=1, **options)
    assert len(results) == 2


def test_tokens_are_not_estimated_without_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(stopping, "request_tokens")
    assert [each.text for each in batch.map(scripted("Hi"), ["one"])] == ["Hi"]
