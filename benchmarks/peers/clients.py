"""One function per client that streams an answer, in the shortest way its manual shows.

Each runs in its client's environment, creates the client once for a base URL, and returns a
function. Each call of that function sends a request and returns an iterator of the answer's chunks.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
BODY = {"model": "m", "messages": MESSAGES, "stream": True}
Send = Callable[[], Any]


def ours(url: str) -> Send:
    from providers_sync import OpenAICompatible

    provider = OpenAICompatible("m", base_url=url)
    return lambda: provider.stream("Hi")


def ours_anthropic(url: str) -> Send:
    from providers_sync import Anthropic

    provider = Anthropic("m", base_url=url, api_key="none")
    return lambda: provider.stream("Hi")


def ours_async(url: str) -> Send:
    from providers_sync import OpenAICompatible, aio

    provider = OpenAICompatible("m", base_url=url)

    async def send() -> AsyncIterator[str]:
        async for text in aio.stream(provider, "Hi"):
            yield text

    return send


def naive(url: str) -> Send:
    import requests
    import sseclient

    session = requests.Session()

    def send() -> Iterator[str]:
        with session.post(f"{url}/chat/completions", json=BODY, stream=True) as response:
            for event in sseclient.SSEClient(response).events():
                if event.data == "[DONE]":
                    break
                if text := json.loads(event.data)["choices"][0]["delta"].get("content"):
                    yield text

    return send


def bare_requests(url: str) -> Send:
    import requests

    session = requests.Session()

    def send() -> Iterator[str]:
        yield session.post(f"{url}/chat/completions", json=BODY, stream=True).text

    return send


def bare_socket(url: str) -> Send:
    import orjson
    from socket_loop import lines

    def send() -> Iterator[str]:
        for line in lines(url, "/chat/completions", json.dumps(BODY).encode()):
            if line.startswith(b"data: {"):
                yield orjson.loads(line[6:])["choices"][0]["delta"].get("content") or ""

    return send


def openai(url: str) -> Send:
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="none")
    return lambda: Texts(
        client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    )  # fmt: skip


def openai_async(url: str) -> Send:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=url, api_key="none")

    async def send() -> AsyncIterator[str]:
        async for chunk in await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        ):
            if chunk.choices and (text := chunk.choices[0].delta.content):
                yield text

    return send


def anthropic(url: str) -> Send:
    from anthropic import Anthropic

    client = Anthropic(base_url=url, api_key="none")

    return lambda: Texts(
        client.messages.create(model="m", max_tokens=4096, messages=MESSAGES, stream=True),
        text_of_event,
    )


def litellm(url: str) -> Send:
    import litellm

    return lambda: Texts(
        litellm.completion(
            model="openai/m", api_base=url, api_key="none", messages=MESSAGES, stream=True
        )
    )


def aisuite(url: str) -> Send:
    from aisuite import Client

    client = Client({"openai": {"base_url": url, "api_key": "none"}})
    return lambda: Texts(
        client.chat.completions.create(model="openai:m", messages=MESSAGES, stream=True)
    )


def llm(url: str) -> Send:
    from llm.default_plugins.openai_models import Chat

    model = Chat("m", model_name="m", api_base=url)
    return lambda: iter(model.prompt("Hi", key="none", stream=True))


def g4f(url: str) -> Send:
    from g4f.client import Client
    from g4f.client.factory import create_custom_provider

    client = Client(provider=create_custom_provider(url, "none", models=["m"]))
    return lambda: Texts(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))


def text_of_chunk(chunk: Any) -> str | None:
    """Return the text of a chunk in OpenAI's format."""
    return chunk.choices[0].delta.content if chunk.choices else None


def text_of_event(event: Any) -> str | None:
    """Return the text of one of Anthropic's events."""
    if event.type == "content_block_delta" and event.delta.type == "text_delta":
        return str(event.delta.text)
    return None


class Texts:
    """The texts of a client's chunks; ``close()`` is the client's own, if it has one."""

    def __init__(self, chunks: Any, text_of: Callable[[Any], str | None] = text_of_chunk) -> None:
        self._chunks = chunks
        self._text_of = text_of
        if hasattr(chunks, "close"):
            self.close = chunks.close

    def __iter__(self) -> Iterator[str]:
        for chunk in self._chunks:
            if text := self._text_of(chunk):
                yield text
