"""Vitalentum, a discontinued service: its protocol (turns of humans and bots in, SSE out)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..messages import role_texts
from ..types import Messages
from .base import Provider, build_body

if TYPE_CHECKING:
    from .typed_calls import HistoricalCalls
else:
    HistoricalCalls = Provider


class Vitalentum(HistoricalCalls):
    """The protocol of a discontinued service, which a gateway answers in its place.

    ``Vitalentum(base_url=…).stream("Hello")``, with the address that ``providers-sync serve``
    prints, or with ``VITALENTUM_BASE_URL`` set to it; the arguments are those of ``Provider``. The
    model's name is validated but not sent. Without an address nothing is sent: the call raises
    ``APIConnectionError``.

    Source of the protocol: the published provider and a captured request of its client.
    """

    url = "https://app.vitalentum.io"
    working = False
    options_type = "HistoricalOptions"
    sends_model = False
    supports_tools = False
    supports_gpt_35_turbo = True
    default_model = "gpt-3.5-turbo"
    models = ["gpt-3.5-turbo"]
    api_endpoint = "/api/converse-edge"
    default_base_url = url
    base_url_variable = "VITALENTUM_BASE_URL"
    headers = {
        "Accept": "text/event-stream",
        "Accept-Language": "de,en-US;q=0.7,en;q=0.3",
        "Origin": url,
        "Referer": f"{url}/",
        "Sec-Fetch-Dest": "empty",
        "Sec-Fetch-Mode": "cors",
        "Sec-Fetch-Site": "same-origin",
    }

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the body: every role except the user is a ``bot``, including the system."""
        history = [
            {"speaker": "human" if role == "user" else "bot", "text": text}
            for role, text in role_texts(messages)
        ]
        conversation = json.dumps({"history": history})
        return build_body({"conversation": conversation, "temperature": 0.7}, options)
