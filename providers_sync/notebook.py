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
import dataclasses
import keyword
import os
import re
import shlex
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

from . import (
    PROVIDERS,
    CancelToken,
    Chat,
    Completion,
    PreparedCall,
    Provider,
    ProviderError,
    Stream,
)
from .call_options import parse_options
from .errors import InvalidRequestError, StreamCancelled
from .interrupt import InterruptHandler
from .printable import visible
from .provider_selection import make_provider, select_provider, set_only_model
from .providers import PRESETS
from .safe_markdown import make_safe
from .tools import RunSettings
from .tools.deciding import is_asking

try:
    from IPython.core.error import UsageError
    from IPython.core.getipython import get_ipython

    from .notebook_output import make_output
except ImportError as error:
    raise ImportError(
        "providers_sync.notebook needs IPython: pip install 'providers-sync[notebook]'"
    ) from error

_shell: Any = get_ipython  # IPython's types differ between versions
_tool_names: weakref.WeakKeyDictionary[Chat, list[str]] = weakref.WeakKeyDictionary()
"""The functions that ``--tool`` has named for a conversation."""
_run_options: weakref.WeakKeyDictionary[Chat, dict[str, Any]] = weakref.WeakKeyDictionary()
"""``approve=`` and the like of a conversation, kept by ``--no-tools`` for the next ``--tool``."""
_OF_RUNS = [field.name for field in dataclasses.fields(RunSettings)]
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")
_JSON_OPTION = re.compile(r"""[^\s"']*=[{\[]""")
_NO_OPTIONS = {
    "into": "for a typed answer use show(chat.send(question, into=…))",
    "system": "set it for the conversation: chat = Chat(provider, system=…)",
}
_REFUSED = (400, 422)
"""The statuses of a request that a server does not take."""


class Stopped(KeyboardInterrupt):
    """Raised when the stop button is pressed.

    It is a ``KeyboardInterrupt``, so loops and "Run all" stop too. A notebook shows it in one line.

    Args:
        partial: The text that had arrived; it is an attribute of the exception, too.
    """

    def __init__(self, partial: str = "") -> None:
        super().__init__("the answer was stopped; what had arrived is in .partial")
        self.partial = partial

    def _render_traceback_(self) -> list[str]:
        return ["Stopped. The text received so far is shown above."]


def markdown(text: str) -> str:
    r"""Return Markdown that is safe in a notebook and looks as the model intended.

    Outside code, HTML becomes text, images become links, and links lead only to the web, to mail or
    to an anchor on the page. Formulas in ``\(…\)`` and ``\[…\]`` get Jupyter's delimiters; prices
    stay prices.

    Args:
        text: The Markdown of a model.

    Examples:
        >>> markdown(r"\(x^2\) is `\x` <script>f()</script> ![a](https://example.org/a.png)")
        '$x^2$ is <code>&#92;x</code> &lt;script>f()&lt;/script> [a](https://example.org/a.png)'
    """
    return make_safe(text)


def show(stream: Stream | PreparedCall) -> Completion:
    """Show an answer while it streams, and return it as a ``Completion``.

    The stop button cancels the answer at once. In that case, and if the answer fails, the text so
    far stays visible, and is in ``stream.text``. The ``Completion`` displays itself as Markdown,
    but not again in the same cell.

    In a run, each tool call is shown as a line, to which the result is added. The stop button also
    interrupts an ``approve=`` function that waits for ``input()``.

    Args:
        stream: A ``Stream``, or a call from ``prepare()``: then the stop button also works before
            the server has responded.

    Raises:
        InvalidRequestError: ``stream`` is something else.
        Stopped: The stop button was pressed.
        ProviderError: What ``next()`` raises.
    """
    if isinstance(stream, PreparedCall):
        stream = stream.begin()
    if not isinstance(stream, Stream):
        raise InvalidRequestError(
            "show() takes a streamed answer, such as show(provider.stream(…)), not "
            f"a value of type {type(stream).__name__}"
        )
    with InterruptHandler(_stop_with(stream.cancel)) as interrupt:
        return _show_stream(stream, interrupt)


def _stop_with(cancel: Callable[[], None]) -> Callable[[], None]:
    def stop() -> None:
        cancel()
        if is_asking():  # else ``input()`` would go on
            raise KeyboardInterrupt

    return stop


def _show_stream(stream: Stream, interrupt: InterruptHandler) -> Completion:
    output = make_output()
    output.begin()
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
        interrupt.raises = False
        output.end(stream)
        interrupt.raises = True
    if interrupt.pressed:  # the answer had ended already, but the cell must stop
        raise Stopped(stream.text)
    answer = stream.completion()
    output.finish(answer, stream)
    return answer


# --- %%chat


class _MagicParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"%%chat: {message}")


def _words(line: str) -> list[str]:
    """Return the arguments in a line, as a shell does, but JSON after ``NAME=`` keeps its quotes.

    >>> _words('''cats -o stop=["END"] -o user="a b"''')
    ['cats', '-o', 'stop=["END"]', '-o', 'user=a b']
    """
    if _WORD.sub("", line).strip():
        raise UsageError("%%chat: unmatched quotation mark, or a backslash at the end")
    return [
        word if _JSON_OPTION.match(word) else "".join(shlex.split(word))
        for word in _WORD.findall(line)
    ]


def _request_options(texts: list[str]) -> dict[str, Any]:
    for text in texts:
        if instead := _NO_OPTIONS.get(text.partition("=")[0].strip()):
            raise InvalidRequestError(f"-o {text[:60]}: {instead}")
    options = parse_options(texts)
    for name, value in options.items():
        if isinstance(value, str) and value[:1] in ("{", "["):
            raise InvalidRequestError(
                f"-o {name}: the value looks like JSON but is not valid; if it contains spaces, "
                f"quote the whole argument: -o '{name}={value[0]}…'"
            )
    return options


def _options(line: str, variables: dict[str, Any]) -> argparse.Namespace:
    parser = _MagicParser(prog="%%chat", add_help=False)
    parser.add_argument("name", nargs="?", default="chat")
    parser.add_argument("--provider", type=str.lower, choices=sorted({*PROVIDERS, *PRESETS}))
    parser.add_argument("--model")
    parser.add_argument("--base-url")
    parser.add_argument("-o", "--option", action="append", default=[])
    parser.add_argument("--tool", action="append", default=[])
    parser.add_argument("--no-tools", action="store_true")
    parser.add_argument("--new", action="store_true")
    try:
        options = parser.parse_args(_words(line))
        options.option = _request_options(options.option)
    except InvalidRequestError as error:
        parser.error(visible(str(error)))
    if not options.name.isidentifier() or keyword.iskeyword(options.name):
        parser.error(f"{options.name} is not a valid variable name")
    for name in options.tool:
        if not callable(variables.get(name)):
            parser.error(f"--tool {name}: the notebook has no function with this name")
    return options


def chat(line: str, cell: str) -> None:
    """Send the cell's text as the next message of a conversation that is kept in a variable.

    ``%%chat [NAME] [--provider NAME] [--model NAME] [--base-url URL] [-o NAME=VALUE] [--tool NAME]
    [--no-tools] [--new]``: the variable NAME (default ``chat``) holds a ``Chat``. ``-o`` sets an
    option of every request, ``--tool`` names a function of the notebook that the model may call;
    both may be repeated. ``--no-tools`` removes the functions. Settings stay until you change
    them; ``--new`` starts a new conversation without them.
    A stopped answer is in ``chat.interrupted``.

    Args:
        line: What follows ``%%chat``.
        cell: The text of the cell below it.
    """
    variables = _shell().user_ns
    settings = _options(line, variables)
    conversation = _conversation(variables, settings)
    before = conversation.options, _tool_names.get(conversation, [])
    conversation.options = _call_options(conversation, settings, variables)
    token = CancelToken()
    with InterruptHandler(_stop_with(token.cancel)) as interrupt:
        try:
            stream = conversation.send(cell.strip("\n"), cancel=token)
            _show_stream(stream, interrupt)
        except ProviderError as error:
            if interrupt.pressed and isinstance(error, StreamCancelled):
                raise Stopped from None
            if isinstance(error, InvalidRequestError) or (
                getattr(error, "status_code", None) in _REFUSED
            ):  # else every later cell would fail, too
                conversation.options, _tool_names[conversation] = before
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


def _call_options(chat: Chat, settings: Any, variables: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a conversation with those of this cell."""
    options = {**chat.options, **settings.option}
    if settings.no_tools:
        _tool_names.pop(chat, None)
        options.pop("tools", None)
        kept = {name: options.pop(name) for name in _OF_RUNS if name in options}
        _run_options[chat] = {**_run_options.get(chat, {}), **kept}
    names = settings.tool or _tool_names.get(chat)
    if not names:
        return options
    functions = [variables.get(name) for name in names]  # in each cell: it may be defined anew
    for name, function in zip(names, functions, strict=True):
        if not callable(function):
            raise UsageError(
                f"%%chat: the notebook no longer has a function {name}; use --tool or --no-tools"
            )
    _tool_names[chat] = names
    return {**_run_options.get(chat, {}), **options, "tools": functions}


def _provider(options: Any) -> Provider:
    selection = select_provider(
        os.environ, provider=options.provider, model=options.model, base_url=options.base_url
    )
    provider = make_provider(selection, options.base_url)
    set_only_model(provider)
    return provider


def load_ipython_extension(shell: Any) -> None:
    """Register ``%%chat``; ``%load_ext providers_sync`` calls this.

    Args:
        shell: The running IPython shell.
    """
    shell.register_magic_function(chat, "cell", "chat")
