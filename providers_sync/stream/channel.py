"""The channel between the worker thread and the caller: delta buffer, deadlines, end state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context

from ..clock import monotonic
from ..config import AFTER_FINISH_S, BUFFER_BYTES, SOCKET_WAIT_S, Timeouts
from ..errors import ProviderError, ProviderFailure, StreamCancelled
from ..types import Delta, Finish, ServedModel, Usage
from .deadlines import Deadlines, timeout_error
from .wakeup import Wakeup

Source = Callable[["Channel"], Iterator[Delta]]

_NOT_EVENTS = (Usage, Finish, ServedModel)
_LATEST_ONLY = (Usage, ServedModel)
"""Kinds of which only the newest delta matters."""


class CallEnded(Exception):
    """Ends the source when the caller has stopped or a timeout has expired; never reaches users."""


class Channel:
    """The state that the worker thread and the caller share: delta buffer, deadlines, end state."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self.deadlines = Deadlines(timeouts)
        self.first_text_at: float | None = None
        self.ended_at: float | None = None
        self.attempts = 0
        self.bytes = 0
        self.headers: Mapping[str, str] = {}
        self.request_id: str | None = None
        self.status: int | None = None
        """The HTTP status of the last attempt, once it has one."""
        self.is_stopped = False
        """Whether the caller has ended the call."""
        self.is_open = False
        self.started = False
        """Whether an event has arrived: text, reasoning, refusal or tool call."""
        self.has_end_marker = False
        """Whether the end marker has arrived."""
        self.waits_for_first_event = False
        """Whether the call returns at the first event, not at the headers.

        If so, ``first_token`` ends only the attempt."""
        self.failures: list[ProviderFailure] = []
        """The providers that failed before the current one."""
        self.on_end: Callable[[], None] | None = None
        """Called, under the lock, when a timeout or the source has ended the call.

        It must take no other lock: a finalizer may close this stream under that lock."""
        self.buffer: list[Delta] = []
        """What the caller has not taken yet."""
        self.ended = False
        self.error: ProviderError | None = None
        self._next_check_at = -math.inf
        """When the waiting caller checks the deadlines without being woken."""
        self._idle = timeouts.idle
        self._expired: str | None = None
        """The timeout that ended the running attempt."""
        self._overdue: str | None = None
        """A timeout that takes effect after the data that was read has been handed over."""
        self._stop: Callable[[], None] = lambda: None
        self._collected: list[Delta] = []
        self._buffered = 0
        self._blocked = False
        self._has_signalled_headers = True
        """Whether the waiting threads have been woken since the headers arrived."""
        self._make_locks()
        self._set_deadline("connect", timeouts.connect)

    def _make_locks(self) -> None:
        self._wakeup = Wakeup()
        self.lock = self._wakeup.lock

    # --- called by the worker thread

    def run(self, source: Source, context: Context) -> None:
        """Run the source to its end in ``context``; every exit path sets the end state."""
        self._run_guarded(lambda: context.run(self._read, source))

    def _read(self, source: Source) -> None:
        for delta in source(self):
            self._collect(delta)
        self._end(None)

    def _collect(self, delta: Delta) -> None:
        if delta.__class__ in _LATEST_ONLY and not self.started:
            self._drop_previous(delta.__class__)
        self._collected.append(delta)
        if delta.__class__ is Finish:
            self._note_end_marker()

    def _drop_previous(self, kind: type) -> None:
        """Drop the previous delta of this kind: a server may send them forever before any event."""
        for index in range(len(self._collected) - 1, -1, -1):
            if self._collected[index].__class__ is kind:
                del self._collected[index]
                return
            if self._collected[index].__class__ not in _NOT_EVENTS:
                return

    def _run_guarded(self, work: Callable[[], None]) -> BaseException | None:
        """Run a part of the source; if an error ends it, set the end state and return the error."""
        try:
            work()
        except CallEnded:
            self._end(StreamCancelled("the stream was stopped"))
        except ProviderError as error:
            self._end(error)
            return error
        except BaseException as error:  # noqa: BLE001 (the caller must never wait forever)
            failure = ProviderError(f"unexpected {type(error).__name__} in the worker thread")
            failure.__cause__ = error
            self._end(failure)
            return error
        return None

    def _note_end_marker(self) -> None:
        """Record the end marker: only usage and ``[DONE]`` may still follow."""
        with self.lock:
            self.has_end_marker = True
            self._idle = min(AFTER_FINISH_S, self._idle or math.inf)
            self.deadlines.set("idle", self._idle)

    def start_attempt(self, stop: Callable[[], None]) -> None:
        """Start an attempt that ``stop`` interrupts from any thread."""
        with self.lock:
            if self.deadlines.total_time_left() <= 0:
                self._expire("total")
            self._check()
            self._stop = stop
            self._expired = None
            if self._ends_attempt(self._overdue):
                self._overdue = None
            self.attempts += 1
            self._collected.clear()
            self.has_end_marker, self._idle = False, self.timeouts.idle
            self._set_deadline("connect", self.timeouts.connect)

    def connected(self) -> None:
        """Record that sending the request starts now."""
        self._set_deadline("first_token", self.timeouts.first_token)

    sent = connected  # ``first_token`` counts from the sent request; sending has the same limit

    def headers_received(self, headers: Mapping[str, str], request_id: str | None) -> None:
        """Record the headers of a successful response: the call may return.

        Waiting threads are woken before the next read, once for the headers and any body data that
        came with them: for a short answer, waking a thread is most of the cost.
        """
        with self.lock:
            self._check()
            self.headers, self.request_id = headers, request_id
            self.is_open = not self.waits_for_first_event
            self._has_signalled_headers = self.waits_for_first_event

    def bytes_received(self, size: int) -> None:
        """Record a read of ``size`` body bytes."""
        now = monotonic()
        self.bytes += size
        self._buffered += size
        due, timeout = self.deadlines.next_due
        if now > due and timeout != "idle":
            self._overdue = self._overdue or timeout  # takes effect after this data's hand-over
        elif self.started:
            self.deadlines.set("idle", self._idle, now)

    def flush(self) -> None:
        """Hand over the decoded deltas; block while the caller's buffer is full."""
        if self._collected and (self.started or self._is_first_event()):
            with self.lock:
                self._hand_over()
                self._notify()
                if self._buffered > BUFFER_BYTES:
                    self._wait_for_space()
        elif not self._has_signalled_headers or self._is_due_early():
            self._notify()
        if self._overdue:
            self._expire(self._overdue)
        if self.ended:
            raise CallEnded

    def interruption(self) -> Exception:
        """Return the exception for a running attempt that another thread has stopped."""
        if self._expired and not self.ended:
            return timeout_error(self._expired, self.timeouts)
        return CallEnded()

    def sleep(self, seconds: float) -> None:
        """Wait before the next attempt; only ``total`` and the end of the stream interrupt it."""
        until = monotonic() + seconds
        with self.lock:
            self.deadlines.only_total()
            self._notify()
            while (remaining := until - monotonic()) > 0:
                self._check()
                self._wakeup.changed.wait(min(remaining, SOCKET_WAIT_S))
            self._check()

    def has_started(self) -> bool:
        """Return whether an event has arrived, even in the very read that ended in a failure."""
        return self.started or self._is_first_event()

    def _notify(self) -> None:
        with self.lock:
            self._has_signalled_headers = True
            self._wakeup.notify()

    def _check(self) -> None:
        if self.ended:
            raise CallEnded

    def _is_first_event(self) -> bool:
        with self.lock:  # a timeout may be expiring: an event counts only if it came first
            if self._expired or self._ends_attempt(self._overdue):
                return False
            self.started = any(not isinstance(delta, _NOT_EVENTS) for delta in self._collected)
            if self.started:
                self.deadlines.set("idle", self._idle)
            return self.started

    def _note_first_text(self) -> None:
        if self.first_text_at is None and any(delta.__class__ is str for delta in self._collected):
            self.first_text_at = monotonic()

    def _hand_over(self) -> None:
        self._note_first_text()
        if not self.ended:
            self.buffer += self._collected
            self.is_open = self.is_open or self.started
        self._collected = []

    def _wait_for_space(self) -> None:
        self._blocked = True
        self.deadlines.only_total()
        while self._buffered > BUFFER_BYTES and not self.ended:
            remaining = self.deadlines.total_time_left()
            if remaining <= 0:
                self._expire("total")
            self._wakeup.changed.wait(min(remaining, SOCKET_WAIT_S))
        self._blocked = False

    def _set_deadline(self, timeout: str, seconds: float | None) -> None:
        """Set the deadline of a wait that is not preceded by ``flush``."""
        self.deadlines.set(timeout, seconds)
        if self._is_due_early():
            self._notify()

    def _is_due_early(self) -> bool:
        """Return whether the next deadline comes before the waiting caller's next check."""
        return self.deadlines.next_due[0] < self._next_check_at

    def _end(self, error: ProviderError | None) -> None:
        with self.lock:
            if self._ends_attempt(self._overdue):
                self._overdue = None  # it was the last attempt, and has ended on its own
            if self._collected and not self.ended:
                self.started = self.started or self._is_first_event()
                self._hand_over()
            if self._overdue:
                error = timeout_error(self._overdue, self.timeouts)
            self._set_end(error)

    # --- called by either side, under the lock

    def _set_end(self, error: ProviderError | None) -> None:
        if not self.ended:
            self.ended = True
            self.ended_at = monotonic()
            self.error = error
            if self.on_end is not None:
                self.on_end()
        self._wakeup.notify()

    def _expire(self, timeout: str) -> None:
        """Handle an expired timeout: end the attempt or the entire call."""
        with self.lock:
            if self.ended:
                return
            if self._ends_attempt(timeout):
                self._expired, self._overdue = timeout, None
                self.deadlines.only_total()
            elif self.has_end_marker and not self._overdue:
                self._set_end(None)  # the answer is complete; only usage or [DONE] is missing
            else:
                self._set_end(timeout_error(timeout, self.timeouts))
            self._stop()

    def _ends_attempt(self, timeout: str | None) -> bool:
        return timeout == "connect" or (
            timeout == "first_token" and self.waits_for_first_event and not self.started
        )

    # --- called by the caller's thread

    def wait_for_headers(self) -> None:
        """Wait for the headers of a successful response, or for the end."""
        while not (self.is_open or self.ended):
            self._wait(math.inf)

    def wait(self, seconds: float = math.inf) -> bool:
        """Wait for deltas or the end; return ``False`` if neither has come after ``seconds``."""
        until = monotonic() + seconds
        while not (self.buffer or self.ended):
            remaining = until - monotonic()
            if remaining <= 0:
                return False
            self._wait(remaining)
        return True

    def buffer_taken(self) -> None:
        """Record, under the lock, that the caller has emptied ``buffer``."""
        self._buffered = 0
        if self._blocked:  # from now on the worker thread waits for the server again
            self._blocked = False
            self._set_deadline("idle", self._idle)
            self._wakeup.changed.notify_all()

    def poll(self, wake: Callable[[], None], for_headers: bool = False) -> bool:
        """Return whether ``wait()`` (``for_headers``: ``wait_for_headers()``) would return at once.

        For a caller that must not block: if not, ``wake`` is called once, at the next change, from
        any thread and under the lock, so it must take no other lock (``call_soon_threadsafe`` does
        not); the caller polls again then, or at the next deadline.
        """
        with self.lock:
            if self.deadlines.time_left() <= 0:
                self._expire(self.deadlines.next_due[1])
            ready = self.ended or (self.is_open if for_headers else bool(self.buffer))
            self._next_check_at = self.deadlines.next_due[0]
            self._wakeup.wake = None if ready else wake
            return ready

    def stop(self, error: ProviderError | None) -> list[Delta]:
        """End the call from the caller's side; return what was still in ``buffer``."""
        with self.lock:
            # The worker thread may have ended the call, but the caller has not seen that outcome.
            self.ended_at = self.ended_at or monotonic()
            self.ended, self.error, self.is_stopped = True, error, True
            self._wakeup.notify()
            self._stop()
            unread, self.buffer = self.buffer, []
            return unread

    def abandon(self, reason: str) -> None:
        """End the call without the worker thread: it is the parent's (after a fork) or has stopped.

        The connection stays untouched.
        """
        self._make_locks()  # the old ones may be held forever
        self._stop = lambda: None
        self.on_end = None  # it might wait for a lock that the parent held
        with self.lock:
            self._set_end(ProviderError(reason))

    def _wait(self, at_most: float) -> None:
        """Wait for the next change or deadline, at most ``at_most`` seconds; without the lock."""
        with self.lock:
            due, timeout = self.deadlines.next_due
            remaining = due - monotonic()
            if remaining <= 0:
                self._expire(timeout)
                return
            self._next_check_at = due
        self._wakeup.wait(min(remaining, at_most))
        if self.ended:
            with self.lock:
                self._wakeup.wake_caller()  # for other threads that read the same stream
