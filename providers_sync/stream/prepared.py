"""``PreparedCall``: a validated call that has not been sent yet, and how it starts."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from .. import observing
from ..config import Timeouts
from .cancel import CancelToken
from .channel import Channel
from .reading import Source
from .stream import Stream, channel_of, raise_early_failure, start


@dataclass(frozen=True)
class PreparedCall:
    """A call that is ready to send: everything is validated, nothing is sent."""

    source: Source
    timeouts: Timeouts
    cancel: CancelToken | None = None
    model: str | None = None
    """The model name of the request."""
    context: Context = field(default_factory=copy_context, repr=False, compare=False)
    """The context of the caller that has prepared the call; each start runs in a copy."""
    make_stream: Callable[[Channel, CancelToken | None, str | None], Stream] = field(
        default=Stream, repr=False, compare=False
    )
    """The class of the stream, or a function that makes it."""
    question: observing.Question | None = field(default=None, repr=False, compare=False)
    """What an observer is told, if there is one."""

    def open(self) -> Stream:
        """Run the source in a thread; return its stream once the headers have arrived.

        Raises what the source raises before that, and ``ProviderError`` if no thread can be
        started.
        """
        stream = self.unstarted()
        try:
            self._start(stream)
            channel_of(stream).wait_for_headers()
        except BaseException:  # Ctrl-C while waiting
            stream.close()
            raise
        raise_early_failure(stream)
        return stream

    def begin(self) -> Stream:
        """Run the source in a thread; return its stream at once, without blocking.

        Raises ``ProviderError`` if no thread can be started.
        """
        stream = self.unstarted()
        self._start(stream)
        return stream

    def _start(self, stream: Stream) -> None:
        context = self.context.copy()
        observe = observing.observe
        if self.question is not None and observe is not None:
            channel_of(stream).observer = context.run(observe, self.question)
        start(stream, self.source, context)

    def unstarted(self) -> Stream:
        """Return its stream without running anything, for a caller that has already stopped."""
        return self.make_stream(Channel(self.timeouts), self.cancel, self.model)
