"""What the reader holds: the answer as an iterator, its text so far, and its verdict."""

from __future__ import annotations

import io
import operator
import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from sys import is_finalizing
from types import TracebackType
from typing import Any, NoReturn

from ..errors import ProviderError, ProviderFailure, StreamCancelled
from ..types import (
    Completion,
    Delta,
    Event,
    Finish,
    Outcome,
    ReasoningDelta,
    Refusal,
    ServedModel,
    Stats,
    TextDelta,
    ToolCall,
    ToolCallStarted,
    Usage,
)
from . import workers
from .cancel import CancelToken, attach, detach
from .channel import Channel, Source

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
        stream._channel.abandon("the stream belongs to the process that opened it")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Stream:
    """A streamed answer: an iterator of its text, chunk by chunk as the server sends it.

    Also a context manager, which closes it. Dropping the last reference closes it too.
    ``next()`` raises a ``ProviderError`` where the answer fails, after all that had arrived was
    handed over; after ``cancel()`` it raises ``StreamCancelled`` at once.
    """

    def __init__(self, pipe: Channel, cancel: CancelToken | None, model: str | None) -> None:
        self._channel = pipe
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

    def _start(self, source: Source) -> None:
        if self._token is not None:
            attach(self._token, self)
        if self._outcome is None:
            workers.run(self._channel.run, source)

    def _raise_early_failure(self) -> None:
        if not self._channel.is_open or self._outcome is not None:
            self._refill()

    @property
    def _lock(self) -> Any:
        """The lock between the stream's thread and its readers."""
        if is_finalizing():
            # What is finalized now may close a stream. Its thread will not run again, and where
            # it was stopped with the lock in its hand, the exit would wait for ever.
            self._channel.abandon("the interpreter is at its end")
        return self._channel.lock

    # --- reading

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        while True:
            rest = self._rest
            for delta in rest:
                if delta.__class__ is str:
                    return delta
                self._note(delta)
            if not self._refill(rest):
                raise StopIteration

    def events(self) -> Iterator[Event]:
        """Yield typed events from where the reader stands; raises like ``next``."""
        while True:
            rest = self._rest
            yield from self._typed(rest)
            if not self._refill(rest):
                return

    def ready_events(self) -> Iterator[Event]:
        """Yield the events that are at hand, without waiting."""
        return self._typed(self._rest)

    def _typed(self, rest: Iterator[Delta]) -> Iterator[Event]:
        for delta in rest:
            if isinstance(delta, str):
                yield TextDelta(delta)
            else:
                self._note(delta)
                if not isinstance(delta, (ServedModel, ToolCallStarted)):
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
        return self._channel.wait(seconds)

    def _refill(self, rest: Iterator[Delta] | None = None) -> bool:
        """Get the next batch; ``False`` at a good end. Raises the error at a bad one.

        ``rest`` is the batch that the caller has read. Where it is no longer the stream's, another
        reader has gone on meanwhile, and what that one got is there for both.
        """
        with self._lock:
            if rest is None or rest is self._rest:
                self._settle()
                rest = self._rest
        if self._outcome is None and rest is self._rest:
            try:
                self._channel.wait()
            except BaseException:  # Ctrl-C while waiting
                self.close()
                raise
        with self._lock:
            if self._outcome is None and rest is self._rest:
                if self._channel.buffer:
                    self._take()
                else:
                    self._finish()
            if self._error is not None:
                raise self._error
            return self._outcome is None

    def _take(self) -> None:
        """Take the buffer from the pipe."""
        pipe, (length, chunks, _) = self._channel, self._at
        batch = pipe.buffer
        rest = iter(batch)
        # A signal handler that has cancelled meanwhile has taken the buffer already.
        pipe.buffer, self._at, self._rest = [], (length, chunks, self._at[2] or batch), rest
        pipe.buffer_taken()
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
        error = self._error = self._channel.error
        if error is None:
            self._outcome = Outcome.COMPLETE if self._channel.has_end_marker else Outcome.UNVERIFIED
        else:
            self._outcome = error.outcome
            error.partial = self.text
            error.attempts = self.attempts
        self._let_go()

    def _let_go(self) -> None:
        if self._token is not None:
            detach(self._token, self)
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
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = Outcome.CANCELLED
            rest = self._channel.stop(error)
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

    def __del__(self, is_finalizing: Callable[[], bool] = is_finalizing) -> None:
        # At the interpreter's end the connection goes with the process; names may be gone already.
        if self._outcome is None and not is_finalizing():
            self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream is a connection and cannot be copied; completion() can")

    # --- looking

    @property
    def outcome(self) -> Outcome | None:
        """The verdict; ``None`` until the reader has come to the end."""
        return self._outcome

    @property
    def text(self) -> str:
        """The text handed over so far; after ``cancel()`` and ``close()`` all that had arrived."""
        with self._lock:
            texts = [delta for delta in self._handed_over() if isinstance(delta, str)]
            before = self._before.getvalue()[: self._at[0]]
            return before + "".join(texts) if texts else before

    @property
    def reasoning(self) -> str:
        """What the model has thought aloud so far; not part of ``.text``."""
        return "".join(self._reasoning)

    @property
    def refusal(self) -> str:
        """Why the model refused, where the server keeps that apart from the text."""
        return "".join(self._refusal)

    def _handed_over(self) -> list[Delta]:
        batch = self._at[2]
        return batch[: len(batch) - operator.length_hint(self._rest)]

    @property
    def headers(self) -> Mapping[str, str]:
        """The response headers of the last attempt, by name, whatever its case."""
        return self._channel.headers

    @property
    def attempts(self) -> tuple[ProviderFailure, ...]:
        """The providers of a ``Failover`` that failed before this answer; empty elsewhere."""
        return tuple(self._channel.failures)

    @property
    def request_id(self) -> str | None:
        """The server's name for the last attempt's request, if it gives one."""
        return self._channel.request_id

    @property
    def stats(self) -> Stats:
        """Times, chunks, bytes and attempts so far."""
        pipe = self._channel
        with self._lock:
            chunks = sum(isinstance(delta, str) for delta in self._handed_over())
            first, end = pipe.first_text_at, pipe.ended_at or time.monotonic()
            return Stats(
                first_chunk_s=None if first is None else first - pipe.deadlines.began,
                duration_s=end - pipe.deadlines.began,
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
            refusal=self.refusal,
        )

    def __repr__(self) -> str:
        return f"<Stream of {self.model}: {self._outcome or 'running'}, {self.stats.chunks} chunks>"


# --- for this package's own adapters: not part of the public API of a Stream


def channel_of(stream: Stream) -> Channel:
    """Return the channel between the stream's thread and its readers."""
    return stream._channel


def start(stream: Stream, source: Source) -> None:
    """Run the source of a new stream in a thread."""
    stream._start(source)


def raise_early_failure(stream: Stream) -> None:
    """Raise what went wrong before the headers, if anything did."""
    stream._raise_early_failure()


def current_batch(stream: Stream) -> Iterator[Delta]:
    """Return the iterator over the deltas that were fetched and not all read yet."""
    return stream._rest


def fetch_batch(stream: Stream, read: Iterator[Delta] | None = None) -> bool:
    """Wait for the next batch; return ``False`` at a good end, raise the error at a bad one.

    ``read`` is the batch that the caller has read: where another reader has fetched one meanwhile,
    that one is kept.
    """
    return stream._refill(read)


def call_at_end(stream: Stream, callback: Callable[[Stream], None]) -> None:
    """Call ``callback(stream)`` once, when the stream has ended; at once if it has."""
    with stream._channel.lock:  # another thread may be stopping it
        stream._on_end = callback
        has_ended = stream.outcome is not None
    if has_ended:
        callback(stream)
