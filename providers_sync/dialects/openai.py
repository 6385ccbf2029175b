"""OpenAI's chat completions.

Source: OpenAI API reference, "Create chat completion" and "List models".
"""

from __future__ import annotations

from typing import Any

from . import reading
from .chunks import ChunkWriter
from .nouns import Catalogue, ChatRequest, Dialect

OWN = {"model", "messages", "stream", "stream_options"}


def read_openai(body: Any) -> ChatRequest:
    """Read a request; unknown fields are options."""
    fields = reading.an_object(body, "the body")
    return ChatRequest(
        model=reading.a_name(fields.get("model"), "model"),
        messages=reading.conversation(fields.get("messages")),
        options=reading.options(fields, OWN),
        stream=reading.whether(fields, "stream"),
        include_usage=reading.include_usage(fields),
    )


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "providers-sync"}


def _models(models: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": models}


OPENAI = Dialect("openai", "/v1", "/v1/chat/completions", read_openai, ChunkWriter)
OPENAI_MODELS = Catalogue("/v1/models", _model, _models)
