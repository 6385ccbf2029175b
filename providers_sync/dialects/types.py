"""Types that the server side of all protocols shares: requests, writers, endpoints, errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Union

from ..types import Messages, ReasoningDelta, Refusal, ToolCall, Usage

Delta = Union[str, ReasoningDelta, Refusal, ToolCall]
"""A part of an answer; text is a bare ``str``, a tool call is complete."""


class RequestError(Exception):
    """A request that is refused or fails; each protocol has its own JSON for it."""

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
        """The HTTP status, if the answer has not started."""
        self.type = type or _type(status)
        """OpenAI's name for the kind of error."""
        self.code = code


def _type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return {401: "authentication_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error"
    )


@dataclass(frozen=True)
class ChatRequest:
    """A client's request, whatever protocol it came in.

    Messages and options are in OpenAI's form, tool calls, tool results and images included.
    """

    messages: Messages
    options: dict[str, Any] = field(default_factory=dict)
    """Options under OpenAI's names, without those that are ``null``."""
    model: str | None = None
    """The model named in the request; the engine need not know it."""
    stream: bool = True
    include_usage: bool = False
    """Whether OpenAI's stream should end with a chunk that counts tokens."""
    echoed: dict[str, Any] = field(default_factory=dict)
    """Fields of the request that the protocol's answers repeat or depend on."""


@dataclass(frozen=True)
class AnswerInfo:
    """Metadata of an answer: its id, time and model."""

    key: str
    """Unique; each protocol adds its own prefix."""
    created: int
    """Seconds since 1970."""
    model: str
    request: ChatRequest = ChatRequest([])


@dataclass(frozen=True)
class Ending:
    """How an answer ended."""

    reason: str = "stop"
    """OpenAI's name (``stop``, ``length``, ``tool_calls``, ``content_filter``), Anthropic's
    (``end_turn``, ``max_tokens``, ``tool_use``, ``refusal``, …), or any other."""
    usage: Usage = field(default_factory=Usage)
    stop_sequence: str | None = None
    """The client's stop sequence that ended it, if the engine reported one."""


class Writer(Protocol):
    """Turns the deltas of one answer into body bytes; a new one is made for each answer."""

    content_type: str
    """Of a stream; a complete answer is JSON."""

    def start(self, usage: Usage) -> bytes:
        """Return the bytes before the first delta; ``usage`` is what is known so far."""

    def delta(self, delta: Delta) -> bytes:
        """Return the bytes of one delta."""

    def end(self, ending: Ending) -> bytes:
        """Return the bytes that mark the answer as complete."""

    def error(self, error: RequestError) -> bytes | None:
        """Return the error as an event; ``None`` if only closing the connection can report it."""

    def complete(self, deltas: Sequence[Delta], ending: Ending) -> bytes:
        """Return the body of an answer that is not streamed."""


@dataclass(frozen=True)
class Dialect:
    """One protocol: its paths, its request reader and its answer writer."""

    name: str
    base: str
    """The path of a client's ``base_url``; empty if that is the gateway's root."""
    path: str
    """The path that clients post to; ``<name>`` stands for a part that ``read`` gets."""
    read: Callable[..., ChatRequest]
    """Parsed JSON body → request; parts of the path and ``query`` are keyword arguments.

    Raises a ``RequestError`` that names the invalid field.
    """
    writer: Callable[[AnswerInfo], Writer]
    error_shape: Callable[[RequestError], dict[str, Any]]
    """An error → its JSON."""
    query: tuple[str, ...] = ()
    """Names of the URL's parameters that ``read`` gets; those that are not given are ``None``."""

    same_paths: tuple[str, ...] = ()
    """Other paths that mean the same as ``path``."""

    @property
    def prefix(self) -> str:
        """What the paths of this protocol begin with, without the last slash."""
        return "/" + self.path.split("/")[1]


@dataclass(frozen=True)
class ModelEndpoint:
    """An endpoint of a protocol that lists the models, or describes one of them."""

    path: str
    """``<name>`` stands for a part that ``answer`` gets."""
    answer: Callable[..., dict[str, Any]]
    """Names of the models → JSON; parts of the path are keyword arguments, and ``body`` is one if
    the method is POST. Raises a ``RequestError``, with status 404 for an unknown model."""
    method: str = "GET"


def find_model(name: str, models: Sequence[str]) -> str:
    """Return ``name``; raise a ``RequestError`` if there is no such model."""
    if name not in models:
        raise RequestError(
            f"there is no model {name!r}; available models: {', '.join(models)}",
            status=404,
            code="model_not_found",
        )
    return name


def raw_arguments(call: ToolCall) -> str:
    """Return a call's arguments as text: JSON, unless the model wrote something else.

    >>> raw_arguments(ToolCall("1", "now", {}, "")), raw_arguments(ToolCall("1", "run", None, "1+"))
    ('{}', '1+')
    """
    return call.raw or ("" if call.arguments is None else json.dumps(call.arguments))


def slices(text: str, size: int = 12) -> list[str]:
    """Cut a tool call's arguments into fragments, as models stream them.

    >>> slices('{"city": "Rome"}')
    ['{"city": "Ro', 'me"}']
    """
    return [text[start : start + size] for start in range(0, len(text), size)]


def json_bytes(value: Any) -> bytes:
    """Return ``value`` as compact JSON in UTF-8."""
    # A lone surrogate, legal in JSON as an escape, has no UTF-8 form: it becomes a question mark.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
