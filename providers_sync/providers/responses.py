"""OpenAI's Responses API: reasoning, tools and built-in search of OpenAI's newest models."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from ..decoding.responses import ResponsesDecoder
from ..encoding.responses import ENCRYPTED, to_input, translate_options
from ..errors import APIStatusError
from ..types import Decoder, Messages
from .base import build_body
from .continuation_request import BrokenAnswer
from .http_request import HTTPRequest
from .model_lists import ListsModels

if TYPE_CHECKING:
    from .typed_calls import ResponsesCalls
else:
    ResponsesCalls = ListsModels

_INCLUDE = re.compile(r"Encrypted content|encrypted_content|\binclude\b")
_STORE = re.compile(r"""(['"`:.]\s*|parameter )store\b""")
"""How servers name the fields that they do not know; not "the vector store …"."""


class OpenAIResponses(ResponsesCalls):
    """OpenAI's Responses API.

    ``OpenAIResponses("gpt-6-luna", api_key=…).stream("Hello")``; the arguments are those of
    ``Provider``. The variables are ``OPENAI_API_KEY`` and ``OPENAI_BASE_URL``.

    Messages, ``tools``, ``tool_choice``, ``response_format``, ``reasoning_effort`` and
    ``max_tokens`` may be in the form of chat completions or in that of the Responses API; files are
    passed as for ``OpenAICompatible``. What the protocol does not support (``stop``, ``seed``,
    ``n`` above 1, penalties, audio) raises ``InvalidRequestError`` before anything is sent.

    The server keeps nothing (``store=False``): the reasoning comes encrypted, and goes back with
    ``stream.message``. With ``store=True`` the id for ``previous_response_id=`` is an ``Extra`` at
    ``response.id``; with that option, ``conversation=`` or ``background=True`` the server decides
    whether it keeps the answer, unless ``store=False`` is given too.

    Tools that the server executes are ``Extra`` values, and go back with ``stream.message``.
    Answers to them (``mcp_approval_response``, ``computer_call_output``, …) are parts of a message:
    ``{"role": "user", "content": [{"type": "mcp_approval_response", …}]}``.

    Source of the protocol: OpenAI API reference, "Create a model response" and "Streaming events".
    """

    url = "https://api.openai.com"
    protocol = "responses"
    options_type = "ResponsesOptions"
    schema_mode = "openai"
    api_endpoint = "/responses"
    models_endpoint = "/models"
    default_base_url = "https://api.openai.com/v1"
    base_url_variable = "OPENAI_BASE_URL"
    api_key_variable = "OPENAI_API_KEY"
    headers = {"Accept": "text/event-stream"}

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the body: system messages at the beginning as instructions, the rest as items.

        ``messages`` and ``options`` are in the form of chat completions or of the Responses API.
        Raises ``InvalidRequestError`` for what the protocol cannot carry or honour; it names the
        item and the remedy.
        """
        options = translate_options(options)
        has_instructions = options.get("instructions") is not None
        instructions, items = to_input(messages, has_instructions=has_instructions)
        base = {"model": model, "instructions": instructions, "input": items, "stream": True}
        return build_body(base, options)

    def amended(self, body: dict[str, Any], error: APIStatusError) -> dict[str, Any] | None:
        """Return the body without what the server rejects; ``None`` if it cannot do without it.

        It can do without the encrypted reasoning (models that do not reason refuse it), and without
        ``store=False``, which other servers may not know.
        """
        if error.status_code not in (400, 422):
            return None
        amended = body
        if ENCRYPTED in (body.get("include") or ()) and _INCLUDE.search(error.body):
            others = [each for each in body["include"] if each != ENCRYPTED]
            amended = {**body, "include": others} if others else _without(body, "include")
        if body.get("store") is False and _STORE.search(error.body):
            amended = _without(amended, "store")
        return None if amended == body else amended

    def decoder(self, content_type: str = "") -> Decoder:
        """Return a decoder of the protocol's events; ``response.completed`` is the end marker."""
        return ResponsesDecoder(content_type)

    def _resumed_request(self, broken: BrokenAnswer, request: HTTPRequest) -> HTTPRequest | None:
        """Return the request for the events that have not come (OpenAI, "Background mode")."""
        decoder = broken.decoder
        if not (
            isinstance(decoder, ResponsesDecoder)
            and (decoder.is_kept or (request.body or {}).get("background") is True)
            and decoder.response_id
            and broken.server == urlsplit(request.url).netloc
        ):
            return None
        path = f"{self.api_endpoint}/{quote(decoder.response_id, safe='')}?stream=true"
        if decoder.sequence_number is not None:
            path += f"&starting_after={decoder.sequence_number}"
        url = self._connections.url(self.base_url, path)
        return HTTPRequest("GET", url, request.headers, None, decoder.reopened)


def _without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != name}
