"""CodeLinkAva's protocol: messages in, OpenAI's chunks out, always streamed."""

from __future__ import annotations

from typing import Any

from . import reading
from .chunks import ChunkWriter
from .nouns import ChatRequest, Dialect


def read_codelinkava(body: Any) -> ChatRequest:
    """Read ``messages`` as they are."""
    fields = reading.an_object(body, "the body")
    messages = reading.conversation(fields.get("messages"))
    return reading.always_streamed(fields, messages, None, {"messages"})


CODELINKAVA = Dialect(
    "codelinkava", "/codelinkava", "/codelinkava/api/chat", read_codelinkava, ChunkWriter
)
