"""Ollama: its own protocol, with ``think``, ``keep_alive`` and the size of the context."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..decoding.ollama import OllamaDecoder
from ..encoding.ollama import to_turns, translate_options
from ..errors import InvalidRequestError
from ..types import Decoder, Messages
from .base import build_body
from .model_lists import ListsModels

if TYPE_CHECKING:
    from .typed_calls import OllamaCalls
else:
    OllamaCalls = ListsModels

HOST_VARIABLE = "OLLAMA_HOST"
_PORTS = {"http": 80, "https": 443}
_PORT = 11434
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Ollama(OllamaCalls):
    """Ollama's own API.

    ``Ollama("qwen3").stream("Hello", think=True, keep_alive="10m", num_ctx=8192)``; the arguments
    are those of ``Provider``.

    Messages, ``tools``, ``response_format`` and options may be in OpenAI's form or in Ollama's own;
    images are passed as for ``OpenAICompatible``, but not as a URL. Without ``base_url``
    the address is that of ``OLLAMA_BASE_URL``, or else of ``OLLAMA_HOST``, read as Ollama's own
    client reads it. For the models in Ollama's cloud pass ``base_url="https://ollama.com"``; the
    key is that of ``OLLAMA_API_KEY``. Source of the protocol: Ollama API, "Generate a chat
    completion" and "Cloud".
    """

    url = "https://ollama.com"
    protocol = "ollama"
    options_type = "OllamaOptions"
    schema_mode = "ollama"
    takes_prefix = True
    api_endpoint = "/api/chat"
    models_endpoint = "/api/tags"
    default_base_url = "http://127.0.0.1:11434"
    base_url_variable = "OLLAMA_BASE_URL"
    api_key_variable = "OLLAMA_API_KEY"
    vendor_urls = ("https://ollama.com",)
    headers = {"Accept": "application/x-ndjson"}

    @classmethod
    def environment_url(cls) -> tuple[str, str] | None:
        """Return the address in ``OLLAMA_BASE_URL``, or else that which ``OLLAMA_HOST`` names."""
        host = os.environ.get(HOST_VARIABLE, "").strip()
        return super().environment_url() or ((url_of_host(host), HOST_VARIABLE) if host else None)

    @staticmethod
    def model_names(listed: Any) -> Iterable[str]:
        """Return the names in the JSON that the server sent."""
        return [str(model.get("name") or model["model"]) for model in listed["models"]]

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the body: options of the model in ``options``, all others beside it."""
        base = {"model": model, "messages": to_turns(messages), "stream": True}
        return build_body(base, translate_options(options))

    def decoder(self, content_type: str = "") -> Decoder:
        """Return a decoder of the protocol's lines; ``"done": true`` is the end marker."""
        return OllamaDecoder(content_type)


def url_of_host(host: str) -> str:
    """Return the address that ``OLLAMA_HOST`` names; without a scheme the port is 11434.

    Source: ``_parse_host`` in ollama-python, and ``envconfig`` in Ollama itself, which removes
    spaces and quotes. An address to listen at, such as 0.0.0.0, stands for this machine.

    >>> url_of_host("box"), url_of_host("https://box/api"), url_of_host(":8000")
    ('http://box:11434', 'https://box:443/api', 'http://127.0.0.1:8000')
    >>> url_of_host("0.0.0.0"), url_of_host("[::1]:80")
    ('http://127.0.0.1:11434', 'http://[::1]:80')
    >>> url_of_host("fe80::1")
    'http://[fe80::1]:11434'
    """
    text = host.strip().strip("\"'")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    try:
        parts = urlsplit(f"{scheme}://{f'[{rest}]' if _is_ipv6(rest) else rest}")
        name = parts.hostname or "127.0.0.1"
        port = parts.port or (_PORTS.get(scheme, _PORT) if separator else _PORT)
    except ValueError:  # which may quote a password
        raise InvalidRequestError(
            "OLLAMA_HOST must be an address such as box:11434, https://box or [::1]:11434"
        ) from None
    name = _ANY_ADDRESS.get(name, name)
    name = f"[{name}]" if ":" in name else name
    path = parts.path.strip("/")
    return f"{scheme}://{name}:{port}" + (f"/{path}" if path else "")


def _is_ipv6(host: str) -> bool:
    """Return whether it is an IPv6 address without brackets, as Ollama itself takes it."""
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
