"""The long form of ``test_speed.py``: a long answer."""

from __future__ import annotations

import pytest
from test_speed import slow_in_every_try


@pytest.mark.timeout(240)
def test_time_grows_with_the_length_only() -> None:
    """An answer of 100 MB costs hardly more than ten of 10 MB."""
    assert slow_in_every_try(["100 MB"]) == []
