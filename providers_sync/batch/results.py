"""The ``Reply`` to a row's attempts, and the ``Result`` that ``map`` yields for a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import InvalidAnswer, ProviderError
from ..finish_reasons import is_whole
from ..request_usage import RequestUsage
from ..types import Outcome, Usage
from .rows import Row

if TYPE_CHECKING:
    from ..prices import Cost


@dataclass(frozen=True)
class Reply:
    """What one or more attempts at a row returned: plain data that can be pickled."""

    message: dict[str, Any]
    """The answer as an OpenAI message: ``role``, ``content``, ``tool_calls`` …"""
    outcome: Outcome
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    request_id: str | None = None
    error: ProviderError | None = None
    value: Any = None
    """The object of a typed answer."""
    invalid: tuple[InvalidAnswer, ...] = ()
    """The items of a list that do not validate, if these are skipped."""
    started: bool = False
    """Whether any part of the answer had arrived: then the row is not retried."""
    attempts: int = 0
    seconds: float = 0.0
    requests: tuple[RequestUsage, ...] = field(default=(), repr=False)
    """The requests that a server has begun to answer, with what each has used."""


@dataclass(frozen=True)
class Result:
    """The answer to one row, or its error.

    Attributes:
        custom_id: From the input, or else ``row-1``, ``row-2``, … in the order of the inputs.
        input: The input as passed to ``map``.
        text: The answer; with an error, the text that had arrived before it.
        outcome: How the answer ended.
        error: Why there is no answer; ``None`` if there is one.
        finish_reason: Why the model stopped: ``stop``, ``length``, …
        usage: Tokens counted by the server, if it reports them.
        model: The model's name as the server reports it.
        attempts: Requests made for this row.
        seconds: Time spent in these requests; waiting for a turn is not counted.
        message: The answer as an OpenAI message: text, reasoning, refusal, tool calls, sources
            (under ``annotations``), images, audio, and what the protocol wants back (under
            ``providers_sync``).
        recorded: Whether the answer was read from the ledger of an earlier run.
        value: With ``into=`` the object, an instance of that type; ``None`` with an error.
        invalid: With ``skip_invalid=True`` the items that are left out of ``value``, each as an
            error.
        number: Position in the input, from 1.
        requests: The requests behind the answer, with the usage of each; ``cost`` adds them up.
    """

    custom_id: str
    input: Any
    text: str
    outcome: Outcome
    error: ProviderError | None
    finish_reason: str | None
    usage: Usage | None
    model: str | None
    attempts: int
    seconds: float
    message: dict[str, Any] = field(repr=False)
    recorded: bool = False
    value: Any = None
    invalid: tuple[InvalidAnswer, ...] = ()
    number: int = 0
    requests: tuple[RequestUsage, ...] = field(default=(), repr=False)

    @property
    def cost(self) -> Cost:
        """What the answer costs by list prices (``docs/prices.md``); nothing if it was recorded.

        Raises:
            ImportError: The extra ``prices`` is not installed.
        """
        from ..prices import cost_of  # only a program that asks for it pays for it

        return cost_of(self.requests)

    @property
    def is_whole(self) -> bool:
        """Whether the answer is complete, and the model ended it by itself."""
        return is_whole(self.outcome, self.finish_reason, self.message.get("refusal") or "")


def to_result(row: Row, reply: Reply, recorded: bool = False) -> Result:
    """Combine a row and its reply into the caller's result."""
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
        value=reply.value,
        invalid=reply.invalid,
        number=row.number,
        requests=reply.requests,
    )


def failed_reply(error: ProviderError) -> Reply:
    """Return the reply for a row without an answer: it was not sent, or its worker failed."""
    return Reply({"role": "assistant", "content": ""}, error.outcome, error=error)
