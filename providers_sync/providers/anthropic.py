"""Anthropic: the Messages protocol, and OpenAI's options translated to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config import ANTHROPIC_MAX_TOKENS
from ..decoding.anthropic import AnthropicDecoder
from ..encoding.anthropic import split_messages, translate_options
from ..types import Decoder, Messages
from .base import build_body
from .model_lists import ListsModels

if TYPE_CHECKING:
    from .typed_calls import AnthropicCalls
else:
    AnthropicCalls = ListsModels


class Anthropic(AnthropicCalls):
    """Anthropic's Messages API.

    ``Anthropic("claude-sonnet-5-5", api_key=…).stream("Hello")``; the arguments are those of
    ``Provider``. The variables are ``ANTHROPIC_API_KEY`` and ``ANTHROPIC_BASE_URL``.

    Messages, ``tools``, ``tool_choice``, ``stop`` and a JSON schema in ``response_format`` may be
    in OpenAI's form or in Anthropic's own; files are passed as for ``OpenAICompatible``.
    ``max_tokens``, which the protocol requires, defaults to 16000, reasoning included.
    Source of the protocol: Anthropic API reference, "Messages" and "Streaming Messages", version
    2023-06-01.
    """

    url = "https://api.anthropic.com"
    protocol = "anthropic"
    options_type = "AnthropicOptions"
    schema_mode = "anthropic"
    takes_prefix = True
    api_endpoint = "/v1/messages"
    models_endpoint = "/v1/models?limit=1000"
    default_base_url = url
    base_url_variable = "ANTHROPIC_BASE_URL"
    api_key_variable = "ANTHROPIC_API_KEY"
    headers = {"Accept": "text/event-stream", "anthropic-version": "2023-06-01"}

    def authorization(self, api_key: str) -> dict[str, str]:
        """Return the protocol's own header for the key."""
        return {"x-api-key": api_key}

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the body: system messages in ``system``, tool results as user turns."""
        system, turns = split_messages(messages)
        base = {
            "model": model,
            "max_tokens": ANTHROPIC_MAX_TOKENS,
            "system": system or None,
            "messages": turns,
            "stream": True,
        }
        return build_body(base, translate_options(options))

    def decoder(self, content_type: str = "") -> Decoder:
        """Return a decoder of the protocol's events; ``message_stop`` is the end marker."""
        return AnthropicDecoder(content_type)
