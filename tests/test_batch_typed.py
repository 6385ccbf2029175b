"""Typed answers of a batch: the object of each row, repairs, and validation on resuming."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tenacity
from pydantic import BaseModel, ValidationError, field_validator

from providers_sync import (
    InvalidAnswer,
    InvalidRequestError,
    OpenAICompatible,
    ProviderError,
    RateLimitError,
    StreamCut,
    Usage,
    batch,
)
from providers_sync.testing import (
    Request,
    ScriptedProvider,
    answer,
    cut,
    finish,
    serve,
    status,
    text,
    usage,
)


class Row(BaseModel):
    """At the top level of a module: another process can import it."""

    name: str
    stars: int


class Other(BaseModel):
    title: str


GOOD = '{"name": "Cat", "stars": 5}'
WRONG = '{"name": "Cat", "stars": "five"}'
CAT = Row(name="Cat", stars=5)
PROMPTS = ["one", "two", "three"]
LENT = tenacity.Retrying(
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_none(),
    retry=tenacity.retry_if_exception_type(ProviderError),
)
"""A policy of the program's own, which retries everything, without a wait."""


def turns(request: Request) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = request.json()["messages"]
    return found


def wrong_at_first(request: Request) -> Any:
    """Answer with a wrong object, and with a good one when asked again."""
    return [text(WRONG if len(turns(request)) == 1 else GOOD), usage(3, 4)]


def always_wrong(request: Request) -> Any:
    return text(WRONG)


def processes() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("pool", [lambda: None, lambda: ThreadPoolExecutor(2), processes])
def test_each_row_has_its_object(pool: Any) -> None:
    """On our threads, on the caller's, and in another process; both rounds count."""
    executor: Executor | None = pool()
    with serve(wrong_at_first) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        results = list(batch.map(provider, PROMPTS, into=Row, executor=executor))
        if executor is not None:
            executor.shutdown()
    assert sorted(result.input for result in results) == sorted(PROMPTS)
    for result in results:
        assert (result.value, result.text, result.error) == (CAT, GOOD, None)
        assert (result.attempts, result.usage, result.is_whole) == (2, Usage(6, 8, 14), True)
        assert result.invalid == ()
    assert len(server.requests) == 6


def test_repairs_are_as_many_as_asked_for() -> None:
    for repairs in (0, 2):
        provider = ScriptedProvider(always_wrong)
        (result,) = batch.map(provider, ["one"], into=Row, repairs=repairs)
        assert isinstance(result.error, InvalidAnswer)
        assert result.error.errors[0]["loc"] == ("stars",)
        assert result.error.partial_value == json.loads(WRONG)
        assert (result.value, result.text, result.outcome) == (None, WRONG, "complete")
        assert result.attempts == len(provider.requests) == 1 + repairs


@pytest.mark.parametrize("said", [WRONG, ""])
@pytest.mark.parametrize("retry", [3, LENT], ids=["ours", "lent"])
def test_wrong_answer_is_not_retried(said: str, retry: Any) -> None:
    """``retry=`` is for requests that fail, also if a policy of the program's own is lent."""
    with serve(answer(said, finish("stop"))) as server:
        provider = OpenAICompatible("m", base_url=server.url, retry=retry)
        (result,) = batch.map(provider, ["one"], into=Row)
    assert isinstance(result.error, InvalidAnswer)
    assert len(server.requests) == 2


def test_a_busy_server_is_asked_again_in_either_round() -> None:
    """The row begins anew, with its question alone."""
    busy = status(429, headers={"Retry-After": "0"})
    with serve([busy, answer(WRONG), busy, answer(WRONG), answer(GOOD)]) as server:
        provider = OpenAICompatible("m", base_url=server.url, retry=LENT)
        (result,) = batch.map(provider, ["one"], into=Row)
    assert (result.value, result.attempts) == (CAT, 5)
    assert [len(turns(request)) for request in server.requests] == [1, 1, 3, 1, 3]


def test_failure_of_the_second_round_is_the_error_of_the_row() -> None:
    provider = ScriptedProvider([answer(WRONG), [text(GOOD[:9]), cut()]])
    (result,) = batch.map(provider, ["one"], into=Row)
    assert isinstance(result.error, StreamCut)
    assert (result.text, result.value, result.outcome) == (GOOD[:9], None, "cut")


def test_raise_raises_what_does_not_validate(tmp_path: Path) -> None:
    """After it has been recorded, with its text."""
    path = tmp_path / "answers.jsonl"
    provider = ScriptedProvider(always_wrong)
    with pytest.raises(InvalidAnswer, match="stars"):
        list(batch.map(provider, ["one"], into=Row, on_error="raise", ledger=path))
    (line,) = lines(path)
    assert (line["error"]["code"], line["error"]["partial"]) == ("InvalidAnswer", WRONG)
    provider = ScriptedProvider([status(400, "no")], retry=1)
    with pytest.raises(ProviderError, match="no"):
        list(batch.map(provider, ["one"], into=Row, on_error="raise"))


def test_rate_counts_repairs() -> None:
    """Three rows with a repair each are six requests: the third row waits for four."""
    provider = ScriptedProvider(
        lambda request: text(WRONG if len(json.loads(request.body)["messages"]) == 1 else GOOD)
    )
    start = time.monotonic()
    results = list(batch.map(provider, PROMPTS, into=Row, rate=1200, concurrency=1))
    assert [result.value for result in results] == [CAT] * 3
    assert time.monotonic() - start > 0.1  # 0.05 without the repairs; 0.05 s are caught up


# --- the ledger


def test_resumed_run_validates_again(tmp_path: Path) -> None:
    """Without a request: the text makes the object."""
    path = tmp_path / "answers.jsonl"
    provider = ScriptedProvider(answer(f"Here:\n```json\n{GOOD}\n```"))
    for recorded in (False, True):
        (result,) = batch.map(provider, ["one"], into=Row, ledger=path)
        assert (result.value, result.recorded, result.error) == (CAT, recorded, None)
    assert len(provider.requests) == 1
    (line,) = lines(path)
    assert GOOD in line["response"]["body"]["choices"][0]["message"]["content"]


def test_answer_of_an_earlier_untyped_run_is_validated(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    provider = ScriptedProvider([answer(GOOD), answer("Hello"), answer(GOOD)])
    list(batch.map(provider, ["one", "two"], ledger=path, concurrency=1))
    results = list(batch.map(provider, ["one", "two"], ledger=path, into=Row, ordered=True))
    assert [(result.value, result.recorded) for result in results] == [(CAT, True), (CAT, False)]
    assert len(provider.requests) == 3


def test_another_type_is_asked_for_again(tmp_path: Path) -> None:
    """Where the old text does not fit; the new answer wins in the next run."""
    path = tmp_path / "answers.jsonl"
    provider = ScriptedProvider([answer(GOOD), answer('{"title": "Cat"}')])
    list(batch.map(provider, ["one"], into=Row, ledger=path))
    for recorded in (False, True):
        (result,) = batch.map(provider, ["one"], into=Other, ledger=path)
        assert (result.value, result.recorded) == (Other(title="Cat"), recorded)
    (result,) = batch.map(provider, ["one"], into=dict[str, Any], ledger=path)
    assert (result.value, result.recorded) == ({"title": "Cat"}, True)
    assert len(provider.requests) == 2


def test_failed_row_keeps_its_old_answer(tmp_path: Path) -> None:
    """An answer to the old type stays in the ledger if the new one fails."""
    path = tmp_path / "answers.jsonl"
    provider = ScriptedProvider([answer(GOOD), status(400, "no")])
    list(batch.map(provider, ["one"], into=Row, ledger=path))
    (result,) = batch.map(provider, ["one"], into=Other, ledger=path)
    assert result.error is not None
    (result,) = batch.map(provider, ["one"], into=Row, ledger=path)
    assert (result.value, result.recorded) == (CAT, True)


def test_invalid_rows_are_sent_again_in_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    provider = ScriptedProvider([answer(WRONG), answer(WRONG), answer(GOOD)])
    (result,) = batch.map(provider, ["one"], into=Row, ledger=path)
    assert isinstance(result.error, InvalidAnswer)
    (result,) = batch.map(provider, ["one"], into=Row, ledger=path)
    assert (result.value, result.recorded) == (CAT, False)
    assert [line["error"] for line in lines(path)] == [None]


def test_recorded_answer_ended_by_a_limit_is_asked_for_again(tmp_path: Path) -> None:
    """Even if it would validate; an untyped run has taken it as an answer."""
    path = tmp_path / "answers.jsonl"
    provider = ScriptedProvider([answer(GOOD, finish("length")), answer(GOOD)])
    (result,) = batch.map(provider, ["one"], ledger=path)
    assert (result.error, result.is_whole) == (None, False)
    (result,) = batch.map(provider, ["one"], into=Row, ledger=path)
    assert (result.value, result.recorded) == (CAT, False)
    assert len(provider.requests) == 2


# --- items that are skipped


def test_wrong_items_are_skipped_on_request(tmp_path: Path) -> None:
    """In the first run, and in one that takes the answer from the ledger."""
    path = tmp_path / "answers.jsonl"
    provider = ScriptedProvider(f"[{GOOD}, {WRONG}, {GOOD}]")
    for recorded in (False, True):
        (result,) = batch.map(provider, ["one"], into=list[Row], ledger=path, skip_invalid=True)
        assert (result.value, result.recorded, result.error) == ([CAT, CAT], recorded, None)
        assert [each.errors[0]["loc"] for each in result.invalid] == [(1, "stars")]
        assert result.invalid[0].partial_value == json.loads(WRONG)
        cause = result.invalid[0].__cause__
        assert isinstance(cause, ValidationError)
        assert recorded or cause.__traceback__ is None  # its frames would keep the stream alive
    assert len(provider.requests) == 1
    (result,) = batch.map(provider, ["one"], into=list[Row], ledger=path, repairs=0)
    assert isinstance(result.error, InvalidAnswer)
    assert f"as list[{__name__}.Row]: 1.stars" in str(result.error)


# --- bad input


def unread() -> Iterator[str]:
    raise AssertionError("an input was read")
    yield ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"into": object()}, "pydantic has no JSON schema for"),
        ({"into": {"type": {1}}}, "not a JSON schema"),
        ({"into": Row, "repairs": -1}, "repairs"),
        ({"into": Row, "repairs": "2"}, "repairs"),
        ({"into": Row, "skip_invalid": True}, "Row is not a list"),
        ({"repairs": 1}, "need into="),
        ({"skip_invalid": True}, "need into="),
    ],
)
def test_bad_arguments_raise_at_once(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Before anything is read, sent or written: not from the first ``next()``."""
    path = tmp_path / "answers.jsonl"
    with pytest.raises(InvalidRequestError, match=words):
        batch.map(ScriptedProvider(GOOD), unread(), ledger=path, **arguments)
    assert not path.exists()


def test_local_class_is_refused_at_once_for_another_process() -> None:
    """It works with threads."""

    class Local(BaseModel):
        name: str

    (result,) = batch.map(ScriptedProvider(GOOD), ["one"], into=Local)
    assert result.value == Local(name="Cat")
    with processes() as pool, pytest.raises(InvalidRequestError, match="top level of a module"):
        batch.map(OpenAICompatible("m"), unread(), into=Local, executor=pool)


@pytest.mark.parametrize("name", ["into", "repairs", "skip_invalid"])
def test_rows_do_not_set_the_type(name: str) -> None:
    """It is an argument of the call and no option of OpenAI's batch input."""
    row = {"custom_id": "a", "body": {"messages": "Hi", name: 1}}
    for typed in ({}, {"into": Row}):
        provider = ScriptedProvider(GOOD)
        (result,) = batch.map(provider, [row], **typed)
        assert isinstance(result.error, InvalidRequestError)
        assert name in str(result.error)
        assert provider.requests == []


def test_row_with_its_own_response_format_is_refused() -> None:
    row = {"body": {"messages": "Hi", "response_format": {"type": "json_object"}}}
    (result,) = batch.map(ScriptedProvider(GOOD), [row], into=Row)
    assert isinstance(result.error, InvalidRequestError)
    assert "response_format=" in str(result.error)


def test_bug_in_a_validator_is_the_error_of_its_row() -> None:
    """The text stays."""

    class Buggy(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def check(cls, value: str) -> str:
            raise KeyError("bug")

    (result,) = batch.map(ScriptedProvider(GOOD), ["one"], into=Buggy)
    assert isinstance(result.error, ProviderError)
    assert "cannot be validated: KeyError: 'bug'" in str(result.error)
    assert (result.text, result.error.partial, result.value) == (GOOD, GOOD, None)


def test_429_that_stays_is_the_error_of_its_row() -> None:
    busy = status(429, headers={"Retry-After": "0"})
    with serve([answer(WRONG), busy]) as server:
        provider = OpenAICompatible("m", base_url=server.url, retry=1)
        (result,) = batch.map(provider, ["one"], into=Row)
    assert isinstance(result.error, RateLimitError)
    assert (result.attempts, len(server.requests)) == (2, 2)
