"""The plugin of ``llm``: the real command, its files and its logs, against a real server."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from llm_kit import MODEL, OWN, WAIT_S, Llm, llm_at

from providers_sync import PROVIDERS
from providers_sync.gateway import SERVED
from providers_sync.llm_plugin.settings import make_provider
from providers_sync.providers.settings import api_key_of
from providers_sync.testing import (
    answer,
    event,
    finish,
    reasoning,
    serve,
    stall,
    status,
    text,
    tool_call,
    wait,
)

pytestmark = pytest.mark.timeout(180)
"""Each command starts a Python of its own, which a busy machine delays."""
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CACHED = {"prompt_tokens_details": {"cached_tokens": 3}}
CACHE = '{"cached_tokens": 3}'
SECRET = "sk-secret-of-the-test"
PROTOCOLS = ("openai", "responses", "anthropic", "gemini", "ollama")


# --- keys


def test_keys_of_llm_go_to_the_vendors_address_only(tmp_path):
    """``llm keys`` is for the vendor or its variable; another address gets a key by ``--key``."""
    with serve(lambda _: [text("Hello")]) as server:
        llm = llm_at(tmp_path, server.url)
        llm.run("keys", "set", "openai", "--value", SECRET)
        llm.run("-m", MODEL, "Hi")
        llm.run("-m", "providers-sync/responses/qwen3", "Hi")
        llm.run("-m", MODEL, "Hi", "--key", "other")
        llm.run("-m", MODEL, "Hi", "-o", "base_url", server.url + "/else")
        llm.run("-m", MODEL, "Hi", "-o", "base_url", server.url + "/else", "--key", "other")
    sent = [request.headers.get("Authorization") for request in server.requests]
    assert sent == [f"Bearer {SECRET}", f"Bearer {SECRET}", "Bearer other", None, "Bearer other"]
    for path in (tmp_path / "llm").iterdir():
        assert path.name == "keys.json" or SECRET.encode() not in path.read_bytes()


def test_without_a_key_of_llm_that_of_the_environment_is_used(tmp_path):
    """A local server needs none at all; a rejected request says where a key could come from."""
    with serve([answer("Hello"), status(401)]) as server:
        llm_at(tmp_path, server.url, OPENAI_API_KEY="from-environment").run("-m", MODEL, "Hi")
        error = llm_at(tmp_path, server.url).run("-m", MODEL, "Hi", code=1)[1]
    assert server.requests[0].headers["Authorization"] == "Bearer from-environment"
    assert "Authorization" not in server.requests[1].headers
    assert "no key was set: use --key or llm keys set openai or OPENAI_API_KEY" in error
    assert "api_key" not in error


def test_a_kept_key_that_is_held_back_is_mentioned(tmp_path):
    """And goes to the address if ``--key`` gives it, by itself or by its name."""
    with serve(lambda _: status(401)) as server:
        llm = llm_at(tmp_path, server.url)
        llm.run("keys", "set", "openai", "--value", SECRET)
        command = ("-m", MODEL, "Hi", "-o", "base_url", server.url + "/else")
        error = llm.run(*command, code=1)[1]
        for key in (SECRET, "openai"):
            assert "--key" not in llm.run(*command, "--key", key, code=1)[1]
        assert "--key" not in llm.run("-m", MODEL, "Hi", code=1)[1]
    assert error.endswith("llm keeps for openai is not sent to this address: use --key\n")
    assert "api_key" not in error
    sent = [request.headers.get("Authorization") for request in server.requests]
    assert sent == [None, *[f"Bearer {SECRET}"] * 3]


@pytest.mark.parametrize(
    ("provider", "address", "is_sent"),
    [
        ("groq", "https://api.groq.com/openai/v1", True),
        ("groq", "https://api.groq.com.example.org/v1", False),
        ("groq", "http://127.0.0.1:8000/v1", False),
        ("openai", "https://api.openai.com/v1/", True),
        ("ollama", "https://ollama.com", True),
        ("ollama", "https://ollama.example.org", False),
    ],
)
def test_a_kept_key_goes_to_the_vendor_only(tmp_path, monkeypatch, provider, address, is_sent):
    """Whatever address ``-o base_url`` gives."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    (tmp_path / "keys.json").write_text(json.dumps({provider: SECRET}))
    with make_provider(provider, "m", {"base_url": address}, None) as made:
        assert api_key_of(made) == (SECRET if is_sent else None)


def test_listing_models_sends_nothing(tmp_path):
    """``llm models`` and ``llm --version`` ask no server, and the latter loads nothing of ours."""
    with serve([]) as server:
        llm = llm_at(tmp_path, server.url)
        assert "providers-sync/groq\n" in llm.run("models", "-q", "providers-sync")[0]
    assert server.connections == []
    code = (
        "import sys, llm.cli, llm; llm.plugins.load_plugins(); "
        "print('llm_providers_sync' in sys.modules, 'providers_sync' in sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env=Llm(tmp_path).environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "True False\n"


# --- the answer


def test_every_provider_answers_over_the_gateway(tmp_path, echo):
    """Also those whose services are gone."""
    addresses = {PROVIDERS[name].base_url_variable: echo.url(name) for name in SERVED}
    addresses["OPENAI_BASE_URL"] = echo.url("openai")
    llm = Llm(tmp_path, **addresses)
    for name in SERVED:
        model = f"providers-sync/{name}" + ("/echo" if PROVIDERS[name].sends_model else "")
        if PROVIDERS[name].models:
            model = f"providers-sync/{name}"
        assert llm.run("-m", model, "Hi")[0] == "You said: Hi\n", name


def test_a_chat_goes_on_in_one_process(tmp_path):
    """``llm chat`` sends what was said before."""
    with (
        serve([answer("One"), answer("Two")]) as server,
        llm_at(tmp_path, server.url).start("chat", "-m", MODEL, stdin=subprocess.PIPE) as process,
    ):
        out, _ = process.communicate(b"Hi\nMore\nexit\n", timeout=WAIT_S)
    assert b"One" in out
    assert b"Two" in out
    sent = [message["content"] for message in server.requests[1].json()["messages"]]
    assert sent == ["Hi", "One", "More"]


def test_chunks_are_printed_while_the_answer_runs(tmp_path):
    """The first word is there while the server holds back the second one."""
    go_on = threading.Event()
    with (
        serve(["One", wait(go_on), " two"]) as server,
        llm_at(tmp_path, server.url).start("-m", MODEL, "Hi") as process,
    ):
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"One"
        go_on.set()
        assert process.communicate(timeout=WAIT_S)[0] == b" two\n"


@pytest.mark.parametrize(
    "script", [["One", stall()], answer(before=[stall()])], ids=["answering", "before its headers"]
)
def test_ctrl_c_stops_the_model(tmp_path, script):
    """The server sees the connection closed within a second."""
    with (
        serve([script]) as server,
        llm_at(tmp_path, server.url).start("-m", MODEL, "Hi", **OWN) as process,
    ):
        assert process.stdout is not None
        server.wait_request(timeout=WAIT_S)
        if isinstance(script, list):
            assert os.read(process.stdout.fileno(), 100) == b"One"
        os.killpg(process.pid, signal.SIGINT)
        assert server.wait_closed() < 1
        assert server.connections[0].closed_by == "client"
        assert b"Abort" in process.communicate(timeout=WAIT_S)[1]
        assert process.returncode == 1


def test_options_usage_and_reasoning(tmp_path):
    """What ``-o`` sets is sent; what the server counts and thinks is shown and logged."""
    counts = {"prompt_tokens": 5, "completion_tokens": 7}
    counted = event({"choices": [], "usage": {**counts, **CACHED}})
    with serve([reasoning("Hm."), text("Hello"), finish(), counted]) as server:
        llm = llm_at(tmp_path, server.url)
        options = {
            "temperature": "0.2",
            "max_tokens": "9",
            "stop": '["a", "b"]',
            "extra_body": '{"top_k": 5}',
        }
        flags = [word for name, value in options.items() for word in ("-o", name, value)]
        out, error = llm.run("-m", MODEL, "-s", "Be brief.", "Hi", "-u", *flags)
        log = llm.logs()[0]
    assert (out, error) == ("Hello\n", f"Hm.\nToken usage: 5 input, 7 output, {CACHE}\n")
    body = server.requests[0].json()
    assert (body["temperature"], body["max_tokens"], body["top_k"]) == (0.2, 9, 5)
    assert body["stop"] == ["a", "b"]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (log["input_tokens"], log["output_tokens"]) == (5, 7)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("extra_body", "[1]"), "extra_body must be a JSON object"),
        (("extra_body", "{"), "extra_body is not JSON"),
        (("timeout", "0"), "timeout\n  Input should be greater than 0"),
        (("retry", "0"), "retry\n  Input"),
        (("base_url", ""), "base_url"),
        (("base_url", "https://a:b@example.org"), "must not contain a user"),
        (("temprature", "1"), "Extra inputs are not permitted"),
    ],
)
def test_bad_options_are_errors_before_anything_is_sent(tmp_path, option, words):
    """The error names the option."""
    with serve([]) as server:
        assert (
            words in llm_at(tmp_path, server.url).run("-m", MODEL, "Hi", "-o", *option, code=1)[1]
        )
    assert server.requests == []


# --- schemas, tools, files: over every protocol


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_schema_gets_json(tmp_path, protocol):
    """An answer that does not validate is asked for once more."""
    with serve([answer("Sorry?"), answer('{"name": "Rex", "age": 3}')]) as server:
        out, _ = llm_at(tmp_path, server.url).run(
            *("-m", f"providers-sync/{protocol}/m", "--schema", "name, age int", "A dog")
        )
    assert json.loads(out) == {"name": "Rex", "age": 3}
    assert '"age"' in json.dumps(server.requests[0].json())
    assert len(server.requests) == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tools_are_called_and_their_results_sent(tmp_path, protocol):
    """``llm`` calls the function; the second request has the call and its result."""
    call = tool_call("multiply", {"x": 6, "y": 7}, id="call_1")
    with serve([[call], [text("It is 42.")], [text("Yes.")]]) as server:
        llm = llm_at(tmp_path, server.url)
        model = f"providers-sync/{protocol}/m"
        function = "def multiply(x: int, y: int) -> int:\n    return x * y"
        assert llm.run("-m", model, "6 x 7?", "--functions", function)[0].endswith("It is 42.\n")
        assert llm.run("-c", "Sure?")[0] == "Yes.\n"
    first, second, third = (json.dumps(request.json()) for request in server.requests)
    assert '"multiply"' in first
    assert "42" in second
    assert "42" in third
    assert "Sure?" in third
    if protocol == "openai":
        result = server.requests[1].json()["messages"][-1]
        assert result == {"role": "tool", "tool_call_id": "call_1", "content": "42"}


def test_no_tool_is_called_from_an_answer_that_is_not_whole(tmp_path):
    """A limit may have ended it before another call."""
    call = tool_call("note", {"text": "x"})
    with serve([[text("I will."), call, finish("length")]]) as server:
        function = "def note(text: str):\n    open('called', 'w')"
        out, error = llm_at(tmp_path, server.url).run("-m", MODEL, "Hi", "--functions", function)
    assert out == "I will.\n"
    assert "its tool calls were not executed" in error
    assert not (tmp_path / "called").exists()


def test_files_are_sent_and_stay_in_the_conversation(tmp_path):
    """A path, and an address; ``-c`` sends them again."""
    (tmp_path / "dot.png").write_bytes(PNG)
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    with serve(lambda _: [text("A dot.")]) as server:
        llm = llm_at(tmp_path, server.url)
        llm.run("-m", MODEL, "What is it?", "-a", "dot.png")
        llm.run("-c", "Sure?")
        address = "http://example.org/picture"
        llm.run("-m", MODEL, "And this?", "--at", address, "image/png")
    first, second, third = (request.json()["messages"] for request in server.requests)
    image = {"type": "image_url", "image_url": {"url": data}}
    assert first[0]["content"] == [{"type": "text", "text": "What is it?"}, image]
    assert second[0] == first[0]
    assert third[0]["content"][1]["image_url"]["url"] == address


def test_a_text_only_provider_refuses_files(tmp_path):
    """``llm`` knows what each provider takes."""
    (tmp_path / "dot.png").write_bytes(PNG)
    error = Llm(tmp_path).run("-m", "providers-sync/vitalentum", "Hi", "-a", "dot.png", code=1)[1]
    assert "does not support attachments" in error
