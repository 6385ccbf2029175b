"""The long form of ``test_received_text.py``."""

from __future__ import annotations

import random

import pytest
from event_bursts import problems


@pytest.mark.timeout(300)
def test_partial_has_every_event_received_in_many_rounds() -> None:
    """Deadlines and cancels inside bursts of events, in all framings."""
    assert problems(rounds=800, seed=random.randrange(10**6)) == []
