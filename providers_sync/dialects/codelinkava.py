"""CodeLinkAva's protocol: reads ``messages``, always streams OpenAI's chunks."""

from __future__ import annotations

from typing import Any

from . import validation
from .openai_writer import OpenAIWriter, error_shape
from .types import ChatRequest, Dialect


def read_codelinkava(body: Any) -> ChatRequest:
    """Read ``messages`` unchanged; other fields are options."""
    fields = validation.check_object(body, "the body")
    messages = validation.check_messages(fields.get("messages"))
    return validation.streaming_request(fields, messages, None, {"messages"})


CODELINKAVA = Dialect(
    "codelinkava",
    "/codelinkava",
    "/codelinkava/api/chat",
    read_codelinkava,
    OpenAIWriter,
    error_shape,
)
