"""A pipe whose reader, where it waits for one event at a time, reads for itself.

Handing an event over wakes another thread, which costs more than all other work on it: two hundred
streams at once would keep a processor busy with that alone. So the thread lends the source to a
reader that waits, and keeps its clocks meanwhile; it takes the source back when the reader stays
away, and where a read brings many events, which batches carry better.

The main thread never borrows: Ctrl-C may come there at any moment, and would leave the source half
done. Nor does a greenlet, which can be killed in any wait.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Generator, Iterator

from ..config import READER_AWAY_S, SINGLE_EVENT_READS, Timeouts
from ..types import Delta
from .channel import CallEnded, Channel

KEEPER_S = 4 * READER_AWAY_S
"""The longest sleep of the thread while the reader reads."""


class DirectChannel(Channel):
    """A pipe that lends its source to the reader."""

    def __init__(self, timeouts: Timeouts) -> None:
        super().__init__(timeouts)
        self._deltas: Iterator[Delta] = iter(())
        self._alone = SINGLE_EVENT_READS
        """Reads in a row that brought one event; until the first crowd, all are taken for such."""
        self._is_wanted = False
        """Whether a reader waits that could read for itself."""
        self._is_lent = False
        self._is_reading = False
        """Whether a reader is in the source now."""
        self._steps = 0
        """Of all readers; they tell the thread that one is there."""
        self._crowded = 0
        """Steps in a row that found an event without a read."""
        self._has_read = False

    # --- the thread's side

    def _read(self, deltas: Iterator[Delta]) -> None:
        self._deltas = deltas
        for delta in deltas:
            self._collect(delta)
            may_lend = (
                self._is_wanted and not self.has_end_marker and self._alone >= SINGLE_EVENT_READS
            )
            if may_lend and self.has_begun():
                self._lend_source(deltas)
        self._end(None)

    def flush(self) -> None:
        """Hand over what was decoded, and note how much a read brings."""
        if self._collected and self.started:
            self._alone = self._alone + 1 if len(self._collected) == 1 else 0
        super().flush()

    def bytes_received(self, size: int) -> None:
        """Note a read of ``size`` body bytes."""
        self._has_read = True
        super().bytes_received(size)

    def _lend_source(self, deltas: Iterator[Delta]) -> None:
        """Let the reader read until it stays away or finds a crowd; ends with ``CallEnded``."""
        with self.lock:
            self._hand_over()
            self._announce()
            self._is_wanted, self._is_lent, self._crowded = False, True, 0
            pause, seen = READER_AWAY_S, self._steps
            while not self.ended and self._is_lent:
                self._waits_until = self.deadlines.next_due[0]
                self._wakeup.changed.wait(max(min(pause, self.deadlines.time_left()), 0.001))
                pause = min(2 * pause, KEEPER_S) if self._is_reading else READER_AWAY_S
                if self._keeps_clock() and not self._is_reading and self._steps == seen:
                    break
                seen = self._steps
            self._is_lent = False
            while self._is_reading:  # the source can be closed by one only
                self._wakeup.changed.wait()
            if not self.ended:
                self._set_clock("idle", self._idle)
                return
        if isinstance(deltas, Generator):
            deltas.close()
        raise CallEnded

    def _keeps_clock(self) -> bool:
        """Fire what is due; return whether the call goes on. A reader that is away has no idle."""
        due, clock = self.deadlines.next_due
        if due <= time.monotonic() and (self._is_reading or clock == "total"):
            self._fire(clock)
        return not self.ended

    # --- the reader's side

    def wait(self, seconds: float = math.inf) -> bool:
        """Wait until there is something to take, or the end; ``False`` after so many seconds."""
        if seconds < math.inf or not _may_read():
            self._recall()
            return super().wait(seconds)
        while not (self.buffer or self.ended):
            if self._borrow():
                self._step()
            else:
                self._is_wanted = True
                self._wait(math.inf)
                self._is_wanted = False
        return True

    def _recall(self) -> None:
        """Let the thread read for this reader, where another has borrowed and left."""
        if self._is_lent:
            with self.lock:
                self._is_lent = self._is_reading
                self._wakeup.notify()

    def _borrow(self) -> bool:
        with self.lock:
            if not self._is_lent or self._is_reading or self.ended:
                return False
            self._is_reading = True
            self._set_clock("idle", self._idle)
            return True

    def _step(self) -> None:
        """Read on to the next event."""
        self._has_read = False
        try:
            self._run_guarded(self._next)
        finally:
            with self.lock:
                self._is_reading = False
                self._steps += 1
                self._crowded = 0 if self._has_read else self._crowded + 1
                self._note_first_text()
                self.buffer += self._collected
                self._collected = []
                if self._crowded > SINGLE_EVENT_READS:
                    self._is_lent, self._alone = False, 0
                if self.ended or not self._is_lent:
                    self._wakeup.notify()
        cause = self.error and self.error.__cause__
        if cause and not isinstance(cause, Exception):  # meant for this thread
            raise cause

    def _next(self) -> None:
        for delta in self._deltas:
            self._collect(delta)
            return
        self._end(None)


def _may_read() -> bool:
    """Tell whether nothing but the source itself can raise in this thread."""
    has_greenlets = socket.socket.__module__ != "socket"  # gevent and eventlet put in their own
    return threading.get_ident() != threading.main_thread().ident and not has_greenlets
