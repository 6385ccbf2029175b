"""The state that the threads of one call share: deltas for the caller, deadlines, the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from sys import is_finalizing
from typing import Any, Protocol

from ..clock import monotonic
from ..config import AFTER_FINISH_S, BUFFER_BYTES, SOCKET_WAIT_S, Timeouts
from ..errors import ProviderError, ProviderFailure
from ..observing import CallObserver
from ..request_usage import RequestUsage
from ..types import Citation, Delta, Extra, Finish, Join, ProtocolMessage, ServedModel, Usage
from .deadlines import Deadlines, timeout_error
from .wakeup import Wakeup

_NOT_EVENTS = (Usage, Finish, ServedModel, Extra, Citation, ProtocolMessage, Join, RequestUsage)
"""What does not show that the model has begun to answer."""
_LATEST_ONLY = (Usage, ServedModel)
"""Kinds of which only the newest delta matters."""
_BOUNDED = (*_LATEST_ONLY, Finish, Join, RequestUsage)
"""Kinds that may be held back for any time; too much of the others is handed over."""
NOW = -math.inf
AT_EXIT = "the interpreter is shutting down"


class CallEnded(Exception):
    """Ends the source when the caller has stopped or a timeout has expired; never reaches users."""


class Attendant(Protocol):
    """What looks after a call when its state has changed: the reader thread."""

    def __call__(self, at: float) -> None:
        """Look at the call at the moment ``at`` at the latest; must take no lock."""


def nobody(at: float) -> None:
    """Look after a call that has not been started or has ended."""


def _nothing() -> None:
    pass


class Channel(Wakeup):
    """The state that the threads of one call share; each field is changed under ``lock``.

    ``earlier``: the channel of the round before, whose counts and ``total`` go on.
    """

    def __init__(self, timeouts: Timeouts, earlier: Channel | None = None) -> None:
        super().__init__()
        self.timeouts = timeouts
        since = earlier.deadlines.started_at if earlier else None
        self.deadlines: Deadlines = Deadlines(timeouts, since)
        self.attend: Attendant = nobody
        self.observer: CallObserver | None = earlier.observer if earlier else None
        """What watches the call, until its end."""
        self.first_event_at: float | None = earlier.first_event_at if earlier else None
        self.first_text_at: float | None = earlier.first_text_at if earlier else None
        self.ended_at: float | None = None
        self.attempts: int = earlier.attempts if earlier else 0
        self.bytes: int = earlier.bytes if earlier else 0
        self.chunks = 0
        self.headers: Mapping[str, str] = {}
        self.request_id: str | None = None
        self.server = ""
        """Host and port that the last attempt has sent its request to."""
        self.status: int | None = None
        """The HTTP status of the last attempt, once it has one."""
        self.model: str | None = None
        """The model that a ``Failover`` asks for, until the server names its own."""
        self.is_stopped = False
        """Whether the caller has ended the call."""
        self.is_open = False
        """Whether the call may return its stream."""
        self.started = False
        """Whether an event has arrived: text, reasoning, refusal or tool call."""
        self.has_end_marker = False
        """Whether the end marker has come, or a finish reason and after it nothing but usage."""
        self.waits_for_first_event = False
        """Whether the call returns at the first event, not at the headers.

        If so, a timeout before it ends only the attempt."""
        self.may_continue = False
        """Whether the source may ask for the rest of an answer that has begun and breaks.

        If so, ``idle`` ends only the attempt."""
        self.take_held: Callable[[], list[Delta]] = list
        """Returns the text that the source holds back; called, under the lock, at the end."""
        self.tape: Any = None
        """What records the exchanges of the call, or plays them; it knows HTTP."""
        self.failures: list[ProviderFailure] = list(earlier.failures) if earlier else []
        """The providers that failed before the current one."""
        self.usage: Usage | None = None
        """The counts that came last, for the log."""
        self.before_good_end: Callable[[], None] = _nothing
        """Called by the worker, without the lock, before it ends the call well."""
        self.on_start: Callable[[], None] | None = None
        """Called, under the lock, at the first event. It must take no other lock."""
        self.on_end: Callable[[], None] | None = None
        """The same, when a timeout or the source has ended the call."""
        self.buffer: list[Delta] = []
        """What the caller has not taken yet."""
        self.is_full = False
        """Whether the response is not read until the caller has taken the buffer."""
        self.ended = False
        self.error: ProviderError | None = None
        self.waits_for = ""
        """What the call waits for before it sends its request; for the error of ``total``."""
        self.expired: str | None = None
        """The timeout that ended the running attempt, and not the call."""
        self.idle_s = timeouts.idle
        self._stop: Callable[[], None] = lambda: None
        self._held: list[Delta] = []
        """What came before the first event: usage and the model's name."""
        self.buffered = 0
        """The bytes of the body that ``buffer`` was decoded from."""
        self._set_deadline("connect", timeouts.connect)

    # --- called by the worker thread

    def start_attempt(self, stop: Callable[[], None]) -> None:
        """Start an attempt that ``stop`` interrupts from any thread."""
        with self.lock:
            self._check()
            self._stop = stop
            self.expired = self.usage = None
            self.attempts += 1
            self._held = [ServedModel(self.model)] if self.model else []
            self.has_end_marker, self.idle_s = False, self.timeouts.idle
            self.buffered = 0
            self._set_deadline("connect", self.timeouts.connect)

    def begin_part(self, take_held: Callable[[], list[Delta]], *, may_continue: bool) -> None:
        """Begin an answer, or go on with one that has broken: as before the first event."""
        with self.lock:
            self._check()
            self.take_held, self.may_continue = take_held, may_continue
            self.started = self.has_end_marker = False

    def connected(self) -> None:
        """Record that sending the request starts now."""
        with self.lock:
            self._set_deadline("first_token", self.timeouts.first_token)

    sent = connected  # ``first_token`` counts from the sent request; sending has the same limit

    def headers_received(
        self,
        headers: Mapping[str, str],
        request_id: str | None,
        server: str = "",
        request: RequestUsage | None = None,
    ) -> None:
        """Record the headers of a good response. The caller is woken by the first ``notify``."""
        with self.lock:
            self._check()
            self.headers, self.request_id, self.server = headers, request_id, server
            if request is not None:  # first: what follows is that of its answer
                self._held.insert(0, request)
            self.has_news = not self.waits_for_first_event
            self.is_open = self.is_open or self.has_news

    def interruption(self) -> Exception:
        """Return the exception for a running attempt that another thread has stopped."""
        if self.expired and not self.ended:
            return timeout_error(self.expired, self.timeouts)
        return CallEnded()

    def sleep(self, seconds: float) -> None:
        """Wait before the next attempt; only ``total`` and the end of the stream interrupt it."""
        with self.lock:
            self.deadlines.only_total()
        self.wait_until(lambda: False, monotonic() + seconds)

    def wait_until(self, is_done: Callable[[], bool], until: float) -> None:
        """Wait until ``is_done()``, at most until a moment; whoever makes it true must ``notify``.

        The end of the stream and ``total`` interrupt it, with ``CallEnded``.
        """
        with self.lock:
            while not is_done() and (remaining := until - monotonic()) > 0:
                self._check()
                self._worker_wait(min(remaining, SOCKET_WAIT_S))
            self._check()

    def hand_over(self, deltas: list[Delta]) -> None:
        """Hand over what does not come from a response, and says nothing about one."""
        with self.lock:
            self._check()
            self.buffer += deltas
            self.is_open = True
            self.notify()

    def wait_for_space(self) -> None:
        """Wait until the caller has taken the buffer, if it is full, or has ended the call."""
        with self.lock:
            while self.is_full and not self.ended:
                self._worker_wait()

    def _check(self) -> None:
        if self.ended:
            raise CallEnded

    # --- called by the thread that reads the response, under the lock

    def deliver(self, deltas: list[Delta], size: int) -> None:
        """Hand over what a read of ``size`` body bytes has brought."""
        self.bytes += size
        self.buffered += size
        if not self.started and not self._start(deltas):
            return
        now = monotonic()
        if deltas or not self.has_end_marker:  # pings do not postpone the end of a whole answer
            self.deadlines.since = now
        if not deltas:
            return
        self.buffer += deltas
        self.has_news = True
        kinds = list(map(type, deltas))
        self.chunks += kinds.count(str)
        if Usage in kinds:
            self._note_usage(deltas)
        if self.first_text_at is None and self.chunks:
            self.first_text_at = now
        if Finish in kinds:
            self.set_whole(True)
        if self.buffered > BUFFER_BYTES and self.buffer:
            self.is_full = True
            self.deadlines.only_total()

    def _start(self, deltas: list[Delta]) -> bool:
        """Return whether an event has arrived; if not, hold the deltas back."""
        if all(isinstance(delta, _NOT_EVENTS) for delta in deltas):
            held = [*self._held, *deltas]
            if self.buffered <= BUFFER_BYTES or all(type(each) in _BOUNDED for each in held):
                for delta in deltas:
                    self._hold(delta)
                return False
        self.started = self.is_open = True
        self._set_deadline("idle", self.idle_s)
        self.first_event_at = self.first_event_at or self.deadlines.since
        self.buffer, self._held = self.buffer + self._held, []
        if self.on_start is not None:
            self.on_start()
        return True

    def text_held(self) -> None:
        """Record that text has come that the source's decoder holds back."""
        if not self.started:
            self._set_deadline("idle", self.idle_s)

    def _hold(self, delta: Delta) -> None:
        """Hold a delta back; a server may send usage and its model forever before any event."""
        if isinstance(delta, _LATEST_ONLY):
            self._held = [held for held in self._held if type(held) is not type(delta)]
        self._held.append(delta)
        self._note_usage([delta])
        if isinstance(delta, Finish):
            self.set_whole(True)

    def _note_usage(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            if isinstance(delta, Usage):
                self.usage = delta

    def set_whole(self, is_whole: bool) -> None:
        """Record that only usage and ``[DONE]`` may still follow, or that more of it has come."""
        self.has_end_marker = is_whole
        idle = self.timeouts.idle
        self.idle_s = min(AFTER_FINISH_S, idle or math.inf) if is_whole else idle
        if not self.is_full and (is_whole or self.started):
            self._set_deadline("idle", self.idle_s)

    def end(self, error: ProviderError | None) -> None:
        """End the call after the source has ended, well or with ``error``."""
        with self.lock:
            if not self.ended:
                self._hand_over_held(is_good=error is None)
            self._set_end(error)

    def _hand_over_held(self, *, is_good: bool) -> None:
        """Hand over usage and the like that came before the first event of the last attempt."""
        held = [delta for delta in self._held if is_good or not isinstance(delta, Finish)]
        rest = self.take_held()
        if not (is_good or rest) and any(isinstance(delta, Join) for delta in held):
            held = []  # nothing has come after the break
        self.buffer, self._held = self.buffer + held + rest, []

    # --- called by the reader thread

    def expire(self, timeout: str, *, is_whole: bool = False) -> None:
        """End the attempt or the entire call; ``is_whole``: only usage or ``[DONE]`` is missing."""
        with self.lock:
            if self.ended:
                return
            is_early = self.waits_for_first_event and not self.started
            goes_on = is_early or (timeout == "idle" and self.may_continue)
            if timeout == "connect" or (timeout != "total" and goes_on and not is_whole):
                self.expired = timeout
                self.deadlines.only_total()
            else:
                waits_for = self.waits_for
                self.end(
                    None if is_whole else timeout_error(timeout, self.timeouts, waits_for=waits_for)
                )
            self._stop()

    def interrupt(self) -> None:
        """End what the worker thread waits for; the answer is complete."""
        with self.lock:
            self.deadlines.clear()
            self._stop()

    # --- called by any thread, under the lock

    def _set_end(self, error: ProviderError | None) -> None:
        if not self.ended:
            self.ended = True
            self.ended_at = monotonic()
            self.error = error
            if self.on_end is not None:
                self.on_end()
        self.notify()

    def _set_deadline(self, timeout: str, seconds: float | None) -> None:
        """Set a deadline that may be earlier than the one before it."""
        self.deadlines.set(timeout, seconds)
        self.attend(self.deadlines.next_due[0])

    # --- called by the caller's thread

    def wait_for_headers(self) -> None:
        """Wait until the call may return its stream, or has ended."""
        while not (self.is_open or self.ended):
            self._caller_wait(math.inf)

    def wait(self, seconds: float = math.inf) -> bool:
        """Wait for deltas or the end; return ``False`` if neither has come after ``seconds``."""
        if is_finalizing():  # no other thread will run again
            self.abandon(AT_EXIT)
        until = monotonic() + seconds
        while not (self.buffer or self.ended):
            if (remaining := until - monotonic()) <= 0:
                return False
            self._caller_wait(remaining)
        if self.ended:
            self.notify()  # other threads that read the same stream
        return True

    def resume(self) -> None:
        """Let the response be read again, under the lock: the caller has taken ``buffer``."""
        self.is_full = False
        self.deadlines.set("idle", self.idle_s)
        self.notify()
        self.attend(NOW)

    def poll(self, wake: Callable[[], None], for_headers: bool = False) -> bool:
        """Return whether ``wait()`` (``for_headers``: ``wait_for_headers()``) would return at once.

        For a caller that must not block: if not, ``wake`` is called once, at the next change, from
        any thread and under the lock, so it must take no other lock (``call_soon_threadsafe`` does
        not); the caller polls again then.
        """
        with self.lock:
            ready = self.ended or (self.is_open if for_headers else bool(self.buffer))
            self._wake = None if ready else wake
            return ready

    def stop(self, error: ProviderError | None) -> None:
        """End the call from the caller's side; nothing more comes into ``buffer``."""
        with self.lock:
            # The source may have ended the call, but the caller has not seen that outcome.
            self.ended_at = self.ended_at or monotonic()
            self._hand_over_held(is_good=False)
            self.ended, self.error, self.is_stopped = True, error, True
            self.notify()
            self._stop()
            self.attend(NOW)

    def abandon(self, reason: str) -> None:
        """End the call without its threads: they are the parent's (after a fork) or have stopped.

        The connection stays untouched.
        """
        self.make_locks()
        self._stop, self.attend = lambda: None, nobody
        self.on_end = None  # it might wait for a lock that the parent held
        self.observer = None  # that of the parent goes on
        with self.lock:
            self._set_end(ProviderError(reason))
