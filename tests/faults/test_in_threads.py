"""Tests of the rows in which an answer starts, with a caller outside the main thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from providers_sync import Provider

from .row import Row
from .table import TABLE
from .test_table import Observed, check, observe, open_target

__all__ = ["open_target"]

OTHERS = {"Connecting", "Headers", "Statuses", "Too much data"}
"""Rows without an answer, and those that take long."""
CASES = [
    pytest.param(row, kind, scheme, id=f"{row.id}-{kind}-{scheme}")
    for title, rows in TABLE.items()
    if title not in OTHERS
    for row in rows
    for kind in row.kinds
    if kind != "Vitalentum"  # its protocol is OpenAI's
    for scheme in row.schemes[:1]
]


def observe_in_a_thread(provider: Provider) -> Observed:
    """Read an answer in another thread, as a web server does."""
    results: list[Observed] = []
    thread = threading.Thread(target=lambda: results.append(observe(provider)))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize(("row", "kind", "scheme"), CASES)
def test_fault_has_the_result_in_the_table_in_a_thread(
    row: Row,
    kind: str,
    scheme: str,
    open_target: Callable[..., tuple[str, Any, Any]],
) -> None:
    """The results are the same as in the main thread."""
    check(row, kind, scheme, open_target, observe_in_a_thread)
