"""How a typed answer is asked for: in each protocol's schema mode, by a tool, or in words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from test_system_argument import FORMS, bodies, provider_of

from providers_sync import (
    PROVIDERS,
    Anthropic,
    APIStatusError,
    Chat,
    Failover,
    OpenAICompatible,
    Provider,
    aio,
)
from providers_sync.testing import (
    ScriptedProvider,
    answer,
    serve,
    status,
    text,
    tool_call,
    usage,
)


class Recipe(BaseModel):
    name: str
    minutes: int


class Scores(BaseModel):
    scores: dict[str, int]


PAN = {"name": "Pan", "minutes": 10}
GOOD = json.dumps(PAN)
SCHEMA = {
    "title": "Recipe",
    "type": "object",
    "properties": {
        "name": {"title": "Name", "type": "string"},
        "minutes": {"title": "Minutes", "type": "integer"},
    },
    "required": ["name", "minutes"],
}
CLOSED = {**SCHEMA, "additionalProperties": False}
IN_WORDS = ("vitalentum", "codelinkava", "ai365vip")
MODES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "openai": lambda body: body["response_format"]["json_schema"]["schema"],
    "responses": lambda body: body["text"]["format"]["schema"],
    "anthropic": lambda body: body["output_config"]["format"]["schema"],
    "gemini": lambda body: body["generationConfig"]["responseJsonSchema"],
    "ollama": lambda body: body["format"],
}
"""Where the schema is in a body."""
WITH_TOOL = [name for name in MODES if name != "ollama"]
"""Ollama cannot force a tool."""
REFUSALS = {
    "openai": "Invalid parameter: 'response_format' of type 'json_schema' is not supported.",
    "deepseek": "This response_format type is unavailable now",
    "anthropic": "output_config.format: Extra inputs are not permitted",
    "llama.cpp": "failed to parse grammar",
}


def played(name: str, *script: Any) -> ScriptedProvider:
    """Return a provider of a protocol that gives these answers in turn."""
    provider = provider_of(name)
    provider.play(list(script))
    return provider


def test_each_provider_is_tested() -> None:
    assert {*MODES, *IN_WORDS} == set(FORMS) == set(PROVIDERS)


@pytest.mark.parametrize("name", MODES)
def test_schema_goes_in_the_mode_of_the_protocol(name: str) -> None:
    """With OpenAI's strict rules where these hold."""
    provider = played(name, answer(GOOD))
    assert provider.complete("Hi", into=Recipe).value == Recipe(**PAN)
    [body] = bodies(provider)
    sent = MODES[name](body)
    assert {key: sent[key] for key in ("type", "properties", "required")} == {
        key: SCHEMA[key] for key in ("type", "properties", "required")
    }
    if name in ("openai", "responses"):
        mode = (
            body["response_format"]["json_schema"] if name == "openai" else body["text"]["format"]
        )
        assert mode["strict"] is True
        assert sent["additionalProperties"] is False
    plain = provider_of(name)
    plain.complete("Hi")
    [without] = bodies(plain)
    assert body.items() > without.items() or name == "gemini"


@pytest.mark.parametrize("name", MODES)
def test_list_travels_wrapped(name: str) -> None:
    provider = played(name, answer(json.dumps({"items": [PAN]})))
    assert provider.complete("Hi", into=list[Recipe]).value == [Recipe(**PAN)]
    [body] = bodies(provider)
    sent = MODES[name](body)
    assert sent["type"] == "object"
    assert list(sent["properties"]) == sent["required"] == ["items"]
    assert sent["properties"]["items"]["type"] == "array"


@pytest.mark.parametrize("name", IN_WORDS)
def test_historical_providers_are_asked_in_words(name: str) -> None:
    """At the end of the question; the answer may have prose around it."""
    provider = played(name, answer(f"Here you are:\n```json\n{GOOD}\n```\nEnjoy!"))
    assert provider.complete("Hi", into=Recipe).value == Recipe(**PAN)
    [body] = bodies(provider)
    plain = played(name, answer("x"))
    plain.complete("Hi")
    [without] = bodies(plain)
    assert body.keys() == without.keys()
    said = json.dumps(body)
    assert "Answer with JSON only" in said
    assert "minutes" in said
    assert said.index("Hi") < said.index("Answer with JSON only")


def test_question_of_parts_gets_the_words_as_a_part() -> None:
    question = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    provider = played("codelinkava", answer(GOOD))
    provider.complete(question, into=Recipe)
    [body] = bodies(provider)
    assert body["messages"][0]["content"].startswith("Hi")
    assert "Answer with JSON only" in body["messages"][0]["content"]
    assert question == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]


def test_provider_class_of_a_program_is_asked_in_words() -> None:
    """It need not know of typed answers."""

    class Own(Provider):
        url = default_base_url = "http://127.0.0.1:9"
        base_url_variable = "OWN_BASE_URL"
        api_endpoint = "/own"
        default_model = "own"

        def body(self, messages: Any, model: str, options: dict[str, Any]) -> dict[str, Any]:
            return {"messages": messages, **options}

    provider = ScriptedProvider(
        [text(GOOD)], like=Own(base_url="http://127.0.0.1:9"), protocol="openai"
    )
    assert provider.complete("Hi", into=Recipe).value == Recipe(**PAN)
    [body] = bodies(provider)
    assert list(body) == ["messages"]


# --- servers that refuse the schema mode


@pytest.mark.parametrize("words", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("name", WITH_TOOL)
def test_refused_schema_mode_becomes_a_forced_tool(name: str, words: str) -> None:
    """What the model calls it with is the text of the answer, for all who read it."""
    call = answer(tool_call("answer", PAN), usage(3, 4))
    provider = played(name, status(400, words), call)
    completion = provider.complete("Hi", into=Recipe)
    assert completion.value == Recipe(**PAN)
    assert json.loads(completion.text) == PAN
    assert completion.tool_calls == ()
    assert completion.message["role"] == "assistant"
    assert json.loads(completion.message["content"]) == PAN
    assert "tool_calls" not in completion.message
    assert completion.usage.total_tokens == 7
    second = bodies(provider)[1]
    assert "answer" in json.dumps(second.get("tools"))
    with pytest.raises(KeyError):
        MODES[name](second)


def test_tool_answers_stream_and_enter_a_chat() -> None:
    provider = ScriptedProvider(
        [status(400, "response_format"), answer(tool_call("answer", {"items": [PAN, PAN]}))]
    )
    chat = Chat(provider)
    with chat.send("Hi", into=list[Recipe]) as stream:
        assert list(stream.items()) == [Recipe(**PAN)] * 2
    assert [message["role"] for message in chat.history] == ["user", "assistant"]
    assert "tool_calls" not in chat.history[1]
    assert json.loads(chat.history[1]["content"]) == {"items": [PAN, PAN]}


def test_tool_answer_that_breaks_off_keeps_its_error() -> None:
    call = answer(tool_call("answer", PAN), end=False)
    provider = ScriptedProvider([status(400, "response_format"), call])
    with pytest.raises(Exception, match=r"end|trunc") as caught:
        provider.complete("Hi", into=Recipe, retry=1)
    assert caught.value.outcome == "truncated"


@pytest.mark.parametrize("name", MODES)
def test_refused_tool_becomes_words(name: str) -> None:
    """Each is asked for once; the request that is answered has neither schema nor tool."""
    refusals = [status(400, "json_schema is not supported"), status(400, "no tools supported")]
    provider = played(name, *refusals[: 1 + (name in WITH_TOOL)], answer(GOOD))
    assert provider.complete("Hi", into=Recipe).value == Recipe(**PAN)
    last = bodies(provider)[-1]
    assert "tools" not in last
    assert "Answer with JSON only" in json.dumps(last)
    with pytest.raises(KeyError):
        MODES[name](last)


def test_repair_goes_on_in_words_that_work() -> None:
    """The second round starts with the schema mode again: each request is complete in itself."""
    provider = ScriptedProvider(
        [
            *(status(400, "response_format"), answer(tool_call("answer", {"name": 1}))),
            *(status(400, "response_format"), answer(tool_call("answer", PAN))),
        ]
    )
    completion = provider.complete("Hi", into=Recipe)
    assert completion.value == Recipe(**PAN)
    assert bodies(provider)[3]["messages"][1] == {"role": "assistant", "content": '{"name": 1}'}


@pytest.mark.parametrize("code", [401, 429, 500])
def test_other_errors_are_raised(code: int) -> None:
    provider = ScriptedProvider(status(code, "response_format"))
    with pytest.raises(APIStatusError):
        provider.complete("Hi", into=Recipe, retry=1)
    assert len(provider.requests) == 1


def test_other_complaints_are_raised() -> None:
    provider = ScriptedProvider(status(400, "the context is too long"))
    with pytest.raises(APIStatusError, match="too long"):
        provider.complete("Hi", into=Recipe)
    assert len(provider.requests) == 1


def test_own_tools_stay() -> None:
    """A tool of the program is kept; without the schema mode the answer is asked for in words."""
    tools = [{"type": "function", "function": {"name": "answer", "parameters": {"type": "object"}}}]
    provider = ScriptedProvider([status(400, "response_format"), answer(GOOD)])
    assert provider.complete("Hi", into=Recipe, tools=tools).value == Recipe(**PAN)
    first, second = bodies(provider)
    assert first["tools"] == second["tools"] == tools
    assert "tool_choice" not in second
    assert "Answer with JSON only" in second["messages"][0]["content"]
    provider = ScriptedProvider([text(GOOD), tool_call("answer", {"a": 1})])
    assert provider.complete("Hi", into=Recipe, tools=tools).tool_calls[0].name == "answer"


def test_schema_that_anthropic_cannot_hold_goes_into_a_tool() -> None:
    provider = played("anthropic", answer(tool_call("answer", {"scores": {"a": 1}})))
    assert provider.complete("Hi", into=Scores).value == Scores(scores={"a": 1})
    [body] = bodies(provider)
    assert body["tool_choice"] == {"type": "tool", "name": "answer"}
    assert "output_config" not in body


def test_schema_that_strict_mode_cannot_hold_is_sent_without_it() -> None:
    provider = played("openai", answer(json.dumps({"scores": {"a": 1}})))
    assert provider.complete("Hi", into=Scores).value == Scores(scores={"a": 1})
    [body] = bodies(provider)
    assert body["response_format"]["json_schema"]["strict"] is False


# --- whoever else sends a call


def test_failover_asks_each_provider_in_its_own_way() -> None:
    with serve([status(500), answer(GOOD)]) as server:
        provider = Failover(
            [
                OpenAICompatible("a", base_url=server.url, api_key="k"),
                Anthropic("b", base_url=server.url, api_key="k"),
            ]
        )
        completion = provider.complete("Hi", into=Recipe)
        assert completion.value == Recipe(**PAN)
        first, second = (json.loads(request.body) for request in server.requests)
        assert "response_format" in first
        assert "output_config" in second


def test_failover_repairs_with_all_its_providers() -> None:
    wrong = json.dumps({**PAN, "minutes": "x"})
    with serve([answer(wrong), status(500), answer(GOOD)]) as server:
        providers = [OpenAICompatible(name, base_url=server.url) for name in "ab"]
        with Failover(providers).stream("Hi", into=Recipe) as stream:
            assert stream.value == Recipe(**PAN)
        assert [request.json()["model"] for request in server.requests] == ["a", "a", "b"]
        assert len(stream.attempts) == 1
        assert stream.stats.attempts == 3


def test_published_async_interface_takes_into() -> None:
    async def read(base_url: str) -> str:
        generator = OpenAICompatible.create_async_generator(
            "m", [{"role": "user", "content": "Hi"}], base_url=base_url, into=Recipe
        )
        return "".join([chunk async for chunk in generator])

    with serve(answer(GOOD)) as server:
        assert json.loads(asyncio.run(read(server.url))) == PAN
        assert "response_format" in server.requests[0].json()


def test_defaults_of_the_provider_stay() -> None:
    """``into=`` belongs to a call; options of the provider are sent beside the schema."""
    provider = provider_of("openai", temperature=0)
    provider.play([answer(GOOD)])
    provider.complete("Hi", into=Recipe, seed=1)
    [body] = bodies(provider)
    assert (body["temperature"], body["seed"]) == (0, 1)
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["name", "minutes"]
    assert asyncio.run(_async_value(provider)) == Recipe(**PAN)


async def _async_value(provider: ScriptedProvider) -> Any:
    return (await aio.complete(provider, "Hi", into=Recipe)).value
