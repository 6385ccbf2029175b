"""Tests of the gateway with both official clients: model lists, keys and their error types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from gateway_kit import Scripted
from official import anthropic_client, openai_client

from providers_sync.errors import APIStatusError
from providers_sync.gateway import Gateway, serve
from providers_sync.types import Finish, Usage


@pytest.mark.parametrize("make", [openai_client, anthropic_client])
def test_models_are_listed(echo: Gateway, make: Callable[..., Any]) -> None:
    """``models.list`` and ``models.retrieve`` return the engine's names."""
    with make(echo) as client:
        assert [model.id for model in client.models.list()] == ["echo"]
        assert client.models.retrieve("echo").id == "echo"
        with pytest.raises((openai.NotFoundError, anthropic.NotFoundError)):
            client.models.retrieve("nothing")


def ask_openai(gateway: Gateway, key: str = "any", **options: Any) -> Any:
    turns: Any = [{"role": "user", "content": "Hi"}]
    with openai_client(gateway, key) as client:
        answer = client.chat.completions.create(**{"model": "echo", "messages": turns, **options})
        return list(answer) if options.get("stream") else answer


def ask_anthropic(gateway: Gateway, key: str = "any", **options: Any) -> Any:
    turns: Any = [{"role": "user", "content": "Hi"}]
    with anthropic_client(gateway, key) as client:
        answer = client.messages.create(
            **{"model": "echo", "max_tokens": 9, "messages": turns, **options}
        )
        return list(answer) if options.get("stream") else answer


def ask_responses(gateway: Gateway, key: str = "any", **options: Any) -> Any:
    options = {"input" if name == "messages" else name: each for name, each in options.items()}
    with openai_client(gateway, key) as client:
        answer = client.responses.create(**{"model": "echo", "input": "Hi", **options})
        return list(answer) if options.get("stream") else answer


CLIENTS = [(openai, ask_openai), (openai, ask_responses), (anthropic, ask_anthropic)]
NAMES = ["openai", "responses", "anthropic"]


@pytest.mark.parametrize(("library", "ask"), CLIENTS, ids=NAMES)
def test_mistake_is_bad_request(echo: Gateway, library: Any, ask: Callable[..., Any]) -> None:
    """The client raises its own exception, with the gateway's message and the request id."""
    with pytest.raises(library.BadRequestError, match=r"at least one (message|item)") as caught:
        ask(echo, messages=[])
    assert caught.value.status_code == 400
    assert caught.value.body["error" if library is anthropic else "type"]
    assert caught.value.request_id.startswith("req_")


@pytest.mark.parametrize(("library", "ask"), CLIENTS, ids=NAMES)
def test_wrong_token_is_authentication_error(library: Any, ask: Callable[..., Any]) -> None:
    """Each client sends its key in its own header; only the right key is accepted."""
    with serve(token="s3cret") as gateway:
        assert ask(gateway, "s3cret")
        with pytest.raises(library.AuthenticationError, match="a valid token is required"):
            ask(gateway, "wrong")


@pytest.mark.parametrize(("library", "ask"), CLIENTS, ids=NAMES)
@pytest.mark.parametrize(
    ("status", "name"),
    [
        (413, "APIStatusError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (503, "InternalServerError"),
        (529, "InternalServerError"),
        (None, "InternalServerError"),
    ],
)
def test_failure_is_typed(
    scripted: tuple[Gateway, Scripted],
    library: Any,
    ask: Callable[..., Any],
    status: int | None,
    name: str,
) -> None:
    """The engine's failure reaches the caller as the client's own exception, streamed or not."""
    gateway, engine = scripted
    error = APIStatusError("not now", status_code=status) if status else RuntimeError("secret")
    for stream in (False, True):
        engine.script.put(error)
        with pytest.raises(getattr(library, name)) as caught:
            ask(gateway, stream=stream)
        assert caught.value.status_code == (status or 500)
        assert "secret" not in str(caught.value)


COUNTED = ("Hi", Usage(100, 30, 130, 60, 15, 20), Finish("max_tokens"), None)


def test_openai_counts(scripted: tuple[Gateway, Scripted]) -> None:
    """Cached and reasoning tokens are where the client has them; so is the finish reason."""
    gateway, engine = scripted
    for event in (*COUNTED, *COUNTED):
        engine.script.put(event)
    answer = ask_openai(gateway)
    chunks = ask_openai(gateway, stream=True, stream_options={"include_usage": True})
    for usage in (answer.usage, chunks[-1].usage):
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (100, 30, 130)
        assert usage.prompt_tokens_details.cached_tokens == 60
        assert usage.prompt_tokens_details.cache_write_tokens == 15
        assert usage.completion_tokens_details.reasoning_tokens == 20
    assert {answer.choices[0].finish_reason, chunks[-2].choices[0].finish_reason} == {"length"}


def test_openai_without_counts(scripted: tuple[Gateway, Scripted]) -> None:
    """An engine that counts nothing has no counts."""
    gateway, engine = scripted
    for event in ("Hi", None, "Hi", None):
        engine.script.put(event)
    assert ask_openai(gateway).usage is None
    chunks = ask_openai(gateway, stream=True, stream_options={"include_usage": True})
    assert [chunk.usage for chunk in chunks] == [None] * 3


def test_anthropic_counts(scripted: tuple[Gateway, Scripted]) -> None:
    """The client finds cached input beside the other input, and the reasoning tokens."""
    gateway, engine = scripted
    for event in (*COUNTED, *COUNTED):
        engine.script.put(event)
    answer = ask_anthropic(gateway)
    end = ask_anthropic(gateway, stream=True)[-2]
    for usage in (answer.usage, end.usage):
        assert (usage.input_tokens, usage.output_tokens) == (25, 30)
        assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (60, 15)
        assert usage.output_tokens_details.thinking_tokens == 20
    assert (answer.stop_reason, end.delta.stop_reason) == ("max_tokens", "max_tokens")


@pytest.mark.parametrize(("library", "ask"), CLIENTS, ids=NAMES)
def test_late_failure_is_an_error(
    scripted: tuple[Gateway, Scripted], library: Any, ask: Callable[..., Any]
) -> None:
    """A stream that has started ends with the client's exception, never as if it were complete."""
    gateway, engine = scripted
    engine.script.put("Hi")
    engine.script.put(RuntimeError("broken"))
    with pytest.raises(library.APIError, match="the engine failed"):
        ask(gateway, stream=True)
