"""A guard against getting slower: ratios within one run, never absolute times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "against_naive.py"
BARS = {"chunked": 1.3, "coalesced": 0.9, "close": 0.9, "one request": 1.15}
"""What our CPU may be, as a multiple of the naive loop's (one request: of bare requests')."""
TRIES = 4
"""A neighbour on the machine can only add to a ratio that is good; what is slow stays slow."""


def measured() -> dict[str, float]:
    """Return the ratios, from a process of its own, where no other test's threads are."""
    code = (
        f"import json, sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); "
        "import against_naive; print(json.dumps(against_naive.measure()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {case: figures[2] for case, figures in json.loads(done.stdout).items()}


def test_streams_cost_less_than_the_naive_loop() -> None:
    """Each case passes its bar in one run of a few."""
    slow = dict(BARS)
    for _ in range(TRIES):
        ratios = measured()
        slow = {case: ratios[case] for case in slow if ratios[case] > BARS[case]}
        if not slow:
            break
    assert slow == {}
