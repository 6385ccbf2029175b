"""Test of a batch on a dask cluster that loses and gains a worker during the run."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers_sync.testing import Request, Server, pause, serve, text

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None,
    reason="dask.distributed is not installed: pip install 'providers-sync[dask]'",
)

ROOT = Path(__file__).parent.parent
ROWS = 120
QUIET = {
    "DASK_DISTRIBUTED__DASHBOARD__LINK": "",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "20s",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "20s",
}
DRIVER = """
import sys, time
from distributed import Client
from providers_sync import OpenAICompatible, batch

url, scheduler, ledger, rows = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

def inputs(client):
    known = set(client.scheduler_info(n_workers=-1)["workers"])
    for number in range(rows):
        if number == rows // 2:  # the first half with the old workers, the rest with the new one
            while not set(client.scheduler_info(n_workers=-1)["workers"]) - known:
                time.sleep(0.05)
        yield f"prompt {number // 2}"  # each prompt twice: dask merges equal calls

def has_sent():
    from providers_sync.batch import worker
    return bool(worker._providers)

with Client(scheduler_file=scheduler) as client:
    client.wait_for_workers(4, timeout=30)
    provider = OpenAICompatible("m", base_url=url)
    pool = client.get_executor()
    for result in batch.map(provider, inputs(client), concurrency=8, executor=pool, ledger=ledger):
        print(result.custom_id, result.error or result.text, flush=True)
    print("sent by", list(client.run(has_sent).values()))
"""


def start(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Python process whose output goes to a file."""
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **QUIET, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    """A scheduler, and a function that starts one more worker process."""
    file = str(tmp_path / "scheduler.json")
    local = ["--scheduler-file", file, "--host", "127.0.0.1", "--no-dashboard"]
    with contextlib.ExitStack() as running:

        def run(name: str, *arguments: str) -> subprocess.Popen[bytes]:
            process = start(tmp_path / f"{name}.log", "-m", *arguments, *local)
            running.callback(process.wait)
            running.callback(process.kill)
            return process

        def add_worker(name: str) -> subprocess.Popen[bytes]:
            folder = ["--local-directory", str(tmp_path / name)]
            module = "distributed.cli.dask_worker"
            return run(name, module, "--no-nanny", "--nthreads", "2", *folder)

        run("scheduler", "distributed.cli.dask_scheduler", "--port", "0")
        yield file, add_worker


def drive(server: Server, tmp_path: Path, scheduler: str) -> subprocess.Popen[bytes]:
    """Start the program that maps over the cluster."""
    ledger = str(tmp_path / "answers.jsonl")
    arguments = (server.url, scheduler, ledger, str(ROWS))
    return start(tmp_path / "driver.log", "-W", "error", "-c", DRIVER, *arguments)


def test_a_cluster_that_loses_and_gains_a_worker_answers_every_row_once(
    tmp_path: Path, cluster: Any
) -> None:
    """Four workers, one killed with -9, one new: each row is recorded once, with its answer."""
    scheduler, add_worker = cluster

    def echo(request: Request) -> Any:
        prompt = request.json()["messages"][-1]["content"]
        return [text("You said: "), pause(0.05), text(prompt)]

    with serve(echo) as server:
        workers = [add_worker(f"worker-{n}") for n in range(4)]
        driver = drive(server, tmp_path, scheduler)
        try:
            server.wait_request(ROWS // 3, timeout=40)
            workers[0].send_signal(signal.SIGKILL)
            add_worker("worker-4")
            assert driver.wait(timeout=40) == 0, (tmp_path / "driver.log").read_text()
        finally:
            driver.kill()
            driver.wait()
        requests = len(server.requests)
    *lines, last = (tmp_path / "driver.log").read_text().splitlines()
    answers = [line for line in lines if line.startswith("row-")]  # the others are dask's own log
    assert last == "sent by [True, True, True, True]"
    expected = {f"row-{n + 1}": f"You said: prompt {n // 2}" for n in range(ROWS)}
    assert sorted(answers) == sorted(f"{name} {answer}" for name, answer in expected.items())
    ledger = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert sorted(line["custom_id"] for line in ledger) == sorted(expected)
    assert ROWS <= requests <= ROWS + 8  # at most those in flight at the kill are sent again
