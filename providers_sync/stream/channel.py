"""What the thread and the reader share: the buffer between them, the clocks, the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping

from ..config import AFTER_FINISH_S, BUFFER_BYTES, Timeouts
from ..errors import ProviderError, ProviderFailure, StreamCancelled
from ..types import Delta, Finish, ServedModel, Usage
from .deadlines import Deadlines, timeout_error
from .wakeup import Wakeup

Source = Callable[["Channel"], Iterator[Delta]]

_NOT_EVENTS = (Usage, Finish, ServedModel)
_LATEST_COUNTS = (Usage, ServedModel)
"""Kinds of which the newest says all."""


class CallEnded(Exception):
    """The reader has gone or its clock has fired; ends the source, never leaves the package."""


class Channel:
    """What the thread and the reader share: the buffer between them, the clocks, the end."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self.deadlines = Deadlines(timeouts)
        self.first_text_at: float | None = None
        self.ended_at: float | None = None
        self.attempts = 0
        self.bytes = 0
        self.headers: Mapping[str, str] = {}
        self.request_id: str | None = None
        self.is_open = False
        self.started = False
        """Whether an event has come: text, reasoning, refusal or tool call."""
        self.has_end_marker = False
        """Whether the end marker has come."""
        self.waits_for_first_event = False
        """Whether the call waits for the first event, and ``first_token`` ends one attempt only."""
        self.failures: list[ProviderFailure] = []
        """The providers that failed before the one that is asked now."""
        self.on_end: Callable[[], None] | None = None
        """Called, under the lock, when a clock or the source has ended the call."""
        self.buffer: list[Delta] = []
        """What the reader has not taken yet."""
        self.ended = False
        self.error: ProviderError | None = None
        self._waits_until = -math.inf
        """When the reader that waits looks at the clocks again by itself."""
        self._idle = timeouts.idle
        self._fired: str | None = None
        self._late: str | None = None
        self._stop: Callable[[], None] = lambda: None
        self._collected: list[Delta] = []
        self._buffered = 0
        self._blocked = False
        self._has_announced_headers = True
        """Whether everybody has been woken since the headers came."""
        self._make_locks()
        self._set_clock("connect", timeouts.connect)

    def _make_locks(self) -> None:
        self._wakeup = Wakeup()
        self.lock = self._wakeup.lock

    # --- the thread's side

    def run(self, source: Source) -> None:
        """Run the source to its end; every way out leaves a verdict."""
        deltas = source(self)
        self._run_guarded(lambda: self._read(deltas))

    def _read(self, deltas: Iterator[Delta]) -> None:
        for delta in deltas:
            self._collect(delta)
        self._end(None)

    def _collect(self, delta: Delta) -> None:
        if delta.__class__ in _LATEST_COUNTS and not self.started:
            self._forget(delta.__class__)
        self._collected.append(delta)
        if delta.__class__ is Finish:
            self._note_end_marker()

    def _forget(self, kind: type) -> None:
        """Before the first event a server may count for ever: the newest count stands for all."""
        for at in range(len(self._collected) - 1, -1, -1):
            if self._collected[at].__class__ is kind:
                del self._collected[at]
                return
            if self._collected[at].__class__ not in _NOT_EVENTS:
                return

    def _run_guarded(self, work: Callable[[], None]) -> None:
        """Do a part of the source's work; where that ends it, give the verdict."""
        try:
            work()
        except CallEnded:
            self._end(StreamCancelled("the stream was stopped"))
        except ProviderError as error:
            self._end(error)
        except BaseException as error:  # noqa: BLE001 (the reader must never wait in vain)
            failure = ProviderError(f"unexpected {type(error).__name__} in the stream's thread")
            failure.__cause__ = error
            self._end(failure)

    def _note_end_marker(self) -> None:
        """The end marker: what may still follow is usage and ``[DONE]``."""
        with self.lock:
            self.has_end_marker = True
            self._idle = min(AFTER_FINISH_S, self._idle or math.inf)
            self.deadlines.set("idle", self._idle)

    def start_attempt(self, stop: Callable[[], None]) -> None:
        """Begin an attempt that ``stop`` interrupts from any thread."""
        with self.lock:
            if self.deadlines.total_time_left() <= 0:
                self._fire("total")
            self._check()
            self._stop = stop
            self._fired = None
            if self._ends_attempt(self._late):
                self._late = None
            self.attempts += 1
            self._collected.clear()
            self.has_end_marker, self._idle = False, self.timeouts.idle
            self._set_clock("connect", self.timeouts.connect)

    def connected(self) -> None:
        """Note that the request is going out."""
        self._set_clock("first_token", self.timeouts.first_token)

    sent = connected  # the clock runs from the request; sending has the same time to itself

    def headers_received(self, headers: Mapping[str, str], request_id: str | None) -> None:
        """Note good headers: the call may return. Who waits for them is woken before the next wait.

        What has come with them is handed over in one, as being woken is most of a short answer.
        """
        with self.lock:
            self._check()
            self.headers, self.request_id = headers, request_id
            self.is_open = not self.waits_for_first_event
            self._has_announced_headers = self.waits_for_first_event

    def bytes_received(self, size: int) -> None:
        """Note a read of ``size`` body bytes."""
        now = time.monotonic()
        self.bytes += size
        self._buffered += size
        due, clock = self.deadlines.next_due
        if now > due and clock != "idle":
            self._late = self._late or clock  # after what was read has been handed over
        elif self.started:
            self.deadlines.set("idle", self._idle, now)

    def flush(self) -> None:
        """Hand over what was decoded, waiting while the reader has too much before it."""
        if self._collected and (self.started or self._is_first_event()):
            with self.lock:
                self._hand_over()
                self._announce()
                if self._buffered > BUFFER_BYTES:
                    self._wait_for_room()
        elif not self._has_announced_headers or self._is_due_early():
            self._announce()
        if self._late:
            self._fire(self._late)
        if self.ended:
            raise CallEnded

    def interruption(self) -> Exception:
        """Return why the running attempt was stopped from outside."""
        if self._fired and not self.ended:
            return timeout_error(self._fired, self.timeouts)
        return CallEnded()

    def sleep(self, seconds: float) -> None:
        """Wait before the next attempt; only ``total`` and the end of the stream interrupt it."""
        until = time.monotonic() + seconds
        with self.lock:
            self.deadlines.only_total()
            self._announce()
            while (left := until - time.monotonic()) > 0:
                self._check()
                self._wakeup.changed.wait(left)
            self._check()

    def has_begun(self) -> bool:
        """Tell whether an event has come, be it in the very read that ended in a failure."""
        return self.started or self._is_first_event()

    def _announce(self) -> None:
        with self.lock:
            self._has_announced_headers = True
            self._wakeup.notify()

    def _check(self) -> None:
        if self.ended:
            raise CallEnded

    def _is_first_event(self) -> bool:
        with self.lock:  # a clock may be firing: the first event comes before it, or not at all
            if self._fired or self._ends_attempt(self._late):
                return False
            self.started = any(not isinstance(delta, _NOT_EVENTS) for delta in self._collected)
            if self.started:
                self.deadlines.set("idle", self._idle)
            return self.started

    def _note_first_text(self) -> None:
        if self.first_text_at is None and any(delta.__class__ is str for delta in self._collected):
            self.first_text_at = time.monotonic()

    def _hand_over(self) -> None:
        self._note_first_text()
        if not self.ended:
            self.buffer += self._collected
            self.is_open = self.is_open or self.started
        self._collected = []

    def _wait_for_room(self) -> None:
        self._blocked = True
        self.deadlines.only_total()
        while self._buffered > BUFFER_BYTES and not self.ended:
            left = self.deadlines.total_time_left()
            if left <= 0:
                self._fire("total")
            self._wakeup.changed.wait(None if left == math.inf else left)
        self._blocked = False

    def _set_clock(self, clock: str, allowed: float | None) -> None:
        """Set a clock before a wait that no ``flush`` comes before."""
        self.deadlines.set(clock, allowed)
        if self._is_due_early():
            self._announce()

    def _is_due_early(self) -> bool:
        """Tell whether a reader that waits would oversleep the clock."""
        return self.deadlines.next_due[0] < self._waits_until

    def _end(self, error: ProviderError | None) -> None:
        with self.lock:
            if self._ends_attempt(self._late):
                self._late = None  # it was the last attempt, and has ended by itself
            if self._collected and not self.ended:
                self.started = self.started or self._is_first_event()
                self._hand_over()
            if self._late:
                error = timeout_error(self._late, self.timeouts)
            self._set_end(error)

    # --- either side, under the lock

    def _set_end(self, error: ProviderError | None) -> None:
        if not self.ended:
            self.ended = True
            self.ended_at = time.monotonic()
            self.error = error
            if self.on_end is not None:
                self.on_end()
        self._wakeup.notify()

    def _fire(self, clock: str) -> None:
        """A clock has run out: give up the attempt or the whole call."""
        with self.lock:
            if self.ended:
                return
            if self._ends_attempt(clock):
                self._fired, self._late = clock, None
                self.deadlines.only_total()
            elif self.has_end_marker and not self._late:
                self._set_end(None)  # the answer was whole; only its afterword is missing
            else:
                self._set_end(timeout_error(clock, self.timeouts))
            self._stop()

    def _ends_attempt(self, clock: str | None) -> bool:
        return clock == "connect" or (
            clock == "first_token" and self.waits_for_first_event and not self.started
        )

    # --- the reader's side

    def wait_for_headers(self) -> None:
        """Wait for good headers, or for the end."""
        while not (self.is_open or self.ended):
            self._wait(math.inf)

    def wait(self, seconds: float = math.inf) -> bool:
        """Wait until there is something to take, or the end; ``False`` after so many seconds."""
        until = time.monotonic() + seconds
        while not (self.buffer or self.ended):
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._wait(left)
        return True

    def buffer_taken(self) -> None:
        """Note, under the lock, that the reader has emptied ``buffer``."""
        self._buffered = 0
        if self._blocked:  # from now on the thread waits for the server again
            self._blocked = False
            self._set_clock("idle", self._idle)
            self._wakeup.changed.notify_all()

    def poll(self, wake: Callable[[], None], for_headers: bool = False) -> bool:
        """Tell whether ``wait_for_headers()`` (``for_headers``) or ``take()`` would return at once.

        For a reader that must not block: if not, ``wake`` is called once, at the next change, from
        any thread and under the lock; the reader comes back then, or when the clock is due.
        """
        with self.lock:
            if self.deadlines.time_left() <= 0:
                self._fire(self.deadlines.next_due[1])
            ready = self.ended or (self.is_open if for_headers else bool(self.buffer))
            self._waits_until = self.deadlines.next_due[0]
            self._wakeup.wake = None if ready else wake
            return ready

    def stop(self, error: ProviderError | None) -> list[Delta]:
        """End the call from the reader's side; return what it had not taken yet."""
        with self.lock:
            # The thread may have ended before, but for the reader the call had not.
            self.ended_at = self.ended_at or time.monotonic()
            self.ended, self.error = True, error
            self._wakeup.notify()
            self._stop()
            left, self.buffer = self.buffer, []
            return left

    def abandon(self, why: str) -> None:
        """Go on without the thread, which is the parent's (in a forked child) or no more.

        The connection stays untouched.
        """
        self._make_locks()  # the old ones may be held for ever
        self._stop = lambda: None
        self.on_end = None  # it may wait for a lock of the parent's
        with self.lock:
            self._set_end(ProviderError(why))

    def _wait(self, at_most: float) -> None:
        """Wait for the next change or clock, without the lock, at most so many seconds."""
        with self.lock:
            due, clock = self.deadlines.next_due
            left = due - time.monotonic()
            if left <= 0:
                self._fire(clock)
                return
            self._waits_until = due
        self._wakeup.wait(min(left, at_most))
        if self.ended:
            with self.lock:
                self._wakeup.wake_reader()  # for others who read the same stream
