"""Which provider and model are meant where none is named, and what a server's list decides."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from providers_sync import (
    PROVIDERS,
    Anthropic,
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    CancelToken,
    InvalidRequestError,
    OpenAICompatible,
    StreamCancelled,
    Vitalentum,
    defaults,
)
from providers_sync.cli import main
from providers_sync.defaults import choose, find_model, make_provider
from providers_sync.gateway import Gateway
from providers_sync.gateway import serve as gateway
from providers_sync.providers import PRESETS
from providers_sync.testing import Request, json_body, serve, stall, status, text

OURS = {"PROVIDERS_SYNC_PROVIDER": "groq", "PROVIDERS_SYNC_MODEL": "llama"}
ALL_ADDRESSES = {kind.base_url_variable: "http://127.0.0.1:9" for kind in PROVIDERS.values()}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No provider is configured."""
    variables = [*OURS, *ALL_ADDRESSES]
    variables += [kind.api_key_variable or "" for kind in PROVIDERS.values()]
    variables += [preset.api_key_variable or "" for preset in PRESETS.values()]
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)


def models(*names: object) -> Any:
    """Return the script of a server that lists these models and answers with what was asked."""

    def script(request: Request) -> Any:
        if request.method == "GET":
            return json_body({"data": [{"id": name} for name in names]})
        return [text(request.json()["model"])]

    return script


# --- the choice


@pytest.mark.parametrize(
    ("environ", "given", "name", "model", "reason"),
    [
        (OURS, {"provider": "ollama", "model": "m"}, "ollama", "m", "--provider"),
        (OURS, {"provider": "ollama"}, "ollama", None, "--provider"),
        (OURS, {"provider": "groq"}, "groq", "llama", "--provider"),
        (OURS, {"model": "m"}, "groq", "m", "PROVIDERS_SYNC_PROVIDER"),
        (OURS, {"base_url": "http://x"}, "groq", "llama", "PROVIDERS_SYNC_PROVIDER"),
        ({**ALL_ADDRESSES, **OURS}, {}, "groq", "llama", "PROVIDERS_SYNC_PROVIDER"),
        ({"PROVIDERS_SYNC_PROVIDER": " Ollama "}, {}, "ollama", None, "PROVIDERS_SYNC_PROVIDER"),
        (ALL_ADDRESSES, {"base_url": "http://x"}, "openai", None, "--base-url"),
        (ALL_ADDRESSES, {}, "vitalentum", None, "VITALENTUM_BASE_URL"),
        ({"GROQ_API_KEY": "k", "OPENAI_BASE_URL": "x"}, {}, "openai", None, "OPENAI_BASE_URL"),
        ({"GROQ_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}, {}, "anthropic", None, None),
        ({"XAI_API_KEY": "k", "GROQ_API_KEY": "k"}, {}, "groq", None, "GROQ_API_KEY"),
        ({"OPENAI_API_KEY": "k", "PROVIDERS_SYNC_MODEL": " m "}, {}, "openai", "m", None),
        ({"PROVIDERS_SYNC_MODEL": "m"}, {"provider": "openai"}, "openai", None, "--provider"),
        ({"PROVIDERS_SYNC_PROVIDER": " ", "XAI_API_KEY": "k"}, {}, "xai", None, "XAI_API_KEY"),
    ],
)
def test_options_win_over_variables_and_addresses_over_keys(
    environ: dict[str, str], given: dict[str, str], name: str, model: str, reason: str | None
) -> None:
    """One order, whatever else is set; a model goes to the provider it was meant for."""
    choice = choose(environ, **given)
    assert choice[:2] == (name, model)
    assert reason in (choice.reason, None)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "no provider is named or configured: give --provider NAME, or set PROVIDERS_SYNC_PR"),
        ({"OPENAI_API_KEY": ""}, "no provider is named or configured"),
        ({"PROVIDERS_SYNC_MODEL": "m"}, "no provider is named or configured"),
        ({"PROVIDERS_SYNC_PROVIDER": "gpt"}, "PROVIDERS_SYNC_PROVIDER names no provider: 'gpt'"),
        ({"PROVIDERS_SYNC_PROVIDER": "\x1b[2J\n"}, "names no provider: '\\x1b[2j'; there are"),
        ({"PROVIDERS_SYNC_PROVIDER": "x" * 10**6}, f"names no provider: '{'x' * 60}'; there"),
        ({**OURS, "PROVIDERS_SYNC_MODEL": "a\nb"}, "PROVIDERS_SYNC_MODEL holds characters"),
        ({**OURS, "PROVIDERS_SYNC_MODEL": "\udcff"}, "PROVIDERS_SYNC_MODEL holds characters"),
    ],
)
def test_odd_variables_are_named(environ: dict[str, str], said: str) -> None:
    """In one line, however long the value is."""
    with pytest.raises(InvalidRequestError) as caught:
        choose(environ)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500


def test_model_that_the_provider_does_not_know_is_said_of_its_variable() -> None:
    """The user must learn where the name comes from."""
    environ = {"PROVIDERS_SYNC_PROVIDER": "vitalentum", "PROVIDERS_SYNC_MODEL": "qwen3"}
    with pytest.raises(InvalidRequestError, match=r"^PROVIDERS_SYNC_MODEL: Vitalentum does not"):
        make_provider(choose(environ))
    with pytest.raises(InvalidRequestError, match=r"^Vitalentum does not know"):
        make_provider(choose(environ, model="qwen3"))


# --- the server's only model


def test_only_model_of_a_server_is_taken() -> None:
    """Once; a model that was given, or another protocol, is not asked about."""
    with serve(models("only", "only"), protocol="openai") as server:
        provider = OpenAICompatible(base_url=server.url)
        find_model(provider)
        find_model(provider)
        find_model(OpenAICompatible("other", base_url=server.url))
        find_model(Anthropic(base_url=server.url))
        find_model(Vitalentum(base_url=server.url))
        assert provider.model == "only"
        assert len(server.requests) == 1
        assert provider.complete("Hi").text == "only"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "b"], "lists 2: a, b"),
        ([f"m{i}" for i in range(20)], "lists 20: m0, m1, m2, m3, m4, m5, m6, m7, …"),
        (["a" * 10**5, "b"], f"lists 2: {'a' * 60}, b"),
        ([], "lists none"),
        ([""], "lists none"),
    ],
)
def test_several_models_or_none_are_said(names: list[str], said: str) -> None:
    """Some of them, and what to do."""
    with (
        serve(models(*names), protocol="openai") as server,
        pytest.raises(InvalidRequestError) as caught,
    ):
        find_model(OpenAICompatible(base_url=server.url))
    assert str(caught.value).endswith(said)
    assert "needs a model: give --model NAME" in str(caught.value)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (status(401, "Who?"), AuthenticationError),
        (json_body({"models": []}), ValueError),
        (stall(), APITimeoutError),
    ],
)
def test_list_that_cannot_be_had_is_said(
    script: Any, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon, with the server's own reason."""
    monkeypatch.setattr(defaults, "LIST_S", 0.3)
    said = pytest.raises(kind, match=r"needs a model: .* list cannot be had: ")
    with serve(script, protocol="openai") as server, said:
        find_model(OpenAICompatible(base_url=server.url))


def test_asking_for_the_list_can_be_stopped() -> None:
    """As the answer itself."""
    token = CancelToken()
    with serve(stall(), protocol="openai") as server:
        stopper = threading.Thread(target=lambda: (server.wait_request(), token.cancel()))
        stopper.start()
        with pytest.raises(StreamCancelled):
            find_model(OpenAICompatible(base_url=server.url), token)
        stopper.join()
        server.wait_closed()


# --- the commands


@pytest.mark.parametrize("command", [["ask", "Hi"], ["chat"], ["batch", "in.txt", "out.jsonl"]])
def test_no_provider_is_said_in_a_line_before_anything_is_asked(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No address of long ago stands in for it; only ``ask`` and ``chat`` know ``--local``."""
    monkeypatch.setattr("socket.getaddrinfo", None)
    assert main(command) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("providers-sync: no provider is named or configured: give --provider")
    assert ("--local" in said) == (command[0] != "batch")


def test_service_that_is_gone_is_refused_by_name_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the domain today gets no prompt."""
    monkeypatch.setattr("socket.getaddrinfo", None)
    monkeypatch.setenv("PROVIDERS_SYNC_PROVIDER", "vitalentum")
    assert main(["ask", "Hi"]) == 1
    assert "is gone, and nothing was sent" in capsys.readouterr().err


def test_ask_answers_where_the_lines_of_serve_were_pasted(
    echo: Gateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All five addresses are set; ``--debug`` says which one was taken."""
    for name, kind in PROVIDERS.items():
        monkeypatch.setenv(kind.base_url_variable, echo.url(name))
    assert main(["ask", "Hi"]) == 0
    assert main(["ask", "Hi", "--provider", "openai"]) == 0
    assert capsys.readouterr() == ("You said: Hi\n" * 2, "")
    assert main(["ask", "Hi", "--debug"]) == 0
    assert "asking vitalentum, because of VITALENTUM_BASE_URL" in capsys.readouterr().err


def test_base_url_alone_means_openai_and_the_servers_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For ``ask``, ``chat`` and ``batch``; a model of the environment goes with its provider."""
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("one\n")
    with serve(models("qwen"), protocol="openai") as server:
        url = ["--base-url", server.url]
        assert main(["ask", "Hi", *url]) == 0
        monkeypatch.setattr("providers_sync.terminal.session.Keyboard", Typed)
        assert main(["chat", *url]) == 0
        assert main(["batch", str(source), str(target), *url]) == 0
        monkeypatch.setenv("PROVIDERS_SYNC_MODEL", "llama")
        assert main(["ask", "Hi", *url]) == 0
        assert main(["ask", "Hi", "--provider", "openai", *url]) == 0
        assert [request.method for request in server.requests].count("GET") == 4
    assert '"qwen"' in target.read_text()
    assert capsys.readouterr().out.split()[:2] == ["qwen", "qwen"]
    assert capsys.readouterr().out == ""


class Typed:
    """A keyboard at which one message is typed."""

    is_terminal = False

    def __init__(self) -> None:
        self._lines = ["Hi", "/quit"]

    def read(self) -> str:
        """Return the next line."""
        return self._lines.pop(0)

    def close(self) -> None:
        """Nothing is kept."""


def test_list_that_fails_is_the_last_event_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A script that reads ``--json`` finds the reason in the last line, as for any failure."""
    with serve(status(401, "Who?"), protocol="openai") as server:
        assert main(["ask", "Hi", "--json", "--base-url", server.url]) == 1
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (end["type"], end["error"]) == ("end", "AuthenticationError")


def test_batch_whose_rows_name_their_models_asks_for_no_list(tmp_path: Path) -> None:
    """Where one of them does not, the list decides, after the whole file was looked through."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"custom_id": "a", "body": {"model": "m", "messages": "Hi"}}, {"question": "?"}]
    source.write_text("".join(json.dumps(each) + "\n" for each in rows))
    with serve(models("a", "b"), protocol="openai") as server:
        command = ["batch", str(source), str(target), "--base-url", server.url]
        assert main(command) == 1  # the row without a prompt
        assert [request.method for request in server.requests] == ["POST"]
        source.write_text('"Hi"\n{broken\n')
        assert main(command) == 1
        assert len(server.requests) == 1
        source.write_text('"Hi"\n')
        assert main(command) == 1
        assert [request.method for request in server.requests] == ["POST", "GET"]


def test_local_needs_no_provider_and_obeys_no_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small model answers, whoever else is configured."""
    monkeypatch.setattr("providers_sync.gateway.serve", lambda engine: gateway(engine="echo"))
    monkeypatch.setenv("PROVIDERS_SYNC_PROVIDER", "ollama")
    monkeypatch.setenv("PROVIDERS_SYNC_MODEL", "qwen3")
    assert main(["ask", "Hi", "--local"]) == 0
    assert capsys.readouterr().out == "You said: Hi\n"


def test_notebook_takes_the_same_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its line says wins."""
    notebook = pytest.importorskip("providers_sync.notebook", reason="IPython is not installed")
    with serve(models("qwen"), protocol="openai") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        provider = notebook._provider(notebook._options(""))
        assert (type(provider), provider.model) == (OpenAICompatible, "qwen")
        assert notebook._provider(notebook._options("--provider ollama --model m")).model == "m"
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(InvalidRequestError, match="give --provider NAME, or set"):
        notebook._provider(notebook._options(""))


def test_server_that_is_not_there_is_said_with_its_address(
    refused: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the address of another one."""
    monkeypatch.setattr(defaults, "LIST_S", 0.3)
    host, port = refused
    with pytest.raises(APIConnectionError, match=f"cannot connect to {host}:{port}"):
        find_model(OpenAICompatible(base_url=f"http://{host}:{port}/v1"))
