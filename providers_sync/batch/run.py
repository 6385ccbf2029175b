"""The run of one batch: read rows, keep requests in flight, retry, record, yield results.

The caller's thread reads the inputs and starts requests, each time it takes a result. A second
thread, the recorder, processes finished requests, decides which rows are retried, and writes all
that have finished to the disk together: 64 workers share one ``fsync``.
"""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Generator, Mapping
from concurrent.futures import Executor, Future
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from ..clock import monotonic
from ..config import MAIN_THREAD_WAIT_S
from ..errors import ProviderError
from ..providers import Provider
from ..stream import CancelToken
from ..threads import start_thread
from .executor import DaemonThreadPool
from .inbox import Inbox
from .ledger import LedgerError
from .ledger_records import LedgerRecords
from .pacing import LONGEST_PAUSE_S, InFlight, RateLimiter, RetryBudget, pause_requested
from .result_buffer import ResultBuffer
from .results import Reply, Result, to_result
from .rows import Row
from .stopping import Stopping, is_unreachable
from .waiting import WaitingRows
from .worker import reply_or_error, submit

AHEAD = 2
"""Rows read but not yet yielded, per concurrent request: a slow caller delays no request."""
AHEAD_ORDERED = 16
"""The same for ordered results, where one slow answer keeps later ones in the buffer."""
RESUME_HINT = "the answers in {} are kept: run the same batch again to resume"


class BatchRun:
    """One call of ``map``, with its arguments as checked; ``results()`` is what ``map`` returns."""

    def __init__(
        self,
        provider: Provider,
        rows: Generator[Row, None, None],
        *,
        concurrency: int,
        executor: Executor | None,
        ledger: Any,
        ordered: bool,
        rate: float | None,
        stopping: Stopping,
        raise_errors: bool,
        typed: Mapping[str, Any],
    ) -> None:
        self._provider = provider
        self._rows = rows
        self._concurrency = concurrency
        self._executor = executor
        self._ledger = ledger
        self._typed = typed
        self._raise_errors = raise_errors
        self._max_undelivered = concurrency * (AHEAD_ORDERED if ordered else AHEAD)
        self._batch_id = uuid.uuid4().hex
        self._context = copy_context()  # the caller's; each hook and request runs in a copy
        self._token = CancelToken()
        self._inbox = Inbox()
        # The following are shared with the recorder, under this lock.
        self._changed = threading.Condition()
        self._rate_limiter = RateLimiter(rate)
        self._stopping = stopping
        self._buffer = ResultBuffer(ordered)
        self._waiting = WaitingRows()
        self._in_flight: set[Future[Reply]] = set()
        self._unsettled = 0
        self._undelivered = 0
        self._answered = 0
        self._more_inputs = True
        self._failure: BaseException | None = None
        self._halted = False
        self._has_unsent = False  # of the caller's thread

    def results(self) -> Generator[Result, None, None]:
        """Yield every row's result; closing the generator stops all requests."""
        own = DaemonThreadPool(self._concurrency) if self._executor is None else None
        executor = own or self._executor
        assert executor is not None
        recorder = threading.Thread(target=self._record, name="providers-sync-recorder")
        records = self._records = LedgerRecords(self._ledger, self._typed)
        try:
            start_thread(recorder)
            while (result := self._next_result(executor)) is not None:
                if self._stopping.raises and result.error is self._stopping.error is not None:
                    self._has_unsent = True
                    self._end_reading()
                    continue
                if result.error is not None and self._raise_errors:
                    raise result.error
                yield result
            if self._failure is not None:
                raise self._failure
            if self._has_unsent and self._stopping.raises and self._stopping.error is not None:
                raise self._stopping.error
        except KeyboardInterrupt as interrupt:
            if records.path is not None:
                interrupt.args = (RESUME_HINT.format(records.path),)
            raise
        finally:
            self._stop()
            self._rows.close()  # and with it a file that ``read`` has opened
            if own is not None:
                own.shutdown()
            if recorder.ident is None:  # it was never started
                records.close()
            # A garbage collection in the recorder may close the generator.
            elif threading.current_thread() is not recorder:
                recorder.join()

    def _next_result(self, executor: Executor) -> Result | None:
        """Start requests as far as allowed and wait for a result; return ``None`` at the end."""
        while True:
            while (in_flight := self._next_to_send()) is not None:
                self._start(in_flight, executor)
            with self._changed:
                if (result := self._buffer.take()) is not None:
                    self._undelivered -= 1
                    return result
                pending = self._unsettled or self._waiting or self._more_inputs
                if self._halted or not pending:
                    return None
                wait = self._seconds_until_start()
                if wait > 0:
                    self._changed.wait(min(wait, MAIN_THREAD_WAIT_S))

    # --- starting, in the caller's thread

    def _seconds_until_start(self) -> float:
        """Return the seconds until a request may start; infinity while none may."""
        if self._failure is not None or len(self._in_flight) >= self._concurrency:
            return math.inf
        may_read = self._more_inputs and self._undelivered < self._max_undelivered
        due = 0.0 if may_read else self._waiting.due()
        return max(due, self._rate_limiter.next_start()) - monotonic()

    def _next_to_send(self) -> InFlight | None:
        """Return the row to send now, if any."""
        while True:
            with self._changed:
                for number, result in self._waiting.drop(self._stopping):
                    self._buffer.put(number, result)
                    self._has_unsent = True
                is_time = self._seconds_until_start() <= 0
                if is_time and (waiting := self._waiting.take()) is not None:
                    return waiting
                # With nothing in progress, read ahead to see whether there is another row at all.
                if not is_time and (self._undelivered or not self._more_inputs):
                    return None
            in_flight = self._read_row()
            if in_flight is not None and (is_time or in_flight.row.error is not None):
                return in_flight
            with self._changed:
                self._waiting.add_early(in_flight if self._failure is None else None)

    def _read_row(self) -> InFlight | None:
        """Read the next input; return ``None`` at the end, or if the result is known already."""
        try:
            row = next(self._rows, None)
            known = (
                None if row is None else self._records.find(row) or self._stopping.result_of(row)
            )
        except Exception as error:  # noqa: BLE001 (from the caller's iterable; raised at the end)
            self._fail(error)
            return None
        with self._changed:
            if row is None:
                self._more_inputs = False
                return None
            self._undelivered += 1
            if known is not None:
                self._buffer.put(row.number, known)
                return None
        return InFlight(row, RetryBudget(self._provider))

    def _start(self, in_flight: InFlight, executor: Executor) -> None:
        with self._changed:
            self._unsettled += 1
            if in_flight.row.error is None:
                self._rate_limiter.note_start()
            in_flight.answered_before = self._answered
            in_flight.retry_budget.note_start()
        try:
            ticket = f"{self._batch_id}:{in_flight.row.number}:{in_flight.attempts}"
            context = self._context.copy()
            future = submit(
                executor, self._provider, in_flight.row, self._token, ticket, context, self._typed
            )
        except ProviderError as error:
            with self._changed:
                self._unsettled -= 1
            self._fail(error)
            return
        with self._changed:
            self._in_flight.add(future)
        future.add_done_callback(lambda done: self._inbox.put(in_flight, done))

    # --- settling, in the recorder

    def _record(self) -> None:
        try:
            while group := self._inbox.take_finished():
                self._settle_group(group)
        except BaseException as error:  # noqa: BLE001 (else the caller would wait forever)
            self._fail(error, halt=True)
        finally:
            self._records.close()

    def _settle_group(self, group: list[tuple[InFlight, Future[Reply]]]) -> None:
        # Without the lock: a future has its own, and a retry may run code of the caller's.
        settled = [
            (in_flight.row, self._settle(in_flight, reply_or_error(future)))
            for in_flight, future in group
        ]
        with self._changed:
            self._in_flight.difference_update(future for _, future in group)
            self._changed.notify_all()  # others may start while these replies are written
        done = [(row, reply) for row, reply in settled if reply is not None]
        try:
            self._records.write(done)
        except LedgerError as error:
            done = []
            self._fail(error, halt=True)
        with self._changed:
            self._unsettled -= len(group)
            for row, reply in done:
                self._buffer.put(row.number, to_result(row, reply))
            self._changed.notify_all()

    def _settle(self, in_flight: InFlight, reply: Reply | ProviderError) -> Reply | None:
        """Return the row's final reply, or ``None`` if it is retried or was stopped."""
        if isinstance(reply, ProviderError):
            if not self._halted:
                self._fail(reply)
            return None
        if self._halted and reply.outcome == "cancelled":
            return None
        in_flight.attempts += reply.attempts
        in_flight.seconds += reply.seconds
        if self._typed:
            with self._changed:
                for _ in range(1, reply.attempts):
                    self._rate_limiter.note_start()
        if reply.error is None:
            with self._changed:
                self._answered += 1
                self._rate_limiter.note_answer()
        elif self._schedule_retry(in_flight, reply, reply.error):
            return None
        with self._changed:
            self._stopping.note(in_flight, reply, self._answered)
        return replace(reply, attempts=in_flight.attempts, seconds=in_flight.seconds)

    def _schedule_retry(self, in_flight: InFlight, reply: Reply, error: ProviderError) -> bool:
        """Schedule a retry of a failed row; return whether there is one. Pause all if requested."""
        pause = pause_requested(error)
        if pause is not None and pause > LONGEST_PAUSE_S:
            self._fail(error)
        elif pause is not None:
            with self._changed:
                self._rate_limiter.pause(pause)
        elif self._answered and is_unreachable(error):
            with self._changed:
                self._rate_limiter.pause_for_outage()
        # Without the lock: a lent policy is the caller's code, and so is a handler of the logger.
        progress = self._answered > in_flight.answered_before
        delay = self._context.copy().run(
            in_flight.retry_budget.delay_before_retry, reply.started, error, progress
        )
        if delay is None or self._failure or self._halted or self._stopping.error:
            return False
        in_flight.failed = reply
        in_flight.log_retry(self._provider, error, max(delay, pause or 0.0))
        with self._changed:
            if self._failure is not None or self._halted:
                return False
            self._waiting.add_retry(in_flight, delay)
        return True

    # --- ending

    def _end_reading(self) -> None:
        """Read no more inputs, unless some of them have answers in the ledger."""
        if not self._records.left:
            with self._changed:
                self._more_inputs = False

    def _fail(self, error: BaseException, halt: bool = False) -> None:
        """Start no more requests; raise this after those in progress, or at once (``halt``)."""
        with self._changed:
            if halt or self._failure is None:
                self._failure = error
            self._more_inputs = False
            self._waiting.clear()
            self._buffer.release_order()
            self._halted = self._halted or halt
            self._changed.notify_all()

    def _stop(self) -> None:
        """Stop all requests; those that have finished are still recorded."""
        with self._changed:
            self._halted = True
            running = list(self._in_flight)
        self._token.cancel()
        for future in running:
            future.cancel()
        self._inbox.close()
