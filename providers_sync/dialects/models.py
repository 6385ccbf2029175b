"""What the protocols share on the server's side: a request, the pieces of an answer, an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Union

from ..types import Messages, ReasoningDelta, Refusal, ToolCall, Usage

Piece = Union[str, ReasoningDelta, Refusal, ToolCall]
"""A piece of an answer; text is a bare ``str``."""


class RequestError(Exception):
    """What the server refuses or fails at; each protocol has its own shape for it."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        """The HTTP status, where the answer has not begun."""
        self.type = type or _type(status)
        """OpenAI's word for the kind of error."""
        self.code = code


def _type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return {401: "authentication_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error"
    )


@dataclass(frozen=True)
class ChatRequest:
    """What a client asks, whatever protocol it speaks.

    Messages and options are in OpenAI's form, tool calls, tool results and images included.
    """

    messages: Messages
    options: dict[str, Any] = field(default_factory=dict)
    """Options by OpenAI's names; those given as ``null`` are left out."""
    model: str | None = None
    """The model named on the wire; the engine need not know it."""
    stream: bool = True
    include_usage: bool = False
    """Whether OpenAI's stream shall end with a chunk that counts tokens."""


@dataclass(frozen=True)
class AnswerInfo:
    """What an answer says of itself."""

    key: str
    """Unique; the protocols put their own prefix before it."""
    created: int
    """Seconds since 1970."""
    model: str
    include_usage: bool = False


@dataclass(frozen=True)
class Ending:
    """How an answer ended."""

    reason: str = "stop"
    """By OpenAI's names: ``stop``, ``length``, ``tool_calls``, ``content_filter``."""
    usage: Usage = field(default_factory=Usage)
    stop_sequence: str | None = None
    """The one of the client's stop sequences that ended it, if the engine said so."""


class Writer(Protocol):
    """Turns the pieces of one answer into body bytes; made anew for each answer."""

    content_type: str
    """Of a stream; a whole answer is JSON."""

    def start(self, usage: Usage) -> bytes:
        """Return what stands before the first piece; ``usage`` is what is known so far."""

    def piece(self, piece: Piece) -> bytes:
        """Return one piece."""

    def end(self, ending: Ending) -> bytes:
        """Return what proves that the answer is whole."""

    def error(self, error: RequestError) -> bytes | None:
        """Return the error as an event; ``None``: only a broken connection can tell."""

    def whole(self, pieces: Sequence[Piece], ending: Ending) -> bytes:
        """Return an answer that was not wanted as a stream. May raise ``RequestError``."""


@dataclass(frozen=True)
class Dialect:
    """One protocol: where it is served, how a request reads, how an answer is written."""

    name: str
    base: str
    """The path of a client's ``base_url``."""
    path: str
    """The path that clients post to."""
    read: Callable[[Any], ChatRequest]
    """Parsed JSON body → request. Raises ``RequestError`` that names the item."""
    writer: Callable[[AnswerInfo], Writer]


@dataclass(frozen=True)
class ModelList:
    """A protocol's list of models."""

    path: str
    one: Callable[[str], dict[str, Any]]
    """Name → the model's JSON."""
    many: Callable[[list[dict[str, Any]]], dict[str, Any]]
    """The models' JSON → the list's."""


def slices(text: str, size: int = 12) -> list[str]:
    """Cut a tool call's arguments, which models write piece by piece.

    >>> slices('{"city": "Rome"}')
    ['{"city": "Ro', 'me"}']
    """
    return [text[start : start + size] for start in range(0, len(text), size)]


def json_bytes(value: Any) -> bytes:
    """Return ``value`` as compact JSON in UTF-8."""
    # A lone surrogate, legal in JSON as an escape, has no UTF-8 form: it becomes a question mark.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
