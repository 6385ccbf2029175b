"""A whole answer, read in the thread that wants it; one more thread keeps the clocks of all.

A stream has a thread of its own, so that its reader can be told of a clock while the server is
silent. A worker that wants the whole answer has nobody to tell meanwhile: without the second
thread and the handing over between the two, a row costs a third less.
"""

from __future__ import annotations

import os
import threading
import time

from ..stream import Channel, PreparedCall, Stream, attach
from .executor import start_thread

LOOK_S = 0.01
"""Between two looks at the clocks: so late may one fire."""
LINGER_S = 0.1
"""How long the keeper outlives the last answer: the next is often close behind."""


def run_in_this_thread(call: PreparedCall) -> Stream:
    """Run a call to its end; return its stream, which has everything and never waits.

    Reading it raises what went wrong. The call's ``CancelToken`` stops it from any thread.
    Raises ``ProviderError``, and sends nothing, where no thread can be started for the clocks.
    """
    pipe = _UnboundedChannel(call.timeouts)
    stream = Stream(pipe, call.cancel, call.model)
    if call.cancel is not None:
        attach(call.cancel, stream)
    if stream.outcome is None:
        try:
            _watcher.add(pipe)
        except BaseException:
            stream.close()
            raise
        try:
            pipe.run(call.source)
        finally:
            _watcher.remove(pipe)
        cause = pipe.error and pipe.error.__cause__
        if isinstance(cause, (KeyboardInterrupt, SystemExit)):  # this may be a main thread
            raise cause
    return stream


class _UnboundedChannel(Channel):
    """A pipe that is read when all is there."""

    def _wait_for_space(self) -> None:
        """There is nobody to wait for."""


class _TimeoutWatcher:
    """Fires the clocks of the pipes that run in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipes: set[Channel] = set()
        self._runs = False

    def add(self, pipe: Channel) -> None:
        with self._lock:
            if not self._runs:
                name = "providers-sync-clocks"
                start_thread(threading.Thread(target=self._run, name=name, daemon=True))
                self._runs = True  # not before: without a thread, the next call must try again
            self._pipes.add(pipe)

    def remove(self, pipe: Channel) -> None:
        with self._lock:
            self._pipes.discard(pipe)

    def _run(self) -> None:
        needed = time.monotonic()
        while True:
            time.sleep(LOOK_S)
            with self._lock:
                pipes = list(self._pipes)
                if pipes:
                    needed = time.monotonic()
                elif time.monotonic() - needed > LINGER_S:
                    self._runs = False
                    return
            for pipe in pipes:
                if pipe.deadlines.time_left() <= 0:
                    pipe.poll(_nothing)


def _nothing() -> None:
    """Nobody waits."""


_watcher = _TimeoutWatcher()
if hasattr(os, "register_at_fork"):  # the child has neither the thread nor the calls
    os.register_at_fork(after_in_child=_watcher.__init__)  # type: ignore[misc]
