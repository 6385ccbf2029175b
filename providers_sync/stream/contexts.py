"""Runs a generator in a context of its own, so that what its code sets stays there."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


def in_context(context: Context, generator: Generator[T, None, None]) -> Generator[T, None, None]:
    """Delegate to ``generator`` as ``yield from`` does; its code runs in ``context``."""
    step: Callable[..., T] = generator.__next__
    arguments: tuple[Any, ...] = ()
    while True:
        try:
            item = context.run(step, *arguments)
        except StopIteration:
            return
        try:
            yield item
        except GeneratorExit:
            context.run(generator.close)
            raise
        except BaseException as error:  # noqa: BLE001 (it is the generator's)
            step, arguments = generator.throw, (error,)
        else:
            step, arguments = generator.__next__, ()
