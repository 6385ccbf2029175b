"""``providers-sync ask``, ``serve`` and ``providers``: providers, addresses and safe output."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from providers_sync import PROVIDERS, Provider
from providers_sync.cli import main
from providers_sync.gateway import SERVED, Gateway
from providers_sync.testing import Request, json_body, refusal, serve, status, text, tool_call


@pytest.mark.parametrize("name", SERVED)
def test_ask_each_provider(echo: Gateway, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the answer is printed, whatever the protocol."""
    model = ["--model", "echo"] if name in ("openai", "anthropic", "gemini") else []
    code = main(["ask", "Да 😀", "--provider", name, "--base-url", echo.url(name), *model])
    assert (code, capsys.readouterr().out) == (0, "You said: Да 😀\n")


def test_ask_a_preset(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A preset has its address and the key of its variable; ``--base-url`` replaces both."""
    used: list[Provider] = []
    monkeypatch.setenv("GROQ_API_KEY", "s3cret")

    def stream(self: Provider, *args: Any, **options: Any) -> Any:
        used.append(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Provider, "stream", stream)
        assert main(["ask", "Hi", "--provider", "groq", "--model", "m"]) == 130
    assert (used[0].base_url, used[0]._api_key) == ("https://api.groq.com/openai/v1", "s3cret")
    with serve([text("Hello")], protocol="openai") as server:
        url = ["--base-url", server.url]
        assert main(["ask", "Hi", "--provider", "groq", "--model", "m", *url]) == 0
        (request,) = server.requests
    assert capsys.readouterr().out.strip() == "Hello"
    assert "authorization" not in {name.lower() for name in request.headers}


def test_ask_unknown_provider(capsys: pytest.CaptureFixture[str]) -> None:
    """The known names are listed."""
    with pytest.raises(SystemExit):
        main(["ask", "Hi", "--provider", "parrot"])
    listed = capsys.readouterr().err
    assert "ollama" in listed
    assert "anthropic" in listed


def test_usage_errors_are_reported_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Like every error, and with the exit code that shells expect."""
    for wrong in (["ask", "Hi", "--provider", "parrot"], ["serve", "--port", "x"], ["sing"], []):
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        printed = capsys.readouterr().err
        assert (caught.value.code, printed.count("\n")) == (2, 1)
        assert printed.startswith("providers-sync: ")


def test_provider_name_ignores_case_and_debug_may_come_first_or_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``--provider Vitalentum`` is the class name; ``--debug`` may follow the sub-command."""
    with serve([text("Hello")]) as server:
        assert main(["ask", "Hi", "--provider", "Vitalentum", "--base-url", server.url]) == 0
    assert capsys.readouterr().out.strip() == "Hello"
    for wrong in (["--debug", "ask", "Hi"], ["ask", "--debug", "Hi"]):
        assert main([*wrong, "--base-url", "nowhere"]) == 1
        assert "Traceback" in capsys.readouterr().err


def test_ask_local_preset(capsys: pytest.CaptureFixture[str]) -> None:
    """The local gateway supports protocols, not presets; the error comes before a model loads."""
    assert main(["ask", "Hi", "--provider", "groq", "--local"]) == 1
    assert "--local supports vitalentum, " in capsys.readouterr().err


def test_serve_prints_every_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each provider's variable and address, ready to paste."""
    monkeypatch.setattr(Gateway, "wait", lambda self: None)
    assert main(["serve", "--engine", "echo", "--port", "0"]) == 0
    printed = capsys.readouterr().out
    for name in SERVED:
        assert f"export {PROVIDERS[name].base_url_variable}=http://127.0.0.1:" in printed
    assert "/anthropic\n" in printed
    assert "/gemini/v1beta\n" in printed


def test_providers_lists_presets(capsys: pytest.CaptureFixture[str]) -> None:
    """Every name that ``--provider`` accepts is in the table, with its address."""
    assert main(["providers"]) == 0
    printed = capsys.readouterr().out
    assert "http://127.0.0.1:11434 " in printed
    assert "https://api.x.ai/v1" in printed
    azure = r"^azure .* https://RESOURCE\.openai\S+ or AZURE_OPENAI_ENDPOINT$"
    assert re.search(azure, printed, re.M)
    assert "\nanthropic " in printed


# --- no output can control the terminal

ESCAPES = "\x1b]0;pwned\x07\x1b[2J\x9b2J\u202e\u200b"
SHOWN = "␛]0;pwned␇␛[2J<U+009B>2J<U+202E><U+200B>"


def hostile(request: Request) -> Any:
    """List a model and reject every question, with escape sequences in all texts."""
    if request.method == "GET":
        return json_body({"data": [{"id": f"m{ESCAPES}"}]})
    return status(400, f"no such model {ESCAPES}")


def run_command(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command and return both its outputs, which must be harmless."""
    try:
        found: object = main(arguments)
    except SystemExit as usage:
        found = usage.code
    assert found == code
    captured = capsys.readouterr()
    everything = captured.out + captured.err
    assert [char for char in everything if not char.isprintable() and char != "\n"] == []
    return everything


def test_texts_of_a_server_are_made_visible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every command that prints them, with and without ``--debug``."""
    source, target = tmp_path / "in.jsonl", str(tmp_path / "out.jsonl")
    source.write_text(json.dumps({"prompt": "Hi", "custom_id": f"id{ESCAPES}"}))
    with serve(hostile, protocol="openai") as server:
        url = ["--base-url", server.url]
        for command in (["ask", "Hi"], ["ask", "Hi", "--json"], ["ask", "Hi", "--debug"]):
            shown = run_command([*command, *url, "--model", "m"], 1, capsys)
            assert f"no such model {SHOWN}" in shown
        assert "Traceback" in run_command(["ask", "Hi", "--debug", *url], 1, capsys)
        shown = run_command(["doctor", "--provider", "openai", *url], 1, capsys)
        assert f"no such model {SHOWN}" in shown
        assert f"so m{SHOWN} is used" in shown
        shown = run_command(["batch", str(source), target, *url], 1, capsys)
        assert f"for example id{SHOWN}: 400" in shown
        assert f"no such model {SHOWN}" in shown


def test_texts_of_the_command_line_are_made_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copied command or a file name may contain anything."""
    assert SHOWN in run_command(["ask", "Hi", f"--no{ESCAPES}"], 2, capsys)
    assert SHOWN in run_command(
        ["chat", "--load", f"none{ESCAPES}", "--base-url", "http://x"], 1, capsys
    )
    assert SHOWN.lower() in run_command(["doctor", "--provider", ESCAPES], 1, capsys).lower()
    run_command(["ask", "Hi", "--provider", ESCAPES], 2, capsys)
    run_command(
        ["batch", f"in{ESCAPES}", "out", "--base-url", "http://x", "--model", "m"], 2, capsys
    )
    run_command(["serve", "--fault", ESCAPES], 1, capsys)
    monkeypatch.setenv("PROVIDERS_SYNC_PROVIDER", ESCAPES)
    run_command(["ask", "Hi"], 1, capsys)


def test_refusals_and_tool_calls_are_made_visible(capsys: pytest.CaptureFixture[str]) -> None:
    """They are reported on standard error."""
    with serve(
        [refusal(f"No{ESCAPES}"), tool_call(f"f{ESCAPES}", {})], protocol="openai"
    ) as server:
        shown = run_command(["ask", "Hi", "--base-url", server.url, "--model", "m"], 0, capsys)
    assert f"the model refused: No{SHOWN}" in shown
    assert f"the model calls f{SHOWN}" in shown
