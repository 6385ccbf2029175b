"""What the source of an answer gives a ``Call`` to read: a response body and its decoder."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, NamedTuple, Protocol

from ..types import Decoder
from .channel import Channel


class ResponseBody(Protocol):
    """The body of a response whose headers have been accepted."""

    @property
    def can_be_reused(self) -> bool:
        """Whether the connection can serve another request after the end of this body."""

    @property
    def socket(self) -> Any:
        """A plain socket that the reader thread may wait for; ``None``: a worker must read."""

    at_hand: bool
    """Whether ``receive`` may return something without a wait for the socket."""
    ended: bool
    """Whether the body has ended, and all of it has been returned."""

    def receive(self) -> bytes | None:
        """Return what one read brings, ``None`` if nothing has arrived; wait if ``socket`` is None.

        ``b""`` may mean that only framing has arrived. Raises ``ProviderError``.
        """

    def release(self) -> None:
        """Return the connection to its pool, if the body was read to its proven end."""

    def close(self) -> None:
        """Close the connection."""

    def abandon(self) -> None:
        """Close the descriptors in a forked child, and touch nothing that the parent shares."""


class Reading(NamedTuple):
    """A response to read; ``context`` is that in which its decoder runs."""

    body: ResponseBody
    decoder: Decoder
    context: Context


Source = Callable[[Channel], Generator[Reading, None, None]]
"""Makes an answer: sends requests, and yields each good response to be read.

If reading fails, the error is raised at the ``yield``, and the source may yield another response;
otherwise it is closed there. It reports its progress to the channel: ``start_attempt`` (with a
callable that stops the attempt), ``connected``, ``sent`` and ``headers_received``.
"""
