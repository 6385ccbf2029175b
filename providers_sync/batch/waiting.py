"""The rows of a batch that wait for their turn."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import replace

from ..clock import monotonic
from .pacing import InFlight
from .results import Result, to_result
from .stopping import Stopping


class WaitingRows:
    """Failed rows that are sent again later, and a row that was read ahead of its turn.

    Not thread-safe: lock around it.
    """

    def __init__(self) -> None:
        self._retries: list[tuple[float, int, InFlight]] = []
        self._early: InFlight | None = None

    def __bool__(self) -> bool:
        """Return whether any row waits."""
        return bool(self._retries) or self._early is not None

    def add_retry(self, in_flight: InFlight, delay: float) -> None:
        """Let a row wait for so many seconds."""
        heapq.heappush(self._retries, (monotonic() + delay, in_flight.row.number, in_flight))

    def add_early(self, in_flight: InFlight | None) -> None:
        """Let a row wait that may be sent at any time."""
        self._early = in_flight

    def due(self) -> float:
        """Return when the first row may be sent, by ``monotonic()``; infinity if there is none."""
        if self._early is not None:
            return 0.0
        return self._retries[0][0] if self._retries else math.inf

    def take(self) -> InFlight | None:
        """Return a row that may be sent now, if any; retries go first."""
        if self._retries and self._retries[0][0] <= monotonic():
            return heapq.heappop(self._retries)[2]
        early, self._early = self._early, None
        return early

    def clear(self) -> list[InFlight]:
        """Remove and return all rows."""
        rows = [in_flight for _, _, in_flight in self._retries]
        if self._early is not None:
            rows.append(self._early)
        self._retries.clear()
        self._early = None
        return rows

    def drop(self, stopping: Stopping) -> Iterator[tuple[int, Result]]:
        """Remove all rows if none is sent any more; yield their numbers and results."""
        if stopping.error is None:
            return
        for each in self.clear():
            row = each.row
            if each.failed is not None:
                failed = replace(each.failed, attempts=each.attempts, seconds=each.seconds)
                yield row.number, to_result(row, failed)
            elif (result := stopping.result_of(row)) is not None:
                yield row.number, result
