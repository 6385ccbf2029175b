"""Tests of the fault table for the protocols that ``test_table.py`` leaves out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .row import Row
from .table import ROWS
from .test_table import PROTOCOLS, check, observe, open_target

__all__ = ["open_target"]

CASES = [
    pytest.param(row, kind, scheme, id=f"{row.id}-{kind}-{scheme}")
    for row in ROWS
    for kind in row.kinds
    if kind not in PROTOCOLS
    for scheme in row.schemes
]


@pytest.mark.parametrize(("row", "kind", "scheme"), CASES)
def test_fault_has_the_result_in_the_table(
    row: Row, kind: str, scheme: str, open_target: Callable[..., tuple[str, Any, Any]]
) -> None:
    """The results are the same."""
    check(row, kind, scheme, open_target, observe)
