"""``Stream``: one answer as an iterator, with its text so far and its outcome."""

from __future__ import annotations

import operator
import os
import weakref
from collections.abc import Callable, Iterator
from contextvars import Context
from sys import is_finalizing
from types import TracebackType
from typing import NoReturn, TypeVar

from ..errors import ProviderError, StreamCancelled
from ..types import (
    Completion,
    Delta,
    Event,
    InternalDelta,
    Outcome,
    TextDelta,
)
from . import reader
from .call import Call
from .cancel import CancelToken, attach, detach
from .channel import Channel
from .reading import Source
from .transcript import Transcript

S = TypeVar("S", bound="Stream")
FINALIZER_WAIT_S = 0.05
"""Longer than the reader thread holds a stream's lock for an event."""

_streams: weakref.WeakSet[Stream] = weakref.WeakSet()


def open_streams() -> list[Stream]:
    """Return the streams that have been neither read to their end nor closed."""
    while True:
        try:
            return [stream for stream in _streams if stream.outcome is None]
        except RuntimeError:  # another thread has just started a stream
            continue


def _after_fork() -> None:
    for stream in list(_streams):
        stream._abandon("the stream belongs to the parent process; start a new one here")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Stream(Transcript):
    """A streamed answer: an iterator of its text, chunk by chunk as the server sends it.

    It is created by ``provider.stream(…)``. It is also a context manager, which closes it. Dropping
    the last reference closes it too.

    If the answer fails, ``next()`` first returns all text that arrived, and then raises a
    ``ProviderError``; after ``cancel()`` it raises ``StreamCancelled`` at once. Calling ``next()``
    after an error raises the same error again.
    """

    def __init__(self, channel: Channel, cancel: CancelToken | None, model: str | None) -> None:
        self._channel = channel
        super().__init__(model)
        self._token = cancel
        self._error: ProviderError | None = None
        self._on_end: Callable[[Stream], None] | None = None
        """Called once, in the thread that ends the stream, when the outcome is set; under the
        stream's lock, so that no thread sees the end earlier. It must take no other lock."""
        _streams.add(self)

    def _start(self, source: Source, context: Context) -> None:
        try:
            if self._token is not None:
                attach(self._token, self)
            if self._outcome is None:
                reader.start(Call(self._channel, source, context))
            else:
                self._tell_observer()
        except BaseException:  # Ctrl-C, or no thread can be started
            self.close()
            raise

    def _raise_early_failure(self) -> None:
        channel = self._channel
        if not channel.is_open or self._outcome is not None:
            while self._fetch_batch(self._read_batch()) and channel.error is not None:
                pass  # it comes after the usage of the last attempt

    # --- reading

    def __iter__(self: S) -> S:
        return self

    def __next__(self) -> str:
        try:
            while True:
                batch = self._unread
                for delta in batch:
                    if delta.__class__ is str:
                        return delta
                    self._record(delta)
                if not self._fetch_batch(batch):
                    break
        except BaseException:  # Ctrl-C, or thrown in by another thread; no effect after the end
            self.close()
            raise
        raise StopIteration

    def events(self) -> Iterator[Event]:
        """Yield typed events from the current position on.

        The iterator of text and this one share one position: what one of them has yielded, the
        other does not yield again.

        Raises:
            ProviderError: What ``next`` raises.
        """
        while True:
            batch = self._unread
            yield from self._typed_events(batch)
            if not self._fetch_batch(batch):
                return

    def ready_events(self) -> Iterator[Event]:
        """Yield the events that have already been fetched, without waiting."""
        return self._typed_events(self._unread)

    def _typed_events(self, batch: Iterator[Delta]) -> Iterator[Event]:
        for delta in batch:
            if isinstance(delta, str):
                yield TextDelta(delta)
            else:
                self._record(delta)
                if not isinstance(delta, InternalDelta):
                    yield delta

    def read(self) -> str:
        """Return the rest of the text.

        Raises:
            ProviderError: What ``next`` raises.
        """
        start = len(self.text)
        try:
            while self._fetch_batch(self._read_batch()):
                pass
        except BaseException:  # as in ``__next__``
            self.close()
            raise
        text = self.text
        return text[start:] if start else text

    def wait(self, seconds: float) -> bool:
        """Wait for events or the end; return whether either has arrived.

        For a caller with something to do meanwhile, such as a spinner or a keep-alive:
        ``while not stream.wait(0.5): draw_spinner()``. Raises nothing; ``next()`` does.

        Args:
            seconds: The longest wait.
        """
        if self._outcome is not None or operator.length_hint(self._unread):
            return True
        has_news = self._channel.wait(seconds)
        if has_news:
            self._channel.notify()  # this thread may not take them, and another waits in ``next``
        return has_news

    def _fetch_batch(self, read: Iterator[Delta]) -> bool:
        """Fetch the next batch; return ``False`` at a good end, raise the error at a bad one.

        ``read`` is the batch that the caller has read. If it is no longer the current one, another
        thread has fetched a batch meanwhile, which both threads share.
        """
        try:
            if self._outcome is None and read is self._unread:
                self._channel.wait()
            with self._channel.lock:
                if self._outcome is None and read is self._unread:
                    if self._channel.buffer:
                        self._take_buffer()
                    elif self._channel.ended and not self._may_ask_again():  # else a new round
                        self._finish()
                if self._error is not None:
                    raise self._error
                going = self._outcome is None
            if not going:
                self._tell_observer()
            return going
        except BaseException:  # Ctrl-C, or thrown in by another thread; no effect after the end
            self.close()
            raise

    def _may_ask_again(self) -> bool:
        """Return whether the call may go on with another request; under the lock, at the end."""
        return False

    def _has_turn(self) -> bool:
        """Return whether reading on begins with work in the reader's thread; a ``Run`` has some."""
        return False

    def _ask_again(self, source: Source, context: Context) -> None:
        """Begin another round, with another request; counts and ``total`` go on.

        Does nothing if the stream has been stopped.
        """
        following = Channel(self._channel.timeouts, self._channel)
        with self._channel.lock:
            if self._outcome is not None or self._channel.error is not None:  # forked meanwhile
                return
            # At once after that: a signal handler must not stop the round before in between.
            self._channel = following
            self._begin_round()
        if (observer := following.observer) is not None:  # ``close`` may take it away at any time
            observer.note("round", None, {"round": self._round_number + 1})
        reader.start(Call(self._channel, source, context))

    def _begin_round(self) -> None:
        """Forget what the round before has said, but not its usage; under the lock."""
        self._round_number += 1
        self._begin_request(None, is_final=True)
        self._earlier_usage = self.usage
        self._begin_answer()

    def _finish(self) -> None:
        if self._outcome is not None:  # set by a signal handler
            return
        error = self._channel.error
        if error is None:
            self._outcome = self._good_outcome()
        else:
            error.partial = self.text
            error.attempts = self.attempts
            self._error, self._outcome = error, error.outcome
        self._release()

    def _good_outcome(self) -> Outcome:
        """Return the outcome of an answer that has not failed."""
        return Outcome.COMPLETE if self._channel.has_end_marker else Outcome.UNVERIFIED

    def _release(self) -> None:
        """Tell the others of the end; under the lock, so none of this may take another lock."""
        if self._token is not None:
            detach(self._token, self)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self)

    # --- stopping

    def _abandon(self, reason: str) -> None:
        """End the stream in a forked child: its threads, and who held its locks, are not here."""
        self._channel.abandon(reason)

    def cancel(self) -> None:
        """Stop now, from any thread; a waiting or later ``next()`` raises ``StreamCancelled``.

        All text that arrived is in ``.text`` and in the error's ``.partial``, even text that was
        not yielded yet. Has no effect after the end.
        """
        self._stop(StreamCancelled("the stream was cancelled"))
        self._tell_observer_later()

    def close(self) -> None:
        """Stop now: the iterator ends. Has no effect after the end."""
        self._stop(None)
        self._tell_observer()

    def _stop(self, error: StreamCancelled | None) -> None:
        try:
            self._end(error)
        except BaseException:  # Ctrl-C: it is stopped all the same
            self._end(error)
            raise

    def _end(self, error: StreamCancelled | None) -> None:
        """Stop; if that was interrupted, do the rest: each step may be repeated."""
        channel = self._channel
        with self._lock:
            if channel is not self._channel:  # another request has begun meanwhile: stop that
                return self._end(error)
            if self._outcome is None:
                self._channel.stop(error)
                self._take_rest()
                if error is not None:
                    error.partial = self.text
                    self._error = error
                self._outcome = Outcome.CANCELLED
            self._release()

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self, is_finalizing: Callable[[], bool] = is_finalizing) -> None:
        # At interpreter shutdown the process closes the connection; globals may no longer exist.
        if self._outcome is not None or is_finalizing():
            return
        # A finalizer must not wait for long: this thread may hold a lock that the holder waits for.
        lock = self._channel.lock
        if lock.acquire(timeout=FINALIZER_WAIT_S):
            try:
                self._stop(None)
            finally:
                lock.release()
            self._tell_observer_later()
        else:
            reader.leave(self.close)

    # --- the observer of the call

    def _tell_observer(self) -> None:
        """Tell the observer, if there is one, that the answer has ended; once."""
        if self._channel.observer is None:
            return
        with self._lock:
            observer, self._channel.observer = self._channel.observer, None
        if observer is not None:
            observer.end(self)

    def _tell_observer_later(self) -> None:
        """The same in a worker: this thread may hold a lock that the observer would wait for.

        It may be in a finalizer or a signal handler.
        """
        if self._channel.observer is not None:
            reader.leave(self._tell_observer)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream cannot be copied or pickled; use its completion()")

    def completion(self) -> Completion:
        """Read the rest and return the complete answer.

        Raises:
            ProviderError: What ``next`` raises.
        """
        self.read()
        return self._completion()

    def _completion(self) -> Completion:
        """Return what has been said, of an answer that has ended in whatever way."""
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
            citations=tuple(self.citations),
            media=tuple(self.media),
            extras=tuple(self.extras),
            message=self.message,
            requests=self._requests(),
        )

    def __repr__(self) -> str:
        return f"<Stream of {self.model}: {self._outcome or 'running'}, {self.stats.chunks} chunks>"


# --- internal functions for the adapters: not part of the public API of a Stream


def channel_of(stream: Stream) -> Channel:
    """Return the state that the stream's threads share."""
    return stream._channel


def start(stream: Stream, source: Source, context: Context) -> None:
    """Run the source of a new stream in a worker thread, in ``context``.

    Raises ``ProviderError`` if no thread can be started; the stream is closed then.
    """
    stream._start(source, context)


def raise_early_failure(stream: Stream) -> None:
    """Raise the error that occurred before the headers, if any."""
    stream._raise_early_failure()


def fetch_batch(stream: Stream, read: Iterator[Delta]) -> bool:
    """Wait for the next batch; return ``False`` at a good end, raise the error at a bad one.

    ``read`` is the batch that the caller has read; a batch that another thread has fetched
    meanwhile is kept.
    """
    return stream._fetch_batch(read)


def ended_completion(stream: Stream) -> Completion:
    """Return what has been said, of a stream that has ended in whatever way; raise nothing."""
    return stream._completion()


def has_turn(stream: Stream) -> bool:
    """Return whether reading on may block this thread, to ask ``approve`` of a run.

    ``wait(0)`` does that work. To be called at the end of a batch.
    """
    return stream._has_turn()


def call_at_end(stream: Stream, callback: Callable[[Stream], None]) -> None:
    """Call ``callback(stream)`` once, when the stream has ended; at once if it has already."""
    with stream._channel.lock:  # another thread may be stopping it
        stream._on_end = callback
        if stream.outcome is not None:
            stream._release()
