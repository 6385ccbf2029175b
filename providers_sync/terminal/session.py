"""The interactive chat in a terminal: a prompt, answers, and commands that start with a slash."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from ..chat import Chat
from ..errors import InvalidRequestError, ProviderError, StreamCancelled
from ..printable import visible
from ..provider_selection import set_only_model
from ..providers.base import Provider
from ..providers.model_lists import ListsModels
from ..stream import CancelToken, Stream
from .answer import show_answer, tool_options
from .input import Keyboard, note
from .screens import Screen, choose_screen

if TYPE_CHECKING:
    from ..tools import Tool

WELCOME = "Ctrl-C stops an answer, Ctrl-D exits, /help shows the commands."
HELP = '''\
/new            start a new conversation
/retry          ask the last question again
/undo           remove the last question and its answer
/resume         continue an answer that was stopped or cut off
/system [TEXT]  show the system message, or set it ("" removes it)
/model [NAME]   show the model, or switch to another
/save FILE      save the conversation to a file
/load FILE      continue the conversation in a file
/help           show this help
/quit, exit     leave the chat, like Ctrl-D
End a line with a backslash to continue it on the next one.
Put """ alone on a line before and after a message of several lines.
To send a message that begins with a slash, type two: //etc/hosts'''


def chat(
    provider: Provider,
    *,
    system: str | None = None,
    options: Mapping[str, Any] | None = None,
    load: str | None = None,
    is_local: bool = False,
    tools: Sequence[Tool] = (),
    yes: bool = False,
    as_json: bool = False,
    plain: bool = False,
    stats: bool = False,
) -> int:
    """Run a chat until the input ends and return the exit code.

    It is 1 if the input is not a terminal and an answer or a command failed, otherwise 0.
    ``load`` names the file of a saved conversation to continue; ``is_local`` says that the one
    local model answers, whatever name is sent; the other arguments are those of ``ask``. Raise
    ``InvalidRequestError`` if that file cannot be loaded.
    """
    screen = choose_screen(as_json=as_json, plain=plain)
    settings = {**(options or {}), **tool_options(tools, screen, yes=yes)}
    try:
        conversation = (
            Chat.load(load, provider, system=system, **settings)
            if load
            else Chat(provider, system=system, **settings)
        )
    except OSError as error:
        raise InvalidRequestError(
            f"the conversation cannot be loaded: {_describe(error)}"
        ) from error
    return Session(conversation, screen, Keyboard(), stats=stats, is_local=is_local).run()


class Session:
    """Runs one conversation: each message that is typed goes to the model or to a command."""

    def __init__(
        self, chat: Chat, screen: Screen, keyboard: Keyboard, *, stats: bool, is_local: bool
    ) -> None:
        self._chat = chat
        self._saved = chat.history
        """The history that is in a file."""
        self._screen = screen
        self._keyboard = keyboard
        self._stats = stats
        self._is_local = is_local
        self._failed = False
        self._commands: dict[str, Callable[[str], None]] = {
            "/new": self._new,
            "/retry": self._retry,
            "/undo": self._undo,
            "/resume": self._resume,
            "/system": self._system,
            "/model": self._model,
            "/save": self._save,
            "/load": self._load,
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
            return not self._may_drop("Leave")
        except KeyboardInterrupt:
            if not self._keyboard.is_terminal:
                raise
            _print_status("\n(Ctrl-D or /quit exits.)")
            return True
        except InvalidRequestError as error:
            self._fail(str(error))
            return True
        if not typed.strip():
            return True
        if self._keyboard.is_terminal and typed.strip().lower() in ("exit", "quit"):
            typed = "/quit"
        if typed.startswith("/") and not typed.startswith("//") and "\n" not in typed:
            return self._command(typed)
        message = typed.removeprefix("/") if typed.startswith("//") else typed
        self._answer(lambda token: self._chat.send(message, cancel=token))
        return True

    def _command(self, typed: str) -> bool:
        word, _, argument = typed.strip().partition(" ")
        if word in ("/quit", "/exit"):
            return not self._may_drop("Leave")
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

    def _may_drop(self, action: str) -> bool:
        """Return whether the conversation may be dropped; ask in a terminal, if it is unsaved."""
        interrupted = self._chat.interrupted
        is_saved = self._chat.history == self._saved and not (interrupted and interrupted.text)
        if is_saved or not self._keyboard.is_terminal:
            return True
        return self._keyboard.confirm(
            f"This conversation is not saved (/save FILE saves it). {action} all the same?"
        )

    def _fail(self, message: str) -> None:
        self._failed = True
        note(message)

    # --- the commands

    def _new(self, _: str) -> None:
        if not self._may_drop("Begin a new one"):
            return
        old = self._chat
        self._chat = Chat(old.provider, system=old.system, model=old.model, **old.options)
        self._saved = []
        _print_status("A new conversation begins.")

    def _retry(self, _: str) -> None:
        before = {"history": self._chat.history, "interrupted": self._chat.interrupted}
        last = self._chat.undo()
        left = self._chat.history
        question = list(takewhile(lambda message: message["role"] != "assistant", last))
        if not question:
            raise InvalidRequestError("there is no question to ask again")
        self._answer(lambda token: self._chat.send(question, cancel=token))
        if self._chat.interrupted is None and self._chat.history == left:
            vars(self._chat).update(before)  # there is no new answer: the old one stays

    def _system(self, text: str) -> None:
        if text:
            self._chat.system = None if text in ('""', "''") else text
        current = self._chat.system
        _print_status(f"The system message is: {current}" if current else "No system message.")

    def _model(self, name: str) -> None:
        provider = self._chat.provider
        if self._is_local:
            self._local_model(name)
            return
        if name:
            self._chat.model = provider.get_model(name)
        current = self._chat.model or provider.model or provider.default_model
        others = ", ".join(model for model in provider.get_models() if model != current)
        text = f"The model is {current}." if current else "No model is selected yet."
        _print_status(text + (f" Also available: {others}." if others else ""))

    def _local_model(self, name: str) -> None:
        """Tell the truth: one model answers, whatever name the protocol sends."""
        if name:
            raise InvalidRequestError("--local has one model; leave out --local for others")
        provider = self._chat.provider
        set_only_model(provider)
        sent = provider.model or provider.default_model
        is_its_name = isinstance(provider, ListsModels) and sent in provider.list_models()
        _print_status(
            f"The model is {sent}, on this machine."
            if is_its_name
            else f"The model is the local one; the name that is sent, {sent}, changes nothing."
        )

    def _save(self, path: str) -> None:
        path = _file_path(path, "/save")
        self._chat.save(path)
        self._saved = self._chat.history
        _print_status(f"Saved to {path}: {len(self._chat.history)} messages.")

    def _load(self, path: str) -> None:
        old, path = self._chat, _file_path(path, "/load")
        loaded = Chat.load(path, old.provider, model=old.model, **old.options)
        if not self._may_drop("Load another"):
            return
        self._chat, self._saved = loaded, loaded.history
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
