"""The Flask example with a plain-text route, and with providers that have short timeouts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flask import Response, request

from providers_sync import OpenAICompatible, Timeouts
from providers_sync.stream import PreparedCall
from providers_sync.types import Message
from providers_sync.web import PLAIN_HEADERS, plain, question

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples" / "flask_chat"))
import app as example

DEFAULT = OpenAICompatible("m")
PROVIDERS = {
    "stall": OpenAICompatible("m", timeouts=Timeouts(idle=0.5)),
    "silence": OpenAICompatible("m", timeouts=Timeouts(first_token=0.5)),
    "endless": OpenAICompatible("m", timeouts=Timeouts(total=0.5)),
    "unreachable": OpenAICompatible("m", base_url=os.environ["UNREACHABLE_URL"], retry=1),
}


class ProviderByQuestion:
    """Chooses a provider by the text of the question."""

    def prepare(self, messages: list[Message]) -> PreparedCall:
        provider = PROVIDERS.get(messages[-1]["content"], DEFAULT)
        return provider.prepare(messages)


example.provider = ProviderByQuestion  # type: ignore[assignment]
app = example.app


@app.post("/plain")
def plain_text() -> Response:
    """Answer in plain text."""
    return Response(plain(DEFAULT.stream(question(request.get_json()))), headers=PLAIN_HEADERS)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]))
