"""Async streaming and completion (``AsyncStream``): an asyncio adapter over ``Stream``.

::

    async for chunk in aio.stream(provider, "Hello"):
        print(chunk, end="", flush=True)

The stream's worker thread reads the answer and wakes the event loop. Only short blocking work
(validating and encoding the request) goes to another worker thread; waiting occupies no thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Protocol

from .stream import (
    PreparedCall,
    Stream,
    channel_of,
    current_batch,
    fetch_batch,
    raise_early_failure,
    run_in_worker,
)
from .types import Completion, Event, Outcome, Prompt, Stats, TextDelta, Usage

HOUR_S = 3600.0


class SupportsPrepare(Protocol):
    """The providers that this adapter accepts: anything with a ``prepare`` method."""

    def prepare(self, messages: Prompt, model: str | None = None, **options: Any) -> PreparedCall:
        """Return a validated call that has not been sent."""


def stream(
    provider: SupportsPrepare, messages: Prompt, model: str | None = None, **options: Any
) -> AsyncStream:
    """Return the answer as an async iterator; same arguments and errors as ``provider.stream``.

    Nothing is sent or raised before the first ``await``.
    """
    return AsyncStream(lambda: provider.prepare(messages, model, **options))


async def complete(
    provider: SupportsPrepare, messages: Prompt, model: str | None = None, **options: Any
) -> Completion:
    """Return the complete answer; same arguments and errors as ``provider.complete``."""
    async with stream(provider, messages, model, **options) as answer:
        return await answer.completion()


class _AnswerState:
    """State shared by an ``AsyncStream`` and its generator; neither references the other."""

    def __init__(self, prepare: Callable[[], PreparedCall]) -> None:
        self.stream: Stream | None = None
        self.is_closed = False
        self._prepare = prepare

    async def open(self) -> Stream:
        if self.stream is None:
            call = await _in_worker_thread(self._prepare)
            if self.is_closed:
                self.stream = call.unstarted()
                self.stream.close()
                return self.stream
            stream = self.stream = call.begin()
            try:
                await _wait(stream, for_headers=True)
            except BaseException:
                stream.close()
                raise
            raise_early_failure(stream)
        return self.stream

    async def chunks(self) -> AsyncGenerator[str, None]:
        stream = await self.open()
        try:
            while True:
                batch = current_batch(stream)
                for event in stream.ready_events():
                    if isinstance(event, TextDelta):
                        yield event.text
                await _wait(stream)
                if not fetch_batch(stream, batch):
                    return
        finally:
            stream.close()


class AsyncStream:
    """A streamed answer for an event loop: an async iterator of its text.

    Cancelling the reading task, leaving the ``async for`` loop, dropping the stream and
    ``aclose()`` all stop the answer at once. Also an async context manager; ``await stream``
    returns the stream once the server has started to answer.
    """

    def __init__(self, prepare: Callable[[], PreparedCall]) -> None:
        self._answer = _AnswerState(prepare)
        # An async generator: the event loop tracks it and closes it when the loop shuts down.
        self._chunks: Any = self._answer.chunks()

    @property
    def _stream(self) -> Stream | None:
        return self._answer.stream

    def __await__(self) -> Generator[Any, None, AsyncStream]:
        yield from self._answer.open().__await__()
        return self

    # --- reading

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    def __anext__(self) -> Any:
        return self._chunks.__anext__()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield typed events instead of text, from the current position on."""
        stream = await self._answer.open()
        try:
            while True:
                batch = current_batch(stream)
                for event in stream.ready_events():
                    yield event
                await _wait(stream)
                if not fetch_batch(stream, batch):
                    return
        finally:
            stream.close()

    async def completion(self) -> Completion:
        """Read the rest and return the complete answer."""
        stream = await self._answer.open()
        try:
            more = True
            while more:
                await _wait(stream)
                more = fetch_batch(stream)
        finally:
            stream.close()
        return stream.completion()

    # --- stopping

    async def aclose(self) -> None:
        """Stop now; a waiting iteration ends. Has no effect after the end."""
        self._answer.is_closed = True
        if self._stream is not None:
            self._stream.close()
        if not self._chunks.ag_running:
            await self._chunks.aclose()

    async def __aenter__(self) -> AsyncStream:
        await self._answer.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._stream is not None:
            self._stream.close()

    # --- state and results

    @property
    def text(self) -> str:
        """The text handed over so far."""
        return self._stream.text if self._stream else ""

    @property
    def outcome(self) -> Outcome | None:
        """The outcome; ``None`` until the stream has been read to its end or stopped."""
        if self._stream is None:
            return Outcome.CANCELLED if self._answer.is_closed else None
        return self._stream.outcome

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped, as the server reports it."""
        return self._stream.finish_reason if self._stream else None

    @property
    def usage(self) -> Usage | None:
        """Tokens counted by the server, if it reports them."""
        return self._stream.usage if self._stream else None

    @property
    def stats(self) -> Stats | None:
        """Times, chunks, bytes and attempts so far."""
        return self._stream.stats if self._stream else None


def _in_worker_thread(work: Callable[[], PreparedCall]) -> asyncio.Future[PreparedCall]:
    """Run ``work`` in a thread, in a copy of this context.

    Not ``asyncio.to_thread``: at the interpreter's exit it fails, and ``asyncio.run`` after it.
    Raises ``ProviderError`` if no thread can be started.
    """
    result: concurrent.futures.Future[PreparedCall] = concurrent.futures.Future()
    run_in_worker(contextvars.copy_context().run, _set_result, result, work)
    return asyncio.wrap_future(result)


def _set_result(
    result: concurrent.futures.Future[PreparedCall], work: Callable[[], PreparedCall]
) -> None:
    if result.set_running_or_notify_cancel():
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001 (passed on through the future)
            result.set_exception(error)
            del result  # else a reference cycle: the error's traceback holds this frame


async def _wait(stream: Stream, for_headers: bool = False) -> None:
    """Wait until the stream has events or has ended, without blocking a thread."""
    channel = channel_of(stream)
    loop = asyncio.get_running_loop()
    while True:
        changed: asyncio.Future[None] = loop.create_future()
        if channel.poll(_waker(loop, changed), for_headers):
            return
        # The timer also keeps this task alive: the worker thread has only a weak reference.
        timer = loop.call_later(max(min(channel.deadlines.time_left(), HOUR_S), 0), _set, changed)
        try:
            await changed
        finally:
            timer.cancel()


def _waker(loop: asyncio.AbstractEventLoop, changed: asyncio.Future[None]) -> Callable[[], None]:
    reference = weakref.ref(changed)

    def wake() -> None:
        future = reference()
        if future is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: no task waits any more
                loop.call_soon_threadsafe(_set, future)

    return wake


def _set(changed: asyncio.Future[None]) -> None:
    if not changed.done():
        changed.set_result(None)
