"""AI365VIP's protocol: a prompt and messages in, plain text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..types import Refusal, Usage
from . import validation
from .models import AnswerInfo, ChatRequest, Dialect, Ending, Piece, RequestError


def read_ai365vip(body: Any) -> ChatRequest:
    """Read ``prompt`` as the system message and the one user message as it stands."""
    fields = validation.check_object(body, "the body")
    model = validation.check_object(fields.get("model"), "model").get("id")
    name = validation.check_name(model, "model.id")
    prompt = validation.check_text(fields.get("prompt") or "", "prompt")
    messages = validation.check_messages(fields.get("messages"))
    if prompt:
        messages.insert(0, {"role": "system", "content": prompt})
    if fields.get("tools"):
        raise RequestError("tools cannot be used: this protocol's answers are plain text")
    return validation.always_streamed(
        fields, messages, name, {"model", "messages", "key", "prompt"}
    )


class PlainWriter:
    """Plain UTF-8 text: no events, no end marker, no place for an error, a thought or a call."""

    content_type = "text/plain; charset=utf-8"

    def __init__(self, about: AnswerInfo) -> None:
        """Take what every writer is given; this protocol carries none of it."""

    def start(self, usage: Usage) -> bytes:
        return b""

    def piece(self, piece: Piece) -> bytes:
        if isinstance(piece, Refusal):
            piece = piece.text
        return piece.encode("utf-8", "replace") if isinstance(piece, str) else b""

    def end(self, ending: Ending) -> bytes:
        return b""

    def error(self, error: RequestError) -> bytes | None:
        return None

    def whole(self, pieces: Sequence[Piece], ending: Ending) -> bytes:
        return b"".join(self.piece(piece) for piece in pieces)


AI365VIP = Dialect("ai365vip", "/ai365vip", "/ai365vip/api/chat", read_ai365vip, PlainWriter)
