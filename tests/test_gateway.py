"""The gateway over real loopback sockets, asked by ``requests``, bare sockets and our providers."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from providers_sync import AI365VIP, CodeLinkAva, OpenAICompatible, Provider, Vitalentum
from providers_sync.engines import EchoEngine, Piece
from providers_sync.errors import AuthenticationError, InvalidRequestError, ServerError, StreamCut
from providers_sync.gateway import Gateway, serve
from providers_sync.stream import CancelToken
from providers_sync.types import Finish, Messages, Usage

WAIT_S = 5.0
"""For what must happen, but not within a promised time."""
PATHS = {
    "vitalentum": "/vitalentum/api/converse-edge",
    "codelinkava": "/codelinkava/api/chat",
    "ai365vip": "/ai365vip/api/chat",
    "openai": "/v1/chat/completions",
}


class Scripted(EchoEngine):
    """An engine that says what the test puts into ``pieces``, and is silent until then."""

    def __init__(self) -> None:
        self.pieces: queue.SimpleQueue[Piece | Exception | None] = queue.SimpleQueue()
        self.started = threading.Event()
        self.stopped = threading.Event()
        self.cancelled = False
        self.closed = 0

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[Piece]:
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
    ) -> Iterator[Piece]:
        self.started.set()
        try:
            while not cancel.cancelled:
                yield self.word
        finally:
            self.stopped.set()


@pytest.fixture
def echo() -> Iterator[Gateway]:
    """A gateway with the echo engine."""
    with serve() as gateway:
        yield gateway


@pytest.fixture
def scripted() -> Iterator[tuple[Gateway, Scripted]]:
    """A gateway whose engine says what the test tells it to."""
    engine = Scripted()
    with serve(engine) as gateway:
        yield gateway, engine


def body_of(name: str, text: str = "Hi", **fields: Any) -> dict[str, Any]:
    """Return a request body of a protocol."""
    messages = [{"role": "user", "content": text}]
    if name == "vitalentum":
        history = [{"speaker": "human", "text": text}]
        return {"conversation": json.dumps({"history": history}), **fields}
    if name == "ai365vip":
        model = {"id": "gpt-3.5-turbo-16k", "name": "GPT-3.5"}
        return {"model": model, "messages": messages, "key": "", "prompt": "", **fields}
    return {"model": "echo", "messages": messages, "stream": True, **fields}


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


def text_of(name: str, body: str) -> str:
    """Return the text in a body, read the plain way."""
    if name == "ai365vip":
        return body
    events = [event.removeprefix("data: ") for event in body.split("\n\n")]
    chunks = [json.loads(event) for event in events if event.startswith("{")]
    return "".join(
        choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]
    )


# --- answers


@pytest.mark.parametrize("name", PATHS)
def test_answer_echoes_question(echo: Gateway, name: str) -> None:
    """Every protocol carries the question there and the answer back, character by character."""
    question = 'Привет 😀 "q"\n  line2 '
    response = post(echo, name, question)
    assert response.status_code == 200
    body = response.content.decode()
    assert text_of(name, body) == "You said: " + question
    assert body.endswith("data: [DONE]\n\n") is (name != "ai365vip")


def test_answer_limited_words(echo: Gateway) -> None:
    """The echo counts ``max_tokens`` in words and says why it stopped."""
    body = body_of("openai", "one two three", stream=False, max_tokens=3)
    answer = requests.post(echo.url("openai") + "/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "You said: one "
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


def test_answer_content_parts(echo: Gateway) -> None:
    """The echo reads text parts, and the last user message wherever it stands."""
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
    """Usage is sent where it is asked for, and the finish reason is the engine's."""
    gateway, engine = scripted
    for piece in ("Hi", Usage(1, 2, 3), Finish("length"), None):
        engine.pieces.put(piece)
    body = post(gateway, "openai", stream_options={"include_usage": True}).text
    assert '"finish_reason":"length"' in body
    assert '"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}' in body
    assert not engine.cancelled, "an answer that came to its end was cancelled"


def test_models_are_listed(echo: Gateway) -> None:
    """``/v1/models`` lists the engine's names, and ``/`` says what is served."""
    models = requests.get(echo.url("v1") + "/models").json()
    assert [model["id"] for model in models["data"]] == ["echo"]
    page = requests.get(echo.url())
    assert page.headers["Content-Type"].startswith("text/plain")
    assert all(path in page.text for path in PATHS.values())


@pytest.mark.parametrize("name", PATHS)
def test_chunks_leave_as_made(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """Each piece reaches the client before the engine makes the next one."""
    gateway, engine = scripted
    engine.pieces.put("first")
    with post(gateway, name) as response:
        received = b""
        for word in ("first", "second", "third"):
            while word.encode() not in received:
                received += response.raw.read1()
            engine.pieces.put({"first": "second", "second": "third"}.get(word))


def test_streams_are_not_mixed() -> None:
    """32 streams at once each get their own answer, none waiting for another."""
    together = threading.Barrier(32)

    class Together(EchoEngine):
        def answer(self, *args: Any) -> Iterator[Piece]:
            together.wait(WAIT_S)
            for piece in super().answer(*args):
                yield piece
                together.wait(WAIT_S)

    names = list(PATHS) * 8
    with serve(Together()) as gateway, ThreadPoolExecutor(32) as pool:

        def ask(i: int) -> str:
            return text_of(names[i], post(gateway, names[i], f"question {i}").content.decode())

        assert list(pool.map(ask, range(32))) == [f"You said: question {i}" for i in range(32)]


# --- clients that go away


@pytest.mark.parametrize("name", ["openai", "ai365vip"])
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


# --- failures of the engine


@pytest.mark.parametrize("name", PATHS)
def test_engine_fails_before_first_piece(
    scripted: tuple[Gateway, Scripted], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure that comes first is a status: 400 for the caller's mistake, else 500 and a log."""
    gateway, engine = scripted
    engine.pieces.put(InvalidRequestError("too long"))
    response = post(gateway, name)
    assert (response.status_code, response.json()["error"]["message"]) == (400, "too long")
    assert not caplog.records

    engine.pieces.put(RuntimeError("secret path"))
    response = post(gateway, name)
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert "secret path" in caplog.text


def test_engine_fails_in_whole_answer(scripted: tuple[Gateway, Scripted]) -> None:
    """Where nothing has been sent, a late failure is a status, too."""
    gateway, engine = scripted
    engine.pieces.put("Hi")
    engine.pieces.put(RuntimeError("broken"))
    response = post(gateway, "openai", stream=False)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "engine_failed")


@pytest.mark.parametrize("name", ["vitalentum", "codelinkava", "openai"])
def test_engine_fails_after_first_piece(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """In a stream of events the failure is an event, and the end marker is missing."""
    gateway, engine = scripted
    engine.pieces.put("Hi")
    engine.pieces.put(RuntimeError("broken"))
    body = post(gateway, name).text
    assert json.loads(body.split("\n\n")[-2].removeprefix("data: "))["error"]["code"]
    assert "[DONE]" not in body


def test_engine_fails_in_plain_text(scripted: tuple[Gateway, Scripted]) -> None:
    """Plain text has no place for an error: the framing shows the cut."""
    gateway, engine = scripted
    engine.pieces.put("Hi")
    with post(gateway, "ai365vip") as response:
        assert response.raw.read1() == b"Hi"
        engine.pieces.put(RuntimeError("broken"))
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(response.iter_content(None))


def test_unexpected_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An engine that cannot even begin is a 500, and the traceback stays here."""

    class Broken(EchoEngine):
        def answer(self, *args: Any) -> Iterator[Piece]:
            raise KeyError("not a generator")

    with serve(Broken()) as gateway:
        assert post(gateway, "openai").status_code == 500
    assert "KeyError" in caplog.text


# --- our own clients


CLIENTS = {
    "vitalentum": Vitalentum,
    "codelinkava": CodeLinkAva,
    "ai365vip": AI365VIP,
    "openai": OpenAICompatible,
}


def client(gateway: Gateway, name: str, **options: Any) -> Provider:
    """Return a provider of ours that speaks to the gateway."""
    model = "echo" if name == "openai" else None
    return CLIENTS[name](model, base_url=gateway.url(name), **options)


@pytest.mark.parametrize("name", CLIENTS)
def test_client_reads_whole_answer(name: str) -> None:
    """Client and gateway understand each other, token included; the verdict is as promised."""
    with serve(token="s3cret") as gateway:
        answer = client(gateway, name, api_key="s3cret").complete('Привет 😀 "q"\n x')
        with pytest.raises(AuthenticationError, match="a token is wanted"):
            client(gateway, name).complete("Hi")
    assert answer.text == 'You said: Привет 😀 "q"\n x'
    assert answer.outcome == ("unverified" if name == "ai365vip" else "complete")
    assert answer.finish_reason == (None if name == "ai365vip" else "stop")


@pytest.mark.parametrize("name", CLIENTS)
def test_client_learns_of_late_failure(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """A failure after the first piece is never a good end, and the text so far is kept."""
    gateway, engine = scripted
    engine.pieces.put("Hi")
    engine.pieces.put(RuntimeError("broken"))
    with pytest.raises(StreamCut if name == "ai365vip" else ServerError) as caught:
        client(gateway, name).complete("Hello")
    assert caught.value.partial == "Hi"


@pytest.mark.parametrize("name", CLIENTS)
def test_client_cancel_stops_engine(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """Cancelling the client's stream stops the engine behind the gateway."""
    gateway, engine = scripted
    engine.pieces.put("Hi")
    with client(gateway, name).stream("Hello") as stream:
        assert next(stream) == "Hi"
        stream.cancel()
    assert engine.stopped.wait(1.0)
    assert engine.cancelled


# --- who may ask


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/nothing", {}, 404, "not_found"),
        ("POST", "/v1/completions", {"json": {}}, 404, "not_found"),
        ("GET", PATHS["openai"], {}, 405, "method_not_allowed"),
        ("OPTIONS", PATHS["openai"], {}, 405, "method_not_allowed"),
        ("POST", PATHS["openai"], {"data": "{}"}, 415, "not_json"),
        ("POST", PATHS["openai"], {"data": {"a": "b"}}, 415, "not_json"),
        ("POST", PATHS["openai"], {"data": "{}", "type": "text/plain"}, 415, "not_json"),
        ("POST", PATHS["openai"], {"data": "{", "type": "application/json"}, 400, "invalid_json"),
        ("POST", PATHS["openai"], {"data": b"\xff", "type": "application/json"}, 400, None),
        (
            "POST",
            PATHS["openai"],
            {"data": '{"temperature": NaN}', "type": "application/json"},
            400,
            "invalid_json",
        ),
        ("POST", PATHS["openai"], {"data": "[" * 99_999, "type": "application/json"}, 400, None),
        ("POST", PATHS["vitalentum"], {"json": {}}, 400, None),
        (
            "POST",
            PATHS["codelinkava"],
            {"data": " " * (17 * 1024 * 1024), "type": "application/json"},
            413,
            "request_entity_too_large",
        ),
    ],
)
def test_bad_request_is_json(
    echo: Gateway, method: str, path: str, options: dict[str, Any], status: int, code: str | None
) -> None:
    """A bad request gets its status and an error in JSON."""
    if "type" in options:
        options = {**options, "headers": {"Content-Type": options["type"]}}
        del options["type"]
    response = requests.request(method, echo.url() + path, timeout=WAIT_S, **options)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "code"}
    assert error["message"]
    assert code is None or error["code"] == code


def test_broken_http_is_json(echo: Gateway) -> None:
    """What the HTTP server itself refuses is JSON as well."""
    with socket.create_connection(("127.0.0.1", echo.port), timeout=WAIT_S) as client:
        client.sendall(b"GET / HTTP/1.1\r\nbroken\r\n\r\n")
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.0 400")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:65000", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("localhost.evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil.example:localhost", 403),
        ("", 403),
    ],
)
def test_host_header(echo: Gateway, host: str, status: int) -> None:
    """Only this machine's names are answered to: a hostile page cannot borrow the gateway."""
    response = requests.get(echo.url(), headers={"Host": host})
    assert response.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic clé"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({"Authorization": "Bearer clé"}, 200),
        ({"authorization": "bearer clé"}, 200),
        ({"x-api-key": "clé"}, 200),
    ],
)
def test_token_is_wanted(headers: dict[str, str], status: int) -> None:
    """A token given is wanted for everything, on this machine, too."""
    with serve(token="clé") as gateway:
        sent = {name: value.encode() for name, value in headers.items()}
        response = requests.get(gateway.url(), headers=sent)
    assert response.status_code == status
    if status == 401:
        assert response.json()["error"]["type"] == "authentication_error"
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_token_opens_other_addresses() -> None:
    """Reachable by others only with a token, and then by any name."""
    for host in ("0.0.0.0", "::", "127.0.0.2", ""):
        with pytest.raises(InvalidRequestError, match="token"):
            serve(host=host)
    with serve(host="0.0.0.0", token="s3cret") as gateway:
        headers = {"Host": "gpu-box.example:8000", "x-api-key": "s3cret"}
        assert requests.get(gateway.url(), headers=headers).status_code == 200


# --- start and stop


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "parrot"}, "there is no engine 'parrot'"),
        ({"model": "m.gguf"}, "model names the weights of the local engine"),
        ({"token": ""}, "token must be text"),
        ({"port": 70_000}, "port must be a number from 0 to 65535"),
    ],
)
def test_serve_wrong_setting(options: dict[str, Any], message: str) -> None:
    """Settings that cannot work are refused where they are given."""
    with pytest.raises(InvalidRequestError, match=message):
        serve(**options)


def test_serve_taken_port(echo: Gateway) -> None:
    """A port in use is named in the error."""
    with pytest.raises(InvalidRequestError, match=f"port {echo.port} "):
        serve(port=echo.port)


def test_url_names(echo: Gateway) -> None:
    """``url`` gives the address for each provider."""
    root = f"http://127.0.0.1:{echo.port}"
    assert echo.url() == root
    assert echo.url("vitalentum") == root + "/vitalentum"
    assert echo.url("ai365vip") == root + "/ai365vip"
    assert echo.url("openai") == echo.url("v1") == root + "/v1"
    with pytest.raises(InvalidRequestError, match="it serves v1, openai, vitalentum"):
        echo.url("unknown")


def open_files() -> Sequence[str]:
    """Return the descriptors of this process, where the system lists them."""
    with contextlib.suppress(FileNotFoundError):
        return os.listdir("/proc/self/fd")
    return ()


def test_close_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """After ``close`` no thread, no socket, no engine is left; clients see the cut."""
    caplog.set_level(logging.INFO)
    threads, files = threading.active_count(), len(open_files())
    engine = Scripted()
    gateway = serve(engine)
    waiting = threading.Thread(target=gateway.wait, daemon=True)
    waiting.start()
    engine.pieces.put("Hi")
    with post(gateway, "ai365vip") as talking:
        assert talking.raw.read1() == b"Hi"
        engine.started.clear()
        silent = connect(gateway, "openai")
        assert engine.started.wait(WAIT_S)
        gateway.close()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(talking.iter_content(None))
    gateway.close()
    waiting.join(WAIT_S)
    silent.close()
    assert engine.closed == 1
    assert threading.active_count() == threads
    assert len(open_files()) == files
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.port))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_close_then_same_port() -> None:
    """The port is free again at once."""
    with serve() as gateway:
        assert requests.get(gateway.url()).ok
    with serve(port=gateway.port) as again:
        assert requests.get(again.url()).ok


def test_app_on_another_server(echo: Gateway) -> None:
    """The application is plain WSGI: nothing in it needs waitress."""
    from werkzeug.test import Client

    client = Client(echo.app)
    response = client.post(
        PATHS["openai"], json=body_of("openai"), headers={"Host": "localhost"}, buffered=True
    )
    assert text_of("openai", response.text) == "You said: Hi"


def test_import_without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its extra the gateway says which one it is."""
    import sys

    for module in ("providers_sync.gateway", "providers_sync.wsgi"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "werkzeug", None)
    with pytest.raises(ImportError, match=r"pip install 'providers-sync\[gateway\]'"):
        import providers_sync.gateway  # noqa: F401
