"""What answers behind the gateway: the engine's contract, and an answer under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Union

from .dialects import ChatRequest, Ending, Piece
from .errors import ProviderError
from .stream import CancelToken
from .types import Finish, Messages, ToolCall, Usage

POLL_S = 0.1
"""Between two looks at the clients; an engine stops within a second of the client's leaving."""

Yield = Union[Piece, Finish, Usage]
"""What an engine yields: pieces of its answer, how it ended and what it counted."""


@dataclass(frozen=True)
class StopSequence(Finish):
    """The end at one of the client's ``stop`` sequences, for protocols that name it."""

    reason: str | None = "stop"
    sequence: str | None = None


class Engine(Protocol):
    """Answers conversations; called from many threads at once."""

    models: Sequence[str]
    """Names shown under ``/v1/models``; the first one answers."""

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[Yield]:
        """Yield the answer piece by piece, with ``Usage`` and ``Finish`` if known.

        A piece is text (``str``), ``ReasoningDelta``, ``Refusal`` or a whole ``ToolCall``.
        ``Usage`` may come twice: first with what the question counts, last with everything.
        ``Finish`` carries OpenAI's reasons; a ``StopSequence`` says which sequence it was.

        ``messages`` is a non-empty list in OpenAI's form, whatever the client spoke: ``role``,
        ``content`` (text or parts), ``tool_calls``, ``tool_call_id``. ``options`` holds what the
        client gave, by OpenAI's names, ``tools`` and ``response_format`` included. ``cancel`` is
        set when the client is gone: a silent engine must watch it. ``InvalidRequestError``
        becomes a 400, any other exception a 500, or an error inside a stream that has begun.
        """

    def close(self) -> None:
        """Give back what the engine holds; the gateway calls it once, at its end."""


class AbortConnection(OSError):
    """Nobody listens any more, or nobody may take the answer for whole: drop the connection.

    An ``OSError``, so that a WSGI server hangs up without a word.
    """


def start_thread(thread: threading.Thread) -> None:
    """Start a thread that the gateway cannot do without; ``ProviderError`` where none is left."""
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        raise ProviderError(
            f"the gateway cannot start a thread ({error}): end other programs, or raise the limit "
            "of processes (ulimit -u) or of memory"
        ) from error


class DisconnectWatcher:
    """Cancels the answers whose clients have gone, even while their engines are silent."""

    def __init__(self) -> None:
        self._watched: dict[CancelToken, Callable[[], bool]] = {}
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="gateway-watch", daemon=True)
        start_thread(self._thread)

    def add(self, cancel: CancelToken, gone: Callable[[], bool]) -> None:
        """Cancel ``cancel`` as soon as ``gone()`` is true."""
        with self._changed:
            self._watched[cancel] = gone
            self._changed.notify()
        if self._closed:
            cancel.cancel()

    def remove(self, cancel: CancelToken) -> None:
        """Forget ``cancel``; unknown ones do no harm."""
        with self._changed:
            self._watched.pop(cancel, None)

    def close(self) -> None:
        """Cancel all, now and from now on, and end the thread."""
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
            for cancel, gone in watched:
                if gone():
                    self.remove(cancel)
                    cancel.cancel()


class EngineAnswer:
    """The pieces of one answer, which ends early when nobody listens any more.

    Iterating raises what the engine raises, and ``AbortConnection`` once the client has gone.
    ``usage`` is what the engine has counted so far; ``ending`` holds after the end.
    """

    def __init__(
        self, engine: Engine, asked: ChatRequest, watch: DisconnectWatcher, gone: Callable[[], bool]
    ) -> None:
        self.usage = Usage()
        self._finish = Finish()
        self._called = False
        self._ended = False
        self._cancel = CancelToken()
        self._watch = watch
        self._source = iter(engine.answer(asked.messages, asked.options, self._cancel))
        watch.add(self._cancel, gone)

    @property
    def ending(self) -> Ending:
        """How the answer ended, by OpenAI's words."""
        reason = self._finish.reason or ("tool_calls" if self._called else "stop")
        return Ending(reason, self.usage, getattr(self._finish, "sequence", None))

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        try:
            for piece in self._source:
                if isinstance(piece, Usage):
                    self.usage = piece
                elif isinstance(piece, Finish):
                    self._finish = piece
                elif piece:
                    self._called = self._called or isinstance(piece, ToolCall)
                    return piece
        except Exception as error:
            if self._cancel.cancelled:
                raise AbortConnection("the client has gone") from error
            raise
        if self._cancel.cancelled:
            raise AbortConnection("the client has gone")
        self._ended = True
        raise StopIteration

    def close(self) -> None:
        """Stop the engine if it still works on this answer."""
        self._watch.remove(self._cancel)
        if not self._ended:
            self._cancel.cancel()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()
