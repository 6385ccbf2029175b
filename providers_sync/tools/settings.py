"""``RunSettings``: the arguments of ``provider.run`` that say how its tools are called."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Union

from ..config import seconds
from ..errors import InvalidRequestError
from ..types import ToolCall


@dataclass(frozen=True)
class Pause:
    """What ``approve=`` returns to end the run until somebody has decided about the call.

    ``provider.run(run.messages, …)`` goes on then, also in another process.
    """


Approve = Callable[[ToolCall], Union[bool, str, Pause, type[Pause]]]
DecideUnknown = Callable[[ToolCall], Union[bool, str]]


@dataclass(frozen=True)
class RunSettings:
    """How the tools of a run are called; see ``Provider.run``.

    Raises ``InvalidRequestError`` for values that cannot work.
    """

    max_rounds: int = 10
    parallel: int = 8
    tool_timeout: float | None = 60
    approve: Approve | None = None
    journal: str | os.PathLike[str] | None = None
    on_error: Literal["tell", "raise"] = "tell"
    on_unknown: Literal["raise"] | DecideUnknown = "raise"

    def __post_init__(self) -> None:
        for name in ("max_rounds", "parallel"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidRequestError(f"{name} must be a number, 1 or more, not {value!r}")
        if self.tool_timeout is not None:
            seconds(self.tool_timeout, "tool_timeout")
        if self.approve is not None and not _is_plain_function(self.approve):
            raise InvalidRequestError(
                "approve must be a function that takes a ToolCall (not async), or None"
            )
        if self.journal is not None and not isinstance(self.journal, (str, os.PathLike)):
            raise InvalidRequestError("journal must be the path of a file, or None")
        if self.on_error not in ("tell", "raise"):
            raise InvalidRequestError(f"on_error must be 'tell' or 'raise', not {self.on_error!r}")
        if self.on_unknown != "raise" and not _is_plain_function(self.on_unknown):
            raise InvalidRequestError(
                "on_unknown must be 'raise' or a function that takes a ToolCall, not async"
            )


def _is_plain_function(value: object) -> bool:
    return callable(value) and not inspect.iscoroutinefunction(value)
