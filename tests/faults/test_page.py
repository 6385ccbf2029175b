"""The page of the documentation is the table that is tested."""

from __future__ import annotations

from .page import PAGE, page


def test_page_is_what_the_table_says() -> None:
    """After a change: ``PYTHONPATH=tests:. python -m faults.page``."""
    assert PAGE.read_text(encoding="utf-8") == page()
