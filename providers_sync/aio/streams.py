"""``AsyncStream``: a ``Stream`` for an event loop.

The reader thread reads the answer and wakes the event loop. Only short blocking work
(validating and encoding the request) goes to ``asyncio.to_thread``; waiting occupies no thread of
the executor.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
)
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InvalidRequestError
from ..stream import (
    PreparedCall,
    Stream,
    channel_of,
    current_batch,
    fetch_batch,
    has_turn,
    raise_early_failure,
    read_batch,
)
from ..threads import thread_error
from ..types import Completion, Event, Outcome, Stats, TextDelta, Usage

if TYPE_CHECKING:
    from ..prices import Cost

HOUR_S = 3600.0
T = TypeVar("T")
S = TypeVar("S", bound="AsyncStream")


class AnswerState:
    """State shared by an ``AsyncStream`` and its generators; they do not reference each other."""

    def __init__(self, prepare: Callable[[], PreparedCall]) -> None:
        self.stream: Stream | None = None
        self.is_closed = False
        self.is_being_read = False
        """Whether a task is waiting for the next chunk or event."""
        self._opening: asyncio.Future[None] | None = None
        """Done as soon as the task that opens the stream has opened it, or has failed."""
        self._prepare = prepare

    async def open(self) -> Stream:
        """Return the stream once the server has started to answer; send one request only."""
        while self._opening is not None:  # in another task
            await asyncio.wait([self._opening])
        is_new = self.stream is None
        if self.stream is None:
            opening = self._opening = asyncio.get_running_loop().create_future()
            try:
                self.stream = await self._open()
            finally:
                self._opening = None
                opening.set_result(None)
        if is_new or self.stream.outcome is not None:  # a later round may not be open yet
            raise_early_failure(self.stream)
        return self.stream

    async def _open(self) -> Stream:
        try:
            call = await asyncio.to_thread(self._prepare)
        except RuntimeError as error:
            if "new thread" in str(error) or "shutdown" in str(error):  # the executor's
                raise thread_error(error) from error
            raise
        if self.is_closed:
            stream = call.unstarted()
            stream.close()
            return stream
        stream = self.stream = call.begin()
        try:
            await wait_for_batch(stream, for_headers=True)
        except BaseException:
            stream.cancel()  # not ``close()``: a task that waits for it must not see a good end
            raise
        return stream

    def start_reading(self) -> None:
        """Reserve the answer for this task until ``is_being_read`` is reset."""
        if self.is_being_read:
            raise InvalidRequestError(
                "this answer is already being read by another task: one task reads at a time; "
                "to ask twice, call stream() twice"
            )
        self.is_being_read = True

    def close(self) -> None:
        self.is_closed = True
        if self.stream is not None:
            self.stream.close()

    async def chunks(self) -> AsyncGenerator[str, None]:
        stream = await self.open()
        try:
            while True:
                batch = current_batch(stream)
                for event in stream.ready_events():
                    if isinstance(event, TextDelta):
                        yield event.text
                await wait_for_batch(stream)
                if not fetch_batch(stream, batch):
                    return
        finally:
            stream.close()


class SingleReader(AsyncGenerator[T, None]):
    """An async generator that refuses a second reader instead of raising ``RuntimeError``."""

    def __init__(self, answer: AnswerState, generator: AsyncGenerator[T, None]) -> None:
        self._answer = answer
        # The event loop tracks the generator and closes it when the loop shuts down.
        self._generator: Any = generator

    def __anext__(self) -> Coroutine[Any, Any, T]:
        return self._read(self._generator.__anext__)

    def asend(self, value: None) -> Coroutine[Any, Any, T]:
        return self._read(self._generator.asend, value)

    def athrow(self, *error: Any) -> Coroutine[Any, Any, T]:
        return self._read(self._generator.athrow, *error)

    async def _read(self, step: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        self._answer.start_reading()
        try:
            return await step(*arguments)
        finally:
            self._answer.is_being_read = False

    async def aclose(self) -> None:
        if self._generator.ag_running:  # in another task, whose iteration ends
            self._answer.close()
        else:
            await self._generator.aclose()


class AsyncStream:
    """A streamed answer for an event loop: an async iterator of its text.

    Cancelling the reading task, leaving the ``async for`` loop, dropping the stream and
    ``aclose()`` all stop the answer at once. Also an async context manager; ``await stream``
    returns the stream once the server has started to answer. It is made by ``aio.stream(…)``.

    One task reads at a time: another that reads meanwhile gets ``InvalidRequestError``. If the task
    that opens the stream is cancelled, others that wait for it get ``StreamCancelled``.
    """

    def __init__(self, prepare: Callable[[], PreparedCall]) -> None:
        self._answer = AnswerState(prepare)
        self._chunks = SingleReader(self._answer, self._answer.chunks())

    @property
    def _stream(self) -> Stream | None:
        return self._answer.stream

    def __await__(self: S) -> Generator[Any, None, S]:
        yield from self._answer.open().__await__()
        return self

    # --- reading

    def __aiter__(self: S) -> S:
        return self

    def __anext__(self) -> Coroutine[Any, Any, str]:
        return self._chunks.__anext__()

    def events(self) -> AsyncGenerator[Event, None]:
        """Yield typed events instead of text, from the current position on.

        Raises:
            ProviderError: What the iteration over the text raises.
        """
        return SingleReader(self._answer, self._events())

    async def _events(self) -> AsyncGenerator[Event, None]:
        stream = await self._answer.open()
        try:
            while True:
                batch = current_batch(stream)
                for event in stream.ready_events():
                    yield event
                await wait_for_batch(stream)
                if not fetch_batch(stream, batch):
                    return
        finally:
            stream.close()

    async def completion(self) -> Completion:
        """Read the rest and return the complete answer.

        Raises:
            ProviderError: What the iteration over the text raises.
        """
        self._answer.start_reading()
        try:
            stream = await self._answer.open()
            await _read_to_end(stream)
        finally:
            self._answer.is_being_read = False
        return stream.completion()

    # --- stopping

    async def aclose(self) -> None:
        """Stop now; a waiting iteration ends. Has no effect after the end."""
        self._answer.close()
        await self._chunks.aclose()

    async def __aenter__(self: S) -> S:
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
    def cost(self) -> Cost | None:
        """What the answer costs by list prices; see ``Stream.cost``."""
        return self._stream.cost if self._stream else None

    @property
    def stats(self) -> Stats | None:
        """Times, chunks, bytes and attempts so far."""
        return self._stream.stats if self._stream else None


async def _read_to_end(stream: Stream) -> None:
    try:
        more = True
        while more:
            batch = read_batch(stream)
            await wait_for_batch(stream)
            more = fetch_batch(stream, batch)
    finally:
        stream.close()


async def wait_for_batch(stream: Stream, for_headers: bool = False) -> None:
    """Wait until the stream has events or has ended, without blocking a thread.

    The work of a run between two rounds, such as ``approve``, is done in a thread.
    """
    loop = asyncio.get_running_loop()
    while True:
        changed: asyncio.Future[None] = loop.create_future()
        if channel_of(stream).poll(_waker(loop, changed), for_headers):
            if not has_turn(stream):
                return
            await asyncio.to_thread(stream.wait, 0)
            continue
        # Keeps this task alive: the threads that wake it have only a weak reference.
        timer = loop.call_later(HOUR_S, _set, changed)
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
