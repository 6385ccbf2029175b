"""What the tests of mocking tools share: bodies, hand-made responses, and every way to call."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import requests

from providers_sync import Failover, OpenAICompatible, Outcome, ProviderError, aio, batch
from providers_sync.testing import Server, open_streams, serve

URL = "http://llm.test/v1"
ENDPOINT = f"{URL}/chat/completions"
SSE = {"Content-Type": "text/event-stream"}


def sse(*words: str, end: bool = True) -> bytes:
    """Return the body of a streamed answer; without ``end`` it is truncated."""
    events = [json.dumps({"choices": [{"delta": {"content": word}}]}) for word in words]
    return "".join(f"data: {event}\n\n" for event in [*events, *["[DONE]"] * end]).encode()


HELLO = sse("Hel", "lo")


class OnlyRead:
    """A file with nothing but ``read``, in pieces of a few bytes."""

    def __init__(self, data: bytes, size: int = 7) -> None:
        self._pieces = (data[start : start + size] for start in range(0, len(data), size))

    def read(self, _: int = -1) -> bytes:
        return next(self._pieces, b"")


def response(raw: Any = None, status: int = 200, **settings: Any) -> requests.Response:
    """Return a response made by hand, as tests that patch ``Session.send`` do."""
    made = requests.Response()
    made.status_code, made.raw, made.url = status, raw, ENDPOINT
    made.headers.update(SSE)
    for name, value in settings.items():
        setattr(made, name, value)
    return made


BODIES: dict[str, Callable[[bytes], requests.Response]] = {
    "content": lambda data: response(_content=data),
    "BytesIO": lambda data: response(io.BytesIO(data)),
    "BufferedReader": lambda data: response(io.BufferedReader(io.BytesIO(data))),  # type: ignore[arg-type]
    "read": lambda data: response(OnlyRead(data)),
}


class Answer(NamedTuple):
    """What one call came to, however it was made."""

    text: str
    outcome: Outcome | None
    error: Exception | None = None


def _stream(provider: Any) -> Answer:
    with provider.stream("Hi") as stream:
        text = "".join(stream)
    assert text == stream.text
    return Answer(text, stream.outcome)


def _complete(provider: Any) -> Answer:
    completion = provider.complete("Hi")
    return Answer(completion.text, completion.outcome)


def _batch(provider: Any) -> Answer:
    (result,) = batch.map(provider, ["Hi"])
    return Answer(result.text, result.outcome, result.error)


def _aio_stream(provider: Any) -> Answer:
    async def main() -> Answer:
        stream = aio.stream(provider, "Hi")
        text = "".join([chunk async for chunk in stream])
        return Answer(text, stream.outcome)

    return asyncio.run(main())


def _aio_complete(provider: Any) -> Answer:
    completion = asyncio.run(aio.complete(provider, "Hi"))
    return Answer(completion.text, completion.outcome)


def _failover(provider: Any) -> Answer:
    return _complete(Failover([provider]))


WAYS: dict[str, Callable[[Any], Answer]] = {
    "stream": _stream,
    "complete": _complete,
    "batch": _batch,
    "aio.stream": _aio_stream,
    "aio.complete": _aio_complete,
    "failover": _failover,
}


def ask(provider: Any, way: str = "stream") -> Answer:
    """Return what a call came to; an error of our family is part of it, any other is raised."""
    try:
        answer = WAYS[way](provider)
    except ProviderError as error:
        answer = Answer(error.partial, error.outcome, error)
    assert open_streams() == []
    return answer


def mocked(**settings: Any) -> OpenAICompatible:
    """Return a provider at an address that does not exist."""
    return OpenAICompatible("m", base_url=URL, **settings)


@contextmanager
def real_server() -> Iterator[tuple[Server, OpenAICompatible, str]]:
    """Yield a server that must get no request, a provider for it, and its endpoint."""
    with serve(["The real, paid answer"]) as server:
        url = f"{server.url}/v1"
        yield server, OpenAICompatible("m", base_url=url), f"{url}/chat/completions"
        assert server.connections == []
