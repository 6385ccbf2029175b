"""``ProviderModel``: a provider as a model of ``llm``, with our timeouts, outcomes and errors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import llm
from llm.parts import StreamEvent

from .. import PROVIDERS, Provider
from ..errors import AuthenticationError, InvalidRequestError, ProviderError
from ..printable import visible
from ..provider_selection import select_provider, set_only_model
from ..providers import CLASSES, PRESETS, get_provider
from .answer import read_answer, show_partial
from .messages import to_messages, to_tools
from .model_names import PREFIX, remember

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
_SETTINGS = ("timeout", "retry", "base_url", "extra_body")


class ModelOptions(llm.Options):
    """What ``-o NAME VALUE`` sets."""

    model_config = {"use_attribute_docstrings": True}

    temperature: float | None = None
    """How random the answer is."""
    top_p: float | None = None
    """The share of the likeliest tokens that the model chooses from."""
    max_tokens: int | None = None
    """The limit of the answer, in tokens."""
    stop: str | None = None
    """A text that ends the answer."""
    seed: int | None = None
    """The same seed may give the same answer."""
    reasoning_effort: str | None = None
    """How much the model reasons: low, medium, high, or what it knows."""
    timeout: float | None = None
    """Seconds for the whole answer, over all attempts; 600 by default."""
    retry: int | None = None
    """How many requests may be made before the first word arrives; 3 by default."""
    base_url: str | None = None
    """The address of the server, if it is not that of the vendor or the environment."""
    extra_body: dict[str, Any] | str | None = None
    """JSON that is added to the request as it is, such as {"top_k": 5}."""


class ProviderModel(llm.KeyModel):
    """A model of a provider; ``name=None`` stands for the only one that its server has.

    Raises ``InvalidRequestError`` for an unknown provider.
    """

    can_stream = True
    supports_schema = True
    Options: ClassVar[type[llm.Options]] = ModelOptions  # type: ignore[assignment]

    def __init__(self, provider: str, name: str | None = None) -> None:
        if provider not in CLASSES and provider not in PRESETS:
            known = ", ".join(dict.fromkeys([*CLASSES, *PRESETS]))
            raise InvalidRequestError(f"unknown provider {provider!r}; choose one of {known}")
        self.provider = provider
        self.name = name
        self.model_id = PREFIX + (provider if name is None else f"{provider}/{name}")
        self.needs_key = "openai" if provider == "responses" else provider
        self.supports_tools = provider not in _TEXT_ONLY
        self.attachment_types = _FILES.get(provider, _OPENAI_FILES)

    def __str__(self) -> str:
        return f"providers_sync: {self.model_id}"

    @property
    def key_env_var(self) -> str | None:  # type: ignore[override]
        """The variable that the provider reads its key from; ``llm`` only shows its name."""
        if self.provider in CLASSES:
            return PROVIDERS[self.provider].api_key_variable
        return PRESETS[self.provider].api_key_variable

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """Return the key of ``--key`` or ``llm keys``; ``None`` leaves it to the environment."""
        return self.key or llm.get_key(explicit_key, self.needs_key)

    def execute(
        self,
        prompt: llm.models.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None = None,
        key: str | None = None,
    ) -> Iterator[str | StreamEvent]:
        """Yield the answer as it arrives. Raises what ``Provider.stream`` and ``next`` raise.

        The text that arrived before an error has been yielded then.
        """
        options = prompt.options.model_dump(exclude_none=True)
        try:
            with self._make_provider(options, key) as provider:
                if provider.model is None:
                    set_only_model(provider, option=f"-m {self.model_id}/NAME")
                settings = {name: value for name, value in options.items() if name not in _SETTINGS}
                if prompt.tools:
                    settings["tools"] = to_tools(prompt.tools)
                if prompt.schema:
                    settings["into"] = prompt.schema
                with provider.stream(to_messages(prompt), **settings) as answer:
                    yield from read_answer(answer, response)
        except ProviderError as error:
            show_partial(error, is_printed=stream)
            hint = ""
            if isinstance(error, AuthenticationError) and key is None:
                hint = f"; use --key, or: llm keys set {self.needs_key}"
            # ``llm`` prints it as it is, and it may quote the server.
            error.args = (visible(str(error)) + hint, *error.args[1:])
            raise
        if self.name is not None:
            remember(f"{self.provider}/{self.name}")

    def _make_provider(self, options: dict[str, Any], key: str | None) -> Provider:
        names = {"base_url": "base_url", "retry": "retry", "timeout": "timeouts"}
        settings: dict[str, Any] = {
            setting: options[name] for name, setting in names.items() if name in options
        }
        if "extra_body" in options:
            settings["extra_body"] = _json_object(options["extra_body"])
        if key and self._may_receive(key, options.get("base_url")):
            settings["api_key"] = key
        selection = select_provider(os.environ, provider=self.provider, model=self.name)
        return get_provider(self.provider, selection.model, **settings)

    def _may_receive(self, key: str, base_url: str | None) -> bool:
        """Return whether a key may go to an address: one kept for a vendor goes to no other."""
        if base_url is None or key != llm.get_key(alias=self.needs_key):
            return True
        if self.provider in CLASSES:
            kind = PROVIDERS[self.provider]
            return base_url.rstrip("/") in (kind.default_base_url, *kind.vendor_urls)
        return PRESETS[self.provider].owns(base_url)


def _json_object(value: dict[str, Any] | str) -> dict[str, Any]:
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise InvalidRequestError(f"extra_body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequestError('extra_body must be a JSON object such as {"top_k": 5}')
    return value
