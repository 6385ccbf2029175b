"""What the user types or pipes in: lines with editing and history, blocks of lines, whole files."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import InvalidRequestError
from ..printable import one_line

HISTORY_LINES = 1000
PATIENCE_S = 2.0
"""How long standard input may be silent before the user is told what is waited for."""
FENCE = '"""'
"""Alone on a line, it opens and closes a message of several lines."""


def note(text: str, *, quietly: bool = False) -> None:
    """Say something that is not part of an answer: in one line, on standard error."""
    said = f"providers-sync: {one_line(text)}"
    if quietly and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        said = said if os.environ.get("TERM", "dumb") == "dumb" else f"\x1b[2m{said}\x1b[0m"
    print(said, file=sys.stderr, flush=True)


def as_text(typed: str) -> str:
    """Return what was typed as proper text, whatever the locale has made of it.

    >>> as_text("caf\\udcc3\\udca9")
    'café'
    """
    return typed.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def question(given: str | None) -> str:
    """Return what to ask: what is piped in is the context, and the question comes after it.

    Raises ``InvalidRequestError`` where there is neither.
    """
    context = piped()
    asked = as_text(given) if given is not None else ""
    if given is None and not context.strip():
        raise InvalidRequestError("there is no question: give it as an argument, or pipe it in")
    return f"{context.rstrip()}\n\n{asked}" if context.strip() and asked else asked or context


def piped() -> str:
    """Return what comes through standard input if it is a pipe or a file; otherwise ``""``."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # there is none
        return ""
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return ""
    with contextlib.suppress(OSError):  # Windows cannot wait for a pipe
        if not select.select([sys.stdin], [], [], PATIENCE_S)[0]:
            note("reading standard input to its end; Ctrl-C stops, `< /dev/null` gives none")
    return sys.stdin.buffer.read().decode("utf-8", "replace")


@contextlib.contextmanager
def no_echo() -> Iterator[None]:
    """Keep keys that are pressed meanwhile off the screen: they would move the cursor."""
    try:
        import termios

        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        in_front = os.tcgetpgrp(terminal) == os.getpgrp()
    except (ImportError, OSError, ValueError, AttributeError, termios.error):
        yield
        return
    if not in_front:  # a job in the background would be stopped for touching the terminal
        yield
        return
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, silent)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSANOW, before)


class Keyboard:
    """Reads messages; ``EOFError`` at the end of the input, ``KeyboardInterrupt`` for Ctrl-C."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdin.isatty()
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="surrogateescape")  # bytes of another locale: as_text()
        self._edits = self.is_terminal and sys.stdout.isatty() and _load_history()

    def read(self) -> str:
        """Return one message: a line, lines joined by a last backslash, a fenced or pasted block.

        Where the input ends in the middle of a message, the message ends there, too.
        """
        lines = self._lines("> ")
        if lines[0].strip() == FENCE:
            return "\n".join(self._block(lines[1:]))
        with contextlib.suppress(EOFError):
            while lines[-1].endswith("\\"):
                lines[-1] = lines[-1][:-1]
                lines += self._lines("… ")
        return "\n".join(lines)

    def _block(self, lines: list[str]) -> list[str]:
        with contextlib.suppress(EOFError):
            while not lines or lines[-1].strip() != FENCE:
                lines += self._lines("… ")
            del lines[-1]
        return lines

    def _lines(self, prompt: str) -> list[str]:
        """Return the line that is typed, or those that are pasted."""
        return self._line(prompt).rstrip("\n").split("\n")

    def close(self) -> None:
        """Keep the history for the next time."""
        if self._edits:
            import readline

            with contextlib.suppress(OSError):
                path = _history_path()
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.touch(mode=0o600)
                readline.set_history_length(HISTORY_LINES)
                readline.write_history_file(path)

    def _line(self, prompt: str) -> str:
        if self._edits:
            return as_text(input(prompt if _can_say(prompt) else "> "))
        if self.is_terminal:
            print(prompt if _can_say(prompt) else "> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return as_text(line.removesuffix("\n"))


def _load_history() -> bool:
    try:
        import readline
    except ImportError:
        return False
    with contextlib.suppress(OSError):
        readline.read_history_file(_history_path())
    readline.set_auto_history(True)
    # Python switches it off for its own prompt; without it each pasted line is a message.
    readline.parse_and_bind("set enable-bracketed-paste on")
    return True


def _history_path() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "providers-sync" / "history"


def _can_say(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
