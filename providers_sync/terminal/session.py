"""The conversation at the terminal: a prompt, the answers, and commands that begin with a slash."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ..chat import Chat
from ..defaults import find_model
from ..errors import InvalidRequestError, ProviderError, StreamCancelled
from ..printable import visible
from ..providers.base import Provider
from ..stream import CancelToken, Stream
from .keyboard import Keyboard, note
from .render import answer
from .screens import Screen, choose

WELCOME = "Ctrl-C stops an answer, Ctrl-D leaves, /help shows the commands."
HELP = '''\
/model [NAME]   show the model, or use another one
/save FILE      write the conversation to a file
/load FILE      go on with the conversation of a file
/undo           take back the last question with its answer
/resume         go on with an answer that was stopped or cut
/help           this
/quit           leave, as Ctrl-D does
A line that ends in a backslash goes on; """ alone on a line begins and ends several.
A message that begins with a slash is written with two: //etc/hosts'''


def chat(
    provider: Provider,
    *,
    system: str | None = None,
    load: str | None = None,
    as_json: bool = False,
    plain: bool = False,
    stats: bool = False,
) -> int:
    """Talk until the input ends; return 0, or 1 where it is no terminal and an answer failed."""
    try:
        talk = Chat.load(load, provider, system=system) if load else Chat(provider, system=system)
    except OSError as error:
        raise InvalidRequestError(f"the conversation cannot be loaded: {_why(error)}") from error
    return Session(talk, choose(as_json=as_json, plain=plain), Keyboard(), stats).run()


class Session:
    """One conversation: what is typed goes to the model or to a command."""

    def __init__(self, talk: Chat, screen: Screen, keyboard: Keyboard, stats: bool = False) -> None:
        self._chat = talk
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
            "/help": lambda _: _say(HELP),
        }

    def run(self) -> int:
        """Read and answer until the end of the input."""
        if self._keyboard.is_terminal:
            _say(WELCOME)
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
                _say("")
            return False
        except KeyboardInterrupt:
            if not self._keyboard.is_terminal:
                raise
            _say("\n(Ctrl-D or /quit leaves.)")
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
            self._fail(f"there is no {word}; /help shows the commands, //… sends a slash")
            return True
        try:
            command(argument.strip())
        except (ProviderError, OSError) as error:
            self._fail(_why(error))
        return True

    def _answer(self, call: Callable[[CancelToken], Stream]) -> None:
        def with_model(token: CancelToken) -> Stream:
            if not self._chat.model:
                find_model(self._chat.provider, token)
            return call(token)

        try:
            answer(with_model, self._screen, stats=self._stats)
        except StreamCancelled:
            note("stopped" + self._way_on())
        except ProviderError as error:
            self._fail(str(error) + self._way_on())
        if self._keyboard.is_terminal:
            _say("")

    def _way_on(self) -> str:
        has_words = self._chat.interrupted is not None and self._chat.interrupted.text
        return "; /resume goes on with it, a new question drops it" if has_words else ""

    def _fail(self, message: str) -> None:
        self._failed = True
        note(message)

    # --- the commands

    def _model(self, name: str) -> None:
        provider = self._chat.provider
        if name:
            self._chat.model = provider.get_model(name)
        now = self._chat.model or provider.model or provider.default_model
        known = ", ".join(model for model in provider.get_models() if model != now)
        said = f"The model is {now}." if now else "No model is chosen yet."
        _say(said + (f" There are also: {known}." if known else ""))

    def _save(self, path: str) -> None:
        path = _file(path, "/save")
        self._chat.save(path)
        _say(f"Saved to {path}: {len(self._chat.history)} turns.")

    def _load(self, path: str) -> None:
        old, path = self._chat, _file(path, "/load")
        self._chat = Chat.load(path, old.provider, model=old.model)
        _say(f"Loaded from {path}: {len(self._chat.history)} turns.")

    def _undo(self, _: str) -> None:
        gone = self._chat.undo()
        asked = next((turn["content"] for turn in gone if turn["role"] == "user"), None)
        _say("There is nothing to take back." if asked is None else f"Taken back: {asked}")

    def _resume(self, _: str) -> None:
        if self._chat.interrupted is None:
            raise InvalidRequestError("no answer was stopped or cut")
        self._answer(lambda token: self._chat.resume(cancel=token))


def _file(path: str, command: str) -> str:
    if not path or "\0" in path:
        raise InvalidRequestError(f"{command} needs the name of a file")
    return os.path.expanduser(path)


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _say(text: str) -> None:
    """Say something of our own; standard output is the model's."""
    print(visible(text), file=sys.stderr, flush=True)
