"""Circuit breakers for the providers of a ``Failover``, and the choice of the next provider."""

from __future__ import annotations

import contextlib
import enum
import itertools
import threading
from collections import deque

from .clock import monotonic


class ProviderHealth(enum.Enum):
    """What one call shows about the health of a provider."""

    UNKNOWN = "unknown"
    GOOD = "answers"
    BAD = "failed"
    TIMED_OUT = "timed out"
    """Opens the circuit at once, so that the next calls do not wait for the provider again."""


class _Circuit:
    """State of one provider: closed, open (cooling down) or half open (a call probes it)."""

    def __init__(self) -> None:
        self.failures = 0
        """Consecutive failures."""
        self.is_open = False
        self.open_until = 0.0
        self.probe: int | None = None
        """The call that tests whether the provider works again; one at a time."""

    def is_ready(self, now: float) -> bool:
        return not self.is_open or (now >= self.open_until and self.probe is None)


class CircuitBreakers:
    """The circuit breakers of one ``Failover`` in one process, shared by its threads."""

    def __init__(self, size: int, rotates: bool, failures: int, cooldown_s: float) -> None:
        self._circuits = [_Circuit() for _ in range(size)]
        self._rotates = rotates
        self._limit = failures
        self._cooldown_s = cooldown_s
        self._calls = itertools.count()
        self._records: deque[tuple[int, int | None, ProviderHealth, float]] = deque()
        """Starts (call ``None``) and ends of answers that are not counted yet.

        Calls record under their stream's lock, and a garbage collection under ours may close that
        stream: so recording must not wait for our lock."""
        # Reentrant: a finalizer may send a call in the thread that holds the lock.
        self._lock = threading.RLock()

    def next_call(self) -> int:
        """Return the number of a new call, from 0."""
        return next(self._calls)

    def pick(self, candidates: list[int], call: int) -> int:
        """Return the next provider to try: a ready one, else the one whose cooldown ends first."""
        with self._lock:
            self._count_records()
            now = monotonic()
            ready = [index for index in candidates if self._circuits[index].is_ready(now)]
            if not ready:
                return min(candidates, key=lambda index: self._circuits[index].open_until)
            index = ready[call % len(ready) if self._rotates else 0]
            if self._circuits[index].is_open:
                self._circuits[index].probe = call
            return index

    def record_start(self, index: int) -> None:
        """Record that an answer has started: close the circuit; one more failure reopens it."""
        self._records.append((index, None, ProviderHealth.UNKNOWN, monotonic()))

    def record_end(self, index: int, call: int, health: ProviderHealth) -> None:
        """Record how a call to a provider has ended."""
        self._records.append((index, call, health, monotonic()))

    def _count_records(self) -> None:
        with contextlib.suppress(IndexError):  # all are counted
            while True:
                index, call, health, recorded_at = self._records.popleft()
                if call is None:
                    self._count_start(self._circuits[index])
                else:
                    self._count_end(self._circuits[index], call, health, recorded_at)

    def _count_start(self, circuit: _Circuit) -> None:
        circuit.is_open, circuit.probe = False, None
        circuit.failures = min(circuit.failures, self._limit - 1)

    def _count_end(
        self, circuit: _Circuit, call: int, health: ProviderHealth, ended_at: float
    ) -> None:
        if circuit.probe == call:
            circuit.probe = None
        if health is ProviderHealth.GOOD:
            circuit.failures, circuit.is_open = 0, False
        elif health is not ProviderHealth.UNKNOWN:
            circuit.failures += self._limit if health is ProviderHealth.TIMED_OUT else 1
            if circuit.failures >= self._limit:
                circuit.is_open = True
                circuit.open_until = ended_at + self._cooldown_s
