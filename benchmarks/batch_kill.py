"""Kill a batch at random moments with SIGKILL, resume it, and check that nothing is lost.

    python benchmarks/batch_kill.py --kills 200

After each kill: every result that was yielded is in the ledger, complete; no earlier line is
missing; no recorded row is sent again. In the end the ledger holds each input's own answer exactly
once. When a batch finishes before it is killed, a new one starts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from providers_sync import OpenAICompatible, batch  # noqa: E402
from providers_sync.testing import Request, pause, serve, text  # noqa: E402

LONGEST_S = 0.9
"""A child runs at most this long; it needs a third of that to start."""


def child(url: str, path: str, rows: int) -> None:
    """Run or resume the batch; print the name of each yielded result in a single write."""
    provider = OpenAICompatible("m", base_url=url, headers={"X-Child": str(os.getpid())})
    inputs = (f"prompt {number}" for number in range(1, rows + 1))
    for result in batch.map(provider, inputs, concurrency=16, ledger=path):
        if not result.recorded:
            assert result.error is None, result.error
            os.write(1, f"{result.custom_id}\n".encode())


class RequestLog:
    """The server's script: echoes the prompt, and records the rows that each child has sent."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {}

    def __call__(self, request: Request) -> Any:
        prompt = request.json()["messages"][-1]["content"]
        # By child: the server may read a request after its sender has died.
        self._rows.setdefault(request.headers["X-Child"], []).append(prompt.split()[1])
        return [text("You said: "), pause(random.uniform(0, 0.02)), text(prompt)]

    def by(self, child: int) -> list[str]:
        """Return the rows that a child has sent."""
        return [f"row-{number}" for number in self._rows.get(str(child), [])]


def recorded(path: Path) -> dict[str, str]:
    """Return the answers of the ledger's complete lines by custom_id; none may occur twice."""
    answers: dict[str, str] = {}
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        if line.endswith(b"\n"):
            record = json.loads(line)
            assert record["error"] is None, record
            assert record["custom_id"] not in answers, f"{record['custom_id']} is there twice"
            message = record["response"]["body"]["choices"][0]["message"]
            answers[record["custom_id"]] = message["content"]
    return answers


def run(url: str, path: Path, rows: int, life: float | None) -> tuple[int, bool, set[str]]:
    """Run a child for ``life`` seconds; return its id, whether it was killed, and its results."""
    arguments = [sys.executable, __file__, "--child", url, str(path), "--rows", str(rows)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(life or 600, process.send_signal, (signal.SIGKILL,))
        timer.start()
        assert process.stdout
        yielded = process.stdout.read().split("\n")[:-1]
        code = process.wait()
        timer.cancel()
        timer.join()
    assert code in (0, -signal.SIGKILL), f"the child ended with {code}"
    return process.pid, code != 0, set(yielded)


def check(path: Path, before: dict[str, str], sent: list[str], yielded: set[str]) -> None:
    """Assert what must hold after a child's end."""
    after = recorded(path)
    assert not set(sent) & before.keys(), "a recorded row was sent again"
    assert len(sent) == len(set(sent)), "a row was sent twice in one run"
    assert before.items() <= after.items(), "a recorded answer is missing"
    assert yielded <= after.keys(), "a yielded result is not in the ledger"


def harness(kills: int, rows: int) -> str:
    """Run all kills and checks; return a summary line."""
    done = batches = repaired = 0
    started = time.monotonic()
    requests = RequestLog()
    with tempfile.TemporaryDirectory() as folder, serve(requests, keep=1) as server:
        path = Path(folder) / "answers-1.jsonl"
        while done < kills or path.exists():
            before = recorded(path)
            life = random.uniform(0.05, LONGEST_S) if done < kills else None
            process, killed, yielded = run(server.url, path, rows, life)
            check(path, before, requests.by(process), yielded)
            done += killed
            repaired += path.exists() and not path.read_bytes().endswith(b"\n")
            if not killed:
                expected = {f"row-{n}": f"You said: prompt {n}" for n in range(1, rows + 1)}
                assert recorded(path) == expected, "the answers are not the inputs'"
                batches += 1
                path = Path(folder) / f"answers-{batches + 1}.jsonl"
    return (
        f"{done} kills, {batches} batches of {rows} rows complete, {repaired} torn lines, "
        f"{time.monotonic() - started:.0f} s: every answer is there once, none was sent again"
    )


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child, options.rows)
    else:
        print(harness(options.kills, options.rows))


if __name__ == "__main__":
    main()
