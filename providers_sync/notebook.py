"""Jupyter integration: live Markdown with ``show()``, the stop button, and the ``%%chat`` magic.

::

    from providers_sync import OpenAICompatible
    from providers_sync.notebook import show

    answer = show(OpenAICompatible("qwen3").stream("Why do cats purr?"))

It is plain blocking code and does not use Jupyter's event loop. In IPython without a notebook, and
in a script, the text is printed as it arrives.
"""

from __future__ import annotations

import argparse
import functools
import html
import os
import shlex
import time
from collections.abc import Callable
from typing import Any, NoReturn

from . import (
    PROVIDERS,
    CancelToken,
    Chat,
    Completion,
    Provider,
    ProviderError,
    Stream,
    ToolCall,
    ToolResult,
)
from .clock import monotonic
from .errors import StreamCancelled
from .interrupt import InterruptHandler
from .printable import VisibleChunks, short_line, visible
from .provider_selection import make_provider, select_provider, set_only_model
from .providers import PRESETS
from .safe_markdown import make_safe
from .stream import explain
from .tools.deciding import is_asking

try:
    from IPython.core.error import UsageError
    from IPython.core.getipython import get_ipython
    from IPython.display import display
except ImportError as error:
    raise ImportError(
        "providers_sync.notebook needs IPython: pip install 'providers-sync[notebook]'"
    ) from error

UPDATE_EVERY_S = 0.1
"""The shortest interval between updates; every update carries the full text so far."""
MAX_CHARACTERS_PER_S = 1_000_000
"""The most that updates may send: the longer the text, the fewer updates."""
PAUSE_FACTOR = 9
"""The pause after an update, as a multiple of its duration: updates take a tenth of the time."""
MAX_WAIT_S = 1.0
"""If the pause is longer, text that arrives during it is shown with the first text after it."""
SHOWN_ARGUMENTS = 60
SHOWN_RESULT = 100
"""Characters of the arguments and of the result in the line about a tool call."""
PLACEHOLDER = "…"
_display: Any = display  # IPython's types differ between versions
_shell: Any = get_ipython


class Stopped(KeyboardInterrupt):
    """Raised when the stop button is pressed; ``partial`` is the text that had arrived.

    It is a ``KeyboardInterrupt``, so loops and "Run all" stop too. A notebook shows it in one line.
    """

    def __init__(self, partial: str = "") -> None:
        super().__init__(partial)
        self.partial = partial

    def _render_traceback_(self) -> list[str]:
        return ["Stopped. The text received so far is shown above."]


def markdown(text: str) -> str:
    r"""Return Markdown that is safe in a notebook and looks as the model intended.

    Outside code, HTML becomes text, images become links, and links lead only to the web, to mail or
    to an anchor on the page. Formulas in ``\(…\)`` and ``\[…\]`` get Jupyter's delimiters; prices
    stay prices.

    >>> markdown(r"\(x^2\) is `\x` <script>f()</script> ![a](https://example.org/a.png)")
    '$x^2$ is <code>&#92;x</code> &lt;script>f()&lt;/script> [a](https://example.org/a.png)'
    """
    return make_safe(text)


def show(stream: Stream) -> Completion:
    """Show an answer while it streams, and return it as a ``Completion``.

    The stop button cancels it at once and raises ``Stopped``. If the answer fails, its
    ``ProviderError`` is raised as by ``next()``, after the text that had arrived is shown. In both
    cases the text is in ``stream.text``. The ``Completion`` displays itself as Markdown, but not
    again in the same cell.

    Of a run each tool call is a line, to which the result is added. The stop button also ends a
    function of ``approve=`` that waits for ``input()``.
    """
    with InterruptHandler(_stop_with(stream.cancel)) as interrupt:
        return _show_stream(stream, interrupt)


def _stop_with(cancel: Callable[[], None]) -> Callable[[], None]:
    def stop() -> None:
        cancel()
        if is_asking():  # else ``input()`` would go on
            raise KeyboardInterrupt

    return stop


def _show_stream(stream: Stream, interrupt: InterruptHandler) -> Completion:
    output = _make_output()
    output.update(PLACEHOLDER)
    try:
        for event in stream.events():
            output.see(event, stream)
            for more in stream.ready_events():
                output.see(more, stream)
            output.refresh(stream)
    except StreamCancelled:
        if not interrupt.pressed:
            raise
        raise Stopped(stream.text) from None
    except KeyboardInterrupt:  # the handler works only in the main thread
        stream.close()
        raise Stopped(stream.text) from None
    finally:
        output.end(stream)
    if interrupt.pressed:  # the answer had ended already, but the cell must stop
        raise Stopped(stream.text)
    answer = stream.completion()
    output.mark_shown(answer)
    return answer


# --- outputs


class _PrintedOutput:
    """Output in a terminal or a script: prints the text as it arrives."""

    def __init__(self) -> None:
        self._printed = 0
        self._chunks = VisibleChunks()
        self._calls = _ShownCalls()

    def see(self, event: Any, stream: Stream) -> None:
        """Show an event that is no text."""
        if isinstance(event, ToolCall):
            self._calls.add(event)
        elif isinstance(event, ToolResult):
            self.refresh(stream)
            call, _ = self._calls.take(event)
            print(f"{self._chunks.end()}\n— {_line(call, event)}", flush=True)

    def update(self, text: str) -> None:
        """Do nothing: printed text cannot be replaced."""

    def refresh(self, stream: Stream) -> None:
        text = stream.text
        print(self._chunks.feed(text[self._printed :]), end="", flush=True)
        self._printed = len(text)

    def end(self, stream: Stream) -> None:
        self.refresh(stream)
        for call, _ in self._calls.open:
            print(f"{self._chunks.end()}\n— {_line_at_end(call, stream)}", flush=True)
        rest = self._chunks.end() + visible(_shown(stream).removeprefix(stream.text))
        print(f"{rest}\n— {_summary(stream)}", flush=True)

    def mark_shown(self, answer: Completion) -> None:
        """Do nothing: the user may print the completion again."""


class _NotebookOutput(_PrintedOutput):
    """Output in a notebook: a display that is updated, and a dimmed line below it."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._handle: Any = None
        self._displayed = ""
        self._next_update_at = 0.0
        self._calls = _ShownCalls()
        self._start = (0, 0)
        """How much of the text and of the refusal is in the displays before this one."""

    def see(self, event: Any, stream: Stream) -> None:
        if isinstance(event, ToolCall):
            line = f"{_line(event)} {PLACEHOLDER}"
            self._calls.add(event, _show_line(self._take_placeholder(stream), line))
        elif isinstance(event, ToolResult):
            call, handle = self._calls.take(event)
            if handle is None:  # of a question that ends with calls
                handle = self._take_placeholder(stream)
            _show_line(handle, _line(call, event))

    def _take_placeholder(self, stream: Stream) -> Any:
        """End the display of the text; return it if it has none."""
        handle, self._handle = self._handle, None
        text = self._text(stream)
        self._start = (len(stream.text), len(stream.refusal))
        self._displayed = PLACEHOLDER  # of the next text
        if handle is not None and text:
            handle.update(_mime_bundle(text), raw=True)
            return None
        return handle

    def _text(self, stream: Stream) -> str:
        """Return what the current display has to show."""
        text, refusal = self._start
        return "\n\n".join(filter(None, [stream.text[text:], stream.refusal[refusal:]]))

    def update(self, text: str) -> None:
        started = monotonic()
        if self._handle is None:
            self._handle = _display(_mime_bundle(text), raw=True, display_id=True)
        elif text != self._displayed:
            self._handle.update(_mime_bundle(text), raw=True)
        self._displayed = text
        now = monotonic()
        pause = max(
            UPDATE_EVERY_S, len(text) / MAX_CHARACTERS_PER_S, PAUSE_FACTOR * (now - started)
        )
        self._next_update_at = now + pause

    def refresh(self, stream: Stream) -> None:
        if self._displayed != PLACEHOLDER:  # the first text is shown at once
            wait = self._next_update_at - monotonic()
            if wait > MAX_WAIT_S:
                return
            time.sleep(max(0.0, wait))
        text = stream.text[self._start[0] :]
        if text:  # empty while the model is reasoning
            self.update(text)

    def end(self, stream: Stream) -> None:
        text = self._text(stream)
        if text or self._handle is not None:
            self.update(text)
        for call, handle in self._calls.open:
            _show_line(handle, _line_at_end(call, stream))
        summary = _summary(stream)
        markup = f'<small style="opacity: 0.6">{html.escape(summary)}</small>'
        _display({"text/html": markup, "text/plain": summary}, raw=True)

    def mark_shown(self, answer: Completion) -> None:
        formatter = self._shell.display_formatter.ipython_display_formatter
        formatter.for_type(Completion, _CompletionFormatter(self._shell, answer))


class _CompletionFormatter:
    """Displays completions as Markdown, except the one that this cell has already shown."""

    def __init__(self, shell: Any, shown: Completion) -> None:
        self._shell = shell
        self._shown: Completion | None = shown
        self._cell = shell.execution_count

    def __call__(self, answer: Completion) -> None:
        if answer is self._shown and self._shell.execution_count == self._cell:
            self._shown = None
            return
        _display(_mime_bundle(_shown(answer)), raw=True)


class _ShownCalls:
    """The tool calls that have no result yet, each with its display."""

    def __init__(self) -> None:
        self.open: list[tuple[ToolCall, Any]] = []

    def add(self, call: ToolCall, handle: Any = None) -> None:
        self.open.append((call, handle))

    def take(self, result: ToolResult) -> tuple[ToolCall | None, Any]:
        """Return the call of a result: some servers give no ids, and results come in order."""
        for place, (call, _) in enumerate(self.open):
            if call.name == result.name:
                return self.open.pop(place)
        return None, None


def _line(call: ToolCall | None, result: ToolResult | None = None) -> str:
    """Return the line about a call, or about its result, made visible and shortened."""
    name = visible(result.name if result else call.name if call else "")
    line = f"{name}({short_line(call.raw, SHOWN_ARGUMENTS) if call else '…'})"
    if result is None:
        return line
    words = ("error: " if result.is_error else "") + result.content
    return f"{line}: {short_line(words, SHOWN_RESULT)}"


def _line_at_end(call: ToolCall, stream: Stream) -> str:
    return _line(call) + (": no result" if hasattr(stream, "rounds") else "")


def _show_line(handle: Any, line: str) -> Any:
    """Show a dimmed line in this display, or in a new one; return it."""
    # In <code> nothing is taken for a formula.
    markup = f'<small style="opacity: 0.6"><code>{html.escape(line)}</code></small>'
    bundle = {"text/html": markup, "text/plain": line}
    if handle is None:
        return _display(bundle, raw=True, display_id=True)
    handle.update(bundle, raw=True)
    return handle


def _make_output() -> _PrintedOutput:
    shell = _shell()
    return _NotebookOutput(shell) if hasattr(shell, "kernel") else _PrintedOutput()


def _mime_bundle(text: str) -> dict[str, str]:
    return {"text/markdown": markdown(text), "text/plain": visible(text)}


def _shown(answer: Stream | Completion) -> str:
    """Return what a reader sees of an answer: its text, and the model's refusal if it is apart."""
    return "\n\n".join(filter(None, [answer.text, answer.refusal]))


def _summary(stream: Stream) -> str:
    """Return the line under an answer: outcome, chunks, tool calls, seconds, and how it ended."""
    stats = stream.stats
    facts = [str(stream.outcome), f"{stats.chunks} chunks", f"{stats.duration_s:.1f} s"]
    if calls := len(stream.tool_calls):
        facts.insert(2, f"{calls} tool call{'' if calls == 1 else 's'}")
    return visible(" · ".join([*facts, *filter(None, [explain(stream)])]))


# --- %%chat


class _MagicParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"%%chat: {message}")


def _options(line: str) -> argparse.Namespace:
    parser = _MagicParser(prog="%%chat", add_help=False)
    parser.add_argument("name", nargs="?", default="chat")
    parser.add_argument("--provider", type=str.lower, choices=sorted({*PROVIDERS, *PRESETS}))
    parser.add_argument("--model")
    parser.add_argument("--base-url")
    parser.add_argument("--new", action="store_true")
    return parser.parse_args(shlex.split(line))


def chat(line: str, cell: str) -> None:
    """Send the cell's text as the next message of a conversation that is kept in a variable.

    ``%%chat [NAME] [--provider NAME] [--model NAME] [--base-url URL] [--new]``: the variable NAME
    (default ``chat``) holds a ``Chat``. Settings stay until you change them; ``--new`` starts a
    new conversation without them. A stopped answer is in ``chat.interrupted``.
    """
    shell = _shell()
    conversation = _conversation(shell.user_ns, _options(line))
    token = CancelToken()
    with InterruptHandler(_stop_with(token.cancel)) as interrupt:
        try:
            stream = conversation.send(cell.strip("\n"), cancel=token)
            _show_stream(stream, interrupt)
        except ProviderError as error:
            if interrupt.pressed and isinstance(error, StreamCancelled):
                raise Stopped from None
            # Show one line: the traceback contains none of the user's code.
            lines = [visible(f"{type(error).__name__}: {error}")]
            vars(error)["_render_traceback_"] = functools.partial(list, lines)  # picklable
            raise


def _conversation(variables: dict[str, Any], options: Any) -> Chat:
    """Return the conversation with this name, with the options applied to it."""
    conversation = variables.get(options.name)
    if conversation is not None and not isinstance(conversation, Chat):
        raise UsageError(
            f"the variable {options.name} is not a Chat; choose another name: %%chat NAME"
        )
    try:
        if conversation is None or options.new:
            conversation = Chat(_provider(options))
        elif options.provider or options.base_url:
            conversation.provider = _provider(options)
            conversation.model = options.model
        elif options.model:
            conversation.model = conversation.provider.get_model(options.model)
    except ProviderError as error:
        raise UsageError(visible(str(error))) from error
    variables[options.name] = conversation
    return conversation


def _provider(options: Any) -> Provider:
    selection = select_provider(
        os.environ, provider=options.provider, model=options.model, base_url=options.base_url
    )
    provider = make_provider(selection, options.base_url)
    set_only_model(provider)
    return provider


def load_ipython_extension(shell: Any) -> None:
    """Register ``%%chat``; ``%load_ext providers_sync`` calls this."""
    shell.register_magic_function(chat, "cell", "chat")
