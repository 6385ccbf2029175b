"""Short runs of the batch benchmarks: kill -9 and resume, throughput, memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(name: str, *arguments: str) -> str:
    """Run a script with warnings as errors; return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "benchmarks" / name), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_kills_at_random_moments_lose_and_repeat_no_row() -> None:
    """The full run is ``benchmarks/batch_kill.py --kills 200``."""
    assert run("batch_kill.py", "--kills", "8", "--rows", "200").startswith("8 kills, ")


def test_throughput_and_memory_are_near_those_of_plain_threads() -> None:
    """The full run is ``benchmarks/batch_throughput.py --rows 10000``."""
    shown = run("batch_throughput.py", "--rows", "800", "--latency", "0.15")
    print(shown)
    assert "800 rows, 64 threads: bare " in shown
