"""What an attempt brings back, and what the caller gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import ProviderError
from ..types import Outcome, Usage
from .rows import Row


@dataclass(frozen=True)
class Reply:
    """What asking a row brought; plain data, so that it travels between processes."""

    message: dict[str, Any]
    """The answer as OpenAI writes it: ``role``, ``content``, ``tool_calls`` …"""
    outcome: Outcome
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    request_id: str | None = None
    error: ProviderError | None = None
    started: bool = False
    """Whether anything of the answer had come: then it is not asked again."""
    attempts: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """One row's answer, or the error in its place."""

    custom_id: str
    """The input's own, or ``row-1``, ``row-2``, … in the order of the inputs."""
    input: Any
    """As it was given."""
    text: str
    """The answer; where there is an error, what had arrived before it."""
    outcome: Outcome
    error: ProviderError | None
    finish_reason: str | None
    """Why the model stopped: ``stop``, ``length``, …"""
    usage: Usage | None
    model: str | None
    attempts: int
    """Requests made for this row."""
    seconds: float
    """Spent in these requests; waiting for a turn is not counted."""
    message: dict[str, Any] = field(repr=False)
    """The answer as OpenAI writes it, with reasoning, refusal and tool calls."""
    recorded: bool = False
    """Whether an earlier run had the answer and it was read from the ledger."""


def to_result(row: Row, reply: Reply, recorded: bool = False) -> Result:
    """Return what the caller gets."""
    return Result(
        custom_id=row.custom_id,
        input=row.input,
        text=reply.message.get("content") or "",
        outcome=reply.outcome,
        error=reply.error,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        model=reply.model,
        attempts=reply.attempts,
        seconds=reply.seconds,
        message=reply.message,
        recorded=recorded,
    )


def failed_reply(error: ProviderError) -> Reply:
    """Return the reply for a row that could not be asked."""
    return Reply({"role": "assistant", "content": ""}, error.outcome, error=error)
