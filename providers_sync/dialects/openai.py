"""OpenAI's protocol: reads chat completion requests and formats the list of models.

Source: OpenAI API reference, "Create chat completion" and "List models".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import validation
from .openai_writer import OpenAIWriter, error_shape
from .types import ChatRequest, Dialect, ModelEndpoint, find_model

NOT_OPTIONS = {"model", "messages", "stream", "stream_options"}


def read_openai(body: Any) -> ChatRequest:
    """Read a request; unknown fields are options."""
    fields = validation.check_object(body, "the body")
    return ChatRequest(
        model=validation.check_name(fields.get("model"), "model"),
        messages=validation.check_messages(fields.get("messages")),
        options=validation.check_options(fields, NOT_OPTIONS),
        stream=validation.check_flag(fields, "stream"),
        include_usage=validation.include_usage(fields),
    )


def _format_model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "providers-sync"}


def _format_list(models: Sequence[str]) -> dict[str, Any]:
    return {"object": "list", "data": [_format_model(name) for name in models]}


OPENAI = Dialect("openai", "/v1", "/v1/chat/completions", read_openai, OpenAIWriter, error_shape)
OPENAI_MODELS = (
    ModelEndpoint("/v1/models", _format_list),
    ModelEndpoint(
        "/v1/models/<path:name>", lambda models, name: _format_model(find_model(name, models))
    ),
)
