"""Tests for CPU time per stream, as a ratio to a naive loop in the same run, never in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "against_naive.py"
MAX_RATIOS = {"chunked": 1.3, "coalesced": 0.9, "close": 0.9, "one request": 1.15}
"""Our maximum CPU time, as a multiple of the naive loop's (one request: of plain requests)."""
TRIES = 4
"""Other processes can only make a good ratio worse; slow code stays slow in every try."""


def measure_ratios() -> dict[str, float]:
    """Return the ratios, measured in a new process without the threads of other tests."""
    code = (
        f"import json, sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); "
        "import against_naive; print(json.dumps(against_naive.measure()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {case: measurements[2] for case, measurements in json.loads(result.stdout).items()}


def test_streams_cost_less_than_the_naive_loop() -> None:
    """Each case is within its limit in one of ``TRIES`` runs."""
    slow = dict(MAX_RATIOS)
    for _ in range(TRIES):
        ratios = measure_ratios()
        slow = {case: ratios[case] for case in slow if ratios[case] > MAX_RATIOS[case]}
        if not slow:
            break
    assert slow == {}
