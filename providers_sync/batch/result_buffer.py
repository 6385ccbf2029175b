"""Where results wait for the caller: as they come, or in the order of the inputs."""

from __future__ import annotations

from collections import deque

from .results import Result


class ResultBuffer:
    """Not locked: its user is."""

    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._turn = 1
        self._early: dict[int, Result] = {}
        self._ready: deque[Result] = deque()

    def put(self, number: int, result: Result) -> None:
        """Add the result of the ``number``-th row, from 1."""
        if not self._ordered:
            self._ready.append(result)
            return
        self._early[number] = result
        while self._turn in self._early:
            self._ready.append(self._early.pop(self._turn))
            self._turn += 1

    def take(self) -> Result | None:
        """Return the next result if it is there."""
        return self._ready.popleft() if self._ready else None

    def release_order(self) -> None:
        """Give out all that is there: a row before it will never come."""
        self._ordered = False
        self._ready.extend(self._early[number] for number in sorted(self._early))
        self._early.clear()
