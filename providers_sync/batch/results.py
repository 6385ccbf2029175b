"""What an attempt brings back, what the caller gets, and how both stand in the ledger."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ..errors import APIStatusError, ProviderError
from ..types import Outcome, Usage
from .rows import Row

_EXTRA = "providers_sync"
"""What OpenAI's body has no place for stands under this key of it."""


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
    verdict: Outcome
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


def result(row: Row, reply: Reply, recorded: bool = False) -> Result:
    """Return what the caller gets."""
    return Result(
        custom_id=row.custom_id,
        input=row.input,
        text=reply.message.get("content") or "",
        verdict=reply.outcome,
        error=reply.error,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        model=reply.model,
        attempts=reply.attempts,
        seconds=reply.seconds,
        message=reply.message,
        recorded=recorded,
    )


def failure(error: ProviderError) -> Reply:
    """Return the reply for a row that could not be asked."""
    return Reply({"role": "assistant", "content": ""}, error.outcome, error=error)


# --- the ledger's lines, in the format of OpenAI's batch output


def line(row: Row, reply: Reply) -> bytes:
    """Return the row's line, newline included."""
    record = {
        "id": row.fingerprint,
        "custom_id": row.custom_id,
        "response": _response(row, reply),
        "error": _error(reply),
    }
    # ASCII: a lone surrogate, which JSON can carry as an escape, has no UTF-8 form.
    return json.dumps(record, separators=(",", ":"), default=repr).encode("ascii") + b"\n"


def is_answer(record: dict[str, Any]) -> bool:
    """Tell whether a line of the ledger holds an answer, so that its row is done."""
    response = record["response"]
    return record["error"] is None and isinstance(response, dict) and "body" in response


def reply(record: dict[str, Any]) -> Reply:
    """Return the reply that a line of the ledger holds. Raises ``LookupError`` or ``TypeError``."""
    body = record["response"]["body"]
    choice, usage, extra = body["choices"][0], body.get("usage"), body.get(_EXTRA) or {}
    return Reply(
        message=choice["message"],
        outcome=Outcome(extra.get("verdict", Outcome.COMPLETE)),
        finish_reason=choice.get("finish_reason"),
        usage=usage and Usage(*(usage.get(f"{kind}_tokens") for kind in _COUNTED)),
        model=body.get("model"),
        request_id=record["response"].get("request_id"),
        attempts=extra.get("attempts", 0),
        seconds=extra.get("seconds", 0.0),
    )


_COUNTED = ("prompt", "completion", "total")


def _response(row: Row, reply: Reply) -> dict[str, Any] | None:
    error = reply.error
    if isinstance(error, APIStatusError):
        body: Any = {"error": {"message": str(error)}}
        return {"status_code": error.status_code, "request_id": error.request_id, "body": body}
    if error is not None:
        return None
    return {"status_code": 200, "request_id": reply.request_id, "body": _completion(row, reply)}


def _completion(row: Row, reply: Reply) -> dict[str, Any]:
    counts = reply.usage and (
        reply.usage.input_tokens,
        reply.usage.output_tokens,
        reply.usage.total_tokens,
    )
    return {
        "id": row.fingerprint.replace("batch_req_", "chatcmpl-"),
        "object": "chat.completion",
        "model": reply.model,
        "choices": [
            {"index": 0, "message": reply.message, "finish_reason": reply.finish_reason},
        ],
        "usage": counts
        and {f"{kind}_tokens": count for kind, count in zip(_COUNTED, counts, strict=True)},
        _EXTRA: {
            "verdict": reply.outcome,
            "attempts": reply.attempts,
            "seconds": round(reply.seconds, 3),
        },
    }


def _error(reply: Reply) -> dict[str, str] | None:
    if reply.error is None:
        return None
    said = {"code": type(reply.error).__name__, "message": str(reply.error)}
    partial = reply.message.get("content")
    return {**said, "partial": partial} if partial else said
