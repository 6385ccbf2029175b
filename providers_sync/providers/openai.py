"""OpenAI's chat completions protocol, which most servers of today speak."""

from __future__ import annotations

from typing import Any

from ..types import Messages
from .base import Provider, merged


class OpenAICompatible(Provider):
    """``OpenAICompatible("qwen3", base_url="http://127.0.0.1:8000/v1").stream("Hello")``.

    Source of the protocol: OpenAI API reference, "Create chat completion".
    """

    url = "https://api.openai.com"
    api_endpoint = "/chat/completions"
    default_base_url = "https://api.openai.com/v1"
    base_url_variable = "OPENAI_BASE_URL"
    api_key_variable = "OPENAI_API_KEY"
    headers = {"Accept": "text/event-stream"}

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Messages go as they are."""
        own = {
            "model": model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return merged(own, options)
