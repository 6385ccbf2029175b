"""The frozen nouns of an answer: messages, events, usage, stats and the verdict."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Union

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        return lambda kind: kind


Self = TypeVar("Self", bound="Frozen")


@dataclass_transform(frozen_default=True)
class Frozen:
    """A noun made of its annotated fields: frozen, equal by value, hashable, picklable.

    What a frozen dataclass is, without the import of ``dataclasses`` (10 ms with what it loads)
    and the code it compiles for each class, which together cost more than all of our own.
    """

    __match_args__: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        cls.__match_args__ = tuple(cls.__annotations__)  # type: ignore[misc]

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = self.__match_args__
        given = self.__dict__
        given.update(zip(fields, values, strict=False))
        given.update(named)
        if len(given) != len(fields) or len(values) + len(named) != len(fields):
            self._complete(values, named)

    def _complete(self, values: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Fill in the defaults, or say what is wrong with the arguments."""
        fields = self.__match_args__
        for name in fields:
            if name not in self.__dict__ and hasattr(type(self), name):
                self.__dict__[name] = getattr(type(self), name)
        missing = [name for name in fields if name not in self.__dict__]
        unknown = [name for name in named if name not in fields]
        twice = [name for name in fields[: len(values)] if name in named]
        if missing or unknown or twice or len(values) > len(fields):
            raise TypeError(
                f"{type(self).__name__} takes {', '.join(fields)}; "
                f"missing: {missing}, unknown: {unknown}, given twice: {twice}"
            )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self.__match_args__)))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__qualname__}({fields})"

    def __replace__(self: Self, **changes: Any) -> Self:
        """Return a copy with some fields changed: ``copy.replace`` of Python 3.13."""
        return type(self)(**{**self.__dict__, **changes})


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


class TextDelta(Frozen):
    """A piece of the answer's text, never empty."""

    text: str


class ReasoningDelta(Frozen):
    """A piece of the model's reasoning, which is not part of the answer's text."""

    text: str


class Refusal(Frozen):
    """A piece of the model's refusal to answer."""

    text: str


class ToolCall(Frozen):
    """A call the model asks for; ``arguments`` is ``None`` where ``raw`` is not a JSON object."""

    id: str
    name: str
    arguments: dict[str, Any] | None
    raw: str


class Usage(Frozen):
    """Tokens counted by the server; ``None`` where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


class Finish(Frozen):
    """The server's end marker, with its reason (``stop``, ``length``, …) if it gave one."""

    reason: str | None = None


Event = Union[TextDelta, ReasoningDelta, Refusal, ToolCall, Usage, Finish]
"""What ``Stream.events()`` yields."""


class Stats(Frozen):
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


class ServedModel(Frozen):
    """Between the rooms only: the model's name as the server gives it; not a public event."""

    name: str


class ToolCallBegun(Frozen):
    """Between the rooms only: the first piece of a tool call has come; not a public event."""


Delta = Union[str, ReasoningDelta, Refusal, ToolCall, ToolCallBegun, Usage, Finish, ServedModel]
"""Between the rooms only: what decoders make. Text is a bare ``str``, for speed."""


class Completion(Frozen):
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
