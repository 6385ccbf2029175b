"""One batch: takes rows, keeps so many in flight, settles what comes back, hands results over.

The caller's thread reads the inputs and starts requests, each time it asks for a result. One
thread of ours, the recorder, takes what has finished, decides what is asked again, and brings
all that is there to the disk at one stroke: 64 workers share one ``fsync``.
"""

from __future__ import annotations

import heapq
import math
import queue
import threading
import time
import uuid
from collections.abc import Generator, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import Any

from ..config import MAIN_THREAD_WAIT_S
from ..errors import ProviderError
from ..providers import Provider
from ..stream import CancelToken
from .executor import DaemonThreadPool, start_thread
from .ledger import LedgerError
from .pacing import LONGEST_HOLD_S, RateLimiter, RetryBudget, pause_requested
from .records import Records
from .result_buffer import ResultBuffer
from .results import Reply, Result, to_result
from .rows import Row, to_row
from .worker import reply_of, submit

AHEAD = 2
"""Rows taken and not handed over, for each that may be in flight: nobody waits for the reader."""
AHEAD_ORDERED = 16
"""The same where one slow answer keeps those behind it on the shelf."""
GO_ON = "what is recorded in {} stays: run the same again to go on"


@dataclass
class InFlight:
    """A row on its way, through one attempt or more."""

    row: Row
    retry_budget: RetryBudget
    attempts: int = 0
    seconds: float = 0.0
    answered_before: int = 0
    """How many rows had an answer when this one was sent."""


class BatchRun:
    """See ``map``, whose arguments these are; ``results()`` is what it returns."""

    def __init__(
        self,
        provider: Provider,
        inputs: Iterable[Any],
        *,
        concurrency: int,
        executor: Executor | None,
        ledger: Any,
        ordered: bool,
        rate: float | None,
        raises: bool,
    ) -> None:
        self._provider = provider
        self._rows = (to_row(value, number) for number, value in enumerate(inputs, 1))
        self._concurrency = concurrency
        self._executor = executor
        self._ledger = ledger
        self._raises = raises
        self._ahead = concurrency * (AHEAD_ORDERED if ordered else AHEAD)
        self._key = uuid.uuid4().hex
        self._token = CancelToken()
        self._inbox: queue.SimpleQueue[tuple[InFlight, Future[Reply]] | None] = queue.SimpleQueue()
        # What follows is shared with the recorder, under this lock.
        self._changed = threading.Condition()
        self._pace = RateLimiter(rate)
        self._shelf = ResultBuffer(ordered)
        self._retries: list[tuple[float, int, InFlight]] = []
        self._waiting: InFlight | None = None  # a row that was read before its turn
        self._in_flight: set[Future[Reply]] = set()
        self._unsettled = 0
        self._open = 0
        self._answered = 0
        self._more = True
        self._failure: BaseException | None = None
        self._halted = False

    def results(self) -> Generator[Result, None, None]:
        """Yield every row's result; the end of the generator stops whatever still runs."""
        own = DaemonThreadPool(self._concurrency) if self._executor is None else None
        executor = own or self._executor
        assert executor is not None
        name = "providers-sync-recorder"
        recorder = threading.Thread(target=self._record, name=name, daemon=True)
        records = self._records = Records(self._ledger)
        try:
            start_thread(recorder)
            while (found := self._next_result(executor)) is not None:
                if found.error is not None and self._raises:
                    raise found.error
                yield found
            if self._failure is not None:
                raise self._failure
        except KeyboardInterrupt as interrupt:
            if records.path is not None:
                interrupt.args = (GO_ON.format(records.path),)
            raise
        finally:
            self._stop()
            if own is not None:
                own.shutdown()
            if recorder.ident is None:  # it was never started
                records.close()
            # A garbage collection inside the recorder may be what ends the generator.
            elif threading.current_thread() is not recorder:
                recorder.join()

    def _next_result(self, executor: Executor) -> Result | None:
        """Start what may start and wait for a result; ``None`` is the end."""
        while True:
            while (flight := self._next_flight()) is not None:
                self._start(flight, executor)
            with self._changed:
                found = self._shelf.take()
                if found is not None:
                    self._open -= 1
                    return found
                to_come = self._unsettled or self._retries or self._waiting or self._more
                if self._halted or not to_come:
                    return None
                wait = self._start_in()
                if wait > 0:
                    self._changed.wait(min(wait, MAIN_THREAD_WAIT_S))

    # --- starting, in the caller's thread

    def _start_in(self) -> float:
        """Return the seconds until a request may start; infinite where time alone won't do."""
        if self._failure is not None or len(self._in_flight) >= self._concurrency:
            return math.inf
        due = self._retries[0][0] if self._retries else math.inf
        if self._waiting is not None or (self._more and self._open < self._ahead):
            due = 0.0
        return max(due, self._pace.next_start()) - time.monotonic()

    def _next_flight(self) -> InFlight | None:
        """Return what to send now, if anything: rows that were sent before go first."""
        while True:
            with self._changed:
                is_time = self._start_in() <= 0
                if is_time and self._retries and self._retries[0][0] <= time.monotonic():
                    return heapq.heappop(self._retries)[2]
                if is_time and self._waiting is not None:
                    waiting, self._waiting = self._waiting, None
                    return waiting
                # Where nothing is under way, look whether there is more to wait for.
                if not is_time and (self._open or not self._more):
                    return None
            flight = self._fresh()
            if flight is not None and (is_time or flight.row.error is not None):
                return flight
            with self._changed:
                self._waiting = flight if self._failure is None else None

    def _fresh(self) -> InFlight | None:
        """Read the next input; ``None`` where there is none, or its answer is known."""
        try:
            taken = next(self._rows, None)
            known = None if taken is None else self._records.known(taken)
        except Exception as error:  # noqa: BLE001 (the caller's own; raised when all has ended)
            self._fail(error)
            return None
        with self._changed:
            if taken is None:
                self._more = False
                return None
            self._open += 1
            if known is not None:
                self._shelf.put(taken.number, known)
                return None
        return InFlight(taken, RetryBudget(self._provider))

    def _start(self, flight: InFlight, executor: Executor) -> None:
        with self._changed:
            self._unsettled += 1
            if flight.row.error is None:
                self._pace.note_start()
            flight.answered_before = self._answered
        try:
            ticket = f"{self._key}:{flight.row.number}:{flight.attempts}"
            future = submit(executor, self._provider, flight.row, self._token, ticket)
        except ProviderError as error:
            with self._changed:
                self._unsettled -= 1
            self._fail(error)
            return
        with self._changed:
            self._in_flight.add(future)
        future.add_done_callback(lambda done: self._inbox.put((flight, done)))

    # --- settling, in the recorder

    def _record(self) -> None:
        try:
            while group := self._group():
                self._settle_all(group)
        except BaseException as error:  # noqa: BLE001 (the caller must never wait in vain)
            self._fail(error, halt=True)
        finally:
            self._records.close()

    def _group(self) -> list[tuple[InFlight, Future[Reply]]]:
        """Return all that has finished, waiting for the first; nothing at the end."""
        group = []
        item = self._inbox.get()
        while item is not None:
            group.append(item)
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                return group
        if group:
            self._inbox.put(None)
        return group

    def _settle_all(self, group: list[tuple[InFlight, Future[Reply]]]) -> None:
        with self._changed:
            settled = [(flight.row, self._settle(flight, future)) for flight, future in group]
            self._in_flight.difference_update(future for _, future in group)
            self._changed.notify_all()  # there is room for others, while this goes to the disk
        done = [(asked, final) for asked, final in settled if final is not None]
        try:
            self._records.write(done)
        except LedgerError as error:
            done = []
            self._fail(error, halt=True)
        with self._changed:
            self._unsettled -= len(group)
            for asked, final in done:
                self._shelf.put(asked.number, to_result(asked, final))
            self._changed.notify_all()

    def _settle(self, flight: InFlight, future: Future[Reply]) -> Reply | None:
        """Return the row's last word; ``None`` where it is asked again, or was stopped."""
        try:
            came = reply_of(future)
        except ProviderError as error:
            if not self._halted:
                self._fail(error)
            return None
        if self._halted and came.outcome == "cancelled":
            return None
        flight.attempts += came.attempts
        flight.seconds += came.seconds
        if came.error is None:
            self._answered += 1
        elif self._again(flight, came, came.error):
            return None
        return replace(came, attempts=flight.attempts, seconds=flight.seconds)

    def _again(self, flight: InFlight, came: Reply, error: ProviderError) -> bool:
        """Put a failed row back in line, if it is worth it; let everybody wait if asked to."""
        hold = pause_requested(error)
        if hold is not None and hold > LONGEST_HOLD_S:
            self._fail(error)
        elif hold is not None:
            self._pace.hold(hold)
        progress = self._answered > flight.answered_before
        wait = flight.retry_budget.delay_before_retry(came.started, error, progress)
        if wait is None or self._failure is not None or self._halted:
            return False
        heapq.heappush(self._retries, (time.monotonic() + wait, flight.row.number, flight))
        return True

    # --- ending

    def _fail(self, error: BaseException, halt: bool = False) -> None:
        """Start nothing more; raise this when all has ended, or at once (``halt``)."""
        with self._changed:
            if halt or self._failure is None:
                self._failure = error
            self._more = False
            self._waiting = None
            self._retries.clear()
            self._shelf.release_order()
            self._halted = self._halted or halt
            self._changed.notify_all()

    def _stop(self) -> None:
        """Stop everything; what has finished by now is still recorded."""
        with self._changed:
            self._halted = True
            running = list(self._in_flight)
        self._token.cancel()
        for future in running:
            future.cancel()
        self._inbox.put(None)
