"""Runs a call in a worker thread and returns its answer as a ``Stream``.

This package knows nothing about HTTP or JSON.

A *source* is a callable that takes the ``Channel`` and yields the deltas of one answer. It reports
its progress to the channel: ``start_attempt`` (with a callable that stops the attempt),
``connected``, ``sent``, ``headers_received``, ``bytes_received`` after every read, and ``flush``
before the next read. It runs in a daemon thread that references the channel and never the
``Stream``, so dropping the last reference to a ``Stream`` releases everything else. A caller
outside the main thread that reads chunk by chunk may run the source itself (``direct_channel``).
"""

from .cancel import CancelToken, attach
from .channel import CallEnded, Channel, Source
from .contexts import in_context
from .prepared import PreparedCall
from .stream import (
    Stream,
    call_at_end,
    channel_of,
    current_batch,
    fetch_batch,
    open_streams,
    raise_early_failure,
)

__all__ = [
    "CallEnded",
    "CancelToken",
    "Channel",
    "PreparedCall",
    "Source",
    "Stream",
    "attach",
    "call_at_end",
    "channel_of",
    "current_batch",
    "fetch_batch",
    "in_context",
    "open_streams",
    "raise_early_failure",
]
