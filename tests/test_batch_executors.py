"""Other executors than the default threads; dask has a file of its own."""

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
    """Answer with the prompt, but for one that is refused."""
    prompt = request.json()["messages"][-1]["content"]
    return status(400, "No") if prompt == "prompt 3" else text(f"You said: {prompt}")


def processes(count: int) -> ProcessPoolExecutor:
    """Return a pool; spawned, as forking a process that has threads is a warning."""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


def check(results: list[batch.Result]) -> None:
    """Each row once, the one refused with its own error."""
    assert sorted(each.input for each in results) == sorted(PROMPTS)
    for each in results:
        if each.input == "prompt 3":
            assert isinstance(each.error, APIStatusError)
            assert each.error.status_code == 400
        else:
            assert (each.text, each.error) == (f"You said: {each.input}", None)


def test_a_given_thread_pool_is_used_and_left_open() -> None:
    """It is the caller's, before and after."""
    with serve(echo) as server, ThreadPoolExecutor(3) as pool:
        check(list(batch.map(OpenAICompatible("m", base_url=server.url), PROMPTS, executor=pool)))
        assert pool.submit(len, "abc").result() == 3


def test_closing_stops_the_streams_of_a_given_thread_pool() -> None:
    """They are in this process, so they can be."""

    def script(request: Request) -> Any:
        return "first" if request.number == 1 else stall()

    with serve(script) as server, ThreadPoolExecutor(3) as pool:
        provider = OpenAICompatible("m", base_url=server.url)
        results = batch.map(provider, PROMPTS, executor=pool, concurrency=3)
        next(results)
        server.wait_request(3)
        results.close()  # the pool's own end would wait for them


def test_a_process_pool_answers_and_keeps_its_connections() -> None:
    """Provider, rows, answers and errors travel; each worker has one connection."""
    with serve(echo) as server, processes(2) as pool:
        provider = OpenAICompatible("m", base_url=server.url)
        check(list(batch.map(provider, PROMPTS, executor=pool, concurrency=2)))
        refused = 1  # its connection may be closed with it
        assert len(server.connections) <= 2 + refused


def test_a_killed_worker_process_ends_the_batch_and_a_rerun_goes_on(tmp_path: Path) -> None:
    """A broken pool takes nothing more; what is recorded is not asked again."""
    path = tmp_path / "answers.jsonl"
    with serve(echo) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        with processes(2) as pool:
            results = batch.map(provider, PROMPTS, executor=pool, concurrency=2, ledger=path)
            next(results)
            os.kill(next(iter(pool._processes)), signal.SIGKILL)
            with pytest.raises(ProviderError, match="the executor takes no more work"):
                list(results)
        asked = len(server.requests)
        recorded = path.read_bytes().count(b'"error":null')
        assert 1 <= recorded < len(PROMPTS)
        with processes(1) as pool:
            check(list(batch.map(provider, PROMPTS, executor=pool, ledger=path)))
        assert len(server.requests) - asked == len(PROMPTS) - recorded


class Odd(Executor):
    """An executor that does what it is told to do wrong."""

    def __init__(self, what: str) -> None:
        self._what = what

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return a future that has ended badly."""
        future: Future[Any] = Future()
        if self._what == "shut":
            raise RuntimeError("cannot schedule new futures after shutdown")
        if self._what == "cancel":
            future.cancel()
        else:
            future.set_exception(OSError("no room on the worker"))
        return future


@pytest.mark.parametrize(("what", "said"), [("shut", "after shutdown"), ("cancel", "cancelled")])
def test_an_executor_that_gives_up_ends_the_batch(what: str, said: str) -> None:
    """With its own reason."""
    with pytest.raises(ProviderError, match=said):
        list(batch.map(OpenAICompatible("m"), PROMPTS, executor=Odd(what)))


def test_a_worker_that_fails_fails_its_row() -> None:
    """The row's error says what happened there."""
    results = list(batch.map(OpenAICompatible("m"), PROMPTS, executor=Odd("fail")))
    assert len(results) == len(PROMPTS)
    assert str(results[0].error) == "the worker failed: OSError: no room on the worker"
