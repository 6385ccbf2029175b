"""Who has failed lately, and whose turn it is: a circuit for each provider of a failover."""

from __future__ import annotations

import enum
import threading
import time


class ProviderHealth(enum.Enum):
    """What a turn tells of its provider's health."""

    UNKNOWN = "cannot tell"
    GOOD = "it answers"
    BAD = "a failure"
    SILENT = "a clock ran out; nobody shall wait for it again soon"


class _Circuit:
    """What is remembered of one provider: closed, open (it rests), or half open (it is probed)."""

    def __init__(self) -> None:
        self.failures = 0
        """In a row."""
        self.is_open = False
        self.rests_until = 0.0
        self.probe: int | None = None
        """The call that looks whether the provider is back; one at a time."""

    def is_ready(self, now: float) -> bool:
        return not self.is_open or (now >= self.rests_until and self.probe is None)


class CircuitBreakers:
    """Who has failed lately, and whose turn it is; of one process, shared by its threads."""

    def __init__(self, size: int, rotates: bool, failures: int, rest_s: float) -> None:
        self._circuits = [_Circuit() for _ in range(size)]
        self._rotates = rotates
        self._limit = failures
        self._rest_s = rest_s
        self._calls = 0
        # Reentrant: the garbage collector may end a turn in the very thread that holds it.
        self._lock = threading.RLock()

    def next_call(self) -> int:
        """Return the number of a call, from 0."""
        with self._lock:
            self._calls += 1
            return self._calls - 1

    def pick(self, waiting: list[int], call: int) -> int:
        """Return whom to ask next: the healthy in turn, then the resting, soonest awake first."""
        with self._lock:
            now = time.monotonic()
            ready = [index for index in waiting if self._circuits[index].is_ready(now)]
            if not ready:
                return min(waiting, key=lambda index: self._circuits[index].rests_until)
            index = ready[call % len(ready) if self._rotates else 0]
            if self._circuits[index].is_open:
                self._circuits[index].probe = call
            return index

    def began(self, index: int) -> None:
        """An answer has begun: the circuit closes, and one more failure opens it again."""
        with self._lock:
            circuit = self._circuits[index]
            circuit.is_open, circuit.probe = False, None
            circuit.failures = min(circuit.failures, self._limit - 1)

    def ended(self, index: int, call: int, verdict: ProviderHealth) -> None:
        """Note how the turn of a provider in a call has ended."""
        with self._lock:
            circuit = self._circuits[index]
            if circuit.probe == call:
                circuit.probe = None
            if verdict is ProviderHealth.GOOD:
                circuit.failures, circuit.is_open = 0, False
            elif verdict is not ProviderHealth.UNKNOWN:
                circuit.failures += self._limit if verdict is ProviderHealth.SILENT else 1
                if circuit.failures >= self._limit:
                    circuit.is_open = True
                    circuit.rests_until = time.monotonic() + self._rest_s
