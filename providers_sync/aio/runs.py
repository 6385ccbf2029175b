"""``AsyncRun``: a ``Run`` for an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..types import Completion, Messages
from .streams import AsyncStream

if TYPE_CHECKING:
    from ..tools import Run


class AsyncRun(AsyncStream):
    """An answer with tools for an event loop: an ``AsyncStream`` over all its rounds.

    Cancelling the reading task cancels the ``CancelToken`` of each function that runs.
    """

    @property
    def messages(self) -> Messages:
        """The conversation so far, as ``Run.messages``; empty before the first ``await``."""
        return self._run.messages if self._run else []

    @property
    def rounds(self) -> list[Completion]:
        """The answers of the model so far that have ended well, one for each request."""
        return self._run.rounds if self._run else []

    @property
    def _run(self) -> Run | None:
        return cast("Run | None", self._stream)
