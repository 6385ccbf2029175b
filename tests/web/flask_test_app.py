"""The Flask example with routes for plain text and tools, and providers with short timeouts."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from pathlib import Path

from flask import Flask, Response, request

from providers_sync import CancelToken, Completion, OpenAICompatible, Timeouts
from providers_sync.stream import PreparedCall
from providers_sync.types import Message
from providers_sync.web import PLAIN_HEADERS, SSE_HEADERS, plain, question, sse, with_write_timeout

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


@app.post("/saved")
def saved() -> Response:
    """Answer; the question is the file that the answer is saved in."""
    messages = question(request.get_json())

    def save(answer: Completion) -> None:
        with Path(messages[-1]["content"]).open("a") as file:
            file.write(json.dumps([answer.outcome, answer.text]) + "\n")

    return Response(sse(DEFAULT.prepare(messages), on_end=save), headers=SSE_HEADERS)


def hang(path: str, cancel: CancelToken) -> None:
    """Run until the call is cancelled, then create a file."""
    while not cancel.cancelled:
        time.sleep(0.01)
    Path(path).touch()


def weather(city: str) -> str:
    """Return the weather in a city."""
    return f"rain in {city}"


@app.post("/run")
def run() -> Response:
    """Answer with tools."""
    messages = question(request.get_json())
    return Response(sse(DEFAULT.prepare_run(messages, tools=[hang, weather])), headers=SSE_HEADERS)


if seconds := os.environ.get("WRITE_TIMEOUT"):
    plain_app = functools.partial(Flask.wsgi_app, app)  # without the limit of the example
    app.wsgi_app = with_write_timeout(plain_app, float(seconds))

if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]))
