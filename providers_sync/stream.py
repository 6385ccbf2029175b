"""The thread behind a stream, its bounded buffer, its clocks and its verdict; knows no HTTP.

A source is a callable that takes the ``Pipe``, yields the deltas of one answer and tells the pipe
where it stands: ``attempt`` (with a callable that stops it), ``connected``, ``sent``, ``opened``,
``received`` after every read, ``flush`` before the next. It runs in a daemon thread, which holds
the pipe and never the ``Stream``: when the last reference to the ``Stream`` goes, so does all else.

The clocks are kept by whoever waits: the reader's own wait ends when the next clock is due, so
that dripped bytes and keep-alives cannot put it off. While nobody waits, the thread looks at the
clocks after each read.
"""

from __future__ import annotations

import io
import math
import operator
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

from . import workers
from .config import AFTER_FINISH_S, BUFFER_BYTES, SIGNAL_S, Timeouts
from .errors import APITimeoutError, Attempt, ProviderError, StreamCancelled
from .types import (
    Completion,
    Delta,
    Event,
    Finish,
    Frozen,
    Outcome,
    ReasoningDelta,
    Refusal,
    ServedModel,
    Stats,
    TextDelta,
    ToolCall,
    ToolCallBegun,
    Usage,
)

Source = Callable[["Pipe"], Iterator[Delta]]

_CLOCK_TEXT = {
    "connect": "no connection within {} s",
    "first_token": "no first word within {} s of the request",
    "idle": "the server fell silent for {} s in the middle of the answer",
    "total": "the answer took longer than {} s in all",
}
_NEVER = (math.inf, "")
_NOT_EVENTS = (Usage, Finish, ServedModel)


class Ended(Exception):
    """The reader has gone or its clock has fired; ends the source, never leaves the package."""


class CancelToken:
    """A stop button for calls that have not returned yet; give it as ``cancel=`` to any number.

    ``cancel()`` may come from any thread, a signal handler or a finalizer, and in every phase of
    a call; the calls end with ``StreamCancelled``. A cancelled token stays so.
    """

    def __init__(self) -> None:
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel()`` has been called."""
        return self._cancelled

    def cancel(self) -> None:
        """Stop every call that was given this token, now and later."""
        with self._lock:
            self._cancelled = True
            streams = list(self._streams)
        for stream in streams:
            stream.cancel()

    def _attach(self, stream: Stream) -> None:
        with self._lock:
            self._streams.add(stream)
            cancelled = self._cancelled
        if cancelled:
            stream.cancel()

    def _detach(self, stream: Stream) -> None:
        with self._lock:
            self._streams.discard(stream)


class Pipe:
    """What the thread and the reader share: the buffer between them, the clocks, the end."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self.began = time.monotonic()
        self.first_text_at: float | None = None
        self.ended_at: float | None = None
        self.attempts = 0
        self.bytes = 0
        self.headers: Mapping[str, str] = {}
        self.request_id: str | None = None
        self.is_open = False
        self.started = False
        """Whether an event has come: text, reasoning, refusal or tool call."""
        self.marked = False
        """Whether the end marker has come."""
        self.patient = False
        """Whether the call waits for the first event, and ``first_token`` ends one attempt only."""
        self.failures: list[Attempt] = []
        """The providers that failed before the one that is asked now."""
        self.on_end: Callable[[], None] | None = None
        """Called, under the lock, when a clock or the source has ended the call."""
        self.buffer: list[Delta] = []
        """What the reader has not taken yet."""
        self.ended = False
        self.error: ProviderError | None = None
        self._total_at = self.began + (timeouts.total or math.inf)
        self._due: tuple[float, str] = (self._total_at, "total")
        self._waits_until = -math.inf
        """When the reader that waits looks at the clocks again by itself."""
        self._idle = timeouts.idle
        self._fired: str | None = None
        self._late: str | None = None
        self._stop: Callable[[], None] = lambda: None
        self._collected: list[Delta] = []
        self._buffered = 0
        self._blocked = False
        self._wake: Callable[[], None] | None = None
        self._make_locks()
        self._set_clock("connect", timeouts.connect)

    def _make_locks(self) -> None:
        # Reentrant: a finalizer may cancel in the very thread that holds the lock. The reader waits
        # for the bell and never for the condition, whose Python code Ctrl-C may leave half done.
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._bell = threading.Lock()
        self._bell.acquire()

    # --- the thread's side

    def run(self, source: Source) -> None:
        """Run the source to its end; every way out leaves a verdict."""
        try:
            for delta in source(self):
                self._collected.append(delta)
                if delta.__class__ is Finish:
                    self._mark()
            self._end(None)
        except Ended:
            self._end(StreamCancelled("the stream was stopped"))
        except ProviderError as error:
            self._end(error)
        except BaseException as error:  # noqa: BLE001 (the reader must never wait in vain)
            failure = ProviderError(f"unexpected {type(error).__name__} in the stream's thread")
            failure.__cause__ = error
            self._end(failure)

    def _mark(self) -> None:
        """The end marker: what may still follow is usage and ``[DONE]``."""
        with self.lock:
            self.marked = True
            self._idle = min(AFTER_FINISH_S, self._idle or math.inf)
            self._set_clock("idle", self._idle)

    def attempt(self, stop: Callable[[], None]) -> None:
        """Begin an attempt that ``stop`` interrupts from any thread."""
        with self.lock:
            if self.time_left() <= 0:
                self._fire("total")
            self._check()
            self._stop = stop
            self._fired = None
            if self._ends_attempt(self._late):
                self._late = None
            self.attempts += 1
            self._collected.clear()
            self.marked, self._idle = False, self.timeouts.idle
            self._set_clock("connect", self.timeouts.connect)

    def connected(self) -> None:
        """Note that the request is going out."""
        self._set_clock("first_token", self.timeouts.first_token)

    sent = connected  # the clock runs from the request; sending has the same time to itself

    def opened(self, headers: Mapping[str, str], request_id: str | None) -> None:
        """Note good headers: the call may return."""
        with self.lock:
            self._check()
            self.headers, self.request_id = headers, request_id
            self.is_open = not self.patient
            self._notify()

    def received(self, size: int) -> None:
        """Note a read of ``size`` body bytes."""
        now = time.monotonic()
        self.bytes += size
        self._buffered += size
        due, clock = self._due
        if now > due and clock != "idle":
            self._late = self._late or clock  # after what was read has been handed over
        elif self.started:
            self._set_clock("idle", self._idle, now)

    def flush(self) -> None:
        """Hand over what was decoded, waiting while the reader has too much before it."""
        if self._collected and (self.started or self._is_first_event()):
            with self.lock:
                self._hand_over()
                if self._buffered > BUFFER_BYTES:
                    self._wait_for_room()
        if self._late:
            self._fire(self._late)
        if self.ended:
            raise Ended

    def interrupted(self) -> Exception:
        """Return why the running attempt was stopped from outside."""
        if self._fired and not self.ended:
            return self._timeout(self._fired)
        return Ended()

    def sleep(self, seconds: float) -> None:
        """Wait before the next attempt; only ``total`` and the end of the stream interrupt it."""
        until = time.monotonic() + seconds
        with self.lock:
            self._due = (self._total_at, "total")
            while (left := until - time.monotonic()) > 0:
                self._check()
                self.changed.wait(left)
            self._check()

    def has_begun(self) -> bool:
        """Tell whether an event has come, be it in the very read that ended in a failure."""
        return self.started or self._is_first_event()

    def time_left(self) -> float:
        """Return the seconds until ``total``."""
        return self._total_at - time.monotonic()

    def clock_left(self) -> float:
        """Return the seconds until the clock that runs now."""
        return self._due[0] - time.monotonic()

    def _check(self) -> None:
        if self.ended:
            raise Ended

    def _is_first_event(self) -> bool:
        with self.lock:  # a clock may be firing: the first event comes before it, or not at all
            if self._fired or self._ends_attempt(self._late):
                return False
            self.started = any(not isinstance(delta, _NOT_EVENTS) for delta in self._collected)
            if self.started:
                self._set_clock("idle", self._idle)
            return self.started

    def _hand_over(self) -> None:
        if self.first_text_at is None and any(delta.__class__ is str for delta in self._collected):
            self.first_text_at = time.monotonic()
        if not self.ended:
            self.buffer += self._collected
            self.is_open = self.is_open or self.started
            self._notify()
        self._collected = []

    def _wait_for_room(self) -> None:
        self._blocked = True
        self._due = (self._total_at, "total")
        while self._buffered > BUFFER_BYTES and not self.ended:
            left = self.time_left()
            if left <= 0:
                self._fire("total")
            self.changed.wait(None if left == math.inf else left)
        self._blocked = False

    def _set_clock(self, clock: str, allowed: float | None, now: float | None = None) -> None:
        at = (now or time.monotonic()) + (allowed or math.inf)
        self._due = (at, clock) if at < self._total_at else (self._total_at, "total")
        if self._due[0] < self._waits_until:  # a reader that sleeps longer has to be told
            with self.lock:
                self._notify()

    def _timeout(self, clock: str) -> APITimeoutError:
        limit = f"{getattr(self.timeouts, clock):g}"
        return APITimeoutError(f"{_CLOCK_TEXT[clock].format(limit)} ({clock} clock)", clock=clock)

    def _end(self, error: ProviderError | None) -> None:
        with self.lock:
            if self._ends_attempt(self._late):
                self._late = None  # it was the last attempt, and has ended by itself
            if self._collected and not self.ended:
                self.started = self.started or self._is_first_event()
                self._hand_over()
            if self._late:
                error = self._timeout(self._late)
            self._set_end(error)

    # --- either side, under the lock

    def _notify(self) -> None:
        self.changed.notify_all()
        self._ring()
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def _ring(self) -> None:
        if self._bell.locked():
            self._bell.release()

    def _set_end(self, error: ProviderError | None) -> None:
        if not self.ended:
            self.ended = True
            self.ended_at = time.monotonic()
            self.error = error
            if self.on_end is not None:
                self.on_end()
        self._notify()

    def _fire(self, clock: str) -> None:
        """A clock has run out: give up the attempt or the whole call."""
        with self.lock:
            if self.ended:
                return
            if self._ends_attempt(clock):
                self._fired, self._late = clock, None
                self._due = (self._total_at, "total")
            elif self.marked and not self._late:
                self._set_end(None)  # the answer was whole; only its afterword is missing
            else:
                self._set_end(self._timeout(clock))
            self._stop()

    def _ends_attempt(self, clock: str | None) -> bool:
        return clock == "connect" or (clock == "first_token" and self.patient and not self.started)

    # --- the reader's side

    def wait_open(self) -> None:
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

    def taken(self) -> None:
        """Note, under the lock, that the reader has emptied ``buffer``."""
        self._buffered = 0
        if self._blocked:  # from now on the thread waits for the server again
            self._blocked = False
            self._set_clock("idle", self._idle)
            self.changed.notify_all()

    def news(self, wake: Callable[[], None], opening: bool = False) -> bool:
        """Tell whether ``wait_open()`` (``opening``) or ``take()`` would return at once.

        For a reader that must not block: if not, ``wake`` is called once, at the next change, from
        any thread and under the lock; the reader comes back then, or when ``clock_left()`` is over.
        """
        with self.lock:
            if self.clock_left() <= 0:
                self._fire(self._due[1])
            ready = self.ended or (self.is_open if opening else bool(self.buffer))
            self._waits_until = self._due[0]
            self._wake = None if ready else wake
            return ready

    def stop(self, error: ProviderError | None) -> list[Delta]:
        """End the call from the reader's side; return what it had not taken yet."""
        with self.lock:
            # The thread may have ended before, but for the reader the call had not.
            self.ended_at = self.ended_at or time.monotonic()
            self.ended, self.error = True, error
            self._notify()
            self._stop()
            left, self.buffer = self.buffer, []
            return left

    def disown(self) -> None:
        """In a forked child: the thread and the connection are the parent's and stay untouched."""
        self._make_locks()  # the old ones may be held for ever
        self._stop = lambda: None
        self._wake = self.on_end = None  # what they call may wait for a lock of the parent's
        with self.lock:
            self._set_end(ProviderError("the stream belongs to the process that opened it"))

    def _wait(self, at_most: float) -> None:
        """Wait for the next change or clock, without the lock, at most so many seconds."""
        with self.lock:
            due, clock = self._due
            left = due - time.monotonic()
            if left <= 0:
                self._fire(clock)
                return
            self._waits_until = due
        is_main = threading.current_thread() is threading.main_thread()
        self._bell.acquire(True, min(left, at_most, SIGNAL_S if is_main else threading.TIMEOUT_MAX))
        if self.ended:
            with self.lock:
                self._ring()  # for others who read the same stream


_streams: weakref.WeakSet[Stream] = weakref.WeakSet()


def open_streams() -> list[Stream]:
    """Return the streams that nobody has read to their end or closed."""
    while True:
        try:
            return [stream for stream in _streams if stream.outcome is None]
        except RuntimeError:  # another thread has begun one meanwhile
            continue


def _after_fork() -> None:
    for stream in list(_streams):
        stream._pipe.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Opening(Frozen):
    """A call made ready: everything checked, nothing sent."""

    source: Source
    timeouts: Timeouts
    cancel: CancelToken | None = None
    model: str | None = None
    """The name asked for."""

    def open(self) -> Stream:
        """Run the source in a thread; return its stream once the source has said ``opened``.

        Raises what the source raises until then.
        """
        stream = self.begin()
        try:
            stream._pipe.wait_open()
        except BaseException:  # Ctrl-C while waiting
            stream.close()
            raise
        stream._opened()
        return stream

    def begin(self) -> Stream:
        """Run the source in a thread; return its stream at once, for a reader that cannot wait."""
        stream = Stream(Pipe(self.timeouts), self.cancel, self.model)
        stream._begin(self.source)
        return stream


class Stream:
    """A streamed answer: an iterator of its text, chunk by chunk as the server sends it.

    Also a context manager, which closes it. Dropping the last reference closes it too.
    ``next()`` raises a ``ProviderError`` where the answer fails, after all that had arrived was
    handed over; after ``cancel()`` it raises ``StreamCancelled`` at once.
    """

    def __init__(self, pipe: Pipe, cancel: CancelToken | None, model: str | None) -> None:
        self._pipe = pipe
        self._token = cancel
        self._outcome: Outcome | None = None
        self._error: ProviderError | None = None
        # What was handed over: the settled text, its length and chunks with the batch that the
        # reader is in, and the rest of that. Ctrl-C may come between any two calls, so that each
        # step is one assignment.
        self._before = io.StringIO()
        self._at: tuple[int, int, list[Delta]] = (0, 0, [])
        self._rest: Iterator[Delta] = iter(())
        self.model = model
        """The model's name as the server gives it, until then as it was asked for."""
        self.finish_reason: str | None = None
        """Why the model stopped: ``stop``, ``length``, …, as the server says it."""
        self.usage: Usage | None = None
        """Tokens counted by the server, if it says."""
        self.tool_calls: list[ToolCall] = []
        """The whole calls the model has asked for so far."""
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._on_end: Callable[[Stream], None] | None = None
        """Called once, by whoever ends the stream, when the verdict is there."""
        _streams.add(self)

    def _begin(self, source: Source) -> None:
        if self._token is not None:
            self._token._attach(self)
        if self._outcome is None:
            workers.run(self._pipe.run, source)

    def _opened(self) -> None:
        """Raise what has gone wrong before the headers."""
        if not self._pipe.is_open or self._outcome is not None:
            self._refill()

    # --- reading

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        while True:
            for delta in self._rest:
                if delta.__class__ is str:
                    return delta
                self._note(delta)
            if not self._refill():
                raise StopIteration

    def events(self) -> Iterator[Event]:
        """Yield typed events from where the reader stands; raises like ``next``."""
        while True:
            yield from self.ready_events()
            if not self._refill():
                return

    def ready_events(self) -> Iterator[Event]:
        """Yield the events that are at hand, without waiting."""
        for delta in self._rest:
            if isinstance(delta, str):
                yield TextDelta(delta)
            else:
                self._note(delta)
                if not isinstance(delta, (ServedModel, ToolCallBegun)):
                    yield delta

    def read(self) -> str:
        """Return the rest of the text; raises like ``next``."""
        before = len(self.text)
        while self._refill():
            pass
        text = self.text
        return text[before:] if before else text

    def wait(self, seconds: float) -> bool:
        """Wait for news, at most so long; return whether there is some: events, or the end.

        For a reader with something to do meanwhile, such as a spinner or a keep-alive:
        ``while not stream.wait(0.5): show_that_we_live()``. Raises nothing; ``next()`` does.
        """
        if self._outcome is not None or operator.length_hint(self._rest):
            return True
        return self._pipe.wait(seconds)

    def _refill(self) -> bool:
        """Get the next batch; ``False`` at a good end. Raises the error at a bad one."""
        self._settle()
        if self._outcome is None:
            try:
                self._pipe.wait()
            except BaseException:  # Ctrl-C while waiting
                self.close()
                raise
        with self._pipe.lock:
            if self._outcome is None:
                if self._pipe.buffer:
                    self._take()
                else:
                    self._finish()
            if self._error is not None:
                raise self._error
            return self._outcome is None

    def _take(self) -> None:
        """Take the buffer from the pipe."""
        pipe, (length, chunks, _) = self._pipe, self._at
        batch = pipe.buffer
        rest = iter(batch)
        # A signal handler that has cancelled meanwhile has taken the buffer already.
        pipe.buffer, self._at, self._rest = [], (length, chunks, self._at[2] or batch), rest
        pipe.taken()
        if self._outcome is not None:
            self._rest = iter(())

    def _settle(self) -> None:
        """Put the batch that was handed over behind us."""
        for delta in self._rest:
            if delta.__class__ is not str:
                self._note(delta)
        length, chunks, batch = self._at
        size = len(batch)
        texts = [delta for delta in batch if isinstance(delta, str)]
        text = "".join(texts)
        if self._before.tell() != length:  # written and not noted: the last time was interrupted
            self._before.seek(length)
            self._before.truncate()
        self._before.write(text)
        length, chunks = length + len(text), chunks + len(texts)
        # A signal handler that has cancelled meanwhile has added to the batch.
        self._at = (length, chunks, self._at[2][size:])

    def _note(self, delta: Delta) -> None:
        if isinstance(delta, Finish):
            self.finish_reason = delta.reason or self.finish_reason
        elif isinstance(delta, Usage):
            self.usage = delta
        elif isinstance(delta, ServedModel):
            self.model = delta.name
        elif isinstance(delta, ToolCall):
            self.tool_calls.append(delta)
        elif isinstance(delta, ReasoningDelta):
            self._reasoning.append(delta.text)
        elif isinstance(delta, Refusal):
            self._refusal.append(delta.text)

    def _finish(self) -> None:
        if self._outcome is not None:
            return
        error = self._error = self._pipe.error
        if error is None:
            self._outcome = Outcome.COMPLETE if self._pipe.marked else Outcome.UNVERIFIED
        else:
            self._outcome = error.outcome
            error.partial = self.text
            error.attempts = self.attempts
        self._let_go()

    def _let_go(self) -> None:
        if self._token is not None:
            self._token._detach(self)
        if self._on_end is not None:
            self._on_end(self)

    # --- stopping

    def cancel(self) -> None:
        """Stop now, from any thread: the waiting or the next ``next()`` raises ``StreamCancelled``.

        What had arrived and was not handed over is in ``.text`` and the error's ``.partial``.
        After the end this changes nothing.
        """
        self._stop(StreamCancelled("the stream was cancelled"))

    def close(self) -> None:
        """Stop now; the iterator is at its end. After the end this changes nothing."""
        self._stop(None)

    def _stop(self, error: StreamCancelled | None) -> None:
        with self._pipe.lock:
            if self._outcome is not None:
                return
            self._outcome = Outcome.CANCELLED
            rest = self._pipe.stop(error)
            self._rest, waiting = iter(()), self._rest
            for delta in [*waiting, *rest]:
                if delta.__class__ is not str:
                    self._note(delta)
            length, chunks, batch = self._at
            self._at = (length, chunks, batch + rest)
            if error is not None:
                error.partial = self.text
                self._error = error
        self._let_go()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._outcome is None:
            self.close()

    # --- looking

    @property
    def outcome(self) -> Outcome | None:
        """The verdict; ``None`` until the reader has come to the end."""
        return self._outcome

    @property
    def text(self) -> str:
        """The text handed over so far; after ``cancel()`` and ``close()`` all that had arrived."""
        with self._pipe.lock:
            texts = [delta for delta in self._handed_over() if isinstance(delta, str)]
            before = self._before.getvalue()[: self._at[0]]
            return before + "".join(texts) if texts else before

    @property
    def reasoning(self) -> str:
        """What the model has thought aloud so far; not part of ``.text``."""
        return "".join(self._reasoning)

    def _handed_over(self) -> list[Delta]:
        batch = self._at[2]
        return batch[: len(batch) - operator.length_hint(self._rest)]

    @property
    def headers(self) -> Mapping[str, str]:
        """The response headers of the last attempt."""
        return self._pipe.headers

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The providers of a ``Failover`` that failed before this answer; empty elsewhere."""
        return tuple(self._pipe.failures)

    @property
    def request_id(self) -> str | None:
        """The server's name for the last attempt's request, if it gives one."""
        return self._pipe.request_id

    @property
    def stats(self) -> Stats:
        """Times, chunks, bytes and attempts so far."""
        pipe = self._pipe
        with pipe.lock:
            chunks = sum(isinstance(delta, str) for delta in self._handed_over())
            first, end = pipe.first_text_at, pipe.ended_at or time.monotonic()
            return Stats(
                first_chunk_s=None if first is None else first - pipe.began,
                duration_s=end - pipe.began,
                chunks=self._at[1] + chunks,
                bytes=pipe.bytes,
                attempts=pipe.attempts,
            )

    def completion(self) -> Completion:
        """Read the rest and return the whole answer; raises like ``next``."""
        self.read()
        assert self._outcome is not None
        return Completion(
            text=self.text,
            finish_reason=self.finish_reason,
            usage=self.usage,
            model=self.model,
            outcome=self._outcome,
            stats=self.stats,
            reasoning=self.reasoning,
            tool_calls=tuple(self.tool_calls),
            refusal="".join(self._refusal),
        )

    def __repr__(self) -> str:
        return f"<Stream of {self.model}: {self._outcome or 'running'}, {self.stats.chunks} chunks>"
