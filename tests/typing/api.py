"""Uses of the public API that mypy type-checks; never executed."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import requests
from typing_extensions import assert_type

from providers_sync import (
    AI365VIP,
    CancelToken,
    Chat,
    Completion,
    Event,
    Failover,
    Gemini,
    InvalidAnswer,
    Messages,
    Ollama,
    OpenAICompatible,
    OpenAIResponses,
    Outcome,
    RateLimit,
    Stats,
    Stream,
    Timeouts,
    ToolCall,
    TypedCompletion,
    TypedStream,
    Usage,
    Vitalentum,
    aio,
)
from providers_sync.prices import Cost
from providers_sync.recording import Recorded

messages: Messages = [{"role": "user", "content": "Hello"}]


def calls() -> None:
    for chunk in Vitalentum().stream("Hello"):
        assert_type(chunk, str)

    provider = OpenAICompatible("qwen3", base_url="http://127.0.0.1:8000/v1", temperature=0.2)
    with provider.stream(messages, timeouts=Timeouts(total=30), retry=None, stop=["."]) as stream:
        assert_type(stream, Stream)
        assert_type(stream.events(), Iterator[Event])
        assert_type(stream.read(), str)
    assert_type(stream.text, str)
    assert_type(stream.outcome, Outcome | None)
    assert_type(stream.usage, Usage | None)
    assert_type(stream.stats, Stats)

    token = CancelToken()
    completion = AI365VIP(proxy=False, timeouts=5).complete(messages[0], cancel=token, headers={})
    assert_type(completion, Completion)
    assert_type(str(completion), str)
    assert_type(completion.cost, Cost)
    assert_type(sum([completion.cost, stream.cost], Cost()).usd, Decimal | None)


def protocols() -> None:
    responses = OpenAIResponses("gpt-5", api_key="key", reasoning={"effort": "low"}, store=False)
    assert_type(responses.complete(messages, system="Be brief.", max_output_tokens=9), Completion)
    with Gemini("gemini-3-pro", api_key=lambda: "key") as gemini:
        assert_type(gemini, Gemini)
        assert_type(gemini.stream("Hello", generationConfig={"topK": 5}), Stream)
    ollama = Ollama("qwen3", think=True, keep_alive="10m", options={"num_ctx": 8192})
    assert_type(ollama.stream([{"role": "user", "content": "Hello"}]).tool_calls, list[ToolCall])
    assert_type(ollama.list_models(), list[str])
    assert_type(Failover([responses, gemini, ollama]).complete("Hello").text, str)


def settings() -> None:
    with OpenAICompatible(
        "m",
        base_url="https://x.test/v1",
        api_key=lambda: "key",
        query={"api-version": "1"},
        cert=(Path("client.pem"), "client.key"),
        verify=Path("ca.pem"),
        session=requests.Session(),
        rate_limit=RateLimit(requests_per_minute=60, concurrent=4),
        extra_body={"top_k": 5},
    ) as provider:
        assert_type(provider, OpenAICompatible)
    with Failover([provider], move_on=("server", "quota"), continue_after_break=1) as failover:
        assert_type(failover, Failover)
    with Recorded(provider, Path("answers.jsonl"), "auto", max_age=3600) as recorded:
        assert_type(recorded.stream("Hello", continue_after_break=1), Stream)
    provider.close()


def conversation() -> None:
    chat = Chat(Vitalentum(), system="Be brief.", budget=20_000, temperature=0)
    assert_type(chat, Chat)
    assert_type(chat.send("Hello", top_p=1), Stream)
    assert_type(chat.history, Messages)
    assert_type(Chat.load("chat.json", Vitalentum()).undo(), Messages)


class Recipe:
    """Stands for a pydantic model or a dataclass."""


def typed_answers() -> None:
    provider = OpenAICompatible("qwen3")
    assert_type(provider.complete("Hello", into=Recipe), TypedCompletion[Recipe])
    assert_type(provider.complete("Hello", into=list[Recipe], repairs=2).value, list[Recipe])
    with provider.stream("Hello", into=list[Recipe], skip_invalid=True) as stream:
        assert_type(stream, TypedStream[list[Recipe]])
        assert_type(stream.items(), Iterator[Recipe])
        assert_type(stream.value, list[Recipe])
        assert_type(stream.invalid, list[InvalidAnswer])
    assert_type(iter(provider.stream("Hello", into=int)), TypedStream[int])
    assert_type(Chat(provider).send("Hello", into=Recipe).value, Recipe)


async def typed_answers_of_an_event_loop() -> None:
    provider = OpenAICompatible("qwen3")
    assert_type((await aio.complete(provider, "Hello", into=Recipe)).value, Recipe)
    async with aio.stream(provider, "Hello") as text:
        assert_type(text, aio.AsyncStream)
    async with aio.stream(provider, "Hello", into=list[Recipe]) as stream:
        assert_type(await stream.value(), list[Recipe])
        async for item in stream.items():
            assert_type(item, Recipe)
    assert_type((await aio.stream(provider, "Hello", into=Recipe)).invalid, list[InvalidAnswer])
