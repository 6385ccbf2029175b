"""The frozen nouns of an answer: messages, events, usage, stats and the verdict."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

Message = dict[str, Any]
"""One turn: ``{"role": "user", "content": "Hello"}``."""

Messages = list[Message]
"""A conversation, oldest turn first; it may end with a user or an assistant turn."""

Prompt = Union[str, Mapping[str, Any], Sequence[Mapping[str, Any]]]
"""What ``stream()`` accepts: a question, one message, or a list of messages."""


class Outcome(str, enum.Enum):
    """The verdict on an answer; a ``str``, so ``outcome == "complete"`` holds."""

    COMPLETE = "complete"
    """The protocol's end marker was seen: the text is whole."""
    UNVERIFIED = "unverified"
    """A clean end in a protocol that has no end marker."""
    TRUNCATED = "truncated"
    """A clean end where the end marker is missing."""
    CUT = "cut"
    """The connection broke in the middle."""
    STALLED = "stalled"
    """The server fell silent: the ``first_token`` or the ``idle`` clock."""
    DEADLINE = "deadline"
    """The ``total`` clock."""
    FAILED = "failed"
    """No answer: refused, bad status, malformed, or an error event in the stream."""
    CANCELLED = "cancelled"
    """Stopped on our side: ``cancel()``, ``close()`` or Ctrl-C."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer's text, never empty."""

    text: str


@dataclass(frozen=True)
class ReasoningDelta:
    """A piece of the model's reasoning, which is not part of the answer's text."""

    text: str


@dataclass(frozen=True)
class Refusal:
    """A piece of the model's refusal to answer."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A call the model asks for; ``arguments`` is ``None`` where ``raw`` is not a JSON object."""

    id: str
    name: str
    arguments: dict[str, Any] | None
    raw: str


@dataclass(frozen=True)
class Usage:
    """Tokens counted by the server; ``None`` where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


@dataclass(frozen=True)
class Finish:
    """The server's end marker, with its reason (``stop``, ``length``, …) if it gave one."""

    reason: str | None = None


Event = Union[TextDelta, ReasoningDelta, Refusal, ToolCall, Usage, Finish]
"""What ``Stream.events()`` yields."""


@dataclass(frozen=True)
class Stats:
    """Measured on this side; times in seconds from the call."""

    first_chunk_s: float | None
    """Until the first piece of text had arrived; ``None`` while there is none."""
    duration_s: float
    """Until the end, or until now while the stream runs."""
    chunks: int
    """Pieces of text handed over."""
    bytes: int
    """Body bytes received, after content decoding, over all attempts."""
    attempts: int
    """Requests made, the successful one included."""


@dataclass(frozen=True)
class ServedModel:
    """Between the rooms only: the model's name as the server gives it; not a public event."""

    name: str


@dataclass(frozen=True)
class ToolCallStarted:
    """Between the rooms only: the first piece of a tool call has come; not a public event."""


Delta = Union[str, ReasoningDelta, Refusal, ToolCall, ToolCallStarted, Usage, Finish, ServedModel]
"""Between the rooms only: what decoders make. Text is a bare ``str``, for speed."""


@dataclass(frozen=True)
class Completion:
    """A whole answer; ``str(completion)`` is its text."""

    text: str
    finish_reason: str | None
    usage: Usage | None
    model: str | None
    outcome: Outcome
    stats: Stats
    reasoning: str = ""
    """What the model thought aloud, where the server shows it."""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str = ""
    """Why the model refused, where the server keeps that apart from the text."""

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        """Show itself in a notebook, without the HTML, images and odd links of the model."""
        from .safe_markdown import safe_markdown  # only notebooks need it

        return safe_markdown(self.text)
