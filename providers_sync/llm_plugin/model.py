"""A provider as a model of ``llm``, and what ``-o`` sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import llm
from llm.parts import StreamEvent
from pydantic import Field

from .. import providers
from ..errors import InvalidRequestError
from ..providers import CLASSES, PRESETS
from .model_names import PREFIX, key_name

_TEXT_ONLY = ("vitalentum", "codelinkava", "ai365vip")
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PDF = frozenset({"application/pdf"})
_SOUND = frozenset({"audio/wav", "audio/x-wav", "audio/wave", "audio/mpeg", "audio/mp3"})
_MORE_SOUND = frozenset({"audio/flac", "audio/x-flac", "audio/ogg"})
_FILES = {
    "responses": _IMAGES | _PDF,
    "anthropic": _IMAGES | _PDF,
    "gemini": _IMAGES | _PDF | _SOUND | _MORE_SOUND,
    "ollama": _IMAGES,
    **dict.fromkeys(_TEXT_ONLY, frozenset[str]()),
}
_OPENAI_FILES = _IMAGES | _PDF | _SOUND
"""Those of ``OpenAICompatible`` and the presets; the server may know fewer."""


def _option(description: str, **limits: Any) -> Any:
    return Field(default=None, description=description, **limits)


class ModelOptions(llm.Options):
    """What ``-o NAME VALUE`` sets."""

    temperature: float | None = _option("How random the answer is.")
    top_p: float | None = _option("The share of the likeliest tokens that the model chooses from.")
    max_tokens: int | None = _option("The maximum length of the answer, in tokens.")
    stop: list[str] | str | None = _option(
        "Text that ends the answer, or a JSON list of such texts."
    )
    seed: int | None = _option("The same seed may give the same answer.")
    reasoning_effort: str | None = _option(
        "How much the model reasons: low, medium, high, or another value that it supports."
    )
    timeout: float | None = _option(
        "Seconds for the whole answer, over all attempts; 600 by default.", gt=0
    )
    retry: int | None = _option(
        "How many requests may be made before the first word arrives; 3 by default.", ge=1
    )
    base_url: str | None = _option(
        "The address of the server, if not the vendor's or the environment's."
    )
    extra_body: dict[str, Any] | str | None = _option(
        'JSON that is added to the request as it is, such as {"top_k": 5}.'
    )


def provider_names() -> list[str]:
    """Return the names of all providers and presets."""
    return list(dict.fromkeys([*CLASSES, *PRESETS]))


class ProviderModel(llm.KeyModel):
    """A model of a provider; ``name=None`` stands for the only model of the server.

    Raises ``InvalidRequestError`` for an unknown provider.
    """

    can_stream = True
    supports_schema = True
    key: str | None = None
    Options: ClassVar[type[llm.Options]] = ModelOptions  # type: ignore[assignment]

    def __init__(self, provider: str, name: str | None = None) -> None:
        if provider not in (known := provider_names()):
            raise InvalidRequestError(
                f"unknown provider {provider!r}; choose one of {', '.join(known)}"
            )
        self.provider = provider
        self.name = name
        self.model_id = PREFIX + (provider if name is None else f"{provider}/{name}")
        self.needs_key = key_name(provider)
        self.supports_tools = provider not in _TEXT_ONLY
        self.attachment_types = _FILES.get(provider, _OPENAI_FILES)

    def __str__(self) -> str:
        return f"providers_sync: {self.model_id}"

    @property
    def key_env_var(self) -> str | None:  # type: ignore[override]
        """The variable that the provider reads its key from; ``llm`` only shows its name."""
        if self.provider not in CLASSES:
            return PRESETS[self.provider].api_key_variable
        variable: str | None = getattr(providers, CLASSES[self.provider]).api_key_variable
        return variable

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """Return the key of ``--key``; ``None`` leaves it to ``llm keys`` and the environment."""
        return self.key or (llm.get_key(explicit_key) if explicit_key else None)

    def execute(
        self,
        prompt: llm.models.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None = None,
        key: str | None = None,
    ) -> Iterator[str | StreamEvent]:
        """Return the answer as it arrives. Raises what ``Provider.stream`` and ``next`` raise.

        In a command of ``llm`` errors are click's, and what has not been printed is printed.
        """
        from .answer import ask

        return ask(self, prompt, response, key, is_streamed=stream)
