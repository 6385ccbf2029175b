"""User input: typed lines with editing and history, messages of several lines, and piped input."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import InvalidRequestError
from ..printable import one_line, visible
from . import log_lines

HISTORY_LINES = 1000
SILENT_S = 2.0
"""How long piped input may stay silent: then a question given as an argument is sent without it."""
PIPED_BYTES = 64 * 1024 * 1024
"""Limit of piped input: a device may never end it."""
FENCE = '"""'
"""Alone on a line, it starts and ends a message of several lines."""


def note(text: str, *, dim: bool = False) -> None:
    """Print one line that is not part of an answer to standard error."""
    line = f"providers-sync: {one_line(text)}"
    if dim and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        line = line if os.environ.get("TERM", "dumb") == "dumb" else f"\x1b[2m{line}\x1b[0m"
    print(line, file=sys.stderr, flush=True)


def as_text(typed: str) -> str:
    """Return typed input as Unicode text, even if the locale decoded it wrongly.

    >>> as_text("caf\\udcc3\\udca9")
    'café'
    """
    return typed.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def question(given: str | None) -> str:
    """Return the prompt: piped input first, as context, then the question ``given`` as an argument.

    If a question is given, a pipe that stays silent for two seconds is not read, and a line on
    standard error says so. Raise ``InvalidRequestError`` if there is neither, for an empty
    question, and for input that is not text.
    """
    text = as_text(given) if given is not None else ""
    if given is not None and not text.strip():
        raise InvalidRequestError("the question is empty: is the variable in it set?")
    context = read_piped_input(may_skip=given is not None)
    if given is None and not context.strip():
        raise InvalidRequestError("there is no question: pass it as an argument, or pipe it in")
    return f"{context.rstrip()}\n\n{text}" if context.strip() and text else text or context


def read_piped_input(*, may_skip: bool = False) -> str:
    """Return all of standard input if it is a pipe, a socket or a file; otherwise ``""``.

    With ``may_skip`` also ``""`` if nothing comes for two seconds: a program that is started by
    another one may inherit a pipe that nobody writes to or closes. Raise ``InvalidRequestError`` if
    it is not UTF-8 text, or has more than 64 MB.
    """
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # no standard input
        return ""
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return ""
    with contextlib.suppress(OSError):  # Windows cannot select on a pipe
        if not select.select([sys.stdin], [], [], SILENT_S)[0]:
            if may_skip:
                note(
                    "nothing was piped in for two seconds, so the question is sent without "
                    "standard "
                    "input; to wait for it, pipe the question in too"
                )
                return ""
            note("reading standard input until it ends; Ctrl-C stops")
    data = sys.stdin.buffer.read(PIPED_BYTES + 1)
    if len(data) > PIPED_BYTES:
        raise InvalidRequestError(f"standard input has more than {PIPED_BYTES >> 20} MB")
    return _decode(data)


def _decode(data: bytes) -> str:
    """Return piped input as text; a byte order mark is not part of it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin1"
        raise InvalidRequestError(
            f"standard input is not UTF-8 text: line {line} has the byte 0x{data[error.start]:02x};"
            f" convert it first, for example with iconv -f {encoding} -t utf-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InvalidRequestError(
            f"standard input is not text: line {line} has a NUL character; -a FILE sends an image, "
            "a PDF or audio"
        )
    return text


def no_echo() -> contextlib.AbstractContextManager[None]:
    """Turn off the terminal's echo: keys pressed during an answer would move the cursor."""
    return _echo(on=False)


def with_echo() -> contextlib.AbstractContextManager[None]:
    """Turn the terminal's echo on, for a question; what was typed before it does not answer it."""
    return _echo(on=True)


@contextlib.contextmanager
def _echo(*, on: bool) -> Iterator[None]:
    try:
        import termios
    except ImportError:  # Windows
        yield
        return
    try:
        terminal = sys.stdin.fileno()
        original = termios.tcgetattr(terminal)
        in_foreground = os.tcgetpgrp(terminal) == os.getpgrp()
    except (OSError, ValueError, AttributeError, termios.error):
        yield
        return
    if not in_foreground:  # the kernel stops a background job that changes the terminal
        yield
        return
    changed = [*original]
    changed[3] = changed[3] | termios.ECHO if on else changed[3] & ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSAFLUSH if on else termios.TCSANOW, changed)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSANOW, original)


class Keyboard:
    """Reads messages from standard input, with line editing and history in a terminal.

    Reading raises ``EOFError`` at the end of the input, ``KeyboardInterrupt`` for Ctrl-C, and
    ``InvalidRequestError`` for a message of a pipe that is not UTF-8.
    """

    def __init__(self) -> None:
        self.is_terminal = sys.stdin.isatty()
        self._number = 0
        """Of the last line read."""
        self._wrong_line = 0
        """The first line of the message that is not text, if any."""
        if hasattr(sys.stdin, "reconfigure"):
            # Piped input is UTF-8, whatever the locale. Undecodable bytes: see as_text(), _line().
            encoding = None if self.is_terminal else "utf-8-sig"
            sys.stdin.reconfigure(encoding=encoding, errors="surrogateescape")
        self._edits = self.is_terminal and sys.stdout.isatty() and _load_history()

    def read(self) -> str:
        """Return one message: a line, lines continued by a backslash, a fenced or pasted block.

        If the input ends within a message, return what there is of it.
        """
        self._wrong_line = 0
        with log_lines.held() if self.is_terminal else contextlib.nullcontext():
            message = self._message()
        if self._wrong_line:
            raise InvalidRequestError(
                f"line {self._wrong_line} of standard input is not UTF-8 text; its message is not "
                "sent"
            )
        return message

    def _message(self) -> str:
        lines = self._lines("> ")
        if lines[0].strip() == FENCE:
            return "\n".join(self._block(lines[1:]))
        with contextlib.suppress(EOFError):
            while lines[-1].endswith("\\"):
                lines[-1] = lines[-1][:-1]
                lines += self._lines("… ")
        return "\n".join(lines)

    @property
    def can_ask(self) -> bool:
        """Whether the user sees a question, and can answer it."""
        return self.is_terminal and sys.stderr.isatty()

    def confirm(self, asked: str, *, at_end: bool = False) -> bool:
        """Ask a question; only ``y`` and ``yes`` agree, and ``at_end`` Ctrl-D.

        What was typed before it is not an answer to it.
        """
        with with_echo(), log_lines.held():
            print(f"{visible(asked)} [y/N] ", end="", file=sys.stderr, flush=True)
            try:
                typed = sys.stdin.readline()
            except KeyboardInterrupt:
                typed = "n"
                print(file=sys.stderr)
            if not typed:
                print(file=sys.stderr)
        return at_end if not typed else typed.strip().lower() in ("y", "yes")

    def _block(self, lines: list[str]) -> list[str]:
        with contextlib.suppress(EOFError):
            while not lines or lines[-1].strip() != FENCE:
                lines += self._lines("… ")
            del lines[-1]
        return lines

    def _lines(self, prompt: str) -> list[str]:
        """Return the typed line, or all pasted lines."""
        return self._line(prompt).rstrip("\n").split("\n")

    def close(self) -> None:
        """Save the history for the next session."""
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
            return as_text(input(prompt if _can_encode(prompt) else "> "))
        if self.is_terminal:
            print(prompt if _can_encode(prompt) else "> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        if self.is_terminal:
            return as_text(line.removesuffix("\n"))
        self._number += 1
        try:
            is_text = "\0" not in line
            line.encode()
        except UnicodeEncodeError:
            is_text = False
        if not is_text:
            self._wrong_line = self._wrong_line or self._number
        return as_text(line.removesuffix("\n"))


def _load_history() -> bool:
    try:
        import readline
    except ImportError:
        return False
    with contextlib.suppress(OSError):
        readline.read_history_file(_history_path())
    readline.set_auto_history(True)
    # Python turns bracketed paste off for its own prompt; without it, each pasted line would be a
    # message.
    readline.parse_and_bind("set enable-bracketed-paste on")
    return True


def _history_path() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "providers-sync" / "history"


def _can_encode(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
