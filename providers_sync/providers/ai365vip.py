"""AI365VIP, a discontinued service: its protocol (one prompt in, plain text out)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..decoding.text import TextDecoder
from ..messages import role_texts
from ..types import Decoder, Messages
from .base import Provider, build_body

if TYPE_CHECKING:
    from .typed_calls import AI365VIPCalls
else:
    AI365VIPCalls = Provider


class AI365VIP(AI365VIPCalls):
    """The protocol of a discontinued service, which a gateway answers in its place.

    ``AI365VIP(base_url=…).stream("Hello")``, with the address that ``providers-sync serve``
    prints, or with ``AI365VIP_BASE_URL`` set to it; the arguments are those of ``Provider``. The
    protocol has no end marker, so the outcome of a good answer is ``unverified``. Without an
    address nothing is sent: the call raises ``APIConnectionError``.

    Source of the protocol: the published provider and a captured request of its client.
    """

    url = "https://chat.ai365vip.com"
    working = False
    options_type = "AI365VIPOptions"
    supports_tools = False
    supports_gpt_35_turbo = True
    default_model = "gpt-3.5-turbo"
    models = ["gpt-3.5-turbo", "gpt-3.5-turbo-16k", "gpt-4o"]
    model_aliases = {"gpt-3.5-turbo": "gpt-3.5-turbo-16k"}
    api_endpoint = "/api/chat"
    default_base_url = url
    base_url_variable = "AI365VIP_BASE_URL"
    headers = {
        "Accept": "*/*",
        "Accept-Language": "en-US,en;q=0.9",
        "Origin": url,
        "Referer": f"{url}/en",
        "Sec-Fetch-Dest": "empty",
        "Sec-Fetch-Mode": "cors",
        "Sec-Fetch-Site": "same-origin",
    }

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the body: the model as an object, the conversation as one user message."""
        name = "GPT-4o" if model == "gpt-4o" else "GPT-3.5"
        return build_body(
            {
                "model": {"id": model, "name": name, "maxLength": 3000, "tokenLimit": 2048},
                "messages": [{"role": "user", "content": _prompt(role_texts(messages))}],
                "key": "",
                "prompt": "You are a helpful assistant.",
                "temperature": 1,
            },
            options,
        )

    def decoder(self, content_type: str = "") -> Decoder:
        """Return a decoder of plain UTF-8 text."""
        return TextDecoder(content_type)


def _prompt(turns: list[tuple[str, str]]) -> str:
    """Return a single message unchanged, several as ``Role: text`` lines and ``Assistant:``."""
    if len(turns) == 1:
        return turns[0][1]
    lines = [f"{role.capitalize()}: {text}" for role, text in turns]
    return "\n".join([*lines, "Assistant:"])
