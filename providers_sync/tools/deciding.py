"""Decides about the calls of one round before any of them is made."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequestError, ToolError
from ..types import ToolCall
from .execution import PendingCall, RunState
from .settings import Approve, Pause
from .tool import InvalidArguments, Tool

DECLINED = "the user declined this call"
NOT_AN_OBJECT = "the arguments are not a JSON object"
_thread = threading.local()


def is_asking() -> bool:
    """Return whether this thread is in ``approve``: a signal handler may have to interrupt that."""
    return getattr(_thread, "is_asking", False)


def _ask(approve: Approve, call: ToolCall) -> Any:
    before = is_asking()
    _thread.is_asking = True
    try:
        return approve(call)
    finally:
        _thread.is_asking = before


def decide(calls: list[PendingCall], tools: Mapping[str, Tool | None], state: RunState) -> bool:
    """Give each call its function, or the result that it has without one.

    Returns whether all may go on; ``False``: the run pauses, and no function is called. Raises
    ``ToolError`` for a call that may have been made before (``on_unknown``), and what ``approve``
    raises.
    """
    return all(state.has_ended or _decide(call, tools, state) for call in calls)


def _decide(pending: PendingCall, tools: Mapping[str, Tool | None], state: RunState) -> bool:
    call = pending.call
    tool = tools.get(call.name)
    if tool is None:
        names = ", ".join(tools)
        pending.mistake(f"there is no tool {call.name!r:.100}; use one of: {names}")
        return True
    try:
        if call.arguments is None:
            raise InvalidArguments(NOT_AN_OBJECT)
        function = tool.bind(call.arguments, pending.cancel)
    except InvalidArguments as error:
        pending.mistake(str(error), error)
        return True
    if _has_result(pending, state):
        return True
    pending.function = function
    return _is_approved(pending, tool, state)


def _has_result(pending: PendingCall, state: RunState) -> bool:
    """Return whether the journal knows the result of a call, or ``on_unknown`` gives it."""
    if state.journal is None or (entry := state.journal.find(pending.key)) is None:
        return False
    if entry.has_ended:
        pending.settle(entry.content or "", is_error=entry.is_error, seconds=entry.seconds)
        return True
    on_unknown = state.settings.on_unknown
    if on_unknown == "raise":
        raise ToolError(
            f"a call of {pending.call.name} had started when an earlier run stopped, and it is "
            f"unknown whether it took effect: find out, and tell the run with on_unknown= (journal "
            f"{state.settings.journal})"
        )
    decision = on_unknown(pending.call)
    if isinstance(decision, str):
        state.begin_call(pending)  # a signal handler may end the run while the journal is written
        try:
            state.journal.end(pending.key, decision, False, 0.0)
        finally:
            state.end_call(pending)
        pending.settle(decision)
    elif decision is not True:
        raise InvalidRequestError(
            "on_unknown must return True to make the call again, or its result as text, not "
            f"{decision!r:.100}"
        )
    return isinstance(decision, str)


def _is_approved(pending: PendingCall, tool: Tool, state: RunState) -> bool:
    """Ask for approval; return ``False`` for a pause."""
    approve = state.settings.approve
    if tool.needs_approval is False or (approve is None and not tool.needs_approval):
        return True
    decision = Pause if approve is None else _ask(approve, pending.call)
    if decision is Pause or isinstance(decision, Pause):
        return False
    if isinstance(decision, str):
        pending.settle(f"{DECLINED}: {decision}" if decision else DECLINED, is_error=True)
    elif decision is False:
        pending.settle(DECLINED, is_error=True)
    elif decision is not True:
        raise InvalidRequestError(
            f"approve must return True, False, a reason or Pause, not {decision!r:.100}"
        )
    return True
