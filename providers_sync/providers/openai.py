"""OpenAI's chat completions protocol, which most servers speak."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .. import transport
from ..encoding.openai_chat import with_openai_files
from ..encoding.options import check_one_answer
from ..errors import APIStatusError, InvalidRequestError
from ..types import Messages
from .base import Provider, build_body
from .calls import with_keywords_of
from .model_lists import ListsModels
from .presets import PRESETS, complete_settings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .keywords import OpenAISettings
    from .typed_calls import OpenAICalls
else:
    OpenAICalls = ListsModels

_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")
"""Fields of an assistant message that an answer of the same server may have had."""


class OpenAICompatible(OpenAICalls):
    """A server that speaks OpenAI's chat completions: OpenAI, vLLM, llama.cpp, and many others.

    ``OpenAICompatible("qwen3", base_url="http://127.0.0.1:8000/v1").stream("Hello")``; the
    arguments are those of ``Provider``. The variables are ``OPENAI_API_KEY`` and
    ``OPENAI_BASE_URL``.

    Options are those of the protocol: ``temperature``, ``max_tokens``, ``stop``, ``seed``,
    ``tools``, ``response_format``, …; unknown ones are passed on. An image, PDF or sound is a
    content part ``{"type": "file", "file": …}``: an ``http:``, ``https:`` or ``data:`` URL as a
    string, a ``pathlib.Path``, or bytes. A string never names a file: messages may be untrusted.
    Source of the protocol: OpenAI API reference, "Create chat completion".
    """

    url = "https://api.openai.com"
    protocol = "openai-chat"
    options_type = "OpenAIOptions"
    schema_mode = "openai"
    api_endpoint = "/chat/completions"
    models_endpoint = "/models"
    default_base_url = "https://api.openai.com/v1"
    base_url_variable = "OPENAI_BASE_URL"
    api_key_variable: str | None = "OPENAI_API_KEY"
    headers = {"Accept": "text/event-stream"}
    key_header: str | None = None
    """The header of the key; ``None`` for ``Authorization: Bearer``."""

    @classmethod
    @with_keywords_of(Provider.__init__)
    def preset(
        cls, name: str, model: str | None = None, **settings: Unpack[OpenAISettings]
    ) -> OpenAICompatible:
        """Return the provider for a known server, with its address and the key from its variable.

        ``OpenAICompatible.preset("groq", "openai/gpt-oss-120b")``; ``docs/presets.md`` lists the
        servers. The other arguments are those of ``Provider``.

        Args:
            name: The name of the server, such as ``ollama``.
            model: The model for calls that do not name one.
            base_url: Another address of the server. The key from the environment is sent to it
                only if it is the vendor's own.

        Raises:
            InvalidRequestError: The name is unknown (the error lists the known ones), or a setting
                that the server needs is missing.
        """
        masked = transport.mask_secrets(settings)
        del settings  # error reports may show local variables
        if name not in PRESETS:
            raise InvalidRequestError(
                f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}"
            )
        provider = cls(model, **complete_settings(name, masked))
        preset = PRESETS[name]
        found = preset.find_key()
        provider.api_key_variable = found[1] if found else preset.api_key_variable
        provider.key_header = preset.key_header
        provider.models_note = preset.models_note
        return provider

    def authorization(self, api_key: str) -> dict[str, str]:
        """Return the header that carries the key."""
        return {self.key_header: api_key} if self.key_header else super().authorization(api_key)

    @staticmethod
    def next_page(listed: Any) -> str:
        """Return what is added to the path for the next page, which only Cohere's list has."""
        token = listed.get("next_page_token") if isinstance(listed, dict) else None
        return f"?page_token={quote(str(token), safe='')}" if token else ""

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
