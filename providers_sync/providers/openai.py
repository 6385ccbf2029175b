"""OpenAI's chat completions protocol, which most servers speak, and presets for known servers."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

from .. import transport
from ..encoding.openai_chat import with_openai_files
from ..encoding.options import check_one_answer
from ..errors import APIStatusError, InvalidRequestError
from ..types import Messages
from .base import build_body
from .model_lists import ListsModels


class Preset(NamedTuple):
    """A known server that speaks OpenAI's protocol."""

    base_url: str
    api_key_variable: str | None
    note: str


PRESETS = {
    "cerebras": Preset("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", "Cerebras"),
    "deepseek": Preset("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "DeepSeek"),
    "fireworks": Preset(
        "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", "Fireworks AI"
    ),
    "gemini": Preset(
        "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY", "Google Gemini"
    ),
    "groq": Preset("https://api.groq.com/openai/v1", "GROQ_API_KEY", "Groq"),
    "llamacpp": Preset("http://127.0.0.1:8080/v1", None, "llama-server on this machine"),
    "lmstudio": Preset("http://127.0.0.1:1234/v1", None, "LM Studio on this machine"),
    "mistral": Preset("https://api.mistral.ai/v1", "MISTRAL_API_KEY", "Mistral AI"),
    "ollama": Preset("http://127.0.0.1:11434/v1", None, "Ollama on this machine"),
    "openrouter": Preset("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "OpenRouter"),
    "together": Preset("https://api.together.xyz/v1", "TOGETHER_API_KEY", "Together AI"),
    "vllm": Preset("http://127.0.0.1:8000/v1", None, "vLLM on this machine"),
    "xai": Preset("https://api.x.ai/v1", "XAI_API_KEY", "xAI"),
}


_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")
"""Fields of an assistant message that an answer of the same server may have had."""


class OpenAICompatible(ListsModels):
    """``OpenAICompatible("qwen3", base_url="http://127.0.0.1:8000/v1").stream("Hello")``.

    Options are those of the protocol: ``temperature``, ``max_tokens``, ``stop``, ``seed``,
    ``tools``, ``response_format``, …; unknown ones are passed on. An image, PDF or sound is a
    content part ``{"type": "file", "file": …}``: an ``http:``, ``https:`` or ``data:`` URL as a
    string, a ``pathlib.Path``, or bytes. A string never names a file: messages may be untrusted.
    Source of the protocol: OpenAI API reference, "Create chat completion".
    """

    url = "https://api.openai.com"
    protocol = "openai-chat"
    api_endpoint = "/chat/completions"
    models_endpoint = "/models"
    default_base_url = "https://api.openai.com/v1"
    base_url_variable = "OPENAI_BASE_URL"
    api_key_variable: str | None = "OPENAI_API_KEY"
    headers = {"Accept": "text/event-stream"}

    @classmethod
    def preset(cls, name: str, model: str | None = None, **settings: Any) -> OpenAICompatible:
        """Return the provider for a known server, with its address and the key from its variable.

        ``OpenAICompatible.preset("groq", "llama-3.3-70b-versatile")``; ``settings`` are those of
        the constructor. Raises ``InvalidRequestError``, which lists the known names.
        """
        settings = transport.mask_secrets(settings)  # error reports may show local variables
        if name not in PRESETS:
            raise InvalidRequestError(
                f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}"
            )
        preset = PRESETS[name]
        if "base_url" not in settings and preset.api_key_variable:
            settings.setdefault("api_key", os.environ.get(preset.api_key_variable) or None)
        provider = cls(model, **{"base_url": preset.base_url, **settings})
        provider.api_key_variable = preset.api_key_variable
        return provider

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the body: messages unchanged, images in the protocol's own form."""
        check_one_answer(options)
        base = {
            "model": model,
            "messages": with_openai_files(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if options.get("stream") is False:
            base.pop("stream_options")
        return build_body(base, options)

    def amended(self, body: dict[str, Any], error: APIStatusError) -> dict[str, Any] | None:
        """Return the body without what the server rejects, if it can do without it.

        That is ``stream_options`` (usage is lost), and the reasoning of earlier answers: Groq sends
        it, and refuses to have it back.
        """
        if error.status_code not in (400, 422):
            return None
        if "stream_options" in body and "stream_options" in error.body:
            return {name: value for name, value in body.items() if name != "stream_options"}
        return _without_reasoning(body, error.body)


def _without_reasoning(body: dict[str, Any], complaint: str) -> dict[str, Any] | None:
    """Return the body without the reasoning in its messages that a server complains of, if any."""
    names = {name for name in _REASONING if re.search(rf"\b{name}\b", complaint)}
    if not names or "passed back" in complaint:  # DeepSeek: it is missing elsewhere
        return None
    messages = [
        {name: value for name, value in message.items() if name not in names}
        if isinstance(message, dict) and message.get("role") == "assistant"
        else message
        for message in body["messages"]
    ]
    return {**body, "messages": messages} if messages != body["messages"] else None
