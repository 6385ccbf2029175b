"""Flask's example with impatient providers, and one that nobody answers; run by the tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from providers_sync import OpenAICompatible, Timeouts
from providers_sync.stream import Opening
from providers_sync.types import Message

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples" / "flask_chat"))
import app as example

PROVIDERS = {
    "stall": OpenAICompatible("m", timeouts=Timeouts(idle=0.5)),
    "silence": OpenAICompatible("m", timeouts=Timeouts(first_token=0.5)),
    "endless": OpenAICompatible("m", timeouts=Timeouts(total=0.5)),
    "nobody": OpenAICompatible("m", base_url=os.environ["NOBODY_URL"], retry=1),
}


class Moody:
    """Asks another provider for each question."""

    def opening(self, messages: list[Message]) -> Opening:
        return PROVIDERS[messages[-1]["content"]].opening(messages)


example.provider = Moody  # type: ignore[assignment]

if __name__ == "__main__":
    example.app.run(port=int(os.environ["PORT"]))
