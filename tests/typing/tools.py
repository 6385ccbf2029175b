"""Uses of runs that mypy and pyright type-check; never executed."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Union

from pydantic import BaseModel
from typing_extensions import assert_type

from providers_sync import (
    Chat,
    Completion,
    Event,
    Failover,
    Messages,
    OpenAICompatible,
    Pause,
    Run,
    Stream,
    Tool,
    ToolCall,
    ToolResult,
    aio,
    mcp,
)
from providers_sync.aio.runs import AsyncRun


class Recipe(BaseModel):
    name: str


def weather(city: str) -> str:
    """The weather in a city."""
    return city


def approve(call: ToolCall) -> Union[bool, str, Pause]:
    return call.name == "weather" or ("not now" if call.arguments else Pause())


provider = OpenAICompatible("qwen3", base_url="http://127.0.0.1:8000/v1")
tool = Tool(weather, name="forecast", needs_approval=True)


def runs() -> None:
    run = provider.run("Q", tools=[weather, tool, {"type": "web_search"}], approve=approve)
    assert_type(run, Run)
    stream: Stream = run
    stream.cancel()
    assert_type(run.rounds, list[Completion])
    assert_type(run.messages, Messages)
    assert_type(run.events(), Iterator[Event])
    for event in run.events():
        if isinstance(event, ToolResult):
            assert_type(event.content, str)
    provider.run("Q", tools=[weather], journal="a.jsonl", on_unknown=lambda call: call.raw)
    provider.run("Q", tools=[weather], tool_timeout=None, on_error="raise", temperature=0)
    provider.run("Q", tools=[weather], approve=lambda call: Pause)
    Failover([provider]).run("Q", tools=[weather]).read()
    provider.run("Q", tools=[weather], approve=lambda call: None)  # type: ignore[arg-type, return-value]


def typed_runs() -> None:
    assert_type(provider.run("Q", tools=[weather], into=Recipe).value, Recipe)
    run = provider.run("Q", tools=[weather], into=list[Recipe])
    assert_type(run.items(), Iterator[Recipe])
    assert_type(run.rounds, list[Completion])


async def async_runs() -> None:
    run = aio.run(provider, "Q", tools=[weather], approve=approve)
    assert_type(run, AsyncRun)
    assert_type(run.rounds, list[Completion])
    assert_type(await run.completion(), Completion)
    assert_type(await aio.run(provider, "Q", tools=[weather], into=Recipe).value(), Recipe)
    await aio.run(Failover([provider]), "Q", tools=[weather])


def chats() -> None:
    assert_type(Chat(provider, tools=[weather], approve=approve).send("Q"), Stream)


def servers() -> None:
    servers = mcp("npx", "server", timeout=60)
    assert_type(servers, AbstractContextManager[list[Tool]])
    with servers as tools:
        provider.run("Q", tools=[*tools, weather])
