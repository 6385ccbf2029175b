"""The ``providers-sync`` command line: runs a command; its errors become lines and exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from .. import ProviderError
from ..printable import visible
from .commands import report
from .parser import make_parser

__all__ = ["main"]

INTERRUPTED = 130
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 1 (an error), 130 (Ctrl-C) or 141 (closed pipe).

    Raises ``SystemExit`` for ``--help``, ``--version`` (code 0) and wrong usage (code 2).
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-`
            setattr(sys, name, io.StringIO())
    if sys.stdin is None:
        sys.stdin = io.StringIO()
    options = make_parser().parse_args(arguments)
    for output in (sys.stdout, sys.stderr):
        if hasattr(output, "reconfigure"):
            # A pipe or a file gets UTF-8, whatever the locale; a terminal loses no text that it
            # cannot show.
            encoding = None if output.isatty() else "utf-8"
            output.reconfigure(encoding=encoding, errors="backslashreplace")
    try:
        with warnings.catch_warnings(), _log_of(options.log):
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            code: int = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the process that reads our output has exited, as `head` does
        _discard_output()
        return BROKEN_PIPE
    except (ProviderError, ImportError) as error:
        _report_error(error, options.debug)
        return 1
    except OSError as error:  # a full disk, for example
        _report_error(error, options.debug)
        _discard_output()
        return 1


def _log_of(level: str | None) -> contextlib.AbstractContextManager[None]:
    """Return a context that shows the log from this level on; ``None``: no log."""
    if level is None:
        return contextlib.nullcontext()
    from ..terminal.log_lines import shown_log

    return shown_log(level)


def _report_error(error: Exception, debug: bool) -> None:
    if debug:
        print(visible("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    else:
        report(str(error))


def _show_warning(message: Warning | str, *where: Any) -> None:
    """Print a warning like an error: the line of the program that it names helps nobody here."""
    report(str(message))


def _discard_output() -> None:
    """Discard unwritten output, so that the interpreter does not try to write it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
