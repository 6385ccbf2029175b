"""Tests of the fault table for the protocols and schemes that ``test_table.py`` leaves out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .row import Row
from .test_table import CASES, FAST, check, observe, open_target

__all__ = ["open_target"]


@pytest.mark.parametrize(("row", "kind", "scheme"), [case for case in CASES if case not in FAST])
def test_fault_has_the_result_in_the_table(
    row: Row, kind: str, scheme: str, open_target: Callable[..., tuple[str, Any, Any]]
) -> None:
    """The results are the same."""
    check(row, kind, scheme, open_target, observe)
