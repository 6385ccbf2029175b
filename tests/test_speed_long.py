"""The long form of ``test_speed.py``: many streams at once, and a long answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from test_speed import slow_in_every_try

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "many_streams.py"
TRIES = 3
"""Other processes can only make a good measurement worse."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("streams", [200, 800])
def test_many_streams_are_within_their_limits(streams: int) -> None:
    """CPU and memory beside the naive loop, and the delays of chunks, in one of ``TRIES`` runs."""
    for _ in range(TRIES):
        command = [sys.executable, str(SCRIPT), str(streams)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    pytest.fail(done.stdout + done.stderr)


@pytest.mark.timeout(120)
def test_time_grows_with_the_length_only() -> None:
    """An answer of 100 MB costs hardly more than ten of a tenth."""
    assert slow_in_every_try(["100 MB"]) == []
