"""Tests of our providers with third-party mock servers from PyPI: LLMock and fakellm.

Both implement OpenAI's and Anthropic's protocols. LLMock breaks answers on demand, watches every
attempt and reports errors of the client; each of its tests ends with a check of that report.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from providers_sync import (
    Anthropic,
    AuthenticationError,
    Completion,
    MalformedStream,
    OpenAICompatible,
    Provider,
    RateLimitError,
    StreamCut,
    StreamError,
    StreamTruncated,
    Usage,
)

RUN = """
import socket, sys, uvicorn
config = uvicorn.Config(sys.argv[2], factory=sys.argv[3] == "factory", log_level="warning")
uvicorn.Server(config).run([socket.socket(fileno=int(sys.argv[1]))])
"""
KEYS = {"api_key": "any", "proxy": False}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
BOTH = pytest.mark.parametrize("name", ["openai", "anthropic"])
FAKELLM = """
version: 1
rules:
  - {name: calls, when: {messages_contain: weather, turn: 1},
     respond: {tool_calls: [{name: weather, arguments: {city: "Łódź"}},
                            {name: weather, arguments: {city: Rome}}]}}
  - {name: result, when: {tool_result_contains: snow}, respond: {content: "It snows."}}
  - {name: busy, when: {messages_contain: busy}, respond: {status: 429, error: "slow down"}}
  - {name: hello, when: {messages_contain: hello}, respond: {content: "Привет 😀 there"}}
"""


@contextlib.contextmanager
def running(app: str, kind: str = "app", **environment: str) -> Iterator[str]:
    """Run an ASGI application in a separate process and yield its address.

    It receives a socket that is already listening, so that the first request waits for its start.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(listener.fileno()), app, kind],
            pass_fds=[listener.fileno()],
            env={**os.environ, **environment},
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.wait()


def complete_both(provider: Provider, **options: Any) -> Callable[..., Completion]:
    """Return a function that gets an answer streamed and not streamed, and compares the two."""

    def complete(messages: Any) -> Completion:
        streamed = provider.complete(messages, **options)
        full = provider.complete(messages, stream=False, **options)
        assert (streamed.text, streamed.finish_reason) == (full.text, full.finish_reason)
        calls = [[(c.name, c.arguments) for c in each.tool_calls] for each in (streamed, full)]
        assert calls[0] == calls[1]
        assert streamed.outcome == "complete"
        return streamed

    return complete


def with_results(prompt: str, answer: Completion, *results: str) -> list[dict[str, Any]]:
    """Return the conversation, continued with the results of the answer's tool calls."""
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.raw}}
        for c in answer.tool_calls
    ]
    tool_messages = [
        {"role": "tool", "tool_call_id": call["id"], "content": result}
        for call, result in zip(calls, results, strict=True)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    return [{"role": "user", "content": prompt}, message, *tool_messages]


# --- LLMock


@pytest.fixture(scope="module")
def llmock_url() -> Iterator[str]:
    with running("llmock.main:create_app", "factory") as url:
        yield url


@pytest.fixture
def llmock(llmock_url: str) -> Iterator[Callable[..., None]]:
    """Return a function that queues faults; check at the end that LLMock found no client error."""
    requests.post(f"{llmock_url}/_llmock/reset").raise_for_status()

    def queue(**behaviour: Any) -> None:
        scenario = {"behaviors": [behaviour]}
        requests.post(f"{llmock_url}/_llmock/scenario", json=scenario).raise_for_status()

    yield queue
    report = requests.get(f"{llmock_url}/_llmock/verdict").json()
    assert report["attempts"] > 0, "the test sent no request"
    assert report["passed"], report["findings"]


def provider(url: str, name: str, **settings: Any) -> Provider:
    """Return our provider for LLMock."""
    if name == "openai":
        return OpenAICompatible("gpt-4o", base_url=f"{url}/v1", **KEYS, **settings)
    return Anthropic("claude-sonnet-4-5", base_url=f"{url}/anthropic", **KEYS, **settings)


@BOTH
def test_llmock_answer(llmock: Any, llmock_url: str, name: str) -> None:
    """Check text, usage, finish reason and model, streamed and not streamed."""
    answer = complete_both(provider(llmock_url, name))("Hello there")
    assert answer.text
    assert answer.finish_reason == ("stop" if name == "openai" else "end_turn")
    assert answer.model == ("gpt-4o" if name == "openai" else "claude-sonnet-4-5")
    usage = answer.usage
    assert isinstance(usage, Usage)
    assert usage.input_tokens
    assert usage.output_tokens
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


@BOTH
def test_llmock_tool_loop(llmock: Any, llmock_url: str, name: str) -> None:
    """The model calls the tool with valid arguments; the result is sent back and answered."""
    complete = complete_both(provider(llmock_url, name), tools=[TOOL])
    answer = complete("What is the weather?")
    (call,) = answer.tool_calls
    assert call.name == "weather"
    assert call.arguments is not None
    assert set(call.arguments) == {"city"}
    assert answer.finish_reason == ("tool_calls" if name == "openai" else "tool_use")
    final = complete(with_results("What is the weather?", answer, "sunny"))
    assert final.text
    assert not final.tool_calls


def test_llmock_json_and_models(llmock: Any, llmock_url: str) -> None:
    """An answer with a JSON schema can be parsed; the server's models are listed."""
    gpt = OpenAICompatible("gpt-4o", base_url=f"{llmock_url}/v1", **KEYS)
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    answer = complete_both(gpt, response_format=schema)("Where?")
    assert set(json.loads(answer.text)) == {"city"}
    assert "gpt-4o" in gpt.list_models()


@BOTH
@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429, "retry_after": 0.6}])
def test_llmock_busy_then_answers(
    llmock: Any, llmock_url: str, name: str, fault: dict[str, Any]
) -> None:
    """The request is retried, not earlier than Retry-After allows."""
    llmock(type="fail", **fault)
    answer = provider(llmock_url, name).complete("Hello there")
    assert answer.text
    assert answer.stats.attempts == 2


@BOTH
def test_llmock_wrong_key(llmock: Any, llmock_url: str, name: str) -> None:
    """A refused key is not retried; the error contains the server's message."""
    llmock(type="fail", status=401)
    with pytest.raises(AuthenticationError) as caught:
        provider(llmock_url, name).complete("Hello there")
    assert json.loads(caught.value.body)["error"]["message"] in str(caught.value)


@BOTH
@pytest.mark.parametrize(
    ("kind", "error"),
    [("truncate", StreamTruncated), ("disconnect", StreamCut), ("malformed", MalformedStream)],
)
def test_llmock_broken_stream(
    llmock: Any, llmock_url: str, name: str, kind: str, error: type[StreamError]
) -> None:
    """An interrupted answer raises, its text is in ``.partial``, and a new call succeeds."""
    client = provider(llmock_url, name)
    full_text = client.complete("Hello there").text
    llmock(type="stream_fault", kind=kind, after_chunks=4)
    with pytest.raises(error) as caught:
        client.complete("Hello there")
    assert caught.value.partial
    assert full_text.startswith(caught.value.partial)
    assert full_text != caught.value.partial
    assert client.complete("Hello there").text == full_text


@BOTH
def test_llmock_broken_tool_call(llmock: Any, llmock_url: str, name: str) -> None:
    """Arguments that are not valid JSON are kept unchanged in ``.raw``."""
    llmock(type="tool_fault", kind="malformed_arguments")
    (call,) = provider(llmock_url, name).complete("The weather?", tools=[TOOL]).tool_calls
    assert call.arguments is None
    assert call.raw.startswith('{"city"')


# --- fakellm


@pytest.fixture(scope="module")
def fakellm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    rules: Path = tmp_path_factory.mktemp("fakellm") / "rules.yaml"
    rules.write_text(FAKELLM, encoding="utf-8")
    with running("fakellm.server:app", FAKELLM_CONFIG=str(rules)) as url:
        yield url


def fakellm(url: str, name: str) -> Provider:
    """Reset fakellm's count of turns and return our provider for it."""
    requests.post(f"{url}/_fakellm/reset").raise_for_status()
    if name == "openai":
        return OpenAICompatible("m", base_url=f"{url}/v1", retry=None, **KEYS)
    return Anthropic("m", base_url=url, retry=None, **KEYS)


@BOTH
def test_fakellm_answer(fakellm_url: str, name: str) -> None:
    """Check text outside ASCII, streamed and not streamed."""
    assert complete_both(fakellm(fakellm_url, name))("hello").text == "Привет 😀 there"


@BOTH
@pytest.mark.parametrize("options", [{}, {"stream": False}], ids=["streamed", "not-streamed"])
def test_fakellm_tool_loop(fakellm_url: str, name: str, options: dict[str, Any]) -> None:
    """The answer has two calls; the server finds their results in the second turn."""
    client = fakellm(fakellm_url, name)
    answer = client.complete("The weather?", tools=[TOOL], **options)
    assert [call.arguments for call in answer.tool_calls] == [{"city": "Łódź"}, {"city": "Rome"}]
    turns = with_results("The weather?", answer, "snow", "sun")
    assert client.complete(turns, tools=[TOOL], **options).text == "It snows."


@BOTH
def test_fakellm_error(fakellm_url: str, name: str) -> None:
    """The error has the right class and the server's message."""
    with pytest.raises(RateLimitError, match="slow down"):
        fakellm(fakellm_url, name).complete("busy", stream=False)
