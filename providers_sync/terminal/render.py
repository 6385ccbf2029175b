"""One answer on a screen, and the stop button: Ctrl-C stops the answer, not the program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from ..defaults import find_model
from ..errors import ProviderError, StreamCancelled
from ..interrupt import InterruptHandler
from ..providers.base import Provider
from ..stream import CancelToken, Stream
from ..types import Messages, TextDelta
from .keyboard import no_echo, note
from .screens import JsonScreen, Screen, choose, summary

INTERRUPTED = 130


def ask(
    provider: Provider,
    question: str,
    *,
    system: str | None = None,
    as_json: bool = False,
    plain: bool = False,
    stats: bool = False,
) -> int:
    """Ask one question, show the answer, and return the exit code: 0, or 130 after Ctrl-C.

    Raises the ``ProviderError`` of an answer that fails, after all that had arrived is shown.
    """
    messages: Messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    screen = choose(as_json=as_json, plain=plain)

    def call(token: CancelToken) -> Stream:
        find_model(provider, token)
        return provider.stream(messages, cancel=token)

    try:
        answer(call, screen, stats=stats)
    except StreamCancelled:
        note("stopped")
        return INTERRUPTED
    return 0


def answer(call: Callable[[CancelToken], Stream], screen: Screen, *, stats: bool = False) -> None:
    """Show the answer that ``call`` returns; raises its ``ProviderError``, Ctrl-C's included."""
    stream = None
    token = CancelToken()
    with InterruptHandler(token.cancel), no_echo(), contextlib.closing(screen):
        screen.begin()
        try:
            stream = call(token)
            with stream:
                _show(stream, screen)
        except ProviderError as error:
            screen.end(stream, error)
            raise
        else:
            screen.end(stream, None)
        finally:
            if stream is not None and not isinstance(screen, JsonScreen):
                _say_the_rest(stream)
            if stream is not None and stats:
                note(summary(stream), quietly=True)


def _show(stream: Stream, screen: Screen) -> None:
    shown = 0
    try:
        for event in _with_rests(stream, screen):
            shown += len(event.text) if isinstance(event, TextDelta) else 0
            screen.show(event)
    except ProviderError:
        left = stream.text[shown:]  # what had arrived when it was stopped
        if left:
            screen.show(TextDelta(left))
        raise


def _with_rests(stream: Stream, screen: Screen) -> Iterator[Any]:
    """Yield the events, with a rest for the screen wherever the next one must be waited for."""
    for event in stream.events():
        yield event
        yield from stream.ready_events()
        screen.flush()


def _say_the_rest(stream: Stream) -> None:
    """Say what is part of the answer and not of its text."""
    if stream.refusal:
        note(f"the model refused: {stream.refusal}")
    for call in stream.tool_calls:
        note(f"the model calls {call.name}({call.raw})")
