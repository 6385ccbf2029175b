"""``AsyncTypedStream``: a ``TypedStream`` for an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

from ..errors import InvalidAnswer
from ..typed import TypedCompletion, TypedStream, item_steps, partial_steps, value_steps
from .streams import AsyncStream, SingleReader, wait_for_batch

T_co = TypeVar("T_co", covariant=True)
C = TypeVar("C")


class AsyncTypedStream(AsyncStream, Generic[T_co]):
    """A typed answer (``into=``): an ``AsyncStream`` of its JSON, and the objects in it."""

    @property
    def invalid(self) -> list[InvalidAnswer]:
        """With ``skip_invalid=True`` the items that do not validate, each as an error."""
        return cast("TypedStream[T_co]", self._stream).invalid if self._stream else []

    async def value(self) -> T_co:
        """Return the object, as ``TypedStream.value`` does; read the rest of the answer."""
        self._answer.start_reading()
        try:
            stream = await self._open()
            steps = value_steps(stream)
            try:
                while True:
                    next(steps)
                    await wait_for_batch(stream)
            except StopIteration as end:
                return cast(T_co, end.value)
            finally:
                stream.close()
        finally:
            self._answer.is_being_read = False

    async def completion(self) -> TypedCompletion[T_co]:
        """Read the rest and return the complete answer with its ``value``."""
        await self.value()
        return (await self._open()).completion()

    def items(self: AsyncTypedStream[Sequence[C]]) -> AsyncGenerator[C, None]:
        """Yield the items of a list, each once it is complete, as ``TypedStream.items`` does."""
        return SingleReader(self._answer, self._objects(item_steps))

    def partials(self) -> AsyncGenerator[Any, None]:
        """Yield the plain object as it grows, as ``TypedStream.partials`` does."""
        return SingleReader(self._answer, self._objects(partial_steps))

    async def _open(self) -> TypedStream[T_co]:
        return cast("TypedStream[T_co]", await self._answer.open())

    async def _objects(
        self, steps: Callable[[TypedStream[T_co]], Iterator[tuple[Any, ...]]]
    ) -> AsyncGenerator[Any, None]:
        stream = await self._open()
        objects = steps(stream)  # raises if it is not a list, and leaves the answer to be read
        try:
            for step in objects:
                if step:
                    yield step[0]
                else:
                    await wait_for_batch(stream)
        finally:
            stream.close()
