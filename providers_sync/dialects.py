"""The four protocols from the server's side: request body in, answer bytes out, no I/O.

It shares no code with ``providers/``: one misreading would otherwise pass every test.

A dialect reads a parsed JSON body into a ``ChatRequest``, and names the writer of its answers:

>>> request = VITALENTUM.read({"conversation": '{"history": [{"speaker": "human", "text": "Hi"}]}'})
>>> request.messages
[{'role': 'user', 'content': 'Hi'}]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

from .types import Message, Messages, Usage

SPEAKERS = {"human": "user", "bot": "assistant"}
"""Vitalentum knows no other roles."""


class RequestError(Exception):
    """What the server refuses or fails at, in the shape OpenAI gave to errors."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        """The HTTP status, where the answer has not begun."""
        self.type = type
        self.code = code

    def json(self) -> dict[str, Any]:
        """Return the body that tells the client."""
        return {"error": {"message": self.message, "type": self.type, "code": self.code}}


@dataclass(frozen=True)
class ChatRequest:
    """What a client asks, whatever protocol it speaks."""

    messages: Messages
    options: dict[str, Any] = field(default_factory=dict)
    """Sampling options by OpenAI's names; those given as ``null`` are left out."""
    model: str | None = None
    """The model named on the wire; the engine need not know it."""
    stream: bool = True
    include_usage: bool = False
    """Whether the stream shall end with a chunk that counts tokens."""


class Writer(Protocol):
    """Turns the pieces of one answer into body bytes; made anew for each answer."""

    content_type: str

    def start(self) -> bytes:
        """Return what stands before the first piece."""

    def text(self, piece: str) -> bytes:
        """Return one piece of text."""

    def end(self, reason: str, usage: Usage | None) -> bytes:
        """Return what proves that the answer is whole."""

    def error(self, error: RequestError) -> bytes | None:
        """Return the error as an event; ``None``: only a broken connection can tell."""


class EventWriter:
    """Server-sent events with OpenAI's chunks, closed by ``[DONE]``."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, *, id: str, created: int, model: str, include_usage: bool = False) -> None:
        self._head = {
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        self._include_usage = include_usage

    def start(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, piece: str) -> bytes:
        return self._chunk({"content": piece})

    def end(self, reason: str, usage: Usage | None) -> bytes:
        counted = b""
        if self._include_usage and usage is not None:
            # OpenAI's usage chunk comes after the finish reason and has no choices.
            counted = _event({**self._head, "choices": [], "usage": _usage(usage)})
        return self._chunk({}, reason) + counted + b"data: [DONE]\n\n"

    def error(self, error: RequestError) -> bytes | None:
        return _event(error.json())

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event({**self._head, "choices": [choice]})


class PlainWriter:
    """Plain UTF-8 text: no events, no end marker, no place for an error."""

    content_type = "text/plain; charset=utf-8"

    def __init__(self, *, id: str, created: int, model: str, include_usage: bool = False) -> None:
        """Take what every writer is given; this protocol carries none of it."""

    def start(self) -> bytes:
        return b""

    def text(self, piece: str) -> bytes:
        return piece.encode("utf-8", "replace")

    def end(self, reason: str, usage: Usage | None) -> bytes:
        return b""

    def error(self, error: RequestError) -> bytes | None:
        return None


@dataclass(frozen=True)
class Dialect:
    """One protocol: where it is served, how a request reads, how an answer is written."""

    name: str
    path: str
    """The path that clients post to."""
    read: Callable[[Any], ChatRequest]
    """Parsed JSON body → request. Raises ``RequestError`` that names the item."""
    writer: Callable[..., Writer]
    """Makes a ``Writer`` from ``id``, ``created``, ``model`` and ``include_usage``."""


def whole_answer(
    text: str, reason: str, usage: Usage | None, *, id: str, created: int, model: str
) -> bytes:
    """Return the JSON body of an answer that OpenAI's client did not want streamed."""
    answer = {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": reason,
            }
        ],
        "usage": _usage(usage or Usage()),
    }
    return _json(answer)


def read_vitalentum(body: Any) -> ChatRequest:
    """Read ``conversation``, a JSON string of ``{"history": [{"speaker", "text"}…]}``."""
    fields = _object(body, "the body")
    text = fields.get("conversation")
    if not isinstance(text, str):
        raise RequestError("conversation must be a string of JSON")
    try:
        conversation = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError("conversation is not valid JSON") from None
    history = _object(conversation, "conversation").get("history")
    if not isinstance(history, list) or not history:
        raise RequestError("conversation.history must be a list with at least one turn")
    messages = [_turn(turn, f"conversation.history[{i}]") for i, turn in enumerate(history)]
    return _streamed(fields, messages, None, {"conversation"})


def read_codelinkava(body: Any) -> ChatRequest:
    """Read ``messages`` as they are; the answer is always a stream."""
    fields = _object(body, "the body")
    return _streamed(fields, _messages(fields.get("messages")), None, {"messages"})


def read_ai365vip(body: Any) -> ChatRequest:
    """Read ``prompt`` as the system message and the one user message as it stands."""
    fields = _object(body, "the body")
    model = _object(fields.get("model"), "model").get("id")
    if not isinstance(model, str) or not model:
        raise RequestError("model.id must be the name of a model")
    prompt = fields.get("prompt") or ""
    if not isinstance(prompt, str):
        raise RequestError(f"prompt must be text, not {_kind(prompt)}")
    messages = _messages(fields.get("messages"))
    if prompt:
        messages.insert(0, {"role": "system", "content": prompt})
    return _streamed(fields, messages, model, {"model", "messages", "key", "prompt"})


def read_openai(body: Any) -> ChatRequest:
    """Read a request of OpenAI's chat completions."""
    fields = _object(body, "the body")
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise RequestError("model must be the name of a model")
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise RequestError(f"stream must be true or false, not {_kind(stream)}")
    return ChatRequest(
        messages=_messages(fields.get("messages")),
        options=_options(fields, {"model", "messages", "stream", "stream_options"}),
        model=model,
        stream=bool(stream),
        include_usage=_include_usage(fields),
    )


def _streamed(
    fields: dict[str, Any], messages: Messages, model: str | None, own: set[str]
) -> ChatRequest:
    """Return a request of a protocol that knows nothing but streams."""
    options = _options(fields, own | {"stream", "stream_options"})
    return ChatRequest(messages, options, model, include_usage=_include_usage(fields))


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{name} must be a JSON object, not {_kind(value)}")
    return value


def _turn(value: Any, name: str) -> Message:
    turn = _object(value, name)
    role = SPEAKERS.get(str(turn.get("speaker")))
    if role is None:
        raise RequestError(f"{name}.speaker must be human or bot")
    if not isinstance(turn.get("text"), str):
        raise RequestError(f"{name}.text must be text, not {_kind(turn.get('text'))}")
    return {"role": role, "content": turn["text"]}


def _messages(value: Any) -> Messages:
    if not isinstance(value, list) or not value:
        raise RequestError("messages must be a list with at least one message")
    return [_message(item, f"messages[{i}]") for i, item in enumerate(value)]


def _message(value: Any, name: str) -> Message:
    message = _object(value, name)
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise RequestError(f"{name}.role must be text such as user, not {_kind(role)}")
    if isinstance(content, list):
        for i, part in enumerate(content):
            _part(part, f"{name}.content[{i}]")
    elif not isinstance(content, str) and not (content is None and message.get("tool_calls")):
        raise RequestError(f"{name}.content must be text or a list of parts, not {_kind(content)}")
    return message


def _part(value: Any, name: str) -> None:
    part = _object(value, name)
    if not isinstance(part.get("type"), str):
        raise RequestError(f"{name}.type must be text, not {_kind(part.get('type'))}")
    if part["type"] == "text" and not isinstance(part.get("text"), str):
        raise RequestError(f"{name}.text must be text, not {_kind(part.get('text'))}")


def _options(fields: dict[str, Any], own: Collection[str]) -> dict[str, Any]:
    """Return what is left beside the protocol's own keys; ``null`` means not given."""
    options = {k: v for k, v in fields.items() if k not in own and v is not None}
    temperature = options.get("temperature", 0)
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise RequestError(f"temperature must be a number, not {_kind(temperature)}")
    for name in ("max_tokens", "max_completion_tokens"):
        limit = options.get(name, 1)
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise RequestError(f"{name} must be a whole number above 0")
    return options


def _include_usage(fields: dict[str, Any]) -> bool:
    wanted = fields.get("stream_options")
    return wanted is not None and _object(wanted, "stream_options").get("include_usage") is True


def _kind(value: Any) -> str:
    """Return the JSON name of a value's type, for error texts."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _usage(usage: Usage) -> dict[str, int | None]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }


def _event(value: Any) -> bytes:
    return b"data: " + _json(value) + b"\n\n"


def _json(value: Any) -> bytes:
    # A lone surrogate, legal in JSON as an escape, has no UTF-8 form: it becomes a question mark.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


VITALENTUM = Dialect("vitalentum", "/vitalentum/api/converse-edge", read_vitalentum, EventWriter)
CODELINKAVA = Dialect("codelinkava", "/codelinkava/api/chat", read_codelinkava, EventWriter)
AI365VIP = Dialect("ai365vip", "/ai365vip/api/chat", read_ai365vip, PlainWriter)
OPENAI = Dialect("openai", "/v1/chat/completions", read_openai, EventWriter)

DIALECTS = (VITALENTUM, CODELINKAVA, AI365VIP, OPENAI)
"""Every protocol that the gateway speaks."""
