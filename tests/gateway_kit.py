"""Helpers of the gateway's tests: engines controlled by the test, requests and raw sockets."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import queue
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests

from providers_sync import InvalidRequestError, Provider
from providers_sync.echo import EchoEngine
from providers_sync.engines import EngineEvent
from providers_sync.gateway import Gateway
from providers_sync.local import LocalEngine
from providers_sync.local_server import find_weights
from providers_sync.stream import CancelToken
from providers_sync.types import Messages

WAIT_S = 5.0
"""Timeout for events that must happen, but not within a guaranteed time."""
PATHS = {
    "vitalentum": "/vitalentum/api/converse-edge",
    "codelinkava": "/codelinkava/api/chat",
    "ai365vip": "/ai365vip/api/chat",
    "openai": "/v1/chat/completions",
    "responses": "/v1/responses",
    "anthropic": "/anthropic/v1/messages",
    "gemini": "/gemini/v1beta/models/echo:streamGenerateContent?alt=sse",
    "ollama": "/api/chat",
}
END_MARKS = {
    "vitalentum": "data: [DONE]\n\n",
    "codelinkava": "data: [DONE]\n\n",
    "ai365vip": "",
    "openai": "data: [DONE]\n\n",
    "responses": '"status":"completed","error":null',
    "anthropic": 'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    "gemini": '"finishReason":"STOP"',
    "ollama": '"done":true',
}
"""The end of a body; those of Responses, Gemini and Ollama are in its last line of text."""


class Scripted(EchoEngine):
    """An engine that yields the events that the test puts into ``script``; ``None`` ends it."""

    def __init__(self, *script: EngineEvent | Exception | None) -> None:
        self.script: queue.SimpleQueue[EngineEvent | Exception | None] = queue.SimpleQueue()
        for event in script:
            self.script.put(event)
        self.started = threading.Event()
        self.stopped = threading.Event()
        self.cancelled = False
        self.closed = 0

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[EngineEvent]:
        self.started.set()
        try:
            while not cancel.cancelled:
                with contextlib.suppress(queue.Empty):
                    event = self.script.get(timeout=0.01)
                    if event is None:
                        return
                    if isinstance(event, Exception):
                        raise event
                    yield event
        finally:
            self.cancelled = cancel.cancelled
            self.stopped.set()

    def close(self) -> None:
        self.closed += 1


class Endless(Scripted):
    """An engine whose answers never end."""

    text = "word "

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[EngineEvent]:
        self.started.set()
        try:
            while not cancel.cancelled:
                yield self.text
        finally:
            self.stopped.set()


class PassingOn(EchoEngine):
    """An engine that passes on the events of a provider's stream, whatever they are."""

    models = ("m",)

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[EngineEvent]:
        yield from self.provider.stream(messages, cancel=cancel).events()


class Recording(LocalEngine):
    """The local engine; it records its last request and when it stopped."""

    last_request: tuple[Messages, dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        self.stopped = threading.Event()

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[EngineEvent]:
        self.last_request = messages, dict(options)
        try:
            yield from super().answer(messages, options, cancel)
        finally:
            self.stopped.set()


def needs_model() -> None:
    """Skip a test that needs the model if it is not installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    try:
        find_weights()
    except InvalidRequestError as error:
        pytest.skip(str(error))


def body_of(name: str, text: str = "Hi", **fields: Any) -> dict[str, Any]:
    """Return a request body of a protocol."""
    messages = [{"role": "user", "content": text}]
    if name == "vitalentum":
        history = [{"speaker": "human", "text": text}]
        return {"conversation": json.dumps({"history": history}), **fields}
    if name == "ai365vip":
        model = {"id": "gpt-3.5-turbo-16k", "name": "GPT-3.5"}
        return {"model": model, "messages": messages, "key": "", "prompt": "", **fields}
    if name == "responses":
        return {"model": "echo", "input": text, "stream": True, **fields}
    if name == "gemini":
        return {"contents": [{"role": "user", "parts": [{"text": text}]}], **fields}
    required = {"max_tokens": 1000} if name == "anthropic" else {}
    return {"model": "echo", "messages": messages, "stream": True, **required, **fields}


def post(gateway: Gateway, name: str, text: str = "Hi", **fields: Any) -> Any:
    """Post a request and return the response with its body unread."""
    body = body_of(name, text, **fields)
    return requests.post(gateway.url() + PATHS[name], json=body, stream=True, timeout=WAIT_S)


def connect(gateway: Gateway, name: str) -> socket.socket:
    """Post a request over a raw socket and return it, with the answer unread."""
    body = json.dumps(body_of(name)).encode()
    client = socket.create_connection(("127.0.0.1", gateway.port), timeout=WAIT_S)
    head = (
        f"POST {PATHS[name]} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    return client


def is_ended(name: str, body: str) -> bool:
    """Return whether the body of a stream has the protocol's end marker at its end."""
    if name in ("responses", "gemini", "ollama"):
        return END_MARKS[name] in body.rstrip("\n").rpartition("\n")[2]
    return body.endswith(END_MARKS[name])


def events(body: bytes | str) -> list[Any]:
    """Parse an event stream without the package's decoders: the JSON after each ``data:``.

    Ollama's is a JSON object in each line.
    """
    text = body if isinstance(body, str) else body.decode()
    if text.startswith("{"):
        return [json.loads(line) for line in text.split("\n")[:-1]]
    data = [event.rpartition("data: ")[2] for event in text.split("\n\n")[:-1]]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def error_of(body: Any) -> str:
    """Return the message of an error's JSON; Ollama's has nothing else."""
    return str(body["error"] if isinstance(body["error"], str) else body["error"]["message"])


def text_of(name: str, body: str) -> str:
    """Return the text of an answer body, parsed without the package's decoders."""
    if name == "ai365vip":
        return body
    objects = [event for event in events(body) if isinstance(event, dict)]
    if name == "anthropic":
        return "".join(event["delta"].get("text", "") for event in objects if "delta" in event)
    if name == "responses":
        return "".join(event["delta"] for event in objects if "delta" in event)
    if name == "ollama":
        return "".join(event["message"]["content"] for event in objects)
    if name == "gemini":
        parts = [event["candidates"][0]["content"]["parts"] for event in objects]
        return "".join(part["text"] for each in parts for part in each)
    return "".join(
        choice["delta"].get("content", "") for event in objects for choice in event["choices"]
    )
