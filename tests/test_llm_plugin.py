"""The plugin of ``llm``: the real command, its files and its logs, against a real server."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from llm_kit import WAIT_S, Llm

from providers_sync import PROVIDERS
from providers_sync.gateway import SERVED
from providers_sync.testing import (
    Request,
    answer,
    cut,
    event,
    finish,
    json_body,
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
MODEL = "providers-sync/openai/qwen3"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CACHED = {"prompt_tokens_details": {"cached_tokens": 3}}
CACHE = '{"cached_tokens": 3}'
OWN = {"start_new_session": True}
"""A process group of its own, which gets Ctrl-C."""
SECRET = "sk-secret-of-the-test"
ADDRESSES = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GEMINI_BASE_URL", "OLLAMA_BASE_URL")
PROTOCOLS = ("openai", "responses", "anthropic", "gemini", "ollama")


def llm_at(folder: Path, url: str, **environment: str) -> Llm:
    """Return an ``llm`` whose providers of every protocol have this address."""
    return Llm(folder, **dict.fromkeys(ADDRESSES, url), **environment)


# --- models and keys


def test_any_model_is_asked_by_its_name_and_found_again(tmp_path):
    """A name that no one has registered works, and ``-c`` and the list know it afterwards."""
    with serve([answer("Hello"), answer("Again")]) as server:
        llm = llm_at(tmp_path, server.url)
        assert llm.run("-m", "providers-sync/openai/org/new-model", "Hi") == ("Hello\n", "")
        assert llm.run("-c", "And now?") == ("Again\n", "")
        assert "providers-sync/openai/org/new-model\n" in llm.run("models")[0]
    first, second = (request.json() for request in server.requests)
    assert first["model"] == second["model"] == "org/new-model"
    assert second["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And now?"},
    ]
    assert "org/new-model" in (tmp_path / "llm/providers-sync-models.txt").read_text()


def test_a_name_that_has_not_answered_is_not_remembered(tmp_path):
    """A mistake in a name stays out of the list of models."""
    with serve([status(404)]) as server:
        llm = llm_at(tmp_path, server.url)
        llm.run("-m", "providers-sync/openai/qwem", "Hi", code=1)
        assert "qwem" not in llm.run("models")[0]


def test_aliases_and_the_default_name_models(tmp_path):
    """Both of ``llm``'s settings work for a model that has never been asked."""
    with serve([answer("One"), answer("Two")]) as server:
        llm = llm_at(tmp_path, server.url)
        llm.run("aliases", "set", "q", MODEL)
        llm.run("models", "default", "providers-sync/openai/other")
        assert llm.run("-m", "q", "Hi")[0] == "One\n"
        assert llm.run("Hi")[0] == "Two\n"
    assert [request.json()["model"] for request in server.requests] == ["qwen3", "other"]


def test_broken_files_of_names_stop_no_command(tmp_path):
    """The plugin ignores what it cannot read: ``llm`` must go on working."""
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm/providers-sync-models.txt").write_text("{")
    assert "providers-sync/openai\n" in Llm(tmp_path).run("models")[0]
    (tmp_path / "llm/providers-sync-models.txt").write_text('[1, "x", "providers-sync/y/z"]')
    assert "providers-sync/y/z" not in Llm(tmp_path).run("models")[0]


def test_without_a_name_the_only_model_of_the_server_answers(tmp_path):
    """With several models the error lists them, and says how to choose one."""

    def script(request: Request) -> Any:
        return [text("Hello")] if request.method == "POST" else models

    with serve(script) as server:
        llm = llm_at(tmp_path, server.url)
        models = json_body({"data": [{"id": "m1"}]})
        assert llm.run("-m", "providers-sync/openai", "Hi")[0] == "Hello\n"
        models = json_body({"data": [{"id": "m1"}, {"id": "m2"}]})
        chosen = {"PROVIDERS_SYNC_PROVIDER": "openai", "PROVIDERS_SYNC_MODEL": "m2"}
        llm_at(tmp_path, server.url, **chosen).run("-m", "providers-sync/openai", "Hi")
        assert server.requests[-1].json()["model"] == "m2"
        error = llm.run("-m", "providers-sync/openai", "Hi", code=1)[1]
    assert "use -m providers-sync/openai/NAME" in error
    assert "m1, m2" in error


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
    assert "llm keys set openai" in error


def test_listing_models_sends_nothing(tmp_path):
    """``llm models`` and ``llm --version`` ask no server, and the latter loads nothing of ours."""
    with serve([]) as server:
        assert "providers-sync/groq\n" in llm_at(tmp_path, server.url).run("models")[0]
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


def test_a_cut_answer_is_an_error_after_its_text(tmp_path):
    """It is not logged as if it were an answer."""
    with serve([text("Hel"), text("lo"), cut()]) as server:
        llm = llm_at(tmp_path, server.url)
        out, error = llm.run("-m", MODEL, "Hi", code=1)
        assert out == "Hello"
        assert error.startswith("\nError: the connection broke")
        assert llm.logs() == []


def test_the_text_of_a_cut_answer_is_not_lost_without_streaming(tmp_path):
    """Standard output is for a whole answer then, so it goes to the other one."""
    with serve([text("Hel\x1b[2Jlo"), cut()]) as server:
        out, error = llm_at(tmp_path, server.url).run("-m", MODEL, "Hi", "--no-stream", code=1)
    assert out == ""
    assert error.startswith("Hel␛[2Jlo\nError: the connection broke")


def test_an_answer_that_a_limit_has_ended_says_so(tmp_path):
    """On standard error: the answer itself is data."""
    with serve([text("Hel"), finish("length")]) as server:
        llm = llm_at(tmp_path, server.url)
        out, error = llm.run("-m", MODEL, "Hi")
        assert out == "Hel\n"
        assert error == (
            "\nproviders-sync: the answer was cut off by a limit on its length "
            "(finish reason length)\n"
        )
        assert llm.logs()[0]["response_json"]["finish_reason"] == "length"


def test_a_timeout_ends_a_silent_answer(tmp_path):
    """The option ``timeout`` is the time of the whole answer, in seconds."""
    with serve(["One", stall()]) as server:
        out, error = llm_at(tmp_path, server.url).run(
            *("-m", MODEL, "Hi", "-o", "timeout", "0.5", "--no-stream"), code=1
        )
    assert out == ""
    assert "total" in error


def test_server_words_in_errors_control_no_terminal(tmp_path):
    """``llm`` prints an error as it is."""
    with serve([status(400, "no \x1b[2J such model")]) as server:
        error = llm_at(tmp_path, server.url).run("-m", MODEL, "Hi", code=1)[1]
    assert "␛[2J such model" in error
    assert "\x1b" not in error


def test_options_usage_and_reasoning(tmp_path):
    """What ``-o`` sets is sent; what the server counts and thinks is shown and logged."""
    counts = {"prompt_tokens": 5, "completion_tokens": 7}
    counted = event({"choices": [], "usage": {**counts, **CACHED}})
    with serve([reasoning("Hm."), text("Hello"), finish(), counted]) as server:
        llm = llm_at(tmp_path, server.url)
        options = {"temperature": "0.2", "max_tokens": "9", "extra_body": '{"top_k": 5}'}
        flags = [word for name, value in options.items() for word in ("-o", name, value)]
        out, error = llm.run("-m", MODEL, "-s", "Be brief.", "Hi", "-u", *flags)
        log = llm.logs()[0]
    assert (out, error) == ("Hello\n", f"Hm.\nToken usage: 5 input, 7 output, {CACHE}\n")
    body = server.requests[0].json()
    assert (body["temperature"], body["max_tokens"], body["top_k"]) == (0.2, 9, 5)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (log["input_tokens"], log["output_tokens"]) == (5, 7)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("extra_body", "[1]"), "extra_body must be a JSON object"),
        (("extra_body", "{"), "extra_body is no JSON"),
        (("timeout", "-1"), "timeouts"),
        (("retry", "0"), "retry"),
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


def test_a_broken_answer_to_a_schema_is_printed_before_its_error(tmp_path):
    """Nothing that the model has said is lost."""
    with serve([text('{"name": "Re'), finish("length")]) as server:
        out, error = llm_at(tmp_path, server.url).run(
            *("-m", MODEL, "--schema", "name str", "A dog"), code=1
        )
    assert out == '{"name": "Re'
    assert "length" in error


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
    assert "its tool calls are not made" in error
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
