"""An answer in a notebook: live Markdown, a stop button that stops, and ``%%chat``.

::

    from providers_sync import OpenAICompatible
    from providers_sync.notebook import show

    answer = show(OpenAICompatible("qwen3").stream("Why do cats purr?"))

It is plain blocking code, so it needs nothing of the event loop that Jupyter runs. In IPython
without a notebook, and in a script, the text is printed as it comes.
"""

from __future__ import annotations

import argparse
import functools
import html
import os
import shlex
import time
from typing import Any, NoReturn

from . import PROVIDERS, CancelToken, Chat, Completion, Provider, ProviderError, Stream
from .defaults import find_model, make_provider, select_provider
from .errors import StreamCancelled
from .interrupt import InterruptHandler
from .printable import VisibleChunks, visible
from .providers import PRESETS
from .safe_markdown import safe_markdown

try:
    from IPython.core.error import UsageError
    from IPython.core.getipython import get_ipython
    from IPython.display import display
except ImportError as missing:
    raise ImportError("it needs IPython: pip install 'providers-sync[notebook]'") from missing

UPDATE_EVERY_S = 0.1
"""Between two updates; every update carries the whole text so far."""
CHARACTERS_A_SECOND = 1_000_000
"""What updates may send at most: the longer the text, the rarer they come."""
PAUSE = 9
"""How much longer than an update the pause after it is: updates take a tenth of the time."""
LONGEST_WAIT_S = 1.0
"""Where the pause is longer, what comes meanwhile is shown with what comes after it."""
WAITING = "…"
_display: Any = display  # IPython's types differ from one version to another
_shell: Any = get_ipython


class Stopped(KeyboardInterrupt):
    """The stop button was pressed; ``partial`` is the text that had arrived.

    A ``KeyboardInterrupt``: loops and "Run all" stop, too. In a notebook it takes one line.
    """

    def __init__(self, partial: str = "") -> None:
        super().__init__(partial)
        self.partial = partial

    def _render_traceback_(self) -> list[str]:
        return ["Stopped. What had arrived is above, and in the stream's .text."]


def markdown(text: str) -> str:
    r"""Return Markdown that notebooks show as the model meant it, and that does nothing else.

    Outside code HTML is text, images are links, and links lead to the web, to mail or to a place on
    the page. Formulas in ``\(…\)`` and ``\[…\]`` become Jupyter's, and prices stay prices.

    >>> markdown(r"\(x^2\) is `\x` <script>f()</script> ![a](https://example.org/a.png)")
    '$x^2$ is <code>&#92;x</code> &lt;script>f()&lt;/script> [a](https://example.org/a.png)'
    """
    return safe_markdown(text)


def show(stream: Stream) -> Completion:
    """Show an answer while it streams; return it whole.

    The stop button stops it at once and raises ``Stopped``. A ``ProviderError`` is raised as by
    ``next()``, after what had arrived is shown. Either way the text is in ``stream.text``.
    The returned ``Completion`` shows itself as Markdown, though not again in the same cell.
    """
    with InterruptHandler(stream.cancel) as button:
        return _shown(stream, button)


def _shown(stream: Stream, button: InterruptHandler) -> Completion:
    output = _output()
    output.update(WAITING)
    try:
        for _ in stream.events():
            for _ in stream.ready_events():
                pass
            output.grow(stream)
    except StreamCancelled:
        if not button.pressed:
            raise
        raise Stopped(stream.text) from None
    except KeyboardInterrupt:  # in another thread than the one of signals
        stream.close()
        raise Stopped(stream.text) from None
    finally:
        output.end(stream)
    if button.pressed:  # too late for the answer, not for the cell
        raise Stopped(stream.text)
    answer = stream.completion()
    output.has_shown(answer)
    return answer


# --- where the answer is shown


class _Printed:
    """A terminal or a script: the text as it comes."""

    def __init__(self) -> None:
        self._printed = 0
        self._chunks = VisibleChunks()

    def update(self, text: str) -> None:
        """Nothing: there is no way back."""

    def grow(self, stream: Stream) -> None:
        text = stream.text
        print(self._chunks.feed(text[self._printed :]), end="", flush=True)
        self._printed = len(text)

    def end(self, stream: Stream) -> None:
        self.grow(stream)
        print(f"{self._chunks.end()}\n— {_summary(stream)}", flush=True)

    def has_shown(self, answer: Completion) -> None:
        """Nothing: whoever prints it again wants it again."""


class _Notebook(_Printed):
    """An output under the cell that is updated, and a quiet line below it."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._handle: Any = None
        self._last = ""
        self._due = 0.0

    def update(self, text: str) -> None:
        began = time.monotonic()
        if self._handle is None:
            self._handle = _display(_bundle(text), raw=True, display_id=True)
        elif text != self._last:
            self._handle.update(_bundle(text), raw=True)
        self._last = text
        now = time.monotonic()
        pause = max(UPDATE_EVERY_S, len(text) / CHARACTERS_A_SECOND, PAUSE * (now - began))
        self._due = now + pause

    def grow(self, stream: Stream) -> None:
        if self._last != WAITING:  # the first words come at once
            wait = self._due - time.monotonic()
            if wait > LONGEST_WAIT_S:
                return
            time.sleep(max(0.0, wait))
        text = stream.text
        if text:  # else it is thinking
            self.update(text)

    def end(self, stream: Stream) -> None:
        self.update(stream.text)
        said = _summary(stream)
        quiet = f'<small style="opacity: 0.6">{html.escape(said)}</small>'
        _display({"text/html": quiet, "text/plain": said}, raw=True)

    def has_shown(self, answer: Completion) -> None:
        formatter = self._shell.display_formatter.ipython_display_formatter
        formatter.for_type(Completion, _Once(self._shell, answer))


class _Once:
    """Shows completions as Markdown, but not the one that stands in this very cell already."""

    def __init__(self, shell: Any, shown: Completion) -> None:
        self._shell = shell
        self._shown: Completion | None = shown
        self._cell = shell.execution_count

    def __call__(self, answer: Completion) -> None:
        if answer is self._shown and self._shell.execution_count == self._cell:
            self._shown = None
            return
        _display(_bundle(answer.text), raw=True)


def _output() -> _Printed:
    shell = _shell()
    return _Notebook(shell) if hasattr(shell, "kernel") else _Printed()


def _bundle(text: str) -> dict[str, str]:
    return {"text/markdown": markdown(text), "text/plain": visible(text)}


def _summary(stream: Stream) -> str:
    stats = stream.stats
    return f"{stream.outcome} · {stats.chunks} chunks · {stats.duration_s:.1f} s"


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
    """Ask what the cell says, in a conversation that is kept in a variable.

    ``%%chat [NAME] [--provider NAME] [--model NAME] [--base-url URL] [--new]``: the variable is
    ``chat`` unless another NAME is given, and holds a ``Chat``. The settings stay until others are
    given; ``--new`` begins a new conversation. A stopped answer is in ``chat.interrupted``.
    """
    shell = _shell()
    talk = _conversation(shell.user_ns, _options(line))
    token = CancelToken()
    with InterruptHandler(token.cancel) as button:
        try:
            stream = talk.send(cell.strip("\n"), cancel=token)
            _shown(stream, button)
        except ProviderError as error:
            if button.pressed and isinstance(error, StreamCancelled):
                raise Stopped from None
            # No code of the user's is in the traceback.
            lines = [visible(f"{type(error).__name__}: {error}")]
            vars(error)["_render_traceback_"] = functools.partial(list, lines)  # pickles
            raise


def _conversation(variables: dict[str, Any], options: Any) -> Chat:
    """Return the conversation of this name, with what was asked to change."""
    kept = variables.get(options.name)
    if kept is not None and not isinstance(kept, Chat):
        raise UsageError(f"{options.name} is a variable of yours; name another one: %%chat NAME")
    try:
        if kept is None or options.new:
            kept = Chat(_provider(options))
        elif options.provider or options.base_url:
            kept.provider = _provider(options)
            kept.model = options.model
        elif options.model:
            kept.model = kept.provider.get_model(options.model)
    except ProviderError as error:
        raise UsageError(visible(str(error))) from error
    variables[options.name] = kept
    return kept


def _provider(options: Any) -> Provider:
    selection = select_provider(
        os.environ, provider=options.provider, model=options.model, base_url=options.base_url
    )
    provider = make_provider(selection, options.base_url)
    find_model(provider)
    return provider


def load_ipython_extension(shell: Any) -> None:
    """Make ``%%chat`` known: what ``%load_ext providers_sync`` does."""
    shell.register_magic_function(chat, "cell", "chat")
