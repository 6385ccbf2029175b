"""CodeLinkAva, a discontinued service: its protocol (messages in, SSE out)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..messages import role_texts
from ..types import Messages
from .base import Provider, build_body

if TYPE_CHECKING:
    from .typed_calls import HistoricalCalls
else:
    HistoricalCalls = Provider


class CodeLinkAva(HistoricalCalls):
    """The protocol of a discontinued service, which a gateway answers in its place.

    ``CodeLinkAva(base_url=…).stream("Hello")``, with the address that ``providers-sync serve``
    prints, or with ``CODELINKAVA_BASE_URL`` set to it; the arguments are those of ``Provider``. The
    model's name is validated but not sent. Without an address nothing is sent: the call raises
    ``APIConnectionError``.

    Source of the protocol: the published provider and a captured request of its client.
    """

    url = "https://ava-ai-ef611.web.app"
    working = False
    options_type = "HistoricalOptions"
    sends_model = False
    supports_tools = False
    supports_gpt_35_turbo = True
    default_model = "gpt-3.5-turbo"
    models = ["gpt-3.5-turbo"]
    api_endpoint = "/api/chat"
    default_base_url = "https://ava-alpha-api.codelink.io"
    base_url_variable = "CODELINKAVA_BASE_URL"
    headers = {
        "Accept": "*/*",
        "Accept-Language": (
            "en,fr-FR;q=0.9,fr;q=0.8,es-ES;q=0.7,es;q=0.6,en-US;q=0.5,am;q=0.4,de;q=0.3"
        ),
        "Origin": url,
        "Referer": f"{url}/",
        "Sec-Fetch-Dest": "empty",
        "Sec-Fetch-Mode": "cors",
        "Sec-Fetch-Site": "same-origin",
    }

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the body: messages keep their roles, text parts are joined."""
        turns = [
            {**message, "content": text}
            for message, (_, text) in zip(messages, role_texts(messages), strict=True)
        ]
        return build_body({"messages": turns, "temperature": 0.6, "stream": True}, options)
