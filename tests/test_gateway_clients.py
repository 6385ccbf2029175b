"""Tests of the gateway with clients that disconnect, and with the package's own providers."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from gateway_kit import WAIT_S, Endless, Scripted, body_of, connect

from providers_sync import PROVIDERS, Provider
from providers_sync.errors import AuthenticationError, ServerError, StreamCut
from providers_sync.gateway import SERVED, Gateway, serve

# --- clients that disconnect


@pytest.mark.parametrize("name", ["openai", "anthropic", "ai365vip", "gemini", "ollama"])
@pytest.mark.parametrize("words", [[], ["one", "two"]], ids=["before the first delta", "after it"])
def test_disconnect_stops_silent_engine(
    scripted: tuple[Gateway, Scripted], name: str, words: list[str]
) -> None:
    """An engine that yields nothing is stopped within a second of the disconnect."""
    gateway, engine = scripted
    with connect(gateway, name) as client:
        assert engine.started.wait(WAIT_S)
        received = b""
        for word in words:
            engine.script.put(word)
            while word.encode() not in received:
                received += client.recv(65536)
    assert engine.stopped.wait(1.0)
    assert engine.cancelled


def test_disconnect_stops_unstreamed_answer(scripted: tuple[Gateway, Scripted]) -> None:
    """A client that waits for an answer without streaming is watched, too."""
    gateway, engine = scripted
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            gateway.url("v1") + "/chat/completions",
            json=body_of("openai", stream=False),
            timeout=0.1,
        )
    assert engine.started.is_set()
    assert engine.stopped.wait(1.0)


@pytest.mark.parametrize("reads", [True, False], ids=["reading", "not reading"])
def test_disconnect_stops_endless_engine(reads: bool) -> None:
    """An endless answer is stopped, even if the client's buffers are full and the engine waits."""
    engine = Endless()
    engine.text = "word " if reads else "x" * 100_000
    with serve(engine) as gateway:
        with connect(gateway, "ai365vip") as client:
            assert engine.started.wait(WAIT_S)
            if reads:
                assert b"word" in client.recv(65536) + client.recv(65536)
        assert engine.stopped.wait(1.0)


# --- the package's own providers


def client(gateway: Gateway, name: str, **options: Any) -> Provider:
    """Return one of the package's providers, connected to the gateway."""
    model = None if PROVIDERS[name].models else "echo"
    return PROVIDERS[name](model, base_url=gateway.url(name), **options)


@pytest.mark.parametrize("name", SERVED)
def test_client_reads_complete_answer(name: str) -> None:
    """Provider and gateway work together, token included; the outcome is as documented."""
    with serve(token="s3cret") as gateway:
        answer = client(gateway, name, api_key="s3cret").complete('Привет 😀 "q"\n x')
        with pytest.raises(AuthenticationError, match="a valid token is required"):
            client(gateway, name).complete("Hi")
    assert answer.text == 'You said: Привет 😀 "q"\n x'
    assert answer.outcome == ("unverified" if name == "ai365vip" else "complete")
    reasons = {"ai365vip": None, "anthropic": "end_turn", "gemini": "STOP"}
    assert answer.finish_reason == reasons.get(name, "stop")


@pytest.mark.parametrize("name", SERVED)
def test_client_raises_after_late_failure(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """A failure after the first delta raises, and the error holds the text so far."""
    gateway, engine = scripted
    engine.script.put("Hi")
    engine.script.put(RuntimeError("broken"))
    with pytest.raises(StreamCut if name == "ai365vip" else ServerError) as caught:
        client(gateway, name).complete("Hello")
    assert caught.value.partial == "Hi"


@pytest.mark.parametrize("name", SERVED)
def test_client_cancel_stops_engine(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """Cancelling the client's stream stops the engine behind the gateway."""
    gateway, engine = scripted
    engine.script.put("Hi")
    with client(gateway, name).stream("Hello") as stream:
        assert next(stream) == "Hi"
        stream.cancel()
    assert engine.stopped.wait(1.0)
    assert engine.cancelled
