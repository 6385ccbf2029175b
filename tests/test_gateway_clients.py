"""The gateway and its clients: those that go away, and our own providers."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from gateway_kit import WAIT_S, Scripted, Talking, body_of, connect

from providers_sync import PROVIDERS, Provider
from providers_sync.errors import AuthenticationError, ServerError, StreamCut
from providers_sync.gateway import Gateway, serve

# --- clients that go away


@pytest.mark.parametrize("name", ["openai", "anthropic", "ai365vip"])
@pytest.mark.parametrize("said", [[], ["one", "two"]], ids=["before the first piece", "after it"])
def test_disconnect_stops_silent_engine(
    scripted: tuple[Gateway, Scripted], name: str, said: list[str]
) -> None:
    """An engine that says nothing is stopped within a second of its client's leaving."""
    gateway, engine = scripted
    with connect(gateway, name) as client:
        assert engine.started.wait(WAIT_S)
        received = b""
        for word in said:
            engine.pieces.put(word)
            while word.encode() not in received:
                received += client.recv(65536)
    assert engine.stopped.wait(1.0)
    assert engine.cancelled


def test_disconnect_stops_silent_whole_answer(scripted: tuple[Gateway, Scripted]) -> None:
    """A client that waits for a whole answer is watched, too."""
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
def test_disconnect_stops_talking_engine(reads: bool) -> None:
    """So is one that talks, even where the client's buffers are full and the engine waits."""
    engine = Talking()
    engine.word = "word " if reads else "x" * 100_000
    with serve(engine) as gateway:
        with connect(gateway, "ai365vip") as client:
            assert engine.started.wait(WAIT_S)
            if reads:
                assert b"word" in client.recv(65536) + client.recv(65536)
        assert engine.stopped.wait(1.0)


# --- our own clients


def client(gateway: Gateway, name: str, **options: Any) -> Provider:
    """Return a provider of ours that speaks to the gateway."""
    model = "echo" if name in ("openai", "anthropic") else None
    return PROVIDERS[name](model, base_url=gateway.url(name), **options)


@pytest.mark.parametrize("name", PROVIDERS)
def test_client_reads_whole_answer(name: str) -> None:
    """Client and gateway understand each other, token included; the verdict is as promised."""
    with serve(token="s3cret") as gateway:
        answer = client(gateway, name, api_key="s3cret").complete('Привет 😀 "q"\n x')
        with pytest.raises(AuthenticationError, match="a token is wanted"):
            client(gateway, name).complete("Hi")
    assert answer.text == 'You said: Привет 😀 "q"\n x'
    assert answer.outcome == ("unverified" if name == "ai365vip" else "complete")
    ends = {"ai365vip": None, "anthropic": "end_turn"}
    assert answer.finish_reason == ends.get(name, "stop")


@pytest.mark.parametrize("name", PROVIDERS)
def test_client_learns_of_late_failure(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """A failure after the first piece is never a good end, and the text so far is kept."""
    gateway, engine = scripted
    engine.pieces.put("Hi")
    engine.pieces.put(RuntimeError("broken"))
    with pytest.raises(StreamCut if name == "ai365vip" else ServerError) as caught:
        client(gateway, name).complete("Hello")
    assert caught.value.partial == "Hi"


@pytest.mark.parametrize("name", PROVIDERS)
def test_client_cancel_stops_engine(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """Cancelling the client's stream stops the engine behind the gateway."""
    gateway, engine = scripted
    engine.pieces.put("Hi")
    with client(gateway, name).stream("Hello") as stream:
        assert next(stream) == "Hi"
        stream.cancel()
    assert engine.stopped.wait(1.0)
    assert engine.cancelled
