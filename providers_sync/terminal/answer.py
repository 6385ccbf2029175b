"""The ``ask`` command, and ``show_answer``: stream one answer to a screen; Ctrl-C cancels it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ProviderError, StreamCancelled
from ..finish_reasons import is_whole
from ..interrupt import InterruptHandler
from ..printable import short_line, visible
from ..provider_selection import set_only_model
from ..providers.base import Provider
from ..stream import CancelToken, Stream, explain
from ..types import Event, Messages, TextDelta, ToolCall, ToolResult
from .input import no_echo, note
from .screens import JsonScreen, Screen, choose_screen, summary

if TYPE_CHECKING:
    from ..tools import Tool

EXIT_INTERRUPTED = 130
SHOWN_ARGUMENTS = 60
SHOWN_RESULT = 100
"""Characters of the arguments and of the result in the line about a tool call."""


def ask(
    provider: Provider,
    question: Any,
    *,
    system: str | None = None,
    options: Mapping[str, Any] | None = None,
    into: Any = None,
    tools: Sequence[Tool] = (),
    yes: bool = False,
    as_json: bool = False,
    plain: bool = False,
    stats: bool = False,
) -> int:
    """Send one question, show the answer, and return the exit code: 0, or 130 after Ctrl-C.

    An answer that is complete but not whole, such as one that reached a limit on its length, has
    the code 0 too: a line on standard error says in words how it ended.

    ``question`` is text or a list of parts; ``system`` is the system message; ``options`` are those
    of the request; ``into`` is the type of a typed answer, of which the value is shown, as JSON, at
    its end; ``tools`` are what the model may call, after the user has agreed or ``yes``;
    ``as_json``, ``plain`` and ``stats`` are the options ``--json``, ``--plain`` and ``--stats``. If
    the answer fails, show the text that has arrived, then raise its ``ProviderError``.
    """
    messages: Messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    screen = choose_screen(as_json=as_json, plain=plain)
    of_run = tool_options(tools, screen, yes=yes)
    call_options = dict(options or {})
    if into is not None:
        call_options["into"] = into
        if importlib.util.find_spec("jsonschema") is None:
            note("the answer is not checked against the schema: pip install jsonschema")

    def call(token: CancelToken) -> Stream:
        set_only_model(provider, token)
        ask: Any = provider.run if of_run else provider.stream
        stream: Stream = ask(messages, cancel=token, **call_options, **of_run)
        return stream

    try:
        show_answer(call, screen, stats=stats, is_typed=into is not None)
    except StreamCancelled:
        note("stopped")
        return EXIT_INTERRUPTED
    return 0


def tool_options(tools: Sequence[Tool], screen: Screen, *, yes: bool) -> dict[str, Any]:
    """Return the options of a run, or none; raise ``InvalidRequestError`` if nobody can agree."""
    if not tools:
        return {}
    from .approval import make_approve  # late: few need it

    return {"tools": list(tools), "approve": make_approve(tools, screen, yes=yes)}


def show_answer(
    call: Callable[[CancelToken], Stream],
    screen: Screen,
    *,
    stats: bool = False,
    is_typed: bool = False,
) -> None:
    """Show the answer that ``call`` returns; of a typed one its value, when it is whole.

    Raise its ``ProviderError`` if it fails; after Ctrl-C that is ``StreamCancelled``.
    """
    stream = None
    calls = _CallNotes(screen)
    token = CancelToken()
    with InterruptHandler(token.cancel), no_echo(), contextlib.closing(screen):
        screen.begin()
        try:
            stream = call(token)
            with stream:
                if is_typed:
                    _show_value(stream, screen, calls)
                else:
                    _show(stream, screen, calls)
        except ProviderError as error:
            screen.end(stream, error)
            raise
        else:
            screen.end(stream, None)
        finally:
            if stream is not None and not isinstance(screen, JsonScreen):
                _note_what_is_not_text(stream, calls.without_result(stream))
            if stream is not None and stats:
                note(summary(stream), dim=True)


class _CallNotes:
    """Notes each result of a tool call, and shows which call is waited for."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._open: list[ToolCall] = []
        self._answered: list[ToolCall] = []

    def see(self, event: Event) -> None:
        if isinstance(event, ToolCall):
            self._open.append(event)
        elif not isinstance(event, ToolResult):
            return
        if isinstance(self._screen, JsonScreen):
            return
        self._screen.pause()
        if isinstance(event, ToolResult):
            self._note(event)
        self._screen.resume(self._open[0].name if self._open else "")

    def _note(self, result: ToolResult) -> None:
        # By name: the next round may use the same ids; results come in the order of the calls.
        call = next((call for call in self._open if call.name == result.name), None)
        if call is not None:
            self._open.remove(call)
            self._answered.append(call)
        arguments = short_line(call.raw, SHOWN_ARGUMENTS) if call else "…"
        words = ("error: " if result.is_error else "") + result.content
        took = f" ({result.seconds:.1f} s)" if result.seconds >= 1 else ""
        note(f"{result.name}({arguments}): {short_line(words, SHOWN_RESULT)}{took}", dim=True)

    def without_result(self, stream: Stream) -> list[ToolCall]:
        """Return the calls of the answer that have no result."""
        calls = list(stream.tool_calls)
        for call in self._answered:
            calls.remove(call)
        return calls


def _show(stream: Stream, screen: Screen, calls: _CallNotes) -> None:
    shown = 0
    try:
        for event in _events_with_flushes(stream, screen):
            shown += len(event.text) if isinstance(event, TextDelta) else 0
            screen.show(event)
            calls.see(event)
    except ProviderError:
        remaining = stream.text[shown:]  # it had arrived, but was not read before the error
        if remaining:
            screen.show(TextDelta(remaining))
        raise


def _show_value(stream: Any, screen: Screen, calls: _CallNotes) -> None:
    """Show the value of a typed answer; its text only to a program that reads events.

    Without events, an answer that does not fit is asked for again.
    """
    reads_events = isinstance(screen, JsonScreen)
    try:
        for event in _events_with_flushes(stream, screen) if reads_events else _calls_of(stream):
            if reads_events:
                screen.show(event)
            calls.see(event)
        screen.show_value(stream.value)
    except ProviderError as error:
        from ..typed import rejected_texts  # loaded already

        texts = dict.fromkeys(filter(None, [*rejected_texts(error), stream.text]))
        if texts and not reads_events:
            screen.pause()
            note("there is no value; the model wrote:")
            print(*map(visible, texts), sep="\n\n", file=sys.stderr, flush=True)
        raise
    if not reads_events and not _is_json(stream.text):
        note("the model wrote more than this value: --json prints all of it", dim=True)


def _calls_of(stream: Any) -> Iterator[Any]:
    """Yield the events of a run; those of a stream are left for ``value``."""
    if hasattr(stream, "rounds"):
        yield from stream.events()


def _is_json(text: str) -> bool:
    """Return whether a text is JSON and nothing else, but for a code fence around it."""
    fenced = re.fullmatch(r"\s*(```|~~~)\w*\n(.*)\n\s*\1\s*", text, re.DOTALL)
    try:
        json.loads(fenced[2] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return True


def _events_with_flushes(stream: Stream, screen: Screen) -> Iterator[Any]:
    """Yield the events; flush the screen before each wait for the next one."""
    for event in stream.events():
        yield event
        yield from stream.ready_events()
        screen.flush()


def _note_what_is_not_text(stream: Stream, calls: list[ToolCall]) -> None:
    """Report the parts of the answer that are not text, and in words how it ended."""
    if stream.refusal:
        note(f"the model refused: {stream.refusal}")
    for call in calls:
        if hasattr(stream, "rounds"):  # a run
            note(f"{call.name}({short_line(call.raw, SHOWN_ARGUMENTS)}): no result", dim=True)
        else:
            note(f"the model calls {call.name}({call.raw})")
    for media in stream.media:
        place = media.url if media.data is None else f"{len(media.data)} bytes"
        note(f"the model sends {media.mime_type or media.kind} ({place!s:.200}); --json prints it")
    is_told = stream.refusal and is_whole(stream.outcome, stream.finish_reason)
    if (words := explain(stream)) and not is_told:
        note(words, dim=True)
