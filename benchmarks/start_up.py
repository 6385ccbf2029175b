"""Compare what it costs to start the command with Python and the three dependencies alone.

    python benchmarks/start_up.py

Runs of both are interleaved; the result is the ratio of the medians of their CPU time. What takes
its time here is imports, so this is also a measure of what the command line loads.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
RUNS = 15
LIMIT = 1.3
ALONE = "import requests, sseclient, tenacity"
COMMAND = (
    "import sys, providers_sync_command; sys.argv = ['providers-sync', {!r}]; "
    "providers_sync_command.main()"
)
ARGUMENTS = ("--version", "ask")
"""``ask`` without a question or a provider ends with an error, before a request."""


def cpu_seconds(code: str) -> float:
    """Return the CPU time of a new Python that runs ``code``."""
    # Compiled modules may be written: without them, every start would compile our modules.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure() -> dict[str, float]:
    """Return our CPU time for each command, as a multiple of the other."""
    codes = {name: COMMAND.format(name) for name in ARGUMENTS}
    times: dict[str, list[float]] = {name: [] for name in ("", *codes)}
    for code in codes.values():
        cpu_seconds(code)  # compiles the modules
    for _ in range(RUNS):
        times[""].append(cpu_seconds(ALONE))
        for name, code in codes.items():
            times[name].append(cpu_seconds(code))
    return {name: median(times[name]) / median(times[""]) for name in codes}


if __name__ == "__main__":
    for name, ratio in measure().items():
        print(f"providers-sync {name:<10} {ratio:.2f} × Python with the three dependencies")
