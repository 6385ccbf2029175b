"""Tests that docs/faults.md matches the fault table."""

from __future__ import annotations

from .page import PAGE, page


def test_page_is_up_to_date() -> None:
    """If it fails, run ``PYTHONPATH=tests:. python -m faults.page``."""
    assert PAGE.read_text(encoding="utf-8") == page()
