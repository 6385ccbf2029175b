"""A call made ready, and its beginning."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Timeouts
from .cancel import CancelToken
from .channel import Source
from .direct_channel import DirectPipe
from .stream import Stream


@dataclass(frozen=True)
class Opening:
    """A call made ready: everything checked, nothing sent."""

    source: Source
    timeouts: Timeouts
    cancel: CancelToken | None = None
    model: str | None = None
    """The name asked for."""

    def open(self) -> Stream:
        """Run the source in a thread; return its stream once the source has said ``opened``.

        Raises what the source raises until then.
        """
        stream = self.begin()
        try:
            stream._pipe.wait_open()
        except BaseException:  # Ctrl-C while waiting
            stream.close()
            raise
        stream._opened()
        return stream

    def begin(self) -> Stream:
        """Run the source in a thread; return its stream at once, for a reader that cannot wait."""
        stream = self.idle()
        stream._begin(self.source)
        return stream

    def idle(self) -> Stream:
        """Return its stream before anything runs, for a reader who has left already."""
        return Stream(DirectPipe(self.timeouts), self.cancel, self.model)
