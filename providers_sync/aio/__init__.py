"""Async streaming and completion: an asyncio adapter over ``Stream``.

::

    async for chunk in aio.stream(provider, "Hello"):
        print(chunk, end="", flush=True)

    recipe = (await aio.complete(provider, "A pancake recipe", into=Recipe)).value
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from ..stream import PreparedCall
from ..types import Completion, Prompt
from .streams import AsyncStream

if TYPE_CHECKING:
    from ..typed import TypedCompletion
    from .typed import AsyncTypedStream

__all__ = ["AsyncStream", "SupportsPrepare", "complete", "stream"]

T = TypeVar("T")


class SupportsPrepare(Protocol):
    """The providers that this adapter accepts: anything with a ``prepare`` method."""

    def prepare(self, messages: Prompt, model: str | None = None, **options: Any) -> PreparedCall:
        """Return a validated call that has not been sent."""


@overload
def stream(
    provider: SupportsPrepare,
    messages: Prompt,
    model: str | None = None,
    *,
    into: None = None,
    **options: Any,
) -> AsyncStream: ...
@overload
def stream(
    provider: SupportsPrepare,
    messages: Prompt,
    model: str | None = None,
    *,
    into: type[T],
    **options: Any,
) -> AsyncTypedStream[T]: ...
@overload
def stream(
    provider: SupportsPrepare,
    messages: Prompt,
    model: str | None = None,
    *,
    into: Any,
    **options: Any,
) -> AsyncTypedStream[Any]: ...
def stream(
    provider: SupportsPrepare,
    messages: Prompt,
    model: str | None = None,
    *,
    into: Any = None,
    **options: Any,
) -> Any:
    """Return the answer as an async iterator; same arguments and errors as ``provider.stream``.

    With ``into=`` it has ``await value()``, ``items()`` and ``partials()``. Nothing is sent or
    raised before the first ``await``.
    """
    if into is None:
        return AsyncStream(lambda: provider.prepare(messages, model, **options))
    from .typed import AsyncTypedStream  # late: few need it

    return AsyncTypedStream(lambda: provider.prepare(messages, model, into=into, **options))


@overload
async def complete(
    provider: SupportsPrepare,
    messages: Prompt,
    model: str | None = None,
    *,
    into: None = None,
    **options: Any,
) -> Completion: ...
@overload
async def complete(
    provider: SupportsPrepare,
    messages: Prompt,
    model: str | None = None,
    *,
    into: type[T],
    **options: Any,
) -> TypedCompletion[T]: ...
@overload
async def complete(
    provider: SupportsPrepare,
    messages: Prompt,
    model: str | None = None,
    *,
    into: Any,
    **options: Any,
) -> TypedCompletion[Any]: ...
async def complete(
    provider: SupportsPrepare,
    messages: Prompt,
    model: str | None = None,
    *,
    into: Any = None,
    **options: Any,
) -> Any:
    """Return the complete answer; same arguments and errors as ``provider.complete``."""
    async with stream(provider, messages, model, into=into, **options) as answer:
        return await answer.completion()
