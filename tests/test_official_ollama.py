"""Tests of the gateway with the official, unmodified ``ollama`` client."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import ollama
import pytest
from gateway_kit import Scripted
from official import CALLS, CITIES, PIXEL, TOOL, Person, ollama_client

from providers_sync.errors import APIStatusError
from providers_sync.gateway import Gateway, serve
from providers_sync.types import Finish, ToolCall, Usage

Ask = Callable[..., Any]


@pytest.fixture
def client(echo: Gateway) -> Iterator[ollama.Client]:
    with ollama_client(echo) as client:
        yield client


@pytest.fixture
def ask(client: ollama.Client) -> Ask:
    """Return a function that sends text or messages, and options, to the echo."""

    def ask(messages: Any, **options: Any) -> Any:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        answer = client.chat("echo", messages, **options)
        return list(answer) if options.get("stream") else answer

    return ask


def test_complete_answer(ask: Ask) -> None:
    """Text, finish reason, counts, durations and model arrive."""
    answer = ask([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Да 😀"}])
    assert (answer.message.role, answer.message.content) == ("assistant", "You said: Да 😀")
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (4, 4)
    assert answer.total_duration >= answer.eval_duration > 0
    assert answer.model == "echo"
    assert answer.created_at.endswith("Z")


def test_streamed_answer(ask: Ask) -> None:
    """The answer arrives in chunks; reason and counts come last."""
    *chunks, last = ask("think Да 😀", stream=True, think=True)
    assert "".join(chunk.message.content for chunk in chunks) == "You said: think Да 😀"
    thinking = [chunk.message.thinking or "" for chunk in chunks]
    assert "".join(thinking) == "Thinking: think Да 😀"
    assert len(chunks) == 9
    assert not any(chunk.done for chunk in chunks)
    assert (last.done, last.done_reason, last.message.content) == (True, "stop", "")
    assert (last.prompt_eval_count, last.eval_count) == (3, 9)
    assert last.total_duration == pytest.approx(
        last.prompt_eval_duration + last.eval_duration, abs=2
    )


def test_limit_and_stop(ask: Ask) -> None:
    """``num_predict`` and ``stop`` end the answer; settings of the machine change nothing."""
    limited = ask("one two three", options={"num_predict": 3, "num_ctx": 4096}, keep_alive="5m")
    assert (limited.message.content, limited.done_reason) == ("You said: one ", "length")
    stopped = ask("one two three", options={"stop": ["three", "two"], "num_predict": -1})
    assert (stopped.message.content, stopped.done_reason) == ("You said: one ", "stop")


def weather(city: str) -> str:
    """Return the weather of a city.

    Args:
        city: Its name
    """
    return city


@pytest.mark.parametrize("tool", [TOOL, weather], ids=["schema", "function"])
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "streamed"])
def test_tool_loop(ask: Ask, stream: bool, tool: Any) -> None:
    """Two calls arrive whole; their results, which have no ids, are sent back and answered."""
    answer = ask(CALLS, tools=[tool], stream=stream)
    answers = answer if stream else [answer]
    calls = [call for each in answers for call in each.message.tool_calls or ()]
    assert [call.function.name for call in calls] == ["weather"] * 2
    assert [call.function.arguments for call in calls] == CITIES
    assert answers[-1].done_reason == "stop"
    turns: list[Any] = [
        {"role": "user", "content": CALLS},
        ollama.Message(role="assistant", content="", tool_calls=calls),
        {"role": "tool", "content": "sun", "tool_name": "weather"},
        {"role": "tool", "content": "snow", "tool_name": "weather"},
    ]
    assert ask(turns, tools=[tool]).message.content == "The tool said: sun\nsnow"


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "streamed"])
def test_structured_answer(ask: Ask, stream: bool) -> None:
    """``format`` takes a schema, or only asks for JSON."""
    answer = ask("Ann", format=Person.model_json_schema(), stream=stream)
    text = "".join(each.message.content for each in (answer if stream else [answer]))
    assert Person.model_validate_json(text) == Person(name="Ann", age=0, tags=["Ann"])
    assert ask("Ann", format="json").message.content == '{"answer": "Ann"}'


def test_reasoning_and_image(ask: Ask) -> None:
    """Reasoning has a field of its own; an image reaches the engine."""
    answer = ask("think again", think="high").message
    assert (answer.thinking, answer.content) == ("Thinking: think again", "You said: think again")
    turn = {"role": "user", "content": "This: ", "images": [base64.b64decode(PIXEL)]}
    assert ask([turn]).message.content == "You said: This: [image_url]"


def test_models(client: ollama.Client) -> None:
    """``list``, ``ps`` and ``show`` know the engine's names, also with the tag that has no name."""
    assert [model.model for model in client.list().models] == ["echo"]
    assert [model.model for model in client.ps().models] == ["echo"]
    for name in ("echo", "echo:latest"):
        shown = client.show(name)
        assert shown.capabilities == ["completion", "tools", "thinking", "vision"]
        assert client.chat(name, [{"role": "user", "content": "Hi"}]).model == "echo"
    with pytest.raises(ollama.ResponseError, match="there is no model 'nothing'") as caught:
        client.show("nothing")
    assert caught.value.status_code == 404


def test_mistake_is_an_error(ask: Ask) -> None:
    """The client raises its own exception, with the gateway's message."""
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError, match="logprobs is not supported") as caught:
            ask("Hi", logprobs=True, stream=stream)
        assert caught.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="this gateway does not load models"):
        ask([])


def test_wrong_token() -> None:
    """Only the right key is accepted."""
    with serve(token="s3cret") as gateway:
        with ollama_client(gateway, "s3cret") as client:
            assert client.list().models
        with (
            ollama_client(gateway, "wrong") as client,
            pytest.raises(ollama.ResponseError, match="a valid token is required") as caught,
        ):
            client.list()
    assert caught.value.status_code == 401


def scripted_answers(gateway: Gateway) -> list[Any]:
    """Return the last line of two answers, one whole and one streamed."""
    turns = [{"role": "user", "content": "Hi"}]
    with ollama_client(gateway) as client:
        whole = client.chat("echo", turns)
        lines = list(client.chat("echo", turns, stream=True))
    return [whole, lines[-1]]


@pytest.mark.parametrize("status", [429, 503, 529, None])
def test_failure_is_typed(scripted: tuple[Gateway, Scripted], status: int | None) -> None:
    """The engine's failure reaches the caller as the client's own exception."""
    gateway, engine = scripted
    engine.script.put(
        APIStatusError("not now", status_code=status) if status else RuntimeError("secret")
    )
    with pytest.raises(ollama.ResponseError) as caught:
        scripted_answers(gateway)
    assert caught.value.status_code == (status or 500)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (RuntimeError("broken"), "the engine failed"),
        (ToolCall("1", "f", None, '{"a": '), 'are not a JSON object: {"a": '),
    ],
    ids=["engine", "call"],
)
def test_late_failure_is_an_error(
    scripted: tuple[Gateway, Scripted], failure: Any, message: str
) -> None:
    """A stream that has started ends with the client's exception."""
    gateway, engine = scripted
    for event in ("Hi", failure):
        engine.script.put(event)
    with ollama_client(gateway) as client:
        lines = client.chat("echo", [{"role": "user", "content": "Hi"}], stream=True)
        assert next(lines).message.content == "Hi"
        with pytest.raises(ollama.ResponseError, match=message):
            next(lines)


def test_counts_and_reason(scripted: tuple[Gateway, Scripted]) -> None:
    """Counts include cached and reasoning tokens, for which the protocol has no names."""
    gateway, engine = scripted
    for _ in range(2):
        for event in ("Hi", Usage(100, 30, 130, 60, None, 20), Finish("max_tokens"), None):
            engine.script.put(event)
    for answer in scripted_answers(gateway):
        assert (answer.prompt_eval_count, answer.eval_count) == (100, 30)
        assert answer.done_reason == "length"
