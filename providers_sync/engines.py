"""What answers behind the gateway: the engine's contract, ``echo``, and an answer under way."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Union

from .dialects import ChatRequest
from .stream import CancelToken
from .types import Finish, Messages, Usage

POLL_S = 0.1
"""Between two looks at the clients; an engine stops within a second of the client's leaving."""

Piece = Union[str, Finish, Usage]
"""What an engine yields: text, and at the end how it ended and what it counted."""


class Engine(Protocol):
    """Answers conversations; called from many threads at once."""

    models: Sequence[str]
    """Names shown under ``/v1/models``; the first one answers."""

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[Piece]:
        """Yield the answer's text piece by piece, then ``Usage`` and ``Finish``, if known.

        ``messages`` is a non-empty list of ``role`` and ``content`` (text or parts);
        ``options`` holds what the client gave, by OpenAI's names. ``cancel`` is set when the
        client is gone: a silent engine must watch it. ``InvalidRequestError`` becomes a 400,
        any other exception a 500, or an error inside a stream that has begun.
        """

    def close(self) -> None:
        """Give back what the engine holds; the gateway calls it once, at its end."""


class EchoEngine:
    """Repeats the last user message word by word; the same question gets the same answer.

    >>> messages = [{"role": "user", "content": "Hello there"}]
    >>> list(EchoEngine().answer(messages, {"max_tokens": 3}, CancelToken()))[:3]
    ['You ', 'said: ', 'Hello ']
    """

    models: Sequence[str] = ("echo",)

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[Piece]:
        """Yield ``You said: …``; ``max_tokens`` and ``usage`` count words."""
        last = next((m for m in reversed(messages) if m["role"] == "user"), messages[-1])
        words = _words("You said: " + _text(last))
        limit = options.get("max_completion_tokens", options.get("max_tokens", len(words)))
        for word in words[:limit]:
            if cancel.cancelled:
                return
            yield word
        asked = sum(len(_text(message).split()) for message in messages)
        said = min(limit, len(words))
        yield Usage(asked, said, asked + said)
        yield Finish("length" if limit < len(words) else "stop")

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


class HangUp(OSError):
    """Nobody listens any more, or nobody may take the answer for whole: drop the connection.

    An ``OSError``, so that a WSGI server hangs up without a word.
    """


class Watch:
    """Cancels the answers whose clients have gone, even while their engines are silent."""

    def __init__(self) -> None:
        self._watched: dict[CancelToken, Callable[[], bool]] = {}
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="gateway-watch", daemon=True)
        self._thread.start()

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


class Answer:
    """The pieces of text of one answer, which ends early when nobody listens any more.

    Iterating raises what the engine raises, and ``HangUp`` once the client has
    gone. ``reason`` and ``usage`` hold the engine's last word after the end.
    """

    def __init__(
        self, engine: Engine, asked: ChatRequest, watch: Watch, gone: Callable[[], bool]
    ) -> None:
        self.reason = "stop"
        self.usage: Usage | None = None
        self._ended = False
        self._cancel = CancelToken()
        self._watch = watch
        self._source = iter(engine.answer(asked.messages, asked.options, self._cancel))
        watch.add(self._cancel, gone)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            for piece in self._source:
                if isinstance(piece, Usage):
                    self.usage = piece
                elif isinstance(piece, Finish):
                    self.reason = piece.reason or "stop"
                elif piece:
                    return piece
        except Exception as error:
            if self._cancel.cancelled:
                raise HangUp("the client has gone") from error
            raise
        if self._cancel.cancelled:
            raise HangUp("the client has gone")
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


def _words(text: str) -> list[str]:
    """Cut text after each run of white space; the pieces joined are the text.

    >>> _words("a  b c")
    ['a  ', 'b ', 'c']
    """
    return re.findall(r"\S+\s*|\s+", text)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
