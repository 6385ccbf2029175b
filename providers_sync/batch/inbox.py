"""The finished requests of a batch, on their way to the recorder."""

from __future__ import annotations

import queue
from concurrent.futures import Future

from .pacing import InFlight
from .results import Reply


class Inbox:
    """A queue of finished requests; threads and executors may put into it."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[InFlight, Future[Reply]] | None] = queue.SimpleQueue()

    def put(self, in_flight: InFlight, future: Future[Reply]) -> None:
        """Add a finished request."""
        self._queue.put((in_flight, future))

    def close(self) -> None:
        """Let ``take_finished`` return what there is, and then an empty list."""
        self._queue.put(None)

    def take_finished(self) -> list[tuple[InFlight, Future[Reply]]]:
        """Wait for a finished request; return all finished ones, or an empty list at the end."""
        group = []
        item = self._queue.get()
        while item is not None:
            group.append(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return group
        if group:
            self._queue.put(None)
        return group
