"""The interactive chat in a terminal: a prompt, answers, and commands that start with a slash."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ..chat import Chat
from ..chat_file import InterruptedAnswer, read_chat
from ..errors import InvalidRequestError, ProviderError, StreamCancelled
from ..printable import visible
from ..provider_selection import set_only_model
from ..providers.model_lists import ListsModels
from ..stream import CancelToken, Stream
from ..types import Messages
from .answer import show_answer
from .conversation import has_words, last_question, shown_words
from .input import Keyboard, note
from .screens import Screen

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


_WITHOUT_ARGUMENT = ("/new", "/retry", "/undo", "/resume", "/help")


class Session:
    """Runs one conversation: each message that is typed goes to the model or to a command."""

    def __init__(
        self,
        chat: Chat,
        screen: Screen,
        keyboard: Keyboard,
        *,
        stats: bool,
        is_local: bool,
        file: str | None,
    ) -> None:
        self._chat = chat
        self._saved = self._state()
        """What is in a file."""
        self._file = file
        """The file that ``/save`` has written or ``/load`` has read."""
        self._asked: Messages = []
        """The last question, if nothing has come of it: it is not in the chat."""
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
            while self._turn_or_interrupt():
                pass
        finally:
            self._keyboard.close()
        return 1 if self._failed and not self._keyboard.is_terminal else 0

    def _turn_or_interrupt(self) -> bool:
        """Handle one message; Ctrl-C ends what it does, and never the chat."""
        try:
            return self._turn()
        except KeyboardInterrupt:
            if not self._keyboard.is_terminal:
                raise
            note("stopped")
            return True

    def _turn(self) -> bool:
        try:
            typed = self._keyboard.read()
        except EOFError:
            if self._keyboard.is_terminal:
                _print_status("")
            return not self._may_drop("Leave", at_end=True)
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
        self._ask([{"role": "user", "content": message}])
        return True

    def _command(self, typed: str) -> bool:
        word, _, argument = typed.strip().partition(" ")
        if word in ("/quit", "/exit"):
            return not self._may_drop("Leave", at_end=True)
        command = self._commands.get(word)
        if command is None:
            self._fail(
                f"there is no command {word}; /help lists the commands; // sends a leading slash"
            )
            return True
        if argument.strip() and word in _WITHOUT_ARGUMENT:
            self._fail(f"{word} takes no argument")
            return True
        try:
            command(argument.strip())
        except (ProviderError, OSError) as error:
            self._fail(describe(error))
        return True

    def _ask(self, question: Messages, *, may_resume: bool = True) -> None:
        before = self._state()
        try:
            self._answer(lambda token: self._chat.send(question, cancel=token), may_resume)
        finally:
            self._asked = question if self._state() == before else []

    def _answer(self, call: Callable[[CancelToken], Stream], may_resume: bool = True) -> None:
        def with_model(token: CancelToken) -> Stream:
            if not self._chat.model:
                set_only_model(self._chat.provider, token)
            return call(token)

        try:
            show_answer(with_model, self._screen, stats=self._stats)
        except StreamCancelled:
            note("stopped" + (self._resume_hint() if may_resume else ""))
        except ProviderError as error:
            self._fail(str(error) + (self._resume_hint() if may_resume else ""))
        if self._keyboard.is_terminal:
            _print_status("")

    def _resume_hint(self) -> str:
        if not has_words(self._chat.interrupted):
            return ""
        return "; /resume continues the answer, a new question discards it"

    def _may_drop(self, action: str, *, at_end: bool = False) -> bool:
        """Return whether the conversation may be dropped; ask if it is unsaved and somebody can.

        ``at_end``: the chat is left, so that Ctrl-D agrees.
        """
        history, interrupted = self._state()
        is_empty = not history and not has_words(interrupted)
        if is_empty or (history, interrupted) == self._saved or not self._keyboard.can_ask:
            return True
        return self._keyboard.confirm(
            f"This conversation is not saved (/save FILE saves it). {action} anyway?",
            at_end=at_end,
        )

    def _state(self) -> tuple[Messages, InterruptedAnswer | None]:
        return self._chat.history, self._chat.interrupted

    def _fail(self, message: str) -> None:
        self._failed = True
        note(message)

    # --- the commands

    def _new(self, _: str) -> None:
        if not self._may_drop("Start a new one"):
            return
        old = self._chat
        self._chat = Chat(old.provider, system=old.system, model=old.model, **old.options)
        self._saved, self._file, self._asked = self._state(), None, []
        _print_status("Started a new conversation.")

    def _retry(self, _: str) -> None:
        chat, before = self._chat, self._state()
        question = self._asked or last_question(chat)
        if not question:
            raise InvalidRequestError("there is no question to ask again")
        if not self._asked:
            chat.undo()
        left = chat.history
        has_answer = before[0] != left
        try:
            self._ask(question, may_resume=not has_answer)
        finally:
            if chat.history == left and has_answer:
                (chat.history, chat.interrupted), self._asked = before, []
                note("the earlier answer is kept")
            elif chat.history == left and not has_words(chat.interrupted):
                chat.interrupted = before[1]

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
            else f"The local model answers; the name {sent} has no effect."
        )

    def _save(self, path: str) -> None:
        path = _file_path(path, "/save")
        if path != self._file and not self._may_replace(path):
            return
        self._chat.save(path)
        self._saved, self._file = self._state(), path
        _print_status(f"Saved to {path}: {self._contents()}.")

    def _may_replace(self, path: str) -> bool:
        """Return whether this file may be written; another one is not replaced unasked."""
        if not os.path.exists(path):
            return True
        if os.path.isfile(path):
            read_chat(path)  # raises for a file that is not a saved conversation
        return not self._keyboard.can_ask or self._keyboard.confirm(
            f"{path} contains another conversation. Replace it?"
        )

    def _contents(self) -> str:
        history, interrupted = self._state()
        also = "" if interrupted is None else ", and an unfinished answer (/resume continues it)"
        return f"{len(history)} messages{also}"

    def _load(self, path: str) -> None:
        old, path = self._chat, _file_path(path, "/load")
        loaded = Chat.load(path, old.provider, model=old.model, **old.options)
        if not self._may_drop("Load another"):
            return
        self._chat, self._file, self._asked = loaded, path, []
        self._saved = self._state()
        _print_status(f"Loaded from {path}: {self._contents()}.")

    def _undo(self, _: str) -> None:
        removed = self._asked or self._chat.undo()
        self._asked = []
        question = next((turn["content"] for turn in removed if turn["role"] == "user"), None)
        _print_status(
            "There is nothing to undo." if question is None else f"Removed: {shown_words(question)}"
        )

    def _resume(self, _: str) -> None:
        if self._chat.interrupted is None:
            raise InvalidRequestError("there is no interrupted answer to resume")
        self._answer(lambda token: self._chat.resume(cancel=token))


def _file_path(path: str, command: str) -> str:
    if not path or "\0" in path:
        raise InvalidRequestError(f"{command} needs a file name")
    return os.path.expanduser(path)


def describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _print_status(text: str) -> None:
    """Print a message of the chat itself to standard error; standard output is for answers."""
    print(visible(text), file=sys.stderr, flush=True)
