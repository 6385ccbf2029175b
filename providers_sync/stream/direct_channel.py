"""``DirectChannel``: lets a waiting caller read the response itself, to save thread switches.

Handing an event over wakes another thread, which costs more than all other work on it: two hundred
streams at once would keep a processor busy with that alone. So the worker thread lets a waiting
caller read the source directly and only enforces the deadlines meanwhile. It reads again itself
when the caller stops reading, and when one read brings many events: those are cheaper in batches.

The main thread never reads directly: Ctrl-C may arrive there at any moment and would interrupt the
source halfway. Nor does a greenlet, which can be killed while it waits. An exception that another
thread throws into a reading caller does interrupt the source, and is raised as itself.

Whoever reads, the source runs in the same context: the worker thread leaves it while a caller
reads, as two threads cannot be in one context.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Generator, Iterator
from contextvars import Context

from ..clock import monotonic
from ..config import CALLER_IDLE_S, SINGLE_EVENT_READS, Timeouts
from ..types import Delta
from .channel import CallEnded, Channel, Source
from .thrown import find_thrown

MAX_PAUSE_S = 4 * CALLER_IDLE_S
"""The longest sleep of the worker thread while the caller reads."""


class DirectChannel(Channel):
    """A channel that can let the caller read the source directly."""

    def __init__(self, timeouts: Timeouts) -> None:
        super().__init__(timeouts)
        self._deltas: Iterator[Delta] = iter(())
        self._context = Context()
        """The context in which the source runs, in whichever thread."""
        self._single_event_reads = SINGLE_EVENT_READS
        """Consecutive reads that brought one event; assumed enough until a read brings more."""
        self._caller_waits = False
        """Whether a caller that could read directly is waiting."""
        self._is_direct = False
        """Whether callers may read the source now."""
        self._reader: int | None = None
        """The thread of the caller that is reading the source now."""
        self._steps = 0
        """Direct reads of all callers; they show the worker thread that a caller is active."""
        self._buffered_steps = 0
        """Consecutive steps that found an event without a read."""
        self._has_read = False

    @property
    def _is_reading(self) -> bool:
        return self._reader is not None

    # --- called by the worker thread

    def run(self, source: Source, context: Context) -> None:
        """Run the source to its end in ``context``; every exit path sets the end state."""
        self._run_guarded(lambda: self._take_turns(source, context))
        self._deltas, self._context = iter(()), Context()  # a stream may be kept for long

    def _take_turns(self, source: Source, context: Context) -> None:
        """Read the source, or let the caller read it, to its end."""
        self._deltas, self._context = context.run(source, self), context
        while context.run(self._read_until_caller_may):
            self._let_caller_read()
        self._end(None)

    def _read_until_caller_may(self) -> bool:
        """Read the source; return whether the caller may go on, ``False`` at the end."""
        for delta in self._deltas:
            self._collect(delta)
            may_read_directly = (
                self._caller_waits
                and not self.has_end_marker
                and self._single_event_reads >= SINGLE_EVENT_READS
            )
            if may_read_directly and self.has_started():
                return True
        return False

    def flush(self) -> None:
        """Hand over the decoded deltas, and record how many events a read brings."""
        if self._collected and self.started:
            is_single = len(self._collected) == 1
            self._single_event_reads = self._single_event_reads + 1 if is_single else 0
        super().flush()

    def bytes_received(self, size: int) -> None:
        """Record a read of ``size`` body bytes."""
        self._has_read = True
        super().bytes_received(size)

    def _let_caller_read(self) -> None:
        """Let the caller read directly until it stops reading or reads bring many events.

        Raises ``CallEnded`` if the call has ended meanwhile.
        """
        with self.lock:
            self._hand_over()
            self._notify()
            self._caller_waits, self._is_direct, self._buffered_steps = False, True, 0
            pause, seen = CALLER_IDLE_S, self._steps
            while not self.ended and self._is_direct:
                self._next_check_at = self.deadlines.next_due[0]
                self._wakeup.changed.wait(max(min(pause, self.deadlines.time_left()), 0.001))
                pause = min(2 * pause, MAX_PAUSE_S) if self._is_reading else CALLER_IDLE_S
                if self._enforce_deadline() and not self._is_reading and self._steps == seen:
                    break
                seen = self._steps
            self._is_direct = False
            while self._is_reading:  # only one thread may close the source
                self._wakeup.changed.wait()
            if not self.ended:
                self._set_deadline("idle", self._idle)
                return
        if isinstance(self._deltas, Generator):
            self._context.run(self._deltas.close)
        raise CallEnded

    def _enforce_deadline(self) -> bool:
        """Expire a timeout that is due, but not ``idle`` while no caller reads.

        Return whether the call goes on.
        """
        due, timeout = self.deadlines.next_due
        if due <= monotonic() and (self._is_reading or timeout == "total"):
            self._expire(timeout)
        return not self.ended

    # --- called by the caller's thread

    def wait(self, seconds: float = math.inf) -> bool:
        """Wait for deltas or the end; return ``False`` if neither has come after ``seconds``."""
        if seconds < math.inf or not _can_read_directly():
            self._end_direct_reading()
            return super().wait(seconds)
        try:
            while not (self.buffer or self.ended):
                if self._start_step():
                    self._step()
                else:
                    self._caller_waits = True
                    self._wait(math.inf)
                    self._caller_waits = False
        except BaseException:  # it may have been thrown in before the step had ended
            self._end_step()
            raise
        return True

    def _end_direct_reading(self) -> None:
        """Let the worker thread read again if another caller has read directly and stopped."""
        if self._is_direct:
            with self.lock:
                self._is_direct = self._is_reading
                self._wakeup.notify()

    def _start_step(self) -> bool:
        with self.lock:
            if not self._is_direct or self._is_reading or self.ended:
                return False
            self._reader = threading.get_ident()
            self._set_deadline("idle", self._idle)
            return True

    def _step(self) -> None:
        """Read the source up to the next event."""
        self._has_read = False
        error = self._run_guarded(lambda: self._context.run(self._next))
        self._end_step()
        thrown = find_thrown(error)
        if thrown is not None:
            raise thrown

    def _end_step(self) -> None:
        """Hand over what the caller has read, if it is this thread that reads."""
        with self.lock:
            if self._reader != threading.get_ident():
                return
            self._note_first_text()
            self.buffer, self._collected = self.buffer + self._collected, []
            self._steps += 1
            self._buffered_steps = 0 if self._has_read else self._buffered_steps + 1
            if self._buffered_steps > SINGLE_EVENT_READS:
                self._is_direct, self._single_event_reads = False, 0
            self._reader = None
            if self.ended or not self._is_direct:
                self._wakeup.notify()

    def _next(self) -> None:
        for delta in self._deltas:
            self._collect(delta)
            return
        self._end(None)


def _can_read_directly() -> bool:
    """Return whether only the source itself can raise in this thread."""
    has_greenlets = socket.socket.__module__ != "socket"  # gevent and eventlet replace the class
    return threading.get_ident() != threading.main_thread().ident and not has_greenlets
