"""Run a call to its end in the calling thread; one shared thread enforces all timeouts.

A stream normally has its own worker thread, so that the caller sees a timeout while the server is
silent. A batch worker needs the complete answer only: without the second thread and the hand-over
between the two, a row costs a third less.
"""

from __future__ import annotations

import os
import threading
import time

from ..clock import monotonic
from ..stream import Channel, PreparedCall, Stream, attach
from ..threads import start_thread

CHECK_INTERVAL_S = 0.01
"""Interval between two checks of the deadlines: a timeout may be this late."""
LINGER_S = 0.1
"""How long the watcher thread outlives the last call, as the next often follows soon."""


def run_in_this_thread(call: PreparedCall) -> Stream:
    """Run a call to its end; return its stream, which holds the full answer and never blocks.

    Reading the stream raises the call's error. The call's ``CancelToken`` stops it from any thread.
    Raises ``ProviderError``, and sends nothing, if the timeout thread cannot be started.
    """
    channel = _UnboundedChannel(call.timeouts)
    stream = Stream(channel, call.cancel, call.model)
    if call.cancel is not None:
        attach(call.cancel, stream)
    if stream.outcome is None:
        try:
            _watcher.add(channel)
        except BaseException:
            stream.close()
            raise
        try:
            channel.run(call.source, call.context.copy())
        finally:
            _watcher.remove(channel)
        cause = channel.error and channel.error.__cause__
        if isinstance(cause, (KeyboardInterrupt, SystemExit)):  # this may be the main thread
            raise cause
    return stream


class _UnboundedChannel(Channel):
    """A channel without a limit, as it is read after the call has ended."""

    def _wait_for_space(self) -> None:
        """Return at once: the buffer may grow."""


class _TimeoutWatcher:
    """Enforces the timeouts of the channels that run in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: set[Channel] = set()
        self._running = False

    def add(self, channel: Channel) -> None:
        with self._lock:
            if not self._running:
                name = "providers-sync-timeouts"
                start_thread(threading.Thread(target=self._run, name=name))
                self._running = True  # only now: if the start failed, the next call must try again
            self._channels.add(channel)

    def remove(self, channel: Channel) -> None:
        with self._lock:
            self._channels.discard(channel)

    def _run(self) -> None:
        last_needed = monotonic()
        while True:
            time.sleep(CHECK_INTERVAL_S)
            with self._lock:
                channels = list(self._channels)
                if channels:
                    last_needed = monotonic()
                elif monotonic() - last_needed > LINGER_S:
                    self._running = False
                    return
            for channel in channels:
                if channel.deadlines.time_left() <= 0:
                    channel.poll(_do_nothing)


def _do_nothing() -> None:
    """Do not notify: no thread waits for the channel."""


_watcher = _TimeoutWatcher()
if hasattr(os, "register_at_fork"):  # a forked child has neither the thread nor the calls
    os.register_at_fork(after_in_child=_watcher.__init__)  # type: ignore[misc]
