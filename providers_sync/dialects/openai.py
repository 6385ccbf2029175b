"""OpenAI's chat completions.

Source: OpenAI API reference, "Create chat completion" and "List models".
"""

from __future__ import annotations

from typing import Any

from . import validation
from .models import Catalogue, ChatRequest, Dialect
from .openai_writer import ChunkWriter

OWN = {"model", "messages", "stream", "stream_options"}


def read_openai(body: Any) -> ChatRequest:
    """Read a request; unknown fields are options."""
    fields = validation.an_object(body, "the body")
    return ChatRequest(
        model=validation.a_name(fields.get("model"), "model"),
        messages=validation.conversation(fields.get("messages")),
        options=validation.options(fields, OWN),
        stream=validation.whether(fields, "stream"),
        include_usage=validation.include_usage(fields),
    )


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "providers-sync"}


def _models(models: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": models}


OPENAI = Dialect("openai", "/v1", "/v1/chat/completions", read_openai, ChunkWriter)
OPENAI_MODELS = Catalogue("/v1/models", _model, _models)
