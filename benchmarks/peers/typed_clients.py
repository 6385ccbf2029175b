"""One function per client that reads a typed answer as it grows, as its manual shows.

Each runs in its client's environment, creates the client once for a base URL, and returns a
function. Each call of that function sends a request and returns an iterator of the growing answer:
one value per event where the client can, the last value checked against the model.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from typing import Any

from clients import BODY, MESSAGES

if importlib.util.find_spec("pydantic"):
    import pydantic

    class Record(pydantic.BaseModel):
        """What the server sends, see ``records.py``."""

        name: str
        amount: float
        tags: list[str]
        note: str

    class Answer(pydantic.BaseModel):
        """A list of records, as the protocol wants an object."""

        items: list[Record]


Send = Callable[[], Iterator[Any]]


def typed_ours(url: str) -> Send:
    from providers_sync import OpenAICompatible

    provider = OpenAICompatible("m", base_url=url)

    def send() -> Iterator[Any]:
        stream = provider.stream("Hi", into=list[Record])
        yield from stream.partials()
        yield stream.value

    return send


def typed_ours_items(url: str) -> Send:
    from providers_sync import OpenAICompatible

    provider = OpenAICompatible("m", base_url=url)

    def send() -> Iterator[Any]:
        whole = []
        for item in provider.stream("Hi", into=list[Record]).items():
            whole.append(item)
            yield whole

    return send


def typed_ours_complete(url: str) -> Send:
    from providers_sync import OpenAICompatible

    provider = OpenAICompatible("m", base_url=url)

    def send() -> Iterator[Any]:
        yield provider.complete("Hi", into=list[Record]).value

    return send


def typed_openai(url: str) -> Send:
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="none")

    def send() -> Iterator[Any]:
        with client.chat.completions.stream(
            model="m", messages=MESSAGES, response_format=Answer
        ) as stream:
            for event in stream:
                if event.type in ("content.delta", "content.done"):
                    yield event.parsed

    return send


def typed_instructor(url: str) -> Send:
    import instructor
    from openai import OpenAI

    client = instructor.from_openai(
        OpenAI(base_url=url, api_key="none"), mode=instructor.Mode.JSON_SCHEMA
    )
    return lambda: client.chat.completions.create_partial(
        model="m", messages=MESSAGES, response_model=Answer
    )


def typed_pydantic_ai(url: str, debounce_by: float | None = None) -> Send:
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel("m", provider=OpenAIProvider(base_url=url, api_key="none"))
    agent = Agent(model, output_type=NativeOutput(Answer))

    def send() -> Iterator[Any]:
        with agent.run_stream_sync("Hi") as result:
            yield from result.stream_output(debounce_by=debounce_by)

    return send


def typed_pydantic_ai_grouped(url: str) -> Send:
    return typed_pydantic_ai(url, debounce_by=0.1)  # its default


def typed_mirascope(url: str) -> Send:
    from mirascope import llm

    llm.register_provider("openai:completions", scope="openai/", base_url=url, api_key="none")

    @llm.call("openai/m", format=Answer)
    def ask() -> str:
        return "Hi"

    def send() -> Iterator[Any]:
        response = ask.stream()
        yield from response.structured_stream()
        yield response.parse()

    return send


def typed_at_the_end(url: str) -> Send:
    """Collect the text and parse it once: what a growing answer costs at least."""
    import jiter
    import requests
    import sseclient

    session = requests.Session()

    def send() -> Iterator[Any]:
        with session.post(f"{url}/chat/completions", json=BODY, stream=True) as response:
            texts = []
            for event in sseclient.SSEClient(response).events():
                if event.data == "[DONE]":
                    break
                texts.append(json.loads(event.data)["choices"][0]["delta"].get("content") or "")
        yield Answer.model_validate(jiter.from_json("".join(texts).encode()))

    return send
