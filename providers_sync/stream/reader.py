"""The reader thread: it reads the responses of all calls of the process, and keeps their deadlines.

One thread reads, decodes and fires timeouts, so these cannot race. Everybody else only sets a flag,
shuts a duplicate of the socket down, and wakes the thread: only the reader registers, unregisters
and closes what it reads, so that no descriptor is reused while its number is registered.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import math
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ..clock import monotonic
from ..config import IDLE_THREAD_S, LONGEST_WAIT_S, READ_STREAMS, SELECT_SOCKETS
from ..errors import ProviderError
from ..threads import start_thread
from . import left_work, workers
from .call import Call, unexpected
from .channel import NOW, CallEnded
from .waker import new_waker


class Reader:
    """The state of one reader thread; fields without a comment belong to the thread itself."""

    def __init__(self) -> None:
        self._inbox: deque[Call] = deque()
        """Calls to look at. Any thread, and any finalizer, appends to it without a lock."""
        self._wakes_at = NOW
        """Until when the thread waits; ``NOW`` while it is awake and will look at its inbox."""
        self._waker = new_waker()
        # Looked up here and not on import: gevent and eventlet replace it.
        self._selector: Any = selectors.DefaultSelector()
        self._selector.register(self._waker.receiver, selectors.EVENT_READ)
        self._calls: dict[int, Call] = {}
        self._deadlines: list[tuple[float, int]] = []
        """A heap: when to look at which call. Entries of ended calls are skipped."""
        self._ready: list[Call] = []
        """Calls whose next data is at hand, although their sockets may be silent."""
        self._idle_until = 0.0

    def start(self) -> None:
        """Start the thread, after the first ``post``; raises ``ProviderError``."""
        start_thread(threading.Thread(target=self._run, name="providers-sync-reader"))

    def post(self, call: Call, at: float) -> None:
        """Let the thread look at a call by the moment ``at``; takes no lock."""
        self._inbox.append(call)
        if at < self._wakes_at:
            self._waker.wake()

    def wake(self) -> None:
        """Let the thread look at what was left to it; takes no lock."""
        if self._wakes_at > NOW:
            self._waker.wake()

    # --- the thread

    def _run(self) -> None:
        try:
            while self._calls or not self._may_end():
                self._serve(self._selector.select(self._wait_s()))
        except BaseException as error:  # noqa: BLE001 (no caller must wait forever)
            self._fail_all(error)
        self._selector.close()

    def _serve(self, events: list[Any]) -> None:
        self._wakes_at = NOW
        ready, self._ready = self._ready, []
        for key, _ in events:
            if key.data is None:
                self._waker.clear()
            else:
                ready.append(key.data)
        ready = list(dict.fromkeys(ready))  # data may be at hand, and the socket readable, too
        for start in range(0, len(ready), READ_STREAMS):
            self._read(ready[start : start + READ_STREAMS])
        while self._inbox:
            self._look(self._inbox.popleft())
        if left_work.new:
            left_work.give()

    def _wait_s(self) -> float:
        """Fire the deadlines that have passed; return the seconds until the next one."""
        now = monotonic()
        if self._deadlines and self._deadlines[0][0] <= now:
            self._expire(now)
        at = self._deadlines[0][0] if self._deadlines else math.inf
        if not self._calls:
            at = min(at, self._idle_until)
        self._wakes_at = NOW if self._ready else at
        # Read after ``_wakes_at`` is set: see ``post``.
        if self._inbox or self._ready or left_work.new:
            return 0
        return min(max(at - now, 0), LONGEST_WAIT_S)

    def _may_end(self) -> bool:
        if self._inbox or left_work.new or monotonic() < self._idle_until:
            return False
        with _lock:
            if self._inbox:
                return False
            self._leave()
            return True

    def _leave(self) -> None:
        """Let the next call start another thread."""
        global _current
        with _lock:
            if _current is self:
                _current = None

    def _look(self, call: Call) -> None:
        """Do what the state of a call asks for."""
        call.known_at = math.inf  # first: whatever changes from now on is told again
        try:
            if call.channel.ended:
                self._remove(call)
                return
            self._calls[call.number] = call
            self._schedule(call)
            if call.belongs_to_reader and not call.is_registered and not call.channel.is_full:
                self._register(call)
        except BaseException as error:  # noqa: BLE001 (it must not end the others)
            self._fail(call, error)

    def _register(self, call: Call) -> None:
        assert call.reading is not None
        try:
            is_select = isinstance(self._selector, selectors.SelectSelector)
            if is_select and len(self._selector.get_map()) > SELECT_SOCKETS:
                raise ProviderError(
                    f"more than {SELECT_SOCKETS} streams are open: select() on this system "
                    "cannot wait for more: read or close some first"
                )
            self._selector.register(call.reading.body.socket, selectors.EVENT_READ, call)
        except (ProviderError, ValueError, KeyError, OSError) as error:
            call.failure = error
            self._conclude(call)
            return
        call.is_registered = True
        self._read([call])  # what TLS has decrypted already makes no socket readable

    def _unregister(self, call: Call) -> None:
        if call.is_registered and call.reading is not None:
            call.is_registered = False
            self._selector.unregister(call.reading.body.socket)

    def _read(self, calls: list[Call]) -> None:
        """Read the responses of some calls once; wake their callers after that."""
        for call in calls:
            try:
                if not call.belongs_to_reader:  # its end came in the same batch
                    continue
                if not call.turn():
                    self._conclude(call)
                elif call.channel.is_full:
                    self._unregister(call)
                elif call.reading is not None and call.reading.body.at_hand:
                    self._ready.append(call)
            except BaseException as error:  # noqa: BLE001 (it must not end the others)
                self._fail(call, error)
        for call in calls:
            if call.channel.has_news:
                call.channel.notify()

    def _fail(self, call: Call, error: BaseException) -> None:
        """End a call after an error that no code of ours expects."""
        with contextlib.suppress(Exception):
            self._unregister(call)
        call.belongs_to_reader = False
        with contextlib.suppress(Exception):
            call.give_up(unexpected(error))

    def _fail_all(self, error: BaseException) -> None:
        """End all calls, as the thread cannot go on; the next one starts another thread."""
        self._leave()
        for call in [*self._calls.values(), *self._inbox]:
            if call.belongs_to_reader:
                self._fail(call, error)
            else:  # its worker sees the end
                call.channel.end(unexpected(error))
                call.channel.interrupt()

    def _conclude(self, call: Call) -> None:
        """Let a call go on after its response has been read, well or not."""
        self._unregister(call)
        call.belongs_to_reader = False
        if call.settles_at_once:
            call.settle()
            return
        call.channel.deadlines.only_total()  # what was waited for has come
        try:
            workers.run(call.settle)
        except ProviderError as error:
            if call.failure is None:  # the answer is complete; only its log is late
                call.settle()
            else:
                call.give_up(error)

    def _remove(self, call: Call) -> None:
        """Forget a call that has ended; close its response."""
        self._calls.pop(call.number, None)
        self._idle_until = max(self._idle_until, (call.channel.ended_at or 0) + IDLE_THREAD_S)
        if call.belongs_to_reader:
            call.failure = CallEnded()
            self._conclude(call)

    def _schedule(self, call: Call) -> None:
        """Look at the call again at its next deadline, if not earlier."""
        due = call.channel.deadlines.next_due[0]
        call.known_at = min(due, call.scheduled_at)
        if due < call.scheduled_at:
            call.scheduled_at = due
            heapq.heappush(self._deadlines, (due, call.number))
            if len(self._deadlines) > 64 + 4 * len(self._calls):
                entries = ((each.scheduled_at, number) for number, each in self._calls.items())
                self._deadlines = sorted(entry for entry in entries if entry[0] < math.inf)

    def _expire(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            at, number = heapq.heappop(self._deadlines)
            call = self._calls.get(number)
            if call is None or call.scheduled_at != at:
                continue
            call.scheduled_at = math.inf
            if call.is_registered and call.channel.deadlines.next_due[0] <= now:
                self._read([call])  # what has arrived comes first
            due, timeout = call.channel.deadlines.next_due
            if due <= now and not call.channel.ended:
                self._end_by_timeout(call, timeout)
            self._look(call)

    def _end_by_timeout(self, call: Call, timeout: str) -> None:
        if call.times_out(timeout) and call.belongs_to_reader:
            self._conclude(call)

    def abandon(self) -> None:
        """Close the descriptors in a forked child; the parent goes on with what they refer to."""
        with contextlib.suppress(OSError):
            self._selector.close()
        for call in list(self._calls.values()):
            if call.reading is not None:
                call.reading.body.abandon()


_lock = threading.RLock()
"""Held while a reader is found or ends. Reentrant: a signal handler may start a stream."""
_current: Reader | None = None


def leave(work: Callable[[], None]) -> None:
    """Let the reader thread give ``work`` to a worker; ``work`` must not raise.

    For a finalizer: takes no lock and starts no thread. If there is no reader thread, the next one
    does it.
    """
    left_work.add(work)
    if (current := _current) is not None:
        current.wake()


def start(call: Call) -> None:
    """Run a call in a worker thread; the reader thread looks after it until it has ended.

    Raises ``ProviderError`` if a thread cannot be started; the caller must end the call then.
    """
    global _current
    with _lock:
        reader = _current or _new_reader()
        call.channel.attend = functools.partial(_attend, reader, call)  # first: Ctrl-C may come
        call.known_at = call.channel.deadlines.next_due[0]
        reader.post(call, call.known_at)
        if _current is None:
            reader.start()
            _current = reader
    workers.run(call.advance)


def _attend(reader: Reader, call: Call, at: float) -> None:
    # ``NOW`` is told again: Ctrl-C may have come between these two steps.
    if at < call.known_at or NOW in (at, call.known_at):
        call.known_at = min(at, call.known_at)
        reader.post(call, at)


def _new_reader() -> Reader:
    try:
        return Reader()
    except OSError as error:
        raise ProviderError(
            f"the thread that reads responses cannot start ({error}): close files and streams, or "
            "raise the limit on open files (ulimit -n)"
        ) from error


def _after_fork() -> None:
    global _current, _lock
    reader, _current, _lock = _current, None, threading.RLock()
    left_work.forget()
    if reader is not None:
        reader.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
