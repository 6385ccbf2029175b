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
    """A call that is ready to send: everything is validated, nothing is sent.

    ``provider.prepare(…)`` makes one, for adapters such as a web framework's.

    Attributes:
        source: What sends the request and reads the answer. Internal.
        timeouts: Those of the call, in seconds.
        cancel: The token that stops it, if one was given.
        model: The model name of the request.
        context: The context of the caller that prepared the call; each start runs in a copy.
        make_stream: The class of the stream, or a function that makes it. Internal.
        question: What an observer is told, if there is one. Internal.
    """

    source: Source
    timeouts: Timeouts
    cancel: CancelToken | None = None
    model: str | None = None
    context: Context = field(default_factory=copy_context, repr=False, compare=False)
    make_stream: Callable[[Channel, CancelToken | None, str | None], Stream] = field(
        default=Stream, repr=False, compare=False
    )
    question: observing.Question | None = field(default=None, repr=False, compare=False)

    def open(self) -> Stream:
        """Send the request; return the stream of the answer once the headers have arrived.

        Raises:
            ProviderError: What ``stream`` raises before the first event; and if no thread can be
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
        """Send the request; return the stream of the answer at once, without blocking.

        Raises:
            ProviderError: No thread can be started. All other errors come from the stream.
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
        """Return the stream without sending anything, for a caller that has already stopped."""
        return self.make_stream(Channel(self.timeouts), self.cancel, self.model)
