"""``Engine``, the interface of what produces the gateway's answers; ``EngineAnswer``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Union

from .dialects import ChatRequest, Delta, Ending
from .errors import ProviderError
from .stream import CancelToken
from .types import (
    Citation,
    Event,
    Extra,
    Finish,
    InternalDelta,
    Join,
    Media,
    Messages,
    ReasoningDelta,
    Refusal,
    TextDelta,
    ToolCall,
    Usage,
)

POLL_S = 0.1
"""Seconds between two checks for disconnects; an engine stops within a second of one."""

EngineEvent = Union[str, Event]
"""What an engine yields: text, and the events of a ``Stream``."""
_NOT_SENT = (Citation, Media, Extra, Join, *InternalDelta)
"""What the gateway's protocols do not carry."""
_STOP_SEQUENCE = "delta.stop_sequence"
"""The ``Extra`` that holds the stop sequence in the answer of an ``Anthropic`` provider."""


@dataclass(frozen=True)
class StopSequence(Finish):
    """A finish at one of the client's ``stop`` sequences, for protocols that report which one."""

    reason: str | None = "stop"
    sequence: str | None = None


class Engine(Protocol):
    """Generates the answers; called from many threads at once."""

    models: Sequence[str]
    """The names in the lists of models; the first one is the default."""

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[EngineEvent]:
        """Yield the answer's text and events, and ``Usage`` and ``Finish`` if known.

        Those of a provider may be passed on unchanged:
        ``yield from provider.stream(messages, cancel=cancel).events()``. Text is a ``str`` or a
        ``TextDelta``; ``Citation``, ``Media`` and ``Extra`` are not sent to the client.
        ``Usage`` may come twice: first with the tokens of the prompt, at the end with all counts.
        ``Finish`` carries OpenAI's or Anthropic's reasons: each client gets those of its own
        protocol, and unknown ones as they are. A ``StopSequence`` also holds the matched sequence.

        ``InvalidRequestError`` becomes a 400, an ``APIStatusError`` keeps a status such as 429 or
        503, and any other exception becomes a 500. In a stream that has started, each becomes an
        error event, or ends the connection if the protocol has no error events.

        Args:
            messages: A non-empty list in OpenAI's form, whatever protocol the client uses:
                ``role``, ``content`` (text or parts), ``tool_calls``, ``tool_call_id``.
            options: The client's options under OpenAI's names, ``tools`` and ``response_format``
                included. Pass only those you know to ``stream``: others may be its parameters.
            cancel: It is set when the client disconnects: an engine must check it while it waits.
        """

    def close(self) -> None:
        """Release the engine's resources; the gateway calls it once, when it closes."""


class AbortConnection(OSError):
    """Drop the connection: the client has disconnected, or must not take the answer as complete.

    An ``OSError``, so that a WSGI server closes the connection without sending an error.
    """


def start_thread(thread: threading.Thread) -> None:
    """Start a thread that the gateway needs; raise ``ProviderError`` if the system has none."""
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        raise ProviderError(
            f"the gateway cannot start a thread ({error}): end other programs, or raise the limit "
            "of processes (ulimit -u) or of memory"
        ) from error


class DisconnectWatcher:
    """Cancels the answers of disconnected clients, even while their engines produce nothing."""

    def __init__(self) -> None:
        self._watched: dict[CancelToken, Callable[[], bool]] = {}
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="gateway-watch", daemon=True)
        start_thread(self._thread)

    def add(self, cancel: CancelToken, disconnected: Callable[[], bool]) -> None:
        """Cancel ``cancel`` as soon as ``disconnected()`` is true."""
        with self._changed:
            self._watched[cancel] = disconnected
            self._changed.notify()
        if self._closed:
            cancel.cancel()

    def remove(self, cancel: CancelToken) -> None:
        """Stop watching ``cancel``; unknown tokens are ignored."""
        with self._changed:
            self._watched.pop(cancel, None)

    def close(self) -> None:
        """Cancel all watched tokens and any added later, and end the thread."""
        with self._changed:
            self._closed = True
            watched = list(self._watched)
            self._changed.notify()
        for cancel in watched:
            cancel.cancel()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            with self._changed:
                if not self._closed:
                    self._changed.wait(POLL_S if self._watched else None)
                watched = list(self._watched.items())
            for cancel, disconnected in watched:
                if disconnected():
                    self.remove(cancel)
                    cancel.cancel()


class EngineAnswer:
    """Iterates over the deltas of one answer, and stops early when the client disconnects.

    Iterating raises what the engine raises, and ``AbortConnection`` after a disconnect.
    ``usage`` is what the engine has counted so far; ``ending`` is final after the last delta.
    """

    def __init__(
        self,
        engine: Engine,
        request: ChatRequest,
        watcher: DisconnectWatcher,
        disconnected: Callable[[], bool],
    ) -> None:
        self.usage = Usage()
        self._finish = Finish()
        self._stop_sequence: str | None = None
        self._has_calls = False
        self._ended = False
        self._cancel = CancelToken()
        self._watcher = watcher
        self._source = iter(engine.answer(request.messages, request.options, self._cancel))
        watcher.add(self._cancel, disconnected)

    @property
    def ending(self) -> Ending:
        """How the answer ended, with the engine's finish reason or OpenAI's name for it."""
        reason = self._finish.reason or ("tool_calls" if self._has_calls else "stop")
        return Ending(reason, self.usage, self._stop_sequence)

    def __iter__(self) -> Iterator[Delta]:
        return self

    def __next__(self) -> Delta:
        try:
            for event in self._source:
                if delta := self._read(event):
                    return delta
        except Exception as error:
            if self._cancel.cancelled:
                raise AbortConnection("the client has disconnected") from error
            raise
        if self._cancel.cancelled:
            raise AbortConnection("the client has disconnected")
        self._ended = True
        raise StopIteration

    def _read(self, event: EngineEvent | None) -> Delta | None:
        """Return the delta of an event; keep what belongs to the end of the answer."""
        if isinstance(event, TextDelta):
            return event.text
        if isinstance(event, (str, ReasoningDelta, Refusal, ToolCall)):
            self._has_calls = self._has_calls or isinstance(event, ToolCall)
            return event
        if isinstance(event, Usage):
            self.usage = event
        elif isinstance(event, Finish):
            self._finish = event
            self._stop_sequence = getattr(event, "sequence", self._stop_sequence)
        elif isinstance(event, Extra) and event.path == _STOP_SEQUENCE:
            self._stop_sequence = event.value if isinstance(event.value, str) else None
        elif event is not None and not isinstance(event, _NOT_SENT):
            raise TypeError(
                f"an engine must yield text and events, not {type(event).__name__} ({event!r:.200})"
            )
        return None

    def close(self) -> None:
        """Stop the engine if it is still working on this answer."""
        self._watcher.remove(self._cancel)
        if not self._ended:
            self._cancel.cancel()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()
