"""The interactive chat in a terminal: a prompt, answers, and commands that start with a slash."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..chat import Chat
from ..errors import InvalidRequestError, ProviderError, StreamCancelled
from ..printable import visible
from ..provider_selection import set_only_model
from ..providers.base import Provider
from ..stream import CancelToken, Stream
from .answer import show_answer, tool_options
from .input import Keyboard, note
from .screens import Screen, choose_screen

if TYPE_CHECKING:
    from ..tools import Tool

WELCOME = "Ctrl-C stops an answer, Ctrl-D exits, /help shows the commands."
HELP = '''\
/model [NAME]   show the model, or switch to another
/save FILE      save the conversation to a file
/load FILE      continue the conversation in a file
/undo           remove the last question and its answer
/resume         continue an answer that was stopped or cut off
/help           show this help
/quit           leave the chat, like Ctrl-D
End a line with a backslash to continue it on the next one.
Put """ alone on a line before and after a message of several lines.
To send a message that begins with a slash, type two: //etc/hosts'''


def chat(
    provider: Provider,
    *,
    system: str | None = None,
    load: str | None = None,
    tools: Sequence[Tool] = (),
    yes: bool = False,
    as_json: bool = False,
    plain: bool = False,
    stats: bool = False,
) -> int:
    """Run a chat until the input ends and return the exit code.

    It is 1 if the input is not a terminal and an answer or a command failed, otherwise 0.
    ``load`` names the file of a saved conversation to continue; the other arguments are those of
    ``ask``. Raise ``InvalidRequestError`` if that file cannot be loaded.
    """
    screen = choose_screen(as_json=as_json, plain=plain)
    options = tool_options(tools, screen, yes=yes)
    try:
        conversation = (
            Chat.load(load, provider, system=system, **options)
            if load
            else Chat(provider, system=system, **options)
        )
    except OSError as error:
        raise InvalidRequestError(
            f"the conversation cannot be loaded: {_describe(error)}"
        ) from error
    return Session(conversation, screen, Keyboard(), stats).run()


class Session:
    """Runs one conversation: each message that is typed goes to the model or to a command."""

    def __init__(self, chat: Chat, screen: Screen, keyboard: Keyboard, stats: bool = False) -> None:
        self._chat = chat
        self._screen = screen
        self._keyboard = keyboard
        self._stats = stats
        self._failed = False
        self._commands: dict[str, Callable[[str], None]] = {
            "/model": self._model,
            "/save": self._save,
            "/load": self._load,
            "/undo": self._undo,
            "/resume": self._resume,
            "/help": lambda _: _print_status(HELP),
        }

    def run(self) -> int:
        """Handle messages until the input ends, and return the exit code."""
        if self._keyboard.is_terminal:
            _print_status(WELCOME)
        try:
            while self._turn():
                pass
        finally:
            self._keyboard.close()
        return 1 if self._failed and not self._keyboard.is_terminal else 0

    def _turn(self) -> bool:
        try:
            typed = self._keyboard.read()
        except EOFError:
            if self._keyboard.is_terminal:
                _print_status("")
            return False
        except KeyboardInterrupt:
            if not self._keyboard.is_terminal:
                raise
            _print_status("\n(Ctrl-D or /quit exits.)")
            return True
        if not typed.strip():
            return True
        if typed.startswith("/") and not typed.startswith("//") and "\n" not in typed:
            return self._command(typed)
        message = typed.removeprefix("/") if typed.startswith("//") else typed
        self._answer(lambda token: self._chat.send(message, cancel=token))
        return True

    def _command(self, typed: str) -> bool:
        word, _, argument = typed.strip().partition(" ")
        if word in ("/quit", "/exit"):
            return False
        command = self._commands.get(word)
        if command is None:
            self._fail(
                f"there is no command {word}; /help lists the commands; // sends a leading slash"
            )
            return True
        try:
            command(argument.strip())
        except (ProviderError, OSError) as error:
            self._fail(_describe(error))
        return True

    def _answer(self, call: Callable[[CancelToken], Stream]) -> None:
        def with_model(token: CancelToken) -> Stream:
            if not self._chat.model:
                set_only_model(self._chat.provider, token)
            return call(token)

        try:
            show_answer(with_model, self._screen, stats=self._stats)
        except StreamCancelled:
            note("stopped" + self._resume_hint())
        except ProviderError as error:
            self._fail(str(error) + self._resume_hint())
        if self._keyboard.is_terminal:
            _print_status("")

    def _resume_hint(self) -> str:
        has_text = self._chat.interrupted is not None and self._chat.interrupted.text
        return "; /resume continues the answer, a new question discards it" if has_text else ""

    def _fail(self, message: str) -> None:
        self._failed = True
        note(message)

    # --- the commands

    def _model(self, name: str) -> None:
        provider = self._chat.provider
        if name:
            self._chat.model = provider.get_model(name)
        current = self._chat.model or provider.model or provider.default_model
        others = ", ".join(model for model in provider.get_models() if model != current)
        text = f"The model is {current}." if current else "No model is selected yet."
        _print_status(text + (f" Also available: {others}." if others else ""))

    def _save(self, path: str) -> None:
        path = _file_path(path, "/save")
        self._chat.save(path)
        _print_status(f"Saved to {path}: {len(self._chat.history)} messages.")

    def _load(self, path: str) -> None:
        old, path = self._chat, _file_path(path, "/load")
        self._chat = Chat.load(path, old.provider, model=old.model, **old.options)
        _print_status(f"Loaded from {path}: {len(self._chat.history)} messages.")

    def _undo(self, _: str) -> None:
        removed = self._chat.undo()
        question = next((turn["content"] for turn in removed if turn["role"] == "user"), None)
        _print_status("There is nothing to undo." if question is None else f"Removed: {question}")

    def _resume(self, _: str) -> None:
        if self._chat.interrupted is None:
            raise InvalidRequestError("there is no interrupted answer to resume")
        self._answer(lambda token: self._chat.resume(cancel=token))


def _file_path(path: str, command: str) -> str:
    if not path or "\0" in path:
        raise InvalidRequestError(f"{command} needs a file name")
    return os.path.expanduser(path)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _print_status(text: str) -> None:
    """Print a message of the chat itself to standard error; standard output is for answers."""
    print(visible(text), file=sys.stderr, flush=True)
