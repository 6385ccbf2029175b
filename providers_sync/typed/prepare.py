"""``prepare_typed``: a prepared call whose stream is a ``TypedStream``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Union

from ..config import REPAIRS, NotGiven
from ..errors import InvalidRequestError
from ..messages import to_messages
from ..stream import PreparedCall
from ..types import Messages, Prompt
from .stream import TypedStream
from .targets import Target

Plan = Callable[[Prompt, Union[Mapping[str, Any], None]], PreparedCall]
"""Prepares a call of messages, whose answer has a JSON schema."""


def prepare_typed(plan: Plan, messages: Prompt, arguments: dict[str, Any]) -> PreparedCall:
    """Return the call that asks for a typed answer, with the result of ``typed_arguments``."""
    target: Target[Any] = arguments["target"]
    question = to_messages(messages)

    def repair(more: Messages) -> PreparedCall:
        return plan([*question, *more], target.schema)

    make_stream = functools.partial(TypedStream, repair=repair, **arguments)
    return replace(plan(question, target.schema), make_stream=make_stream)


def typed_arguments(into: Any, repairs: int | NotGiven, skip_invalid: bool) -> dict[str, Any]:
    """Return ``target``, ``repairs`` and ``skip_invalid``; raise ``InvalidRequestError``."""
    repairs = checked_repairs(repairs)
    if not isinstance(skip_invalid, bool):
        raise InvalidRequestError("skip_invalid must be True or False")
    target = Target.of(into)
    if skip_invalid:
        target.prepare_items("skip_invalid=")
    return {"target": target, "repairs": repairs, "skip_invalid": skip_invalid}


def checked_repairs(repairs: int | NotGiven) -> int:
    """Return the number of repairs; raise ``InvalidRequestError`` if it is not a number."""
    if isinstance(repairs, NotGiven):
        return REPAIRS
    if isinstance(repairs, bool) or not isinstance(repairs, int) or repairs < 0:
        raise InvalidRequestError("repairs must be a number of further requests, 0 or more")
    return repairs
