"""Tests of ``batch.map`` on thread pools, process pools and failing executors."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from providers_sync import APIStatusError, OpenAICompatible, ProviderError, batch
from providers_sync.testing import Request, serve, stall, status, text

PROMPTS = [f"prompt {n}" for n in range(12)]


def echo(request: Request) -> Any:
    """Answer with the prompt; refuse one prompt."""
    prompt = request.json()["messages"][-1]["content"]
    return status(400, "No") if prompt == "prompt 3" else text(f"You said: {prompt}")


def processes(count: int) -> ProcessPoolExecutor:
    """Return a pool of spawned processes, as forking a process with threads gives a warning."""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


def check(results: list[batch.Result]) -> None:
    """Assert that each row has one result, and the refused one its error."""
    assert sorted(each.input for each in results) == sorted(PROMPTS)
    for each in results:
        if each.input == "prompt 3":
            assert isinstance(each.error, APIStatusError)
            assert each.error.status_code == 400
        else:
            assert (each.text, each.error) == (f"You said: {each.input}", None)


def test_the_callers_thread_pool_is_used_and_left_open() -> None:
    """The caller can use it afterwards."""
    with serve(echo) as server, ThreadPoolExecutor(3) as pool:
        check(list(batch.map(OpenAICompatible("m", base_url=server.url), PROMPTS, executor=pool)))
        assert pool.submit(len, "abc").result() == 3


def test_closing_stops_the_streams_in_the_callers_thread_pool() -> None:
    """They run in this process, so the token reaches them."""

    def script(request: Request) -> Any:
        return "first" if request.number == 1 else stall()

    with serve(script) as server, ThreadPoolExecutor(3) as pool:
        provider = OpenAICompatible("m", base_url=server.url)
        results = batch.map(provider, PROMPTS, executor=pool, concurrency=3)
        next(results)
        server.wait_request(3)
        results.close()  # otherwise the pool's shutdown would wait for the streams


def test_a_process_pool_answers_and_keeps_its_connections() -> None:
    """Provider, rows, answers and errors are pickled; each worker has one connection."""
    with serve(echo) as server, processes(2) as pool:
        provider = OpenAICompatible("m", base_url=server.url)
        check(list(batch.map(provider, PROMPTS, executor=pool, concurrency=2)))
        refused = 1  # its connection may be closed with it
        assert len(server.connections) <= 2 + refused


def test_a_killed_worker_process_ends_the_batch_and_a_rerun_resumes(tmp_path: Path) -> None:
    """A broken pool accepts no more work; recorded rows are not sent again."""
    path = tmp_path / "answers.jsonl"
    with serve(echo) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        with processes(2) as pool:
            results = batch.map(provider, PROMPTS, executor=pool, concurrency=2, ledger=path)
            next(results)
            os.kill(next(iter(pool._processes)), signal.SIGKILL)
            with pytest.raises(
                ProviderError, match="the executor does not accept any more requests"
            ):
                list(results)
        before = len(server.requests)
        recorded = path.read_bytes().count(b'"error":null')
        assert 1 <= recorded < len(PROMPTS)
        with processes(1) as pool:
            check(list(batch.map(provider, PROMPTS, executor=pool, ledger=path)))
        assert len(server.requests) - before == len(PROMPTS) - recorded


class FailingExecutor(Executor):
    """An executor that fails in a given way."""

    def __init__(self, failure: str) -> None:
        self._failure = failure

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Raise, or return a future that has failed."""
        future: Future[Any] = Future()
        if self._failure == "shut":
            raise RuntimeError("cannot schedule new futures after shutdown")
        if self._failure == "cancel":
            future.cancel()
        else:
            future.set_exception(OSError("no space on the worker"))
        return future


@pytest.mark.parametrize(
    ("failure", "message"), [("shut", "after shutdown"), ("cancel", "cancelled")]
)
def test_a_failing_executor_ends_the_batch(failure: str, message: str) -> None:
    """The error contains the executor's own message."""
    with pytest.raises(ProviderError, match=message):
        list(batch.map(OpenAICompatible("m"), PROMPTS, executor=FailingExecutor(failure)))


def test_a_failing_worker_fails_its_row() -> None:
    """The row's error contains the worker's error."""
    results = list(batch.map(OpenAICompatible("m"), PROMPTS, executor=FailingExecutor("fail")))
    assert len(results) == len(PROMPTS)
    assert (
        str(results[0].error)
        == "the executor could not run the request: OSError: no space on the worker"
    )
