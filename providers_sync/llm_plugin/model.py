"""A provider as a model of ``llm``, for blocking and async programs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, ClassVar, TypeVar

import click
import llm
from llm.parts import StreamEvent

from .. import PROVIDERS, CancelToken
from ..config import MAIN_THREAD_WAIT_S
from ..errors import AuthenticationError, InvalidRequestError, ProviderError
from ..printable import visible
from ..provider_selection import set_only_model
from ..providers import CLASSES, PRESETS
from .answer import read_answer, show_partial
from .messages import to_messages
from .model_names import PREFIX, remember
from .settings import ModelOptions, call_options, make_provider

T = TypeVar("T")
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


class _Answering:
    """What both kinds of models share; ``name=None`` stands for the only model of the server.

    Raises ``InvalidRequestError`` for an unknown provider.
    """

    can_stream = True
    supports_schema = True
    key: str | None = None
    Options: ClassVar[type[llm.Options]] = ModelOptions

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
    def key_env_var(self) -> str | None:
        """The variable that the provider reads its key from; ``llm`` only shows its name."""
        if self.provider in CLASSES:
            return PROVIDERS[self.provider].api_key_variable
        return PRESETS[self.provider].api_key_variable

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """Return the key of ``--key`` or ``llm keys``; ``None`` leaves it to the environment."""
        return self.key or llm.get_key(explicit_key, self.needs_key)

    def _answer(
        self,
        prompt: llm.models.Prompt,
        stream: bool,
        response: llm.Response | llm.AsyncResponse,
        key: str | None,
        in_command: bool,
        cancel: CancelToken | None = None,
    ) -> Iterator[str | StreamEvent]:
        options = prompt.options.model_dump(exclude_none=True)
        try:
            with make_provider(self.provider, self.name, options, key, self.needs_key) as provider:
                if provider.model is None:
                    set_only_model(provider, cancel, option=f"-m {self.model_id}/NAME")
                settings = call_options(prompt, options)
                with provider.stream(to_messages(prompt), cancel=cancel, **settings) as answer:
                    yield from read_answer(answer, response, in_command=in_command)
        except ProviderError as error:
            if in_command:
                show_partial(error, is_printed=stream)
            hint = ""
            if isinstance(error, AuthenticationError) and key is None:
                hint = f"; use --key, or: llm keys set {self.needs_key}"
            # ``llm`` prints it as it is, and it may quote the server.
            error.args = (visible(str(error)) + hint, *error.args[1:])
            raise
        if self.name is not None:
            remember(f"{self.provider}/{self.name}")


class ProviderModel(_Answering, llm.KeyModel):  # type: ignore[misc, override]
    """A model of a provider for the command and for blocking programs."""

    def execute(
        self,
        prompt: llm.models.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None = None,
        key: str | None = None,
    ) -> Iterator[str | StreamEvent]:
        """Return the answer as it arrives. Raises what ``Provider.stream`` and ``next`` raise.

        The text that arrived before an error has been yielded then.
        """
        return self._answer(prompt, stream, response, key, _is_in_command())


class AsyncProviderModel(_Answering, llm.AsyncKeyModel):  # type: ignore[misc, override]
    """The same for an event loop; each answer occupies a thread while it waits."""

    async def execute(
        self,
        prompt: llm.models.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None = None,
        key: str | None = None,
    ) -> AsyncGenerator[str | StreamEvent, None]:
        """Yield what ``ProviderModel.execute`` does; leaving the loop stops the answer."""
        cancel = CancelToken()
        pieces = self._answer(prompt, stream, response, key, _is_in_command(), cancel)
        try:
            while (piece := await _wait(asyncio.to_thread(next, pieces, None))) is not None:
                yield piece
        finally:
            cancel.cancel()
            with contextlib.suppress(ValueError):  # the thread still runs it, and will end it
                pieces.close()  # type: ignore[attr-defined]


async def _wait(step: Coroutine[Any, Any, T]) -> T:
    """Return the result of a step, without missing Ctrl-C.

    A signal just before the event loop falls asleep would wait for whatever wakes it next.
    """
    task = asyncio.create_task(step)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=MAIN_THREAD_WAIT_S)
    finally:
        task.cancel()
    return task.result()


def _is_in_command() -> bool:
    """Return whether this thread runs a command of ``llm``, and not a program that uses it."""
    return click.get_current_context(silent=True) is not None
