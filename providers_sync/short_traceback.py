"""How IPython and Jupyter show a ``ProviderError``: the user's own lines, and what went wrong."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from .printable import visible

HINT = "(%tb Plain shows the whole traceback)"
_OURS = str(Path(__file__).parent) + os.sep
_STANDARD_LIBRARY = str(Path(os.__file__).parent) + os.sep
_PACKAGES = {"site-packages", "dist-packages"}
_MAGIC = "run_cell_magic"
"""What IPython puts in place of a cell that begins with ``%%``: no line of the user's."""
_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"


def render(error: BaseException) -> list[str]:
    """Return what IPython shows of an error, as its ``_render_traceback_`` does; raises nothing.

    These are the frames of the user's own code, as IPython shows them, and the error's message. An
    error that caused it is shown if it has such frames, too. That is IPython's mode ``Context``; in
    ``Minimal`` it is the message alone, in others (``%tb Plain``) all of the traceback.
    """
    try:
        return _in_mode(error)
    except Exception:  # noqa: BLE001 (IPython would print that in place of the error)
        return [_headline(error)]


def _in_mode(error: BaseException) -> list[str]:
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()  # type: ignore[no-untyped-call,unused-ignore]
    formatter = shell.InteractiveTB
    try:
        return _lines(error, formatter)
    finally:
        formatter.tb = error.__traceback__  # where ``%debug`` begins, in some versions


def _lines(error: BaseException, formatter: Any) -> list[str]:
    if formatter.mode == "Plain":
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        return visible("".join(lines)).splitlines(keepends=True)
    if formatter.mode == "Minimal":
        return [_headline(error)]
    if formatter.mode != "Context":
        return _formatted(_visible_chain(error), error.__traceback__, formatter)
    return [*_short(error, formatter), HINT]


def _short(error: BaseException, formatter: Any) -> list[str]:
    lines: list[str] = []
    for cause, link in _causes(error):
        if (trace := _own_frames(cause)) is not None:
            lines += [*_formatted(_visible(cause), trace, formatter), f"\n{link}\n"]
    if (trace := _own_frames(error)) is not None:
        return [*lines, *_formatted(_visible(error), trace, formatter)]
    return [*lines, _headline(error)]


def _causes(error: BaseException) -> list[tuple[BaseException, str]]:
    """Return the errors that led to this one, the first one first, each with how it did."""
    causes: list[tuple[BaseException, str]] = []
    seen = {id(error)}
    while True:
        if error.__cause__ is not None:
            before, link = error.__cause__, _CAUSE
        elif error.__context__ is not None and not error.__suppress_context__:
            before, link = error.__context__, _CONTEXT
        else:
            return causes[::-1]
        if id(before) in seen:
            return causes[::-1]
        seen.add(id(before))
        causes.append((before, link))
        error = before


def _formatted(error: BaseException, trace: TracebackType | None, formatter: Any) -> list[str]:
    """Return the lines of IPython's own formatter, for these frames."""
    lines: list[str] = formatter.structured_traceback(type(error), error, trace, tb_offset=0)
    return lines


def _visible_chain(error: BaseException) -> BaseException:
    """Return a stand-in with a visible message, after stand-ins for what led to the error."""
    causes = _causes(error)
    stand_ins = [_visible(each).with_traceback(each.__traceback__) for each, _ in causes]
    stand_ins.append(_visible(error).with_traceback(error.__traceback__))
    for (_, link), before, after in zip(causes, stand_ins, stand_ins[1:], strict=False):
        if link == _CAUSE:
            after.__cause__ = before
        else:
            after.__context__ = before
    return stand_ins[-1]


def _visible(error: BaseException) -> Exception:
    """Return an exception of the same name with a message that is made visible."""
    stand_in: Exception = type(type(error).__name__, (Exception,), {})(visible(str(error)))
    if notes := getattr(error, "__notes__", None):
        vars(stand_in)["__notes__"] = [visible(str(note)) for note in notes]
    return stand_in


def _headline(error: BaseException) -> str:
    return visible(f"{type(error).__name__}: {error}")


def _own_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback without the frames of libraries; ``None`` if nothing is left."""
    trace = None
    for each in reversed(list(_frames(error))):
        trace = TracebackType(trace, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return trace


def _frames(error: BaseException) -> Iterator[TracebackType]:
    """Yield the frames of the user's code in the cell that has just run."""
    trace, cells = error.__traceback__, 0
    while trace is not None:
        cells += _runs_a_cell(trace.tb_frame)
        if cells > 1:  # an error that is raised again keeps the frames of the cell before
            return
        if _is_own(trace):
            yield trace
        trace = trace.tb_next


def _runs_a_cell(frame: FrameType) -> bool:
    code = frame.f_code
    return code.co_name == "run_code" and Path(code.co_filename).parent.parent.name == "IPython"


def _is_own(trace: TracebackType) -> bool:
    code = trace.tb_frame.f_code
    name = code.co_filename
    if name.startswith((_OURS, _STANDARD_LIBRARY, "<frozen")) or _PACKAGES & {*Path(name).parts}:
        return False
    return not (code.co_name[0] == "<" and _MAGIC in code.co_names)
