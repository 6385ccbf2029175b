"""A buffer of finished results, in the order they finish or in the order of the inputs."""

from __future__ import annotations

from collections import deque

from .results import Result


class ResultBuffer:
    """Finished results that the caller has not taken yet. Not thread-safe: lock around it."""

    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._next_number = 1
        self._early: dict[int, Result] = {}
        self._ready: deque[Result] = deque()

    def put(self, number: int, result: Result) -> None:
        """Add the result of a row; ``number`` counts from 1."""
        if not self._ordered:
            self._ready.append(result)
            return
        self._early[number] = result
        while self._next_number in self._early:
            self._ready.append(self._early.pop(self._next_number))
            self._next_number += 1

    def take(self) -> Result | None:
        """Return the next result, or ``None`` if it is not available yet."""
        return self._ready.popleft() if self._ready else None

    def release_order(self) -> None:
        """Stop waiting for missing rows: make every buffered result available."""
        self._ordered = False
        self._ready.extend(self._early[number] for number in sorted(self._early))
        self._early.clear()
