"""Runs calls, and returns the answer of each as a ``Stream``.

This package knows nothing about HTTP or JSON.

A *source* is a generator function that takes the ``Channel`` of a call, sends requests, and yields
each good response (``Reading``) to be read. It runs in a worker thread, which sends and waits for
the headers. One reader thread reads the responses of all calls, and keeps all deadlines. Both
reference the channel and never the ``Stream``, so dropping the last reference to a ``Stream``
releases everything else.
"""

from ..finish_reasons import explain
from .cancel import CancelToken, attach
from .channel import CallEnded, Channel
from .contexts import in_context
from .left_work import do_left
from .prepared import PreparedCall
from .reading import Reading, Source
from .stream import (
    Stream,
    call_at_end,
    channel_of,
    ended_completion,
    fetch_batch,
    has_turn,
    open_streams,
    raise_early_failure,
)
from .transcript import (
    GOOD_OUTCOMES,
    added_messages,
    current_batch,
    read_batch,
    requests_of,
    running_functions,
)

__all__ = [
    "GOOD_OUTCOMES",
    "CallEnded",
    "CancelToken",
    "Channel",
    "PreparedCall",
    "Reading",
    "Source",
    "Stream",
    "added_messages",
    "attach",
    "call_at_end",
    "channel_of",
    "current_batch",
    "do_left",
    "ended_completion",
    "explain",
    "fetch_batch",
    "has_turn",
    "in_context",
    "open_streams",
    "raise_early_failure",
    "read_batch",
    "requests_of",
    "running_functions",
]
