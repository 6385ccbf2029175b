"""The ``ask`` command, and ``show_answer``: stream one answer to a screen; Ctrl-C cancels it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import ProviderError, StreamCancelled
from ..finish_reasons import is_whole
from ..interrupt import InterruptHandler
from ..provider_selection import set_only_model
from ..providers.base import Provider
from ..stream import CancelToken, Stream, explain
from ..types import Messages, TextDelta
from .input import no_echo, note
from .screens import JsonScreen, Screen, choose_screen, summary

EXIT_INTERRUPTED = 130


def ask(
    provider: Provider,
    question: str,
    *,
    system: str | None = None,
    as_json: bool = False,
    plain: bool = False,
    stats: bool = False,
) -> int:
    """Send one question, show the answer, and return the exit code: 0, or 130 after Ctrl-C.

    An answer that is complete but not whole, such as one that reached a limit on its length, has
    the code 0 too: a line on standard error says in words how it ended.

    ``system`` is the system message; ``as_json``, ``plain`` and ``stats`` are the options
    ``--json``, ``--plain`` and ``--stats``. If the answer fails, show the text that has arrived,
    then raise its ``ProviderError``.
    """
    messages: Messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    screen = choose_screen(as_json=as_json, plain=plain)

    def call(token: CancelToken) -> Stream:
        set_only_model(provider, token)
        return provider.stream(messages, cancel=token)

    try:
        show_answer(call, screen, stats=stats)
    except StreamCancelled:
        note("stopped")
        return EXIT_INTERRUPTED
    return 0


def show_answer(
    call: Callable[[CancelToken], Stream], screen: Screen, *, stats: bool = False
) -> None:
    """Show the answer that ``call`` returns.

    Raise its ``ProviderError`` if it fails; after Ctrl-C that is ``StreamCancelled``.
    """
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
                _note_what_is_not_text(stream)
            if stream is not None and stats:
                note(summary(stream), dim=True)


def _show(stream: Stream, screen: Screen) -> None:
    shown = 0
    try:
        for event in _events_with_flushes(stream, screen):
            shown += len(event.text) if isinstance(event, TextDelta) else 0
            screen.show(event)
    except ProviderError:
        remaining = stream.text[shown:]  # it had arrived, but was not read before the error
        if remaining:
            screen.show(TextDelta(remaining))
        raise


def _events_with_flushes(stream: Stream, screen: Screen) -> Iterator[Any]:
    """Yield the events; flush the screen before each wait for the next one."""
    for event in stream.events():
        yield event
        yield from stream.ready_events()
        screen.flush()


def _note_what_is_not_text(stream: Stream) -> None:
    """Report the parts of the answer that are not text, and in words how it ended."""
    if stream.refusal:
        note(f"the model refused: {stream.refusal}")
    for call in stream.tool_calls:
        note(f"the model calls {call.name}({call.raw})")
    for media in stream.media:
        place = media.url if media.data is None else f"{len(media.data)} bytes"
        note(f"the model sends {media.mime_type or media.kind} ({place!s:.200}); --json prints it")
    is_told = stream.refusal and is_whole(stream.outcome, stream.finish_reason)
    if (words := explain(stream)) and not is_told:
        note(words, dim=True)
