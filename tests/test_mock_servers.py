"""Our providers against mock servers that others wrote: LLMock and fakellm, from PyPI.

Both speak OpenAI's and Anthropic's protocols. LLMock breaks answers on demand, watches every
attempt and judges the client; each of its tests ends with that verdict.
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
config = uvicorn.Config(sys.argv[2], factory=sys.argv[3] == "make", log_level="warning")
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
  - {name: told, when: {tool_result_contains: snow}, respond: {content: "It snows."}}
  - {name: busy, when: {messages_contain: busy}, respond: {status: 429, error: "slow down"}}
  - {name: hello, when: {messages_contain: hello}, respond: {content: "Привет 😀 there"}}
"""


@contextlib.contextmanager
def running(app: str, how: str = "is", **environment: str) -> Iterator[str]:
    """Run an ASGI application in a process of its own and yield its address.

    It gets a socket that listens already, so the first request waits for it, not the test.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(listener.fileno()), app, how],
            pass_fds=[listener.fileno()],
            env={**os.environ, **environment},
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.wait()


def asked(provider: Provider, **options: Any) -> Callable[..., Completion]:
    """Return a function that asks twice, streamed and whole, and returns what was agreed upon."""

    def ask(messages: Any) -> Completion:
        streamed = provider.complete(messages, **options)
        whole = provider.complete(messages, stream=False, **options)
        assert (streamed.text, streamed.finish_reason) == (whole.text, whole.finish_reason)
        calls = [[(c.name, c.arguments) for c in each.tool_calls] for each in (streamed, whole)]
        assert calls[0] == calls[1]
        assert streamed.outcome == "complete"
        return streamed

    return ask


def with_results(question: str, answer: Completion, *results: str) -> list[dict[str, Any]]:
    """Return the conversation that goes on with the results of the answer's calls."""
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.raw}}
        for c in answer.tool_calls
    ]
    told = [
        {"role": "tool", "tool_call_id": call["id"], "content": said}
        for call, said in zip(calls, results, strict=True)
    ]
    said = {"role": "assistant", "content": None, "tool_calls": calls}
    return [{"role": "user", "content": question}, said, *told]


# --- LLMock


@pytest.fixture(scope="module")
def llmock_url() -> Iterator[str]:
    with running("llmock.main:create_app", "make") as url:
        yield url


@pytest.fixture
def llmock(llmock_url: str) -> Iterator[Callable[..., None]]:
    """Queue faults for the answers to come; at the end LLMock must find no error in the client."""
    requests.post(f"{llmock_url}/_llmock/reset").raise_for_status()

    def queue(**behaviour: Any) -> None:
        wanted = {"behaviors": [behaviour]}
        requests.post(f"{llmock_url}/_llmock/scenario", json=wanted).raise_for_status()

    yield queue
    verdict = requests.get(f"{llmock_url}/_llmock/verdict").json()
    assert verdict["attempts"] > 0, "the test asked nothing"
    assert verdict["passed"], verdict["findings"]


def provider(url: str, name: str, **settings: Any) -> Provider:
    """Return our provider for LLMock."""
    if name == "openai":
        return OpenAICompatible("gpt-4o", base_url=f"{url}/v1", **KEYS, **settings)
    return Anthropic("claude-sonnet-4-5", base_url=f"{url}/anthropic", **KEYS, **settings)


@BOTH
def test_llmock_answer(llmock: Any, llmock_url: str, name: str) -> None:
    """Text, usage, finish reason and model, streamed as well as whole."""
    answer = asked(provider(llmock_url, name))("Hello there")
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
    """It calls the tool with arguments of its schema; the result goes back and is answered."""
    ask = asked(provider(llmock_url, name), tools=[TOOL])
    answer = ask("What is the weather?")
    (call,) = answer.tool_calls
    assert call.name == "weather"
    assert call.arguments is not None
    assert set(call.arguments) == {"city"}
    assert answer.finish_reason == ("tool_calls" if name == "openai" else "tool_use")
    told = ask(with_results("What is the weather?", answer, "sunny"))
    assert told.text
    assert not told.tool_calls


def test_llmock_json_and_models(llmock: Any, llmock_url: str) -> None:
    """An answer of a JSON schema parses; the server's models are listed."""
    gpt = OpenAICompatible("gpt-4o", base_url=f"{llmock_url}/v1", **KEYS)
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    answer = asked(gpt, response_format=wanted)("Where?")
    assert set(json.loads(answer.text)) == {"city"}
    assert "gpt-4o" in gpt.list_models()


@BOTH
@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429, "retry_after": 0.6}])
def test_llmock_busy_then_answers(
    llmock: Any, llmock_url: str, name: str, fault: dict[str, Any]
) -> None:
    """A busy server is asked again, no sooner than it says."""
    llmock(type="fail", **fault)
    answer = provider(llmock_url, name).complete("Hello there")
    assert answer.text
    assert answer.stats.attempts == 2


@BOTH
def test_llmock_wrong_key(llmock: Any, llmock_url: str, name: str) -> None:
    """A key that is refused is not tried again; the server's own words are told."""
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
    """An answer that breaks off raises, what had arrived is in hand, and asking again helps."""
    ask = provider(llmock_url, name)
    whole = ask.complete("Hello there").text
    llmock(type="stream_fault", kind=kind, after_chunks=4)
    with pytest.raises(error) as caught:
        ask.complete("Hello there")
    assert caught.value.partial
    assert whole.startswith(caught.value.partial)
    assert whole != caught.value.partial
    assert ask.complete("Hello there").text == whole


@BOTH
def test_llmock_broken_tool_call(llmock: Any, llmock_url: str, name: str) -> None:
    """Arguments that do not parse are kept as they came."""
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
    """Return our provider for fakellm, whose rules count a conversation's turns from here on."""
    requests.post(f"{url}/_fakellm/reset").raise_for_status()
    if name == "openai":
        return OpenAICompatible("m", base_url=f"{url}/v1", retry=None, **KEYS)
    return Anthropic("m", base_url=url, retry=None, **KEYS)


@BOTH
def test_fakellm_answer(fakellm_url: str, name: str) -> None:
    """Text beyond ASCII, streamed as well as whole."""
    assert asked(fakellm(fakellm_url, name))("hello").text == "Привет 😀 there"


@BOTH
@pytest.mark.parametrize("how", [{}, {"stream": False}], ids=["streamed", "whole"])
def test_fakellm_tool_loop(fakellm_url: str, name: str, how: dict[str, Any]) -> None:
    """Two calls in one answer, then their results, found by the server in the second turn."""
    ask = fakellm(fakellm_url, name)
    answer = ask.complete("The weather?", tools=[TOOL], **how)
    assert [call.arguments for call in answer.tool_calls] == [{"city": "Łódź"}, {"city": "Rome"}]
    turns = with_results("The weather?", answer, "snow", "sun")
    assert ask.complete(turns, tools=[TOOL], **how).text == "It snows."


@BOTH
def test_fakellm_error(fakellm_url: str, name: str) -> None:
    """An error has its class and the server's words."""
    with pytest.raises(RateLimitError, match="slow down"):
        fakellm(fakellm_url, name).complete("busy", stream=False)
