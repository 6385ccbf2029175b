"""CodeLinkAva's protocol: messages in, OpenAI's chunks out, always streamed."""

from __future__ import annotations

from typing import Any

from . import validation
from .models import ChatRequest, Dialect
from .openai_writer import ChunkWriter


def read_codelinkava(body: Any) -> ChatRequest:
    """Read ``messages`` as they are."""
    fields = validation.check_object(body, "the body")
    messages = validation.check_messages(fields.get("messages"))
    return validation.always_streamed(fields, messages, None, {"messages"})


CODELINKAVA = Dialect(
    "codelinkava", "/codelinkava", "/codelinkava/api/chat", read_codelinkava, ChunkWriter
)
