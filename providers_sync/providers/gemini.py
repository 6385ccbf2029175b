"""Google's Gemini: its own protocol, with thoughts, their signatures and grounding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from ..decoding.gemini import GeminiDecoder
from ..encoding.gemini import split_messages
from ..encoding.gemini_options import translate_options
from ..errors import InvalidRequestError
from ..types import Decoder, Messages
from .base import build_body
from .model_lists import ListsModels

if TYPE_CHECKING:
    from .typed_calls import GeminiCalls
else:
    GeminiCalls = ListsModels

_API_KEY_PREFIXES = ("AIza", "AQ.")
"""How API keys begin; the tokens of Vertex AI do not."""
_TOKEN_PREFIX = "ya29."
"""How access tokens of Google's OAuth begin."""
_FOLDERS = ("tunedModels", "endpoints")
"""What the path may have in place of ``models``, if a model's name begins with it."""


class Gemini(GeminiCalls):
    """Google's Gemini API, and Vertex AI.

    ``Gemini("gemini-3.5-flash", api_key=…).stream("Hello")``; the arguments are those of
    ``Provider``. The variables are ``GEMINI_API_KEY`` and ``GEMINI_BASE_URL``.

    Messages, ``tools``, ``tool_choice``, ``response_format``, ``reasoning_effort`` and the other
    options may be in OpenAI's form or in Gemini's own (``thinkingConfig=…``, ``safetySettings=…``,
    ``tools=[{"google_search": {}}]``); files are passed as for ``OpenAICompatible``. What OpenAI's
    form cannot express (``gs://`` addresses, …) goes into ``parts`` of a message with empty
    ``content``. The positions of a ``Citation`` are in bytes of the text in UTF-8.

    For Vertex AI, pass as ``base_url``
    ``https://{region}-aiplatform.googleapis.com/v1/projects/{project}/locations/{region}/publishers/google``
    and as ``api_key`` a function that returns an access token; for a tuned model, leave
    ``/publishers/google`` out and name it ``endpoints/{id}``. Source of the protocol: Gemini API
    reference, "Generating content"; Vertex AI reference, ``streamGenerateContent``.
    """

    url = "https://generativelanguage.googleapis.com"
    protocol = "gemini"
    options_type = "GeminiOptions"
    schema_mode = "gemini"
    api_endpoint = "/models/{model}:streamGenerateContent?alt=sse"
    models_endpoint = "/models?pageSize=1000"
    default_base_url = "https://generativelanguage.googleapis.com/v1beta"
    base_url_variable = "GEMINI_BASE_URL"
    api_key_variable = "GEMINI_API_KEY"
    headers = {"Accept": "text/event-stream"}

    @staticmethod
    def model_names(listed: Any) -> Iterable[str]:
        """Return the names in the JSON that the server sent; an empty page has no list.

        Args:
            listed: The JSON.

        Raises:
            LookupError: It does not hold a page of a list.
        """
        models = listed.get("models", listed.get("publisherModels"))  # the latter by Vertex AI
        if models is None and listed.keys() - {"nextPageToken"}:
            raise LookupError("models")
        return [str(model["name"]).rpartition("models/")[2] for model in models or ()]

    @staticmethod
    def next_page(listed: Any) -> str:
        """Return what is added to the path for the next page; empty after the last one."""
        token = listed.get("nextPageToken")
        return f"&pageToken={quote(str(token), safe='')}" if token else ""

    def authorization(self, api_key: str) -> dict[str, str]:
        """Return the header of the key: that of a token for one, and at a project's address."""
        is_project = "/projects/" in urlsplit(str(self.base_url)).path
        if api_key.startswith(_TOKEN_PREFIX) or (
            is_project and not api_key.startswith(_API_KEY_PREFIXES)
        ):
            return {"Authorization": f"Bearer {api_key}"}
        return {"x-goog-api-key": api_key}

    def endpoint(self, model: str) -> str:
        """Return the path for a model.

        Args:
            model: Its name, which may begin with ``models/``, ``endpoints/``, …

        Raises:
            InvalidRequestError: The name is not valid text.
        """
        folder, name = "models", model.removeprefix("models/")
        if name.partition("/")[0] in _FOLDERS:
            folder, _, name = name.partition("/")
        try:
            return f"/{folder}/{quote(name, safe='@')}:streamGenerateContent?alt=sse"
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"model is not valid text: {model!r}") from error

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the body: system messages in ``systemInstruction``, the rest as contents.

        Raises ``InvalidRequestError`` for what the protocol cannot carry or honour.
        """
        instruction, contents = split_messages(messages, model)
        if instruction and options.get("systemInstruction") is not None:
            raise InvalidRequestError("give either system messages or systemInstruction=")
        base = {"systemInstruction": instruction, "contents": contents}
        return build_body(base, translate_options(options, model))

    def decoder(self, content_type: str = "") -> Decoder:
        """Return a decoder of the protocol's events; a ``finishReason`` is the end marker."""
        return GeminiDecoder(content_type)
