"""The default provider and model, and the only model of a server's list."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from providers_sync import (
    PROVIDERS,
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    CancelToken,
    InvalidRequestError,
    OpenAICompatible,
    StreamCancelled,
    Vitalentum,
    provider_selection,
)
from providers_sync.cli import main
from providers_sync.gateway import SERVED, Gateway
from providers_sync.gateway import serve as gateway
from providers_sync.provider_selection import make_provider, select_provider, set_only_model
from providers_sync.providers import PRESETS
from providers_sync.testing import Request, json_body, serve, stall, status, text

OURS = {"PROVIDERS_SYNC_PROVIDER": "groq", "PROVIDERS_SYNC_MODEL": "llama"}
ALL_ADDRESSES = {kind.base_url_variable: "http://127.0.0.1:9" for kind in PROVIDERS.values()}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the configuration of every provider."""
    variables = [*OURS, *ALL_ADDRESSES]
    variables += [kind.api_key_variable or "" for kind in PROVIDERS.values()]
    variables += [preset.api_key_variable or "" for preset in PRESETS.values()]
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)


def models(*names: object) -> Any:
    """Return the script of a server that lists these models and answers with the model's name."""

    def script(request: Request) -> Any:
        if request.method == "GET":
            return json_body({"data": [{"id": name} for name in names]})
        return [text(request.json()["model"])]

    return script


# --- the selection


@pytest.mark.parametrize(
    ("environ", "options", "name", "model", "reason"),
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
def test_options_take_precedence_over_variables_and_addresses_over_keys(
    environ: dict[str, str], options: dict[str, str], name: str, model: str, reason: str | None
) -> None:
    """The order of precedence; a model applies only to the provider it was set for."""
    selection = select_provider(environ, **options)
    assert selection[:2] == (name, model)
    assert reason in (selection.reason, None)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "no provider is selected or configured: use --provider NAME, or set PROVIDERS_SYNC_"),
        ({"OPENAI_API_KEY": ""}, "no provider is selected or configured"),
        ({"PROVIDERS_SYNC_MODEL": "m"}, "no provider is selected or configured"),
        (
            {"PROVIDERS_SYNC_PROVIDER": "gpt"},
            "PROVIDERS_SYNC_PROVIDER is set to an unknown provider: 'gpt'",
        ),
        ({"PROVIDERS_SYNC_PROVIDER": "\x1b[2J\n"}, "unknown provider: '\\x1b[2j'; choose one of"),
        ({"PROVIDERS_SYNC_PROVIDER": "x" * 10**6}, f"unknown provider: '{'x' * 60}'; choose"),
        ({**OURS, "PROVIDERS_SYNC_MODEL": "a\nb"}, "PROVIDERS_SYNC_MODEL contains unprintable"),
        ({**OURS, "PROVIDERS_SYNC_MODEL": "\udcff"}, "PROVIDERS_SYNC_MODEL contains unprintable"),
    ],
)
def test_invalid_variables_are_named(environ: dict[str, str], expected: str) -> None:
    """In a short error, however long the value is."""
    with pytest.raises(InvalidRequestError) as caught:
        select_provider(environ)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 500


def test_unsupported_model_is_reported_with_its_variable() -> None:
    """The user must see where the name comes from."""
    environ = {"PROVIDERS_SYNC_PROVIDER": "vitalentum", "PROVIDERS_SYNC_MODEL": "qwen3"}
    with pytest.raises(InvalidRequestError, match=r"^PROVIDERS_SYNC_MODEL: Vitalentum does not"):
        make_provider(select_provider(environ))
    with pytest.raises(InvalidRequestError, match=r"^Vitalentum does not support"):
        make_provider(select_provider(environ, model="qwen3"))


# --- the server's only model


def test_only_model_of_a_server_is_used() -> None:
    """One request; none for a provider with a model or without a list."""
    with serve(models("only", "only"), protocol="openai") as server:
        provider = OpenAICompatible(base_url=server.url)
        set_only_model(provider)
        set_only_model(provider)
        set_only_model(OpenAICompatible("other", base_url=server.url))
        set_only_model(Vitalentum(base_url=server.url))
        assert provider.model == "only"
        assert len(server.requests) == 1
        assert provider.complete("Hi").text == "only"


@pytest.mark.parametrize("name", SERVED)
def test_only_model_of_the_gateway_is_used(echo: Gateway, name: str) -> None:
    """On every protocol that names models, the gateway lists one."""
    provider = PROVIDERS[name](base_url=echo.url(name))
    set_only_model(provider)
    assert provider.complete("Hi").text == "You said: Hi"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], "lists 2: a, b"),
        ([f"m{i}" for i in range(20)], "lists 20: m0, m1, m2, m3, m4, m5, m6, m7, …"),
        (["a" * 10**5, "b"], f"lists 2: {'a' * 60}, b"),
        ([], "lists none"),
        ([""], "lists none"),
    ],
)
def test_several_models_or_none_raise(names: list[str], expected: str) -> None:
    """The error lists some of them and names the remedy."""
    with (
        serve(models(*names), protocol="openai") as server,
        pytest.raises(InvalidRequestError) as caught,
    ):
        set_only_model(OpenAICompatible(base_url=server.url))
    assert str(caught.value).endswith(expected)
    assert "needs a model: use --model NAME" in str(caught.value)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (status(401, "Who?"), AuthenticationError),
        (json_body({"oops": []}), ValueError),
        (stall(), APITimeoutError),
    ],
)
def test_failure_to_list_the_models_is_reported(
    script: Any, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quickly, with the server's own reason."""
    monkeypatch.setattr(provider_selection, "MODEL_LIST_S", 0.3)
    raises = pytest.raises(kind, match=r"needs a model: .* models failed: ")
    with serve(script, protocol="openai") as server, raises:
        set_only_model(OpenAICompatible(base_url=server.url))


def test_listing_the_models_can_be_cancelled() -> None:
    """Like the answer itself."""
    token = CancelToken()
    with serve(stall(), protocol="openai") as server:
        canceller = threading.Thread(target=lambda: (server.wait_request(), token.cancel()))
        canceller.start()
        with pytest.raises(StreamCancelled):
            set_only_model(OpenAICompatible(base_url=server.url), token)
        canceller.join()
        server.wait_closed()


# --- the commands


@pytest.mark.parametrize("command", [["ask", "Hi"], ["chat"], ["batch", "in.txt", "out.jsonl"]])
def test_missing_provider_is_reported_in_one_line_before_any_request(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No default address is used instead; only ``ask`` and ``chat`` suggest ``--local``."""
    monkeypatch.setattr("socket.getaddrinfo", None)
    if command[0] == "batch":  # which has an exit code for "nothing was sent"
        with pytest.raises(SystemExit, match="2"):
            main(command)
    else:
        assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("providers-sync: no provider is selected or configured: use --provider")
    assert ("--local" in line) == (command[0] != "batch")


def test_discontinued_service_raises_also_when_selected_by_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current owner of the domain gets no prompt."""
    monkeypatch.setattr("socket.getaddrinfo", None)
    monkeypatch.setenv("PROVIDERS_SYNC_PROVIDER", "vitalentum")
    assert main(["ask", "Hi"]) == 1
    assert "no longer exists, and nothing was sent" in capsys.readouterr().err


def test_ask_works_with_the_variables_that_serve_prints(
    echo: Gateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every address is set; ``--debug`` reports which one was used."""
    for name in SERVED:
        monkeypatch.setenv(PROVIDERS[name].base_url_variable, echo.url(name))
    assert main(["ask", "Hi"]) == 0
    assert main(["ask", "Hi", "--provider", "openai"]) == 0
    assert capsys.readouterr() == ("You said: Hi\n" * 2, "")
    assert main(["ask", "Hi", "--debug"]) == 0
    assert "using vitalentum, because of VITALENTUM_BASE_URL" in capsys.readouterr().err


def test_base_url_alone_means_openai_and_the_servers_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For ``ask``, ``chat`` and ``batch``; the environment's model needs its provider."""
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("one\n")
    with serve(models("qwen"), protocol="openai") as server:
        url = ["--base-url", server.url]
        assert main(["ask", "Hi", *url]) == 0
        monkeypatch.setattr("providers_sync.terminal.chat_command.Keyboard", OneMessageKeyboard)
        assert main(["chat", *url]) == 0
        assert main(["batch", str(source), str(target), *url]) == 0
        monkeypatch.setenv("PROVIDERS_SYNC_MODEL", "llama")
        assert main(["ask", "Hi", *url]) == 0
        assert main(["ask", "Hi", "--provider", "openai", *url]) == 0
        assert [request.method for request in server.requests].count("GET") == 4
    assert '"qwen"' in target.read_text()
    assert capsys.readouterr().out.split()[:2] == ["qwen", "qwen"]
    assert capsys.readouterr().out == ""


class OneMessageKeyboard:
    """A keyboard on which one message is typed."""

    is_terminal = can_ask = False

    def __init__(self) -> None:
        self._lines = ["Hi", "/quit"]

    def read(self) -> str:
        """Return the next line."""
        return self._lines.pop(0)

    def close(self) -> None:
        """Do nothing."""


def test_failure_to_list_the_models_is_the_last_json_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``--json`` reports the reason in the last line, as for any failure."""
    with serve(status(401, "Who?"), protocol="openai") as server:
        assert main(["ask", "Hi", "--json", "--base-url", server.url]) == 1
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (end["type"], end["error"]) == ("end", "AuthenticationError")


def test_batch_lists_the_models_only_if_a_row_has_none(tmp_path: Path) -> None:
    """And only after the complete file was read."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"custom_id": "a", "body": {"model": "m", "messages": "Hi"}}, {"question": "?"}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serve(models("a", "b"), protocol="openai") as server:
        command = ["batch", str(source), str(target), "--base-url", server.url]
        assert main([*command, "--skip-invalid"]) == 1  # the row without a prompt
        assert [request.method for request in server.requests] == ["POST"]
        source.write_text('"Hi"\n{broken\n')
        assert main(command) == 2
        assert len(server.requests) == 1
        source.write_text('"Hi"\n')
        assert main(command) == 1
        assert [request.method for request in server.requests] == ["POST", "GET"]


def test_local_needs_no_provider_and_ignores_the_variables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local model answers, whatever provider is configured."""
    monkeypatch.setattr("providers_sync.cli.local_model.what_is_missing", lambda: "")
    monkeypatch.setattr("providers_sync.gateway.serve", lambda engine: gateway(engine="echo"))
    monkeypatch.setenv("PROVIDERS_SYNC_PROVIDER", "ollama")
    monkeypatch.setenv("PROVIDERS_SYNC_MODEL", "qwen3")
    assert main(["ask", "Hi", "--local"]) == 0
    assert capsys.readouterr().out == "You said: Hi\n"


def test_notebook_uses_the_same_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options of the magic's line take precedence."""
    notebook = pytest.importorskip("providers_sync.notebook", reason="IPython is not installed")
    with serve(models("qwen"), protocol="openai") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        provider = notebook._provider(notebook._options("", {}))
        assert (type(provider), provider.model) == (OpenAICompatible, "qwen")
        assert notebook._provider(notebook._options("--provider ollama --model m", {})).model == "m"
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(InvalidRequestError, match="use --provider NAME, or set"):
        notebook._provider(notebook._options("", {}))


def test_unreachable_server_is_reported_with_its_address(
    refused: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the address of another server."""
    monkeypatch.setattr(provider_selection, "MODEL_LIST_S", 0.3)
    host, port = refused
    with pytest.raises(APIConnectionError, match=f"cannot connect to {host}:{port}"):
        set_only_model(OpenAICompatible(base_url=f"http://{host}:{port}/v1"))
