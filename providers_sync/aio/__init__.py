"""Async streaming and completion: an asyncio adapter over ``Stream``.

::

    async for chunk in aio.stream(provider, "Hello"):
        print(chunk, end="", flush=True)

    recipe = (await aio.complete(provider, "A pancake recipe", into=Recipe)).value
    answer = await aio.run(provider, "Is it warm in Rome?", tools=[temperature]).completion()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from ..stream import PreparedCall
from ..types import Completion, Prompt
from .streams import AsyncStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..typed import TypedCompletion
    from .runs import AsyncRun
    from .typed import AsyncTypedStream
    from .typed_runs import AsyncTypedRun

__all__ = ["AsyncStream", "SupportsPrepare", "SupportsPrepareRun", "complete", "run", "stream"]

T = TypeVar("T")


class SupportsPrepare(Protocol):
    """The providers that this adapter accepts: anything with a ``prepare`` method."""

    @property
    def prepare(self) -> Callable[..., PreparedCall]:
        """The method that returns a validated call, not sent yet; like ``stream``."""


class SupportsPrepareRun(Protocol):
    """The providers that ``run`` accepts: anything with a ``prepare_run`` method."""

    @property
    def prepare_run(self) -> Callable[..., PreparedCall]:
        """The method that returns a validated call with tools, not sent yet; like ``run``."""


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

    Nothing is sent or raised before the first ``await``.

    Args:
        provider: The provider that is asked.
        messages: A string, a message or a list of messages.
        model: The model; by default the provider's.
        into: The type of a typed answer: the stream then has ``await value()``, ``items()`` and
            ``partials()``.
        **options: The other arguments of ``provider.stream``.
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
    """Return the complete answer; same arguments and errors as ``provider.complete``.

    Args:
        provider: The provider that is asked.
        messages: A string, a message or a list of messages.
        model: The model; by default the provider's.
        into: The type of a typed answer, which is then in ``value``.
        **options: The other arguments of ``provider.stream``.
    """
    async with stream(provider, messages, model, into=into, **options) as answer:
        return await answer.completion()


@overload
def run(
    provider: SupportsPrepareRun,
    messages: Prompt,
    model: str | None = None,
    *,
    tools: Sequence[Any],
    into: None = None,
    **options: Any,
) -> AsyncRun: ...
@overload
def run(
    provider: SupportsPrepareRun,
    messages: Prompt,
    model: str | None = None,
    *,
    tools: Sequence[Any],
    into: type[T],
    **options: Any,
) -> AsyncTypedRun[T]: ...
@overload
def run(
    provider: SupportsPrepareRun,
    messages: Prompt,
    model: str | None = None,
    *,
    tools: Sequence[Any],
    into: Any,
    **options: Any,
) -> AsyncTypedRun[Any]: ...
def run(
    provider: SupportsPrepareRun,
    messages: Prompt,
    model: str | None = None,
    *,
    tools: Sequence[Any],
    into: Any = None,
    **options: Any,
) -> Any:
    """Return an answer with tools as an async iterator; same errors as ``provider.run``.

    The functions, ``approve`` and ``on_unknown`` are ordinary functions, and are called in threads.
    Nothing is sent or raised before the first ``await``.

    Args:
        provider: The provider that is asked.
        messages: A string, a message or a list of messages.
        model: The model; by default the provider's.
        tools: The functions that the model may call.
        into: The type of a typed answer.
        **options: The other arguments of ``provider.run``.
    """
    if into is None:
        from .runs import AsyncRun  # late: few need it

        return AsyncRun(lambda: provider.prepare_run(messages, model, tools=tools, **options))
    from .typed_runs import AsyncTypedRun

    return AsyncTypedRun(
        lambda: provider.prepare_run(messages, model, tools=tools, into=into, **options)
    )
