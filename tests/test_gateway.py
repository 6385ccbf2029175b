"""Tests of the gateway over real loopback sockets: answers, model lists, engine failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from gateway_kit import (
    END_MARKS,
    PATHS,
    WAIT_S,
    Scripted,
    body_of,
    error_of,
    events,
    is_ended,
    post,
    text_of,
)

from providers_sync.echo import EchoEngine
from providers_sync.engines import EngineEvent
from providers_sync.errors import APIStatusError, InvalidRequestError
from providers_sync.gateway import Gateway, serve
from providers_sync.types import Finish, Usage

# --- answers


@pytest.mark.parametrize("name", PATHS)
def test_answer_echoes_prompt(echo: Gateway, name: str) -> None:
    """Every protocol transports the prompt and the answer without changing a character."""
    prompt = 'Привет 😀 "q"\n  line2 '
    response = post(echo, name, prompt)
    assert response.status_code == 200
    body = response.content.decode()
    assert text_of(name, body) == "You said: " + prompt
    assert is_ended(name, body)


def test_answer_limited_words(echo: Gateway) -> None:
    """The echo counts ``max_tokens`` in words and reports the finish reason."""
    body = body_of("openai", "one two three", stream=False, max_tokens=3)
    answer = requests.post(echo.url("openai") + "/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "You said: one "
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


def test_answer_content_parts(echo: Gateway) -> None:
    """The echo reads text parts, and the last user message even if others follow."""
    messages = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}],
        },
        {"role": "assistant", "content": "no"},
    ]
    response = post(echo, "codelinkava", messages=messages)
    assert text_of("codelinkava", response.text) == "You said: a b"


def test_answer_with_usage(scripted: tuple[Gateway, Scripted]) -> None:
    """Usage is sent on request, and the finish reason is the engine's."""
    gateway, engine = scripted
    for event in ("Hi", Usage(1, 2, 3), Finish("length"), None):
        engine.script.put(event)
    body = post(gateway, "openai", stream_options={"include_usage": True}).text
    assert '"finish_reason":"length"' in body
    assert '"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}' in body
    assert not engine.cancelled, "a complete answer was cancelled"


def test_models_are_listed(echo: Gateway) -> None:
    """The model lists contain the engine's names."""
    for url in (echo.url("v1") + "/models", echo.url("anthropic") + "/v1/models"):
        models = requests.get(url).json()
        assert [model["id"] for model in models["data"]] == ["echo"]
        assert requests.get(f"{url}/echo").json() == models["data"][0]
        assert requests.get(f"{url}/nothing").status_code == 404


def test_models_of_gemini_and_ollama(echo: Gateway) -> None:
    """Each protocol has its own form of names and of errors."""
    url = echo.url("gemini") + "/models"
    (model,) = requests.get(url).json()["models"]
    assert model["name"] == "models/echo"
    assert requests.get(f"{url}/echo").json() == model
    for version in ("v1", "v1beta"):
        assert requests.get(f"{echo.url()}/gemini/{version}/models").json() == {"models": [model]}
    missing = requests.get(f"{url}/nothing")
    assert (missing.status_code, missing.json()["error"]["status"]) == (404, "NOT_FOUND")
    url = echo.url("ollama") + "/api"
    for path in ("tags", "ps"):
        (model,) = requests.get(f"{url}/{path}").json()["models"]
        assert (model["name"], model["model"], len(model["digest"])) == ("echo", "echo", 64)
    assert requests.get(f"{url}/version").json()["version"].count(".") == 2
    shown = requests.post(f"{url}/show", json={"model": "echo:latest"}).json()
    assert "tools" in shown["capabilities"]
    missing = requests.post(f"{url}/show", json={"model": "nothing"})
    assert missing.status_code == 404
    assert missing.json() == {"error": "there is no model 'nothing'; available models: echo"}
    assert requests.post(f"{url}/show", json={}).status_code == 400
    assert requests.post(f"{url}/show", data='{"model": "echo"}').status_code == 415


@pytest.mark.parametrize("name", PATHS)
def test_deltas_are_sent_at_once(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """Each delta reaches the client before the engine yields the next one."""
    gateway, engine = scripted
    engine.script.put("first")
    with post(gateway, name) as response:
        received = b""
        for word in ("first", "second", "third"):
            while word.encode() not in received:
                received += response.raw.read1()
            engine.script.put({"first": "second", "second": "third"}.get(word))


def test_streams_are_not_mixed() -> None:
    """Each of 32 concurrent streams gets its own answer, and none waits for another."""
    barrier = threading.Barrier(32)

    class Together(EchoEngine):
        def answer(self, *args: Any) -> Iterator[EngineEvent]:
            barrier.wait(WAIT_S)
            for event in super().answer(*args):
                yield event
                barrier.wait(WAIT_S)

    names = (list(PATHS) * 8)[:32]
    with serve(Together()) as gateway, ThreadPoolExecutor(32) as pool:

        def ask(i: int) -> str:
            return text_of(names[i], post(gateway, names[i], f"question {i}").content.decode())

        assert list(pool.map(ask, range(32))) == [f"You said: question {i}" for i in range(32)]


# --- failures of the engine

FAILED = "the engine failed; see the gateway's log"


@pytest.mark.parametrize("name", PATHS)
def test_engine_fails_before_first_delta(
    scripted: tuple[Gateway, Scripted], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure before the first delta is a 400 for the caller's mistake, else a logged 500."""
    gateway, engine = scripted
    engine.script.put(InvalidRequestError("too long"))
    response = post(gateway, name)
    assert (response.status_code, error_of(response.json())) == (400, "too long")
    assert not caplog.records

    engine.script.put(RuntimeError("secret path"))
    response = post(gateway, name)
    assert response.status_code == 500
    expected: dict[str, Any] = {
        "anthropic": {"type": "error", "error": {"type": "api_error", "message": FAILED}},
        "gemini": {"error": {"code": 500, "message": FAILED, "status": "INTERNAL"}},
        "ollama": {"error": FAILED},
    }
    of_openai = {"type": "server_error", "param": None, "code": "engine_failed"}
    assert response.json() == expected.get(name, {"error": {"message": FAILED, **of_openai}})
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert "secret path" in caplog.text


def test_engine_fails_in_unstreamed_answer(scripted: tuple[Gateway, Scripted]) -> None:
    """In an answer that is not streamed, a late failure also gets a status."""
    gateway, engine = scripted
    engine.script.put("Hi")
    engine.script.put(RuntimeError("broken"))
    response = post(gateway, "openai", stream=False)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "engine_failed")


@pytest.mark.parametrize("name", sorted(PATHS.keys() - {"ai365vip"}))
def test_engine_fails_after_first_delta(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """In a stream of events or lines the failure is one, and the end marker is missing."""
    gateway, engine = scripted
    engine.script.put("Hi")
    engine.script.put(RuntimeError("broken"))
    body = post(gateway, name).text
    assert error_of(events(body)[-1]) == FAILED
    assert END_MARKS[name] not in body


@pytest.mark.parametrize("status", [400, 413, 422, 429, 503, 529])
def test_engine_refused_by_its_server(scripted: tuple[Gateway, Scripted], status: int) -> None:
    """These statuses of the server behind the engine are forwarded, with its message."""
    gateway, engine = scripted
    engine.script.put(APIStatusError("not now", status_code=status))
    response = post(gateway, "anthropic", stream=False)
    assert response.status_code == status
    assert response.json()["error"]["message"] == "not now"
    assert response.headers["request-id"].startswith("req_")


def test_engine_fails_in_plain_text(scripted: tuple[Gateway, Scripted]) -> None:
    """Plain text cannot carry an error: the HTTP framing shows that the answer is incomplete."""
    gateway, engine = scripted
    engine.script.put("Hi")
    with post(gateway, "ai365vip") as response:
        assert response.raw.read1() == b"Hi"
        engine.script.put(RuntimeError("broken"))
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(response.iter_content(None))


def test_unexpected_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An engine that fails at the start gives a 500; the traceback goes only to the log."""

    class Broken(EchoEngine):
        def answer(self, *args: Any) -> Iterator[EngineEvent]:
            raise KeyError("not a generator")

    with serve(Broken()) as gateway:
        assert post(gateway, "openai").status_code == 500
    assert "KeyError" in caplog.text
