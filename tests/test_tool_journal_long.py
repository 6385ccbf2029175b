"""The journal of tool calls under many kills at random moments."""

from __future__ import annotations

from pathlib import Path

import pytest
from journal_kit import run_with_kills_elsewhere
from test_processes import FORKS


@FORKS
@pytest.mark.parametrize("threads", [1, 3])
def test_many_kills_repeat_nothing(tmp_path: Path, threads: int) -> None:
    """No call is made twice, none is left out, and none that had begun passes unnoticed."""
    seen = run_with_kills_elsewhere(tmp_path, 150, threads)
    assert min(seen["between calls"], seen["before the effect"], seen["after the effect"]) > 0
