"""The rows in which an answer begins, for a reader outside the main thread: it reads for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from providers_sync import Provider
from providers_sync.stream import prepared
from providers_sync.stream.direct_channel import DirectChannel

from .row import Row
from .table import TABLE
from .test_table import Seen, check, place, watched

__all__ = ["place"]

BEFORE = {"Connecting", "Headers", "Statuses"}
CASES = [
    pytest.param(row, kind, wire, id=f"{row.id}-{kind}-{wire}")
    for title, rows in TABLE.items()
    if title not in BEFORE
    for row in rows
    for kind in row.kinds
    for wire in row.wires[:1]
]


class Eager(DirectChannel):
    """Lends the source from the first event on, whether a reader has begun to wait or not."""

    _caller_waits = property(lambda self: True, lambda self, waits: None)  # type: ignore[assignment]


def watched_from_a_thread(provider: Provider) -> Seen:
    """Read an answer the way a thread of a web server does."""
    seen: list[Seen] = []
    thread = threading.Thread(target=lambda: seen.append(watched(provider)))
    thread.start()
    thread.join()
    return seen[0]


@pytest.mark.parametrize(("row", "kind", "wire"), CASES)
def test_fault_ends_as_the_table_says_in_a_thread(
    row: Row,
    kind: str,
    wire: str,
    place: Callable[..., tuple[str, Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that the table promises holds there too."""
    monkeypatch.setattr(prepared, "DirectChannel", Eager)
    check(row, kind, wire, place, watched_from_a_thread)
