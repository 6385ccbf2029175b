"""What a batch costs by list prices: its results, its summary, and a budget in dollars."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import genai_prices.data_snapshot
import pytest
from genai_prices.types import ClauseStartsWith, ModelInfo, ModelPrice
from genai_prices.types import Provider as Vendor

from providers_sync import OpenAICompatible, batch
from providers_sync.batch import NotSentError
from providers_sync.cli import main
from providers_sync.prices import Cost
from providers_sync.testing import Script, answer, cut, serve, status, usage

MODEL = ModelInfo(
    "test-model",
    ClauseStartsWith("test-model"),
    prices=ModelPrice(input_mtok=Decimal(10), output_mtok=Decimal(20)),
)
"""Tokens of a question and an answer cost 10 and 20 dollars a million."""
ANSWER = answer("Hi", usage(1000, 500))
"""It costs two cents."""


@pytest.fixture(autouse=True)
def _table() -> Iterator[None]:
    vendor = Vendor("vendor", "Vendor", r"http://127\.0\.0\.1", models=[MODEL])
    snapshot = genai_prices.data_snapshot.DataSnapshot([vendor], from_auto_update=False)
    genai_prices.data_snapshot.set_custom_snapshot(snapshot)
    yield
    genai_prices.data_snapshot.set_custom_snapshot(None)


def run(script: Script, rows: int = 1, name: str = "test-model", **options: Any) -> list[Any]:
    with serve(script, keep=0) as server:
        provider = OpenAICompatible(name, base_url=server.url, retry=1)
        settings = {"concurrency": 1, "ordered": True, **options}
        return list(batch.map(provider, [f"Q{number}" for number in range(rows)], **settings))


def test_each_result_has_its_cost(tmp_path: Path) -> None:
    """A recorded answer costs nothing, a refused request neither, a cut one what is known."""
    script: Script = [ANSWER, status(400), answer("Hi", cut())]
    ledger = tmp_path / "answers.jsonl"
    good, refused, broken = run(script, 3, ledger=ledger)
    assert (good.cost.usd, refused.cost.usd) == (Decimal("0.02"), 0)
    assert str(broken.cost) == "unknown: an answer of 'test-model' is not finished"
    [recorded, *_] = run(status(400), 3, ledger=ledger)
    assert (recorded.recorded, recorded.cost) == (True, Cost())


def test_cost_comes_back_from_other_processes() -> None:
    """The results are pickled there."""
    [result] = run(ANSWER)
    assert pickle.loads(pickle.dumps(result)).cost.usd == Decimal("0.02")


@pytest.mark.parametrize(
    ("script", "sent"),
    [
        (ANSWER, 3),  # 2, 4 and 6 cents
        # Estimated: some 6 tokens in, and 12,000 letters are 4000 tokens: 8 cents.
        ([answer("words " * 2000)] * 9, 1),
        ([answer("words " * 2000, cut())] * 9, 1),
        ([status(400)] * 9, 9),
    ],
)
def test_budget_by_list_prices_ends_the_batch(script: Any, sent: int) -> None:
    """In dollars; estimated where the server has not counted."""
    results = run(script, 9, budget=0.05, price="list")
    not_sent = [each for each in results if isinstance(each.error, NotSentError)]
    assert 9 - len(not_sent) == sent
    assert all("the budget is used up ($0.0" in str(each.error) for each in not_sent)


def test_budget_without_a_price_ends_the_batch() -> None:
    """Nobody would know when it is used up."""
    genai_prices.data_snapshot.set_custom_snapshot(
        genai_prices.data_snapshot.DataSnapshot([], from_auto_update=False)
    )
    results = run(ANSWER, 3, budget=0.05, price="list")
    assert [each.error is None for each in results] == [True, False, False]
    assert str(results[1].error) == (
        "the budget cannot be enforced (no price is known for 'test-model' at 127.0.0.1: set price "
        "to two numbers), so no more rows were sent"
    )


def test_budget_by_list_prices_needs_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is sent."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(ImportError, match=r"providers-sync\[prices\]"):
        batch.map(OpenAICompatible("m"), ["Q"], budget=1, price="list")


@pytest.mark.parametrize("is_installed", [True, False])
def test_summary_of_the_command_has_the_cost(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_installed: bool,
) -> None:
    """With the extra; without it, the summary is as it was."""
    if not is_installed:
        monkeypatch.setitem(sys.modules, "genai_prices", None)
    questions = tmp_path / "questions.txt"
    questions.write_text("One\nTwo\nThree\n")
    options = ["--budget", "0.03", "--price", "list"] if is_installed else []
    with serve(ANSWER, keep=0) as server:
        arguments = ["batch", str(questions), str(tmp_path / "out.jsonl"), "--concurrency", "1"]
        code = main([*arguments, "--base-url", server.url, "--model", "test-model", *options])
    shown = capsys.readouterr()
    lines = [line for line in shown.out.splitlines() if line.startswith("cost")]
    assert lines == (["cost             $0.04"] if is_installed else [])
    assert code == int(is_installed)
    assert ("the budget is used up ($0.04 of $0.03)" in shown.err) == is_installed


@pytest.mark.parametrize(("name", "is_shown"), [("test-model", True), ("other", False)])
def test_statistics_of_ask_have_a_known_cost(
    capsys: pytest.CaptureFixture[str], name: str, is_shown: bool
) -> None:
    """A cost that is not known is not shown."""
    if not is_shown:
        genai_prices.data_snapshot.set_custom_snapshot(None)
    with serve(ANSWER, keep=0) as server:
        main(["ask", "Hi", "--base-url", server.url, "--model", name, "--stats"])
    error = capsys.readouterr().err
    assert "tokens: 1000 in, 500 out" in error
    assert (", cost: $0.02" in error) == is_shown
