"""What ``notebook.show`` writes to: displays that are updated, or the printed text."""

from __future__ import annotations

import time
import weakref
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display

from . import Completion, Media, Stream, ToolCall, ToolResult
from .clock import monotonic
from .finish_reasons import explain, shown_text
from .notebook_bundles import (
    Bundle,
    OutcomeLine,
    answer_bundle,
    growing_table_bundle,
    table_bundle,
)
from .notebook_calls import ShownCall, ShownCalls, call_line, ending_of, together
from .notebook_media import MAX_IMAGE_BYTES, media_bundle, media_line
from .printable import VisibleChunks, counted, visible
from .typed import TypedCompletion, TypedStream, plain_so_far, shown_value

UPDATE_EVERY_S = 0.1
"""The shortest interval between updates; every update carries the full text so far."""
MAX_CHARACTERS_PER_S = 1_000_000
"""The most that updates may send: the longer the text, the fewer updates."""
PAUSE_FACTOR = 9
"""The pause after an update, as a multiple of its duration: updates take a tenth of the time."""
MAX_WAIT_S = 1.0
"""If the pause is longer, text that arrives during it is shown with the first text after it."""
PLACEHOLDER = "…"
SOUND = "audio"
"""It comes in many pieces, so the line at the end tells of it."""
MAX_CALLS = MAX_IMAGES = 10
"""Outputs of calls and of images, with a text before each: JupyterLab hides outputs from the 51st
of a cell. More calls are shown together in one more output, more images are counted at the end."""
MAX_BYTES = 10_000_000
"""Of all images of an answer; one that would take the total above it is only named."""
_display: Any = display  # IPython's types differ between versions


class PrintedOutput:
    """Output in a terminal or a script: prints the text as it arrives."""

    def __init__(self) -> None:
        self._printed = 0
        self._is_at_line_start = True
        self._chunks = VisibleChunks()
        self._calls = ShownCalls()

    def begin(self) -> None:
        """Do nothing: printed text cannot be replaced."""

    def see(self, event: Any, stream: Stream) -> None:
        """Show an event that is not text."""
        if isinstance(event, ToolCall):
            self._calls.add(ShownCall(event))
        elif isinstance(event, ToolResult):
            self.refresh(stream)
            shown = self._calls.take(event)
            line = call_line(shown.call if shown else None, event)
            self._print_line(line)
        elif isinstance(event, Media) and event.kind != SOUND:
            self.refresh(stream)
            self._print_line(media_line(event))

    def refresh(self, stream: Stream) -> None:
        text = stream.text
        self._print(self._chunks.feed(text[self._printed :]))
        self._printed = len(text)

    def end(self, stream: Stream) -> None:
        self.refresh(stream)
        for shown in self._calls.open:
            self._print_line(call_line(shown.call, ending=ending_of(stream)))
        self._print(self._chunks.end() + visible(shown_text(stream).removeprefix(stream.text)))
        self._print_line(_outcome_line(stream).text)

    def _print(self, text: str) -> None:
        if text:
            print(text, end="", flush=True)
            self._is_at_line_start = text.endswith("\n")

    def _print_line(self, line: str) -> None:
        self._print(self._chunks.end())
        self._print(f"— {line}\n" if self._is_at_line_start else f"\n— {line}\n")

    def finish(self, answer: Completion, stream: Stream) -> None:
        """Do nothing: the text has been printed, and the user may print the completion again."""


class NotebookOutput(PrintedOutput):
    """Output in a notebook: displays that are updated.

    The last one is always that of the text to come, so that the line at the end is with it, also
    where answers of several threads are in one cell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._handle: Any = None
        self._displayed = ""
        self._next_update_at = 0.0
        self._calls = ShownCalls()
        self._others: list[ShownCall] = []
        """The calls that are shown together, in one display."""
        self._others_display: Any = None
        self._others_have_changed = False
        self._own_calls = 0
        """Calls with a display of their own."""
        self._images = 0
        self._image_bytes = 0
        self._starts = [(0, 0)]
        """How much of the text and of the refusal is in the displays before this one, and then
        before each paragraph in it."""

    def begin(self) -> None:
        """Display a placeholder for the text to come."""
        self._handle, self._displayed = _show(None, answer_bundle(PLACEHOLDER)), PLACEHOLDER

    def see(self, event: Any, stream: Stream) -> None:
        if isinstance(event, ToolCall):
            shown = ShownCall(event)
            self._show_call(shown, stream)
            self._calls.add(shown)
        elif isinstance(event, ToolResult):
            found = self._calls.take(event)
            if found is None:  # of a question that ends with calls
                self._show_call(ShownCall(None, event), stream)
            elif found.display is None:
                self._others_have_changed = True
            else:
                _show(found.display, found.bundle())
        elif isinstance(event, Media) and event.kind != SOUND and self._images < MAX_IMAGES:
            self._show_image(event, stream)

    def _show_call(self, shown: ShownCall, stream: Stream) -> None:
        if self._own_calls < MAX_CALLS:
            self._own_calls += 1
            shown.display = self._show_apart(shown.bundle(f" {PLACEHOLDER}"), stream)
            return
        self._others.append(shown)
        if self._others_display is None:
            self._others_display = self._show_apart(together(self._others), stream)
        else:
            self._starts.append(_lengths(stream))
        self._others_have_changed = True

    def _show_image(self, media: Media, stream: Stream) -> None:
        limit = min(MAX_IMAGE_BYTES, MAX_BYTES - self._image_bytes)
        size = len(media.data or b"")
        self._images += 1
        self._image_bytes += size if size <= limit else 0
        is_table = isinstance(stream, TypedStream) and plain_so_far(stream) is not None
        self._show_apart(media_bundle(media, limit), stream, splits_text=not is_table)

    def _show_apart(self, bundle: Bundle, stream: Stream, splits_text: bool = True) -> Any:
        """Show something below the text so far, or above all of it; return its display."""
        text = self._text(stream) if splits_text else ""
        if splits_text:
            self._starts = [_lengths(stream)]
        handle = self._handle
        if text:
            _show(handle, answer_bundle(text))
            handle = None
        handle = _show(handle, bundle)
        self.begin()
        return handle

    def _text(self, stream: Stream) -> str:
        """Return what the current display has to show."""
        ends = [*self._starts[1:], _lengths(stream)]
        texts = []
        for (text, refusal), (text_end, refusal_end) in zip(self._starts, ends, strict=True):
            texts += [stream.text[text:text_end], stream.refusal[refusal:refusal_end]]
        return "\n\n".join(filter(None, texts))

    def refresh(self, stream: Stream) -> None:
        if self._displayed != PLACEHOLDER or self._others_have_changed:
            wait = self._next_update_at - monotonic()  # else the first text is shown at once
            if wait > MAX_WAIT_S:
                return
            time.sleep(max(0.0, wait))
        started, sent = monotonic(), self._show_others(f" {PLACEHOLDER}")
        text = self._text(stream)
        if text and text != self._displayed:  # it is empty while the model is reasoning
            bundle = self._bundle(stream, text)
            _show(self._handle, bundle)
            self._displayed = text
            sent += _size(bundle)
        if sent:
            now = monotonic()
            pause = max(UPDATE_EVERY_S, sent / MAX_CHARACTERS_PER_S, PAUSE_FACTOR * (now - started))
            self._next_update_at = now + pause

    def _show_others(self, ending: str) -> int:
        """Show the calls that have no display of their own; return the characters sent."""
        if not self._others_have_changed:
            return 0
        self._others_have_changed = False
        bundle = together(self._others, ending)
        _show(self._others_display, bundle)
        return _size(bundle)

    def _bundle(self, stream: Stream, text: str, line: OutcomeLine | None = None) -> Bundle:
        """Return the text to be shown, or the table of what has arrived of a typed answer."""
        if isinstance(stream, TypedStream):
            value = plain_so_far(stream)
            is_growing = line is None and text.lstrip()[:1] in ("{", "[")
            if value is not None and is_growing:
                return growing_table_bundle(value, text)
            if value is not None:
                return table_bundle(value, text, line)
            if is_growing:
                return answer_bundle(PLACEHOLDER)
        return answer_bundle(text, line)

    def end(self, stream: Stream) -> None:
        ending = ending_of(stream)
        for shown in self._calls.open:
            if shown.display is not None:
                _show(shown.display, shown.bundle(ending))
        self._others_have_changed = bool(self._others)
        self._show_others(ending)
        _show(self._handle, self._bundle(stream, self._text(stream), _outcome_line(stream)))

    def finish(self, answer: Completion, stream: Stream) -> None:
        """Show the validated object of a typed answer; a completion is not displayed again."""
        if isinstance(answer, TypedCompletion):
            line = _outcome_line(stream, len(answer.invalid))
            value = shown_value(answer)
            if value is not None:  # else it stays the table of what has arrived
                _show(self._handle, table_bundle(value, self._text(stream), line))
        formatter = self._shell.display_formatter.ipython_display_formatter
        previous = formatter.lookup_by_type(Completion) if Completion in formatter else None
        if not isinstance(previous, _CompletionFormatter) or not previous.is_of_this_cell():
            previous = _CompletionFormatter(self._shell)
            formatter.for_type(Completion, previous)
        previous.add(answer)


class _CompletionFormatter:
    """Displays completions, except those that this cell has already shown."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._cell = shell.execution_count
        self._shown: list[weakref.ref[Completion]] = []  # else they would be kept

    def is_of_this_cell(self) -> bool:
        return bool(self._shell.execution_count == self._cell)

    def add(self, answer: Completion) -> None:
        """Do not display this one again in this cell."""
        self._shown.append(weakref.ref(answer))

    def __call__(self, answer: Completion) -> None:
        if self.is_of_this_cell() and any(each() is answer for each in self._shown):
            self._shown = [each for each in self._shown if each() is not answer]
            return
        words, value = explain(answer), None
        facts = ""
        if isinstance(answer, TypedCompletion):
            value = shown_value(answer)
            facts = counted(len(answer.invalid), "invalid item") if answer.invalid else ""
        line = OutcomeLine(facts, words) if facts or words else None
        text = shown_text(answer)
        bundle = answer_bundle(text, line) if value is None else table_bundle(value, text, line)
        _display(bundle, raw=True)


def _lengths(stream: Stream) -> tuple[int, int]:
    return len(stream.text), len(stream.refusal)


def _size(bundle: Bundle) -> int:
    return sum(map(len, bundle.values()))


def _show(handle: Any, bundle: Bundle) -> Any:
    """Show this in a display, or in a new one; return it."""
    if handle is None:
        return _display(bundle, raw=True, display_id=True)
    handle.update(bundle, raw=True)
    return handle


def make_output() -> PrintedOutput:
    shell: Any = get_ipython()
    return NotebookOutput(shell) if hasattr(shell, "kernel") else PrintedOutput()


def _outcome_line(stream: Stream, invalid: int = 0) -> OutcomeLine:
    """Return the line under an answer: outcome, counts, seconds, and how it ended.

    ``invalid`` is the number of items of a typed answer that were left out.
    """
    stats = stream.stats
    facts = [str(stream.outcome), counted(stats.chunks, "chunk")]
    others = {
        "tool call": len(stream.tool_calls),
        "image": sum(each.kind == "image" for each in stream.media),
        "break": stats.joins,
        "invalid item": invalid,
    }
    facts += [counted(number, name) for name, number in others.items() if number]
    sound = sum(len(each.data or b"") for each in stream.media if each.kind == SOUND)
    facts += [f"{sound / 1000:,.0f} KB of sound in media"] if sound else []
    return OutcomeLine(" · ".join([*facts, f"{stats.duration_s:.1f} s"]), explain(stream))
