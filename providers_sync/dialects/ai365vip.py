"""AI365VIP's protocol: reads a prompt and messages, answers in plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..types import Refusal, Usage
from . import openai_writer, validation
from .types import AnswerInfo, ChatRequest, Delta, Dialect, Ending, RequestError


def read_ai365vip(body: Any) -> ChatRequest:
    """Read ``prompt`` as the system message, and ``messages`` unchanged; clients send only one."""
    fields = validation.check_object(body, "the body")
    model = validation.check_object(fields.get("model"), "model").get("id")
    name = validation.check_name(model, "model.id")
    prompt = validation.check_text(fields.get("prompt") or "", "prompt")
    messages = validation.check_messages(fields.get("messages"))
    if prompt:
        messages.insert(0, {"role": "system", "content": prompt})
    if fields.get("tools"):
        raise RequestError("tools cannot be used: this protocol's answers are plain text")
    return validation.streaming_request(
        fields, messages, name, {"model", "messages", "key", "prompt"}
    )


class PlainWriter:
    """Writes plain UTF-8 text: no events, end marker, errors, reasoning or tool calls."""

    content_type = "text/plain; charset=utf-8"

    def __init__(self, info: AnswerInfo) -> None:
        """Ignore ``info``, which this protocol does not send."""

    def start(self, usage: Usage) -> bytes:
        return b""

    def delta(self, delta: Delta) -> bytes:
        if isinstance(delta, Refusal):
            delta = delta.text
        return delta.encode("utf-8", "replace") if isinstance(delta, str) else b""

    def end(self, ending: Ending) -> bytes:
        return b""

    def error(self, error: RequestError) -> bytes | None:
        return None

    def complete(self, deltas: Sequence[Delta], ending: Ending) -> bytes:
        return b"".join(self.delta(delta) for delta in deltas)


AI365VIP_DIALECT = Dialect(
    "ai365vip",
    "/ai365vip",
    "/ai365vip/api/chat",
    read_ai365vip,
    PlainWriter,
    openai_writer.error_shape,
)
