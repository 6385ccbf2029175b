"""Tests of the providers with a real llama.cpp server, over OpenAI's and Anthropic's protocols."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
import requests
from gateway_kit import Recording, events
from official import anthropic_client, openai_client
from pydantic import BaseModel

from providers_sync import (
    Anthropic,
    APIStatusError,
    CancelToken,
    InvalidRequestError,
    OpenAICompatible,
    Outcome,
    Provider,
    StreamCancelled,
)
from providers_sync.gateway import Gateway
from providers_sync.local import LocalServer

pytestmark = pytest.mark.model

TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Name three colours. Привет 😀"},
]
BOTH = pytest.mark.parametrize("name", ["openai", "anthropic"])
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"type": "string", "enum": ["red", "blue"]},
        "count": {"type": "integer"},
    },
    "required": ["colour", "count"],
    "additionalProperties": False,
}
LONG = "Repeat the word hello a thousand times."
"""At temperature 0 this model does so and goes on: 4000 words take it 20 to 100 seconds."""
AT_ONCE_S = 8.0
"""Timeout: less than the long answer takes, more than one word takes on a machine under load."""


class Sky(BaseModel):
    """The form of the answer that the official clients request."""

    colour: Literal["red", "blue"]
    clouds: bool


@pytest.fixture
def server(local: tuple[Gateway, Recording]) -> LocalServer:
    """Return llama.cpp's server; tests use it directly, without the gateway."""
    return local[1].server


def llama(server: LocalServer, name: str, **settings: Any) -> Provider:
    """Return the provider for one of llama.cpp's two protocols."""
    settings["api_key"] = server.api_key
    if name == "openai":
        return OpenAICompatible("any", base_url=server.base_url, **settings)
    return Anthropic("any", base_url=server.base_url.removesuffix("/v1"), **settings)


def direct(server: LocalServer, **options: Any) -> tuple[str, int, int]:
    """Return the text that llama.cpp streams, and its usage, without the package's code."""
    body = {"messages": TURNS, "stream": True, "stream_options": {"include_usage": True}}
    response = requests.post(
        f"{server.base_url}/chat/completions",
        json={**body, **options},
        headers={"Authorization": f"Bearer {server.api_key}"},
        timeout=60,
    )
    chunks = [event for event in events(response.content) if event != "[DONE]"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    usage = chunks[-1]["usage"]
    text = "".join(delta.get("content") or "" for delta in deltas)
    return text, usage["prompt_tokens"], usage["completion_tokens"]


@BOTH
def test_llama_streams_text(server: LocalServer, name: str) -> None:
    """Text, usage and finish reason equal the server's, streamed or not."""
    options = {"temperature": 0, "max_tokens": 6}
    text, input_tokens, output_tokens = direct(server, **options)
    with llama(server, name).stream(TURNS, **options) as stream:
        deltas = list(stream)
    assert len(deltas) > 3
    assert "".join(deltas) == stream.text == text
    assert stream.outcome is Outcome.COMPLETE
    assert stream.usage is not None
    assert (stream.usage.input_tokens, stream.usage.output_tokens) == (input_tokens, output_tokens)
    assert stream.usage.total_tokens == input_tokens + output_tokens
    assert stream.finish_reason == ("length" if name == "openai" else "max_tokens")
    assert output_tokens == 6

    answer = llama(server, name).complete(TURNS, stream=False, **options)
    assert (answer.text, answer.usage) == (text, stream.usage)
    assert answer.finish_reason == stream.finish_reason


@BOTH
def test_llama_finishes(server: LocalServer, name: str) -> None:
    """A complete answer has a finish reason and the model's name."""
    answer = llama(server, name).complete("Say only: yes", temperature=0, max_tokens=200)
    assert answer.finish_reason == ("stop" if name == "openai" else "end_turn")
    assert answer.model is not None
    assert "SmolLM2" in answer.model


@BOTH
def test_llama_stops_at_a_word(server: LocalServer, name: str) -> None:
    """``stop`` ends the answer before the stop word."""
    text, _, _ = direct(server, temperature=0, max_tokens=12)
    word = text.split()[3]
    answer = llama(server, name).complete(TURNS, stop=word, temperature=0, max_tokens=12)
    assert answer.text == text[: text.index(word)]
    assert answer.finish_reason == ("stop" if name == "openai" else "end_turn")


def test_llama_answers_in_json(server: LocalServer) -> None:
    """A streamed answer under a JSON schema is valid JSON."""
    response_format = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    answer = llama(server, "openai").complete(
        TURNS, response_format=response_format, max_tokens=100, temperature=0
    )
    value = json.loads(answer.text)
    assert value["colour"] in ("red", "blue")
    assert isinstance(value["count"], int)
    assert set(value) == {"colour", "count"}


def test_llama_lists_its_model(server: LocalServer) -> None:
    """``list_models`` returns the server's model."""
    provider = OpenAICompatible(base_url=server.base_url, api_key=server.api_key)
    assert provider.list_models() == [server.model]


@pytest.mark.parametrize(
    ("name", "how"),
    [("openai", "cancel"), ("anthropic", "cancel"), ("openai", "close"), ("anthropic", "token")],
)
def test_llama_stops_when_cancelled(server: LocalServer, name: str, how: str) -> None:
    """The server stops generating: its only slot is free for the next request at once."""
    token = CancelToken()
    stream = llama(server, name).stream(LONG, temperature=0, max_tokens=4000, cancel=token)
    next(stream)
    {"cancel": stream.cancel, "close": stream.close, "token": token.cancel}[how]()
    with pytest.raises(StopIteration if how == "close" else StreamCancelled):
        next(stream)
    answer = llama(server, name, timeouts=AT_ONCE_S, retry=None).complete(
        "Hi", max_tokens=1, temperature=0
    )
    assert answer.text


@BOTH
def test_llama_refuses_long_prompt(server: LocalServer, name: str) -> None:
    """A prompt longer than the context is an error with the server's message."""
    with pytest.raises(APIStatusError, match="context") as caught:
        llama(server, name).complete("word " * 6000, max_tokens=5)
    assert caught.value.status_code == 400


# --- through the gateway: what it translates from Anthropic's protocol reaches the model


def test_llama_behind_anthropic_answers_in_json(local: tuple[Gateway, Recording]) -> None:
    """llama.cpp's own Anthropic endpoint does not support schemas; the gateway's does."""
    response_format = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    claude = Anthropic("any", base_url=local[0].url("anthropic"))
    answer = claude.complete(TURNS, response_format=response_format, max_tokens=100, temperature=0)
    assert set(json.loads(answer.text)) == {"colour", "count"}
    assert answer.usage is not None
    assert answer.usage.input_tokens


@BOTH
def test_llama_behind_gateway_refuses_images(local: tuple[Gateway, Recording], name: str) -> None:
    """The local model reads only text; other content is reported as the caller's mistake."""
    part = {"type": "image", "image": "https://example.com/a.png"}
    turns = [{"role": "user", "content": [part]}]
    kind = OpenAICompatible if name == "openai" else Anthropic
    with pytest.raises(APIStatusError, match="reads text, not image_url") as caught:
        kind("any", base_url=local[0].url(name)).complete(turns)
    assert caught.value.status_code == 400


def test_llama_behind_official_clients(local: tuple[Gateway, Recording]) -> None:
    """Both official clients get an object of their schema from the real model."""
    turns: Any = [{"role": "user", "content": "What colour is the sky?"}]
    with openai_client(local[0]) as gpt:
        completion = gpt.chat.completions.parse(
            model="any", messages=turns, response_format=Sky, temperature=0
        )
    assert isinstance(completion.choices[0].message.parsed, Sky)
    with anthropic_client(local[0]) as claude:
        message = claude.messages.parse(
            model="any",
            messages=turns,
            output_format=Sky,
            max_tokens=100,
            extra_body={"temperature": 0},
        )
    assert message.parsed_output == completion.choices[0].message.parsed


def test_engine_forwards_tools(local: tuple[Gateway, Recording]) -> None:
    """Tools reach the engine, and do not keep the model from answering with text."""
    tool = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
    options = {"tools": [tool], "tool_choice": "auto", "max_tokens": 1}
    provider = OpenAICompatible("any", base_url=local[0].url("openai"))
    assert provider.complete("Hi", **options).text
    assert local[1].last_request[1] == options
    with pytest.raises(InvalidRequestError, match="n must be 1"):
        provider.complete("Hi", n=2)
