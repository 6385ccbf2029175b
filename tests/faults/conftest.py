"""What every module of faults gets: a garbage collector that looks at what the tests made only."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> Iterator[None]:
    """A collection follows most tests, and takes 20 ms where it looks at every test there is."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
