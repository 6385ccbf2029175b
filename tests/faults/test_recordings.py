"""Every row of the fault table is recorded and played, with the same result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from providers_sync import Provider
from providers_sync.recording import Recorded

from .row import Row
from .test_table import FAST, KEY, Observed, check, observe, open_target

__all__ = ["open_target"]


def result(observed: Observed) -> tuple[Any, ...]:
    """Return what a replay must give again."""
    error, stream = observed.error, observed.stream
    told: tuple[Any, ...] = (observed.chunks,)
    if error is not None:
        clock, partial = getattr(error, "clock", None), getattr(error, "partial", None)
        told += (type(error), getattr(error, "outcome", None), clock, partial)
    if stream is not None:
        told += (stream.outcome, stream.text, stream.reasoning, stream.finish_reason, stream.usage)
        told += (stream.tool_calls, stream.refusal, stream.stats.attempts, stream.is_whole)
    return told


@pytest.mark.parametrize(("row", "kind", "scheme"), FAST)
def test_fault_is_recorded_and_played(
    row: Row,
    kind: str,
    scheme: str,
    open_target: Callable[..., tuple[str, Any, Any]],
    tmp_path: Path,
) -> None:
    """The server sees the recording only."""
    path = tmp_path / "answers.jsonl"

    def record_and_play(provider: Provider) -> Observed:
        path.unlink(missing_ok=True)
        first = observe(Recorded(provider, path, "record"))
        again = observe(Recorded(provider, path, "replay"))
        assert result(again) == result(first)
        assert again.took < first.took + 0.5
        assert KEY.encode() not in path.read_bytes()
        return first

    check(row, kind, scheme, open_target, record_and_play)
