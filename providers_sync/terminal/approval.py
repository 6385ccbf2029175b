"""``Approval``: asks the user about each tool call, in the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..errors import InvalidRequestError, StreamCancelled
from ..interrupt import InterruptHandler
from ..printable import visible
from ..tools import Tool
from ..tools.settings import Approve
from ..types import ToolCall
from . import log_lines
from .input import as_text, with_echo
from .screens import Screen

SHOWN_CHARACTERS = 10_000
"""How much of the arguments is shown; the question says how much more there is."""
QUESTION = "Call it? [y/N, or what to tell the model instead] "


class Approval:
    """``approve=`` of a run: shows the call and reads the answer of the user.

    ``y`` and ``yes`` agree; ``n``, ``no``, nothing and the end of the input decline; anything else
    is the reason against it that the model is told. Ctrl-C stops the run.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def __call__(self, call: ToolCall) -> bool | str:
        self._screen.pause()
        with log_lines.held():
            print(f"providers-sync: the model wants to call {_in_full(call)}", file=sys.stderr)
            typed = _read_line().strip()
        self._screen.resume(call.name)
        if typed.lower() in ("y", "yes"):
            return True
        return False if typed.lower() in ("", "n", "no") else typed


def make_approve(tools: Sequence[Tool], screen: Screen, *, yes: bool) -> Approve:
    """Return the ``approve=`` of a run; ``yes`` agrees to all calls.

    Raises ``InvalidRequestError`` if the user cannot be asked.
    """
    if yes:
        return lambda call: True
    can_ask = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    asked = [tool.name for tool in tools if tool.needs_approval is not False]
    if asked and not can_ask:
        raise InvalidRequestError(
            f"you cannot be asked about calls of {', '.join(asked)}: standard input and standard "
            "error must be a terminal; --yes calls them without asking"
        )
    return Approval(screen)


def _in_full(call: ToolCall) -> str:
    """Return a call as it will be made: its arguments, not the text they were read from."""
    try:
        arguments = visible(json.dumps(call.arguments, ensure_ascii=False))
    except RecursionError:
        arguments = visible(call.raw)
    rest = len(arguments) - SHOWN_CHARACTERS
    if rest > 0:
        arguments = f"{arguments[:SHOWN_CHARACTERS]}… and {rest} more characters, not shown"
    return f"{visible(call.name)}({arguments})"


def _read_line() -> str:
    """Ask, and return the line that is typed after that; raise ``StreamCancelled`` for Ctrl-C."""
    with with_echo(), InterruptHandler(_interrupt):
        print(QUESTION, end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            line = ""
            raise StreamCancelled("stopped when asked about a call") from None
        finally:
            if not line:
                print(file=sys.stderr)
    return as_text(line)


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt
