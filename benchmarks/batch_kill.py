"""Kill a batch at random moments with SIGKILL, resume it, and prove that nothing is lost.

    python benchmarks/batch_kill.py --kills 200

After each kill: every result that had been handed over is in the ledger, whole; no line that was
there before is gone; nothing that was recorded is asked again. In the end the ledger holds each
input's own answer exactly once. A batch that finishes between two kills is followed by a new one.
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
"""A child lives at most so long: a third of that it needs to start."""


def child(url: str, path: str, rows: int) -> None:
    """Run or resume the batch, telling of each result handed over in one write."""
    provider = OpenAICompatible("m", base_url=url, headers={"X-Child": str(os.getpid())})
    inputs = (f"prompt {number}" for number in range(1, rows + 1))
    for result in batch.map(provider, inputs, concurrency=16, ledger=path):
        if not result.recorded:
            assert result.error is None, result.error
            os.write(1, f"{result.custom_id}\n".encode())


class Asked:
    """What each child has asked; the server's script."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {}

    def __call__(self, request: Request) -> Any:
        prompt = request.json()["messages"][-1]["content"]
        # By child: the server may read a request after its sender's death.
        self._rows.setdefault(request.headers["X-Child"], []).append(prompt.split()[1])
        return [text("You said: "), pause(random.uniform(0, 0.02)), text(prompt)]

    def by(self, child: int) -> list[str]:
        """Return the rows that a child has asked."""
        return [f"row-{number}" for number in self._rows.get(str(child), [])]


def recorded(path: Path) -> dict[str, str]:
    """Return the answers of the ledger's whole lines by custom_id; each must be there once."""
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
    """Run a child for so many seconds; return its id, if it was killed, what it handed over."""
    arguments = [sys.executable, __file__, "--child", url, str(path), "--rows", str(rows)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(life or 600, process.send_signal, (signal.SIGKILL,))
        timer.start()
        assert process.stdout
        handed_over = process.stdout.read().split("\n")[:-1]
        code = process.wait()
        timer.cancel()
        timer.join()
    assert code in (0, -signal.SIGKILL), f"the child ended with {code}"
    return process.pid, code != 0, set(handed_over)


def check(path: Path, before: dict[str, str], asked: list[str], handed_over: set[str]) -> None:
    """Prove what must hold after a child's end."""
    after = recorded(path)
    assert not set(asked) & before.keys(), "a recorded row was asked again"
    assert len(asked) == len(set(asked)), "a row was asked twice in one run"
    assert before.items() <= after.items(), "a recorded answer is gone"
    assert handed_over <= after.keys(), "a result was handed over and is not in the ledger"


def harness(kills: int, rows: int) -> str:
    """Return a line on what was proved."""
    done = batches = repaired = 0
    began = time.monotonic()
    asked = Asked()
    with tempfile.TemporaryDirectory() as folder, serve(asked, keep=1) as server:
        path = Path(folder) / "answers-1.jsonl"
        while done < kills or path.exists():
            before = recorded(path)
            life = random.uniform(0.05, LONGEST_S) if done < kills else None
            process, killed, handed_over = run(server.url, path, rows, life)
            check(path, before, asked.by(process), handed_over)
            done += killed
            repaired += path.exists() and not path.read_bytes().endswith(b"\n")
            if not killed:
                expected = {f"row-{n}": f"You said: prompt {n}" for n in range(1, rows + 1)}
                assert recorded(path) == expected, "the answers are not the inputs'"
                batches += 1
                path = Path(folder) / f"answers-{batches + 1}.jsonl"
    return (
        f"{done} kills, {batches} batches of {rows} rows complete, {repaired} torn lines, "
        f"{time.monotonic() - began:.0f} s: every answer there once, none asked again"
    )


def main() -> None:
    """Parse and run."""
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
