"""Who watches the calls of this process: nobody, or one observer, such as that of ``otel``.

No method of an observer may raise an ``Exception``, and none is called while a lock is held. All
but ``CallObserver.enter`` may wait: a span may be exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from .types import Prompt, ToolCall

T = TypeVar("T")


class Question(NamedTuple):
    """What a call asks for, as its caller has said it; ``schema`` is that of a typed answer."""

    provider: Any
    model: str
    messages: Prompt
    options: Mapping[str, Any]
    schema: Mapping[str, Any] | None


class CallStep:
    """A part of a call: an attempt, or a function that the model calls. This one is not watched."""

    def __enter__(self) -> CallStep:
        return self

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return ``function(*arguments)``: what the step does while it is the current one."""
        return function(*arguments)

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        """End the step; ``error`` is what it has raised."""


UNWATCHED = CallStep()


class CallObserver(Protocol):
    """Watches one call."""

    def enter(self) -> None:
        """Prepare the current context, which belongs to the work of the call alone."""

    def use(self, provider: Any, model: str) -> None:
        """Note the provider that is asked next, one of a ``Failover``."""

    def attempt(
        self, channel: Any, url: str, is_played: bool, redact: Callable[[str], str]
    ) -> CallStep:
        """Return the step of one request.

        ``is_played``: its answer is a recording. ``redact`` removes the secrets of the request from
        what the server says, which may quote them.
        """

    def tool(self, call: ToolCall) -> CallStep:
        """Return the step of one call of a function."""

    def note(self, event: str, error: BaseException | None, details: Mapping[str, Any]) -> None:
        """Note a retry, a failover, a join or another round, and the error that has led to it."""

    def end(self, stream: Any) -> None:
        """Note how the answer has ended; called once."""


Observe = Callable[[Question], "CallObserver | None"]
"""Begins to watch a call, in a copy of its caller's context."""

observe: Observe | None = None
"""Set by ``watch``."""


def watch(function: Observe | None) -> None:
    """Watch all calls that are prepared from now on; ``None``: no more."""
    global observe
    observe = function
