"""``prepare_run``: a prepared call whose stream is a ``Run``."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..messages import to_messages
from ..stream import CancelToken, Channel, PreparedCall, Reading
from ..types import Messages, Prompt
from .execution import RunState
from .journal import Journal
from .pending import last_calls
from .run import Run
from .settings import RunSettings
from .tool import Tool, as_tools, tool_name

Plan = Callable[[Messages, Mapping[str, Any]], PreparedCall]
"""Prepares a call of messages, with these options beside those of the run."""
_FREE_CHOICES = (None, "auto", "none")


def prepare_run(
    plan: Plan,
    messages: Prompt,
    tools: Sequence[Any],
    choice: Any,
    settings: RunSettings,
    typed: Mapping[str, Any] | None = None,
) -> PreparedCall:
    """Return the call that asks with ``tools`` and calls them; raise for bad input.

    ``choice`` is the option ``tool_choice``: one that forces a call holds until the first one after
    the last turn of the user.
    ``typed`` are the arguments of a ``TypedStream``, for a typed answer.
    """
    question = to_messages(messages)
    found = as_tools(tools)
    options: dict[str, Any] = {}
    if found:
        options["tools"] = [tool.schema if isinstance(tool, Tool) else tool for tool in found]
    later = dict(options)
    if choice not in _FREE_CHOICES:
        later["tool_choice"] = None
    by_name = {
        name: tool if isinstance(tool, Tool) else None
        for tool in found
        if (name := tool_name(tool)) is not None
    }
    is_answered = last_calls(question) is None
    first = plan(question, options if is_answered and not _has_called(question) else later)

    def make_run(channel: Channel, cancel: CancelToken | None, model: str | None) -> Run:
        journal = None if settings.journal is None else Journal.open(settings.journal)
        arguments: dict[str, Any] = {
            "question": question,
            "tools": by_name,
            "state": RunState(settings, journal),
            "plan": lambda messages: plan(messages, later),
        }
        if typed is None:
            return Run(channel, cancel, model, **arguments)
        from .typed_run import TypedRun  # late: few need it

        arguments["repair"] = lambda more: plan([*question, *more], later)
        return TypedRun(channel, cancel, model, **arguments, **typed)

    source = first.source if is_answered else _nothing
    return replace(first, source=source, make_stream=make_run)


def _has_called(question: Messages) -> bool:
    """Return whether calls have been made since the last turn of the user."""
    for message in reversed(question):
        if message["role"] in ("user", "tool"):
            return bool(message["role"] == "tool")
    return False


def _nothing(channel: Channel) -> Generator[Reading, None, None]:
    """End at once: the question ends with calls that have no results, which come first."""
    channel.hand_over([])  # the call may return its stream: they wait until somebody reads it
    yield from ()
