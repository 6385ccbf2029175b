"""The interrupted answer of a ``Chat`` whose functions may still run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .chat_file import InterruptedAnswer
from .chat_history import messages_after
from .stream import Stream, running_functions
from .types import Messages


@dataclass(frozen=True)
class StoppedAnswer:
    """An interrupted answer some of whose functions still ran when it was stopped.

    ``prefix`` is the text that it was resumed after.
    """

    interrupted: InterruptedAnswer
    stream: Stream
    question: Messages
    prefix: str

    def now(self) -> tuple[InterruptedAnswer, list[str]]:
        """Return it with the results that have come since, and the functions that still run."""
        running = running_functions(self.stream)
        added, _ = messages_after(self.stream, self.prefix)
        return replace(self.interrupted, question=[*self.question, *added]), running


def interrupted_now(state: Mapping[str, Any]) -> tuple[InterruptedAnswer | None, list[str]]:
    """Return the interrupted answer of a chat, and which of its functions still run.

    ``state`` is a copy of its attributes. Nothing is changed, so any thread may call it.
    """
    interrupted, stopped = state["interrupted"], state["_stopped"]
    if stopped is None or stopped.interrupted is not interrupted:
        return interrupted, []
    now: tuple[InterruptedAnswer, list[str]] = stopped.now()
    return now
