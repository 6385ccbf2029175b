"""Tests of the gateway with the official, unmodified ``google-genai`` client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gateway_kit import Scripted
from google import genai
from google.genai import types
from google.genai.errors import APIError, ClientError, ServerError
from official import CALLS, CITIES, SCHEMA, Person, gemini_client

from providers_sync.errors import APIStatusError
from providers_sync.gateway import Gateway, serve
from providers_sync.types import Finish, ReasoningDelta, ToolCall, Usage

IMAGE = types.Part.from_bytes(data=b"\x89PNG\xfb\xff\xfe", mime_type="image/png")
"""Its base64 differs between the alphabet for URLs, which the client sends, and the usual one."""


def weather_tool(**form: Any) -> types.Tool:
    return types.Tool(
        function_declarations=[types.FunctionDeclaration(name="weather", description="Of", **form)]
    )


TOOL = weather_tool(parameters_json_schema=SCHEMA)
OF_GOOGLE = weather_tool(
    parameters=types.Schema(
        type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}
    )
)


@pytest.fixture
def client(echo: Gateway) -> Iterator[genai.Client]:
    with gemini_client(echo) as client:
        yield client


Ask = Callable[..., Any]


@pytest.fixture
def ask(client: genai.Client) -> Ask:
    """Return a function that sends text or contents, and options, to the echo."""

    def ask(contents: Any, **config: Any) -> Any:
        return client.models.generate_content(model="echo", contents=contents, config=config)

    return ask


@pytest.fixture
def stream(client: genai.Client) -> Ask:
    """Return a function that does the same, and returns the chunks of a stream."""

    def stream(contents: Any, **config: Any) -> Any:
        return list(
            client.models.generate_content_stream(model="echo", contents=contents, config=config)
        )

    return stream


def test_complete_answer(ask: Ask) -> None:
    """Text, finish reason, counts and model arrive."""
    answer = ask("Да 😀", system_instruction="Be brief.")
    assert answer.text == "You said: Да 😀"
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP
    usage = answer.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count) == (4, 4)
    assert usage.total_token_count == 8
    assert answer.model_version == "echo"
    assert answer.response_id


def test_streamed_answer(stream: Ask) -> None:
    """The answer arrives in chunks; reason and counts come last."""
    *chunks, last = stream("think Да 😀")
    thought, text = (
        "".join(p.text for p in parts_of(chunks) if p.thought is t) for t in (True, None)
    )
    assert thought == "Thinking: think Да 😀"
    assert text == "You said: think Да 😀"
    assert len(chunks) == 9
    assert last.candidates[0].finish_reason is types.FinishReason.STOP
    assert last.usage_metadata.candidates_token_count == 9


def parts_of(chunks: list[Any]) -> list[Any]:
    return [part for chunk in chunks for part in chunk.candidates[0].content.parts]


def test_limit_and_stop(ask: Ask) -> None:
    """``max_output_tokens`` and ``stop_sequences`` end the answer."""
    limited = ask("one two three", max_output_tokens=3)
    assert limited.text == "You said: one "
    assert limited.candidates[0].finish_reason is types.FinishReason.MAX_TOKENS
    stopped = ask("one two three", stop_sequences=["three", "two"], top_k=1, seed=2)
    assert stopped.text == "You said: one "
    assert stopped.candidates[0].finish_reason is types.FinishReason.STOP


@pytest.mark.parametrize("tool", [TOOL, OF_GOOGLE], ids=["JSON schema", "Google's schema"])
@pytest.mark.parametrize("streams", [False, True], ids=["complete", "streamed"])
def test_tool_loop(ask: Ask, stream: Ask, streams: bool, tool: types.Tool) -> None:
    """Two calls arrive whole; their results are sent back, without ids too, and answered."""
    answers = stream(CALLS, tools=[tool]) if streams else [ask(CALLS, tools=[tool])]
    parts = [part for part in parts_of(answers) if part.function_call]
    calls = [part.function_call for part in parts]
    assert [(call.name, call.args) for call in calls] == [("weather", city) for city in CITIES]
    assert len({call.id for call in calls}) == 2
    results = [
        types.Part.from_function_response(name=call.name, response={"output": result})
        for call, result in zip(calls, ("sun", "snow"), strict=True)
    ]
    turns: Any = [types.UserContent(CALLS), types.ModelContent(parts)]
    answer = ask([*turns, types.UserContent(results)], tools=[tool])
    assert answer.text == "The tool said: sun\nsnow"
    for part, call in zip(results, calls, strict=True):
        assert part.function_response is not None
        part.function_response.id = call.id
    answer = ask([*turns, types.UserContent(results[::-1])], tools=[tool])
    assert answer.text == "The tool said: snow\nsun"


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sun in {city}"


weather.__annotations__["city"] = str  # version 2 of the client reads no annotations that are text


@pytest.mark.parametrize("streams", [False, True], ids=["complete", "streamed"])
def test_chat_calls_functions(client: genai.Client, streams: bool) -> None:
    """The client's chats run Python functions by themselves, and keep the whole history."""
    config: Any = {"tools": [weather]}
    chat = client.chats.create(model="echo", config=config)
    for expected in ("The tool said: sun in Rome\nsun in Oslo", "You said: Thanks"):
        prompt = "Thanks" if "Thanks" in expected else 'call weather {"city": "%s"}\n' * 2
        prompt = prompt if "Thanks" in expected else prompt % ("Rome", "Oslo")
        if streams:
            texts = [
                part.text
                for chunk in chat.send_message_stream(prompt)
                for part in parts_of([chunk])
                if part.text
            ]
        else:
            texts = [chat.send_message(prompt).text or ""]
        assert "".join(texts) == expected
    assert len(chat.get_history(curated=True)) == len(chat.get_history())


def test_tool_choice(ask: Ask) -> None:
    """A required call is made, of an allowed function; a forbidden one is not."""
    tools = [
        types.Tool(
            function_declarations=[
                types.FunctionDeclaration(name=name, parameters_json_schema=SCHEMA)
                for name in ("a", "b", "c")
            ]
        )
    ]

    def choose(prompt: str, mode: str, allowed: list[str] | None = None) -> Any:
        calling = {"mode": mode, "allowed_function_names": allowed}
        return ask(prompt, tools=tools, tool_config={"function_calling_config": calling})

    for allowed, name in ((None, "a"), (["b"], "b"), (["c", "b"], "c")):
        (call,) = choose("Rome", "ANY", allowed).function_calls
        assert (call.name, call.args) == (name, {"city": "Rome"})
    assert not choose("call a {}", "NONE").function_calls
    assert not choose("Rome", "VALIDATED").function_calls
    assert choose("call a {}", "VALIDATED", ["a"]).function_calls
    assert not choose("call a {}", "VALIDATED", ["b"]).function_calls


def test_structured_answer(ask: Ask) -> None:
    """A class of pydantic becomes a schema of Google's, and the answer an object of it."""
    answer = ask("Ann", response_mime_type="application/json", response_schema=Person)
    assert answer.parsed == Person(name="Ann", age=0, tags=["Ann"])
    own = ask(
        "Ann",
        response_mime_type="application/json",
        response_json_schema=Person.model_json_schema(),
    )
    assert Person.model_validate_json(own.text) == answer.parsed
    assert json.loads(ask("Ann", response_mime_type="application/json").text) == {"answer": "Ann"}


def test_reasoning(ask: Ask, stream: Ask) -> None:
    """Thoughts are parts of their own, which a client can refuse to see."""
    thought, text = parts_of([ask("think !", thinking_config={"thinking_budget": 99})])
    assert (thought.text, thought.thought) == ("Thinking: think !", True)
    assert (text.text, text.thought) == ("You said: think !", None)
    hidden: Any = {"thinking_config": {"include_thoughts": False}}
    for answers in ([ask("think !", **hidden)], stream("think !", **hidden)):
        assert not any(part.thought for part in parts_of(answers))


def test_image(ask: Ask) -> None:
    """An image reaches the engine, as bytes or as an address."""
    address = types.Part.from_uri(file_uri="https://example.com/a.png", mime_type="image/png")
    assert ask(["This: ", IMAGE, address]).text == "You said: This: [image_url][image_url]"


def test_models(client: genai.Client) -> None:
    """``models.list`` and ``models.get`` return the engine's names."""
    (model,) = client.models.list()
    assert model.name == "models/echo"
    assert model.supported_actions == ["generateContent"]
    assert client.models.get(model="echo") == model
    with pytest.raises(ClientError) as caught:
        client.models.get(model="nothing")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


def test_mistake_is_client_error(ask: Ask, stream: Ask) -> None:
    """The client raises its own exception, with the gateway's message."""
    for send in (ask, stream):
        with pytest.raises(
            ClientError, match=r"tools\[0\].googleSearch is not supported"
        ) as caught:
            send("Hi", tools=[types.Tool(google_search=types.GoogleSearch())])
        assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")


def test_wrong_token() -> None:
    """The client sends its key in Google's header; only the right one is accepted."""
    with serve(token="s3cret") as gateway:
        for key in ("s3cret", "wrong"):
            with gemini_client(gateway, key) as client:
                if key == "s3cret":
                    assert client.models.generate_content(model="echo", contents="Hi").text
                    continue
                with pytest.raises(ClientError, match="a valid token is required") as caught:
                    client.models.generate_content(model="echo", contents="Hi")
                assert (caught.value.code, caught.value.status) == (401, "UNAUTHENTICATED")


def scripted_answers(gateway: Gateway) -> list[Any]:
    """Return the last chunk of two answers, one whole and one streamed."""
    with gemini_client(gateway) as client:
        whole = client.models.generate_content(model="echo", contents="Hi")
        chunks = list(client.models.generate_content_stream(model="echo", contents="Hi"))
    return [whole, chunks[-1]]


@pytest.mark.parametrize(
    ("status", "kind", "state"),
    [
        (429, ClientError, "RESOURCE_EXHAUSTED"),
        (503, ServerError, "UNAVAILABLE"),
        (529, ServerError, "UNAVAILABLE"),
        (None, ServerError, "INTERNAL"),
    ],
)
def test_failure_is_typed(
    scripted: tuple[Gateway, Scripted], status: int | None, kind: type[APIError], state: str
) -> None:
    """The engine's failure reaches the caller as the client's own exception."""
    gateway, engine = scripted
    engine.script.put(
        APIStatusError("not now", status_code=status) if status else RuntimeError("secret")
    )
    with pytest.raises(kind) as caught:
        scripted_answers(gateway)
    assert (caught.value.code, caught.value.status) == (status or 500, state)
    assert "secret" not in str(caught.value)


def test_late_failure_is_an_error(scripted: tuple[Gateway, Scripted]) -> None:
    """A stream that has started ends with the client's exception."""
    gateway, engine = scripted
    for event in ("Hi", RuntimeError("broken")):
        engine.script.put(event)
    with gemini_client(gateway) as client:
        chunks = client.models.generate_content_stream(model="echo", contents="Hi")
        assert next(chunks).text == "Hi"
        with pytest.raises(ServerError, match="the engine failed"):
            next(chunks)


def test_counts(scripted: tuple[Gateway, Scripted]) -> None:
    """Cached and reasoning tokens are where the client has them; thoughts are counted apart."""
    gateway, engine = scripted
    for _ in range(2):
        for event in ("Hi", Usage(100, 30, 130, 60, None, 20), Finish("max_tokens"), None):
            engine.script.put(event)
    for answer in scripted_answers(gateway):
        usage = answer.usage_metadata
        assert (usage.prompt_token_count, usage.cached_content_token_count) == (100, 60)
        assert (usage.candidates_token_count, usage.thoughts_token_count) == (10, 20)
        assert usage.total_token_count == 130
        assert answer.candidates[0].finish_reason is types.FinishReason.MAX_TOKENS


def test_malformed_call(scripted: tuple[Gateway, Scripted]) -> None:
    """A call whose arguments are no object is none; the finish reason says so."""
    gateway, engine = scripted
    for _ in range(2):
        broken = ToolCall("1", "f", None, '{"a": ')
        for event in (ReasoningDelta("Hm."), broken, Finish("tool_calls"), None):
            engine.script.put(event)
    for answer in scripted_answers(gateway):
        reason = answer.candidates[0].finish_reason
        assert reason is types.FinishReason.MALFORMED_FUNCTION_CALL
        assert not answer.function_calls
