"""The data types: public messages, events, usage and completions, and the internal deltas."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Union

from .finish_reasons import explain, is_whole, shown_text
from .request_usage import RequestUsage

if TYPE_CHECKING:
    from .prices import Cost

Message = dict[str, Any]
"""One turn: ``{"role": "user", "content": "Hello"}``."""

Messages = list[Message]
"""A conversation, oldest turn first; it may end with a user or an assistant turn."""

if TYPE_CHECKING:
    from .message_types import AnyMessage

    Prompt = Union[
        str, AnyMessage, Mapping[str, Any], Sequence[Union[AnyMessage, Mapping[str, Any]]]
    ]
else:
    Prompt = Union[str, Mapping[str, Any], Sequence[Mapping[str, Any]]]
"""What ``stream()`` accepts: a string, one message, or a list of messages."""

SystemPrompt = Union[str, Sequence[Mapping[str, Any]]]
"""The text of a system message, or its parts."""


class Outcome(str, enum.Enum):
    """How an answer ended; a ``str``, so ``outcome == "complete"`` holds.

    Attributes:
        COMPLETE: The protocol's end marker was received: the text is complete.
        UNVERIFIED: A clean end in a protocol that has no end marker.
        TRUNCATED: A clean end without the protocol's end marker.
        CUT: The connection broke in the middle.
        STALLED: The server fell silent: the ``first_token`` or the ``idle`` timeout expired.
        DEADLINE: The ``total`` timeout expired.
        FAILED: Any other failure: refused, bad status, malformed, or an error event in the stream.
        CANCELLED: Stopped on our side: ``cancel()``, ``close()`` or Ctrl-C.
        PAUSED: A run that waits for the approval of a tool call; it can be continued later.
    """

    COMPLETE = "complete"
    UNVERIFIED = "unverified"
    TRUNCATED = "truncated"
    CUT = "cut"
    STALLED = "stalled"
    DEADLINE = "deadline"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class TextDelta:
    """A chunk of the answer's text.

    Attributes:
        text: The chunk; never empty.
    """

    text: str


@dataclass(frozen=True)
class ReasoningDelta:
    """A chunk of the model's reasoning, which is not part of the answer's text.

    Attributes:
        text: The chunk; never empty.
    """

    text: str


@dataclass(frozen=True)
class Refusal:
    """A chunk of the model's refusal to answer.

    Attributes:
        text: The chunk; never empty.
    """

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A tool call of the model.

    Attributes:
        id: The id to send back with the result.
        name: The name of the tool.
        arguments: The arguments as an object; ``None`` if ``raw`` is not a JSON object.
        raw: The arguments as the model wrote them.
    """

    id: str
    name: str
    arguments: dict[str, Any] | None
    raw: str


@dataclass(frozen=True)
class ToolResult:
    """What a run (``provider.run``) tells the model about one of its tool calls.

    Attributes:
        id: The id of the ``ToolCall``.
        name: The name of the tool.
        content: What the function returned, as text; or the reason why there is no result.
        is_error: Whether the function was not called, failed, or took too long.
        seconds: How long the function ran.
    """

    id: str
    name: str
    content: str
    is_error: bool = False
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Citation:
    """A source that the model cites; what the server does not report is ``None``.

    Attributes:
        url: The address of the source.
        title: Its title.
        text: The cited text of the source.
        start: Where the cited passage starts: in the answer or in the source, depending on the
            protocol.
        end: Where it ends.
        raw: The citation as the server sent it.
    """

    url: str | None = None
    title: str | None = None
    text: str | None = None
    start: int | None = None
    end: int | None = None
    raw: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Media:
    """An image or audio in the answer: its ``data``, or its ``url``.

    Attributes:
        kind: ``image``, ``audio``, …
        mime_type: Such as ``image/png``.
        data: The bytes of the file.
        url: The address of the file.
    """

    kind: str
    mime_type: str | None = None
    data: bytes | None = field(default=None, repr=False)
    url: str | None = None


@dataclass(frozen=True)
class Extra:
    """Anything else that the server sends: token probabilities, signatures, its own tools, …

    Attributes:
        path: Where it was, such as ``choices[0].logprobs``.
        value: Its JSON.
    """

    path: str
    value: Any = field(hash=False)


@dataclass(frozen=True)
class Usage:
    """Tokens counted by the server; ``None`` if it did not report them.

    Attributes:
        input_tokens: Tokens of the request, including those read from and written to a cache.
        output_tokens: Tokens of the answer, including those of the reasoning.
        total_tokens: The server's total, or the sum of what it counts.
        cached_tokens: Input tokens read from a cache.
        cache_write_tokens: Input tokens written to a cache.
        reasoning_tokens: Output tokens of the reasoning.
        raw: The counts as the server sent them.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    raw: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Finish:
    """The end of the answer.

    Attributes:
        reason: ``stop``, ``length``, …, if the server gave one.
    """

    reason: str | None = None


@dataclass(frozen=True)
class Join:
    """The answer broke here; what follows is from a new request (``continue_after_break=``).

    Attributes:
        reason: The error message of the break.
        outcome: The outcome without continuation: ``cut``, ``truncated``, ``stalled`` or
            ``failed``.
        position: How many characters of the text came before it.
    """

    reason: str
    outcome: Outcome
    position: int


Event = Union[
    TextDelta,
    ReasoningDelta,
    Refusal,
    ToolCall,
    ToolResult,
    Citation,
    Media,
    Extra,
    Usage,
    Join,
    Finish,
]
"""What ``Stream.events()`` yields; a ``ToolResult`` only in a run."""


@dataclass(frozen=True)
class Stats:
    """Measured by the client; times in seconds from the call.

    Attributes:
        first_chunk_s: Until the first chunk of text arrived; ``None`` while there is none.
        duration_s: Until the end, or until now while the stream runs.
        chunks: Chunks of text handed over.
        bytes: Body bytes received, after content decoding, over all attempts.
        attempts: Requests made, the successful one included.
        joins: Breaks after which the answer continued (``continue_after_break=``).
    """

    first_chunk_s: float | None
    duration_s: float
    chunks: int
    bytes: int
    attempts: int
    joins: int = 0


@dataclass(frozen=True)
class ServedModel:
    """Internal: the model's name as the server reports it; not a public event."""

    name: str


@dataclass(frozen=True)
class ToolCallStarted:
    """Internal: the first fragment of a tool call has arrived; not a public event."""


@dataclass(frozen=True)
class ProtocolMessage:
    """Internal: what the protocol wants back with the next request; not a public event.

    ``fields`` is JSON: fields of the assistant message in the protocol's own form.
    """

    protocol: str
    fields: dict[str, Any] = field(hash=False)


InternalDelta = (ServedModel, ToolCallStarted, ProtocolMessage, RequestUsage)
"""Deltas that are not events."""

Delta = Union[
    str,
    ReasoningDelta,
    Refusal,
    ToolCall,
    ToolCallStarted,
    ToolResult,
    Citation,
    Media,
    Extra,
    Usage,
    Join,
    Finish,
    ServedModel,
    ProtocolMessage,
    RequestUsage,
]
"""What decoders return. Text is a bare ``str``, for speed."""

AnyDelta = Union[Delta, TextDelta]
"""What a decoder of a provider class outside the package may return."""


class AnyDecoder(Protocol):
    """Turns the body of one response into deltas; ``Provider.decoder()`` makes one per response.

    It does no I/O. It runs on a thread that all streams share, so it must not block: while it
    works, every other stream waits. A decoder may have these attributes:

    - ``ended``: true once the protocol's end marker was read. Nothing more is read then. Without
      it, the body is read to its end.
    - ``finished``: true while a finish reason is the last thing that was said, apart from usage.
      The answer is complete then if nothing follows within five seconds.
    - ``resumed``: true once more was said after a finish reason, so that a broken connection is
      never taken for the end.
    """

    def feed(self, data: bytes) -> Iterable[AnyDelta]:
        """Return or yield the deltas that the next piece of the body completes.

        An error raised here ends the stream, after the deltas that were yielded before it.

        Args:
            data: The piece, split anywhere.
        """
        ...

    def end(self) -> Iterable[AnyDelta]:
        """Return or yield the deltas still held; called once, at the end of the body.

        It is also called after ``ended``.

        Raises:
            StreamTruncated: The end marker is missing.
        """
        ...


class Decoder(AnyDecoder, Protocol):
    """Internal: a decoder that returns lists, and raises only in ``end``."""

    def feed(self, data: bytes) -> list[Delta]:
        """Return the deltas that ``data`` completes.

        At a wrong event it returns what came before, and sets ``ended``.
        """
        ...

    def end(self) -> list[Delta]:
        """Return the deltas still held, or raise the error of a wrong event.

        An attribute ``deltas`` of the error may hold the last deltas.
        """
        ...


@dataclass(frozen=True)
class Completion:
    """A complete answer; ``str(completion)`` is its text.

    Attributes:
        text: The answer's text.
        finish_reason: Why the model stopped, as the server reports it: ``stop``, ``length``, …
        usage: Tokens counted by the server, if it reports them.
        model: The model's name as the server reports it, or else the name in the request.
        outcome: ``complete``, or ``unverified`` if the protocol has no end marker.
        stats: Times in seconds, chunks, bytes and attempts.
        reasoning: The model's reasoning, if the server sends it.
        tool_calls: The tool calls of the model.
        refusal: The model's refusal, if the server sends it separately from the text.
        citations: The sources that the model cites.
        media: Images and audio.
        extras: Everything else that the server sent.
        message: The answer as a message, to append to the messages of the next request.
        requests: The requests behind the answer, with the usage of each; ``cost`` adds them up.
    """

    text: str
    finish_reason: str | None
    usage: Usage | None
    model: str | None
    outcome: Outcome
    stats: Stats
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str = ""
    citations: tuple[Citation, ...] = ()
    media: tuple[Media, ...] = ()
    extras: tuple[Extra, ...] = ()
    message: Message = field(default_factory=dict, compare=False, repr=False)
    requests: tuple[RequestUsage, ...] = field(default=(), compare=False, repr=False)

    @property
    def cost(self) -> Cost:
        """What the answer costs by list prices (``docs/prices.md``).

        Raises:
            ImportError: The extra ``prices`` is not installed.
        """
        from .prices import Cost, cost_of  # only a program that asks for it pays for it

        if not self.requests:  # made by hand, or pickled by an earlier version
            return Cost(unknown=("the requests behind an answer are not known",))
        return cost_of(self.requests)

    @property
    def is_whole(self) -> bool:
        """Whether the answer is complete, and the model ended it by itself."""
        return is_whole(self.outcome, self.finish_reason, self.refusal)

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        """Return Markdown for a notebook, without the model's HTML, images and unsafe links.

        It contains the text, the model's refusal if the server sends that separately, and the
        reason if the answer is not whole.
        """
        from .safe_markdown import make_safe  # only notebooks need it

        shown = make_safe(shown_text(self))
        words = explain(self)
        return "\n\n".join(filter(None, [shown, words and f"**{make_safe(words)}**"]))
