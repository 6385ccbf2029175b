"""``providers-sync ask`` and ``serve``: which provider is asked, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from providers_sync import PROVIDERS, Provider
from providers_sync.cli import main
from providers_sync.gateway import Gateway
from providers_sync.testing import Request, json_body, refusal, serve, status, text, tool_call


@pytest.mark.parametrize("name", PROVIDERS)
def test_ask_each_provider(echo: Gateway, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer is printed, and nothing else, whatever the protocol."""
    model = ["--model", "echo"] if name in ("openai", "anthropic") else []
    code = main(["ask", "Да 😀", "--provider", name, "--base-url", echo.url(name), *model])
    assert (code, capsys.readouterr().out) == (0, "You said: Да 😀\n")


def test_ask_a_preset(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A preset brings its address and the key of its variable; ``--base-url`` wins, without key."""
    asked: list[Provider] = []
    monkeypatch.setenv("GROQ_API_KEY", "s3cret")

    def stream(self: Provider, *args: Any, **options: Any) -> Any:
        asked.append(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Provider, "stream", stream)
        assert main(["ask", "Hi", "--provider", "groq", "--model", "m"]) == 130
    assert (asked[0].base_url, asked[0]._api_key) == ("https://api.groq.com/openai/v1", "s3cret")
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


def test_mistakes_on_the_command_line_are_said_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As every error is, and with the code that shells expect."""
    for wrong in (["ask", "Hi", "--provider", "parrot"], ["serve", "--port", "x"], ["sing"], []):
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        said = capsys.readouterr().err
        assert (caught.value.code, said.count("\n")) == (2, 1)
        assert said.startswith("providers-sync: ")


def test_provider_is_known_in_any_case_and_debug_in_any_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``--provider Vitalentum`` is what the class is called; ``--debug`` goes before or behind."""
    with serve([text("Hello")]) as server:
        assert main(["ask", "Hi", "--provider", "Vitalentum", "--base-url", server.url]) == 0
    assert capsys.readouterr().out.strip() == "Hello"
    for wrong in (["--debug", "ask", "Hi"], ["ask", "--debug", "Hi"]):
        assert main([*wrong, "--base-url", "nowhere"]) == 1
        assert "Traceback" in capsys.readouterr().err


def test_ask_local_preset(capsys: pytest.CaptureFixture[str]) -> None:
    """The local gateway speaks protocols, not presets; no model is started to find out."""
    assert main(["ask", "Hi", "--provider", "ollama", "--local"]) == 1
    assert "--local speaks vitalentum, " in capsys.readouterr().err


def test_serve_prints_every_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each provider's variable and address are ready to be pasted."""
    monkeypatch.setattr(Gateway, "wait", lambda self: None)
    assert main(["serve", "--engine", "echo", "--port", "0"]) == 0
    printed = capsys.readouterr().out
    for kind in PROVIDERS.values():
        assert f"export {kind.base_url_variable}=http://127.0.0.1:" in printed
    assert "/anthropic\n" in printed


def test_providers_lists_presets(capsys: pytest.CaptureFixture[str]) -> None:
    """Every name that ``--provider`` takes is in the table, with its address."""
    assert main(["providers"]) == 0
    printed = capsys.readouterr().out
    assert "http://127.0.0.1:11434/v1" in printed
    assert "\nanthropic " in printed


# --- nothing that is said steers the terminal

ESCAPES = "\x1b]0;pwned\x07\x1b[2J\x9b2J\u202e\u200b"
SHOWN = "␛]0;pwned␇␛[2J<U+009B>2J<U+202E><U+200B>"


def hostile(request: Request) -> Any:
    """List a model and refuse every question, with escape sequences in all of it."""
    if request.method == "GET":
        return json_body({"data": [{"id": f"m{ESCAPES}"}]})
    return status(400, f"no such model {ESCAPES}")


def said(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command and return what it says on both outputs, which must be harmless."""
    if code == 2:
        with pytest.raises(SystemExit):
            main(arguments)
    else:
        assert main(arguments) == code
    captured = capsys.readouterr()
    everything = captured.out + captured.err
    assert [each for each in everything if not each.isprintable() and each != "\n"] == []
    return everything


def test_words_of_a_server_are_made_visible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every command that says them, with and without ``--debug``."""
    source, target = tmp_path / "in.jsonl", str(tmp_path / "out.jsonl")
    source.write_text(json.dumps({"prompt": "Hi", "custom_id": f"id{ESCAPES}"}))
    with serve(hostile, protocol="openai") as server:
        url = ["--base-url", server.url]
        for command in (["ask", "Hi"], ["ask", "Hi", "--json"], ["ask", "Hi", "--debug"]):
            shown = said([*command, *url, "--model", "m"], 1, capsys)
            assert f"no such model {SHOWN}" in shown
        assert "Traceback" in said(["ask", "Hi", "--debug", *url], 1, capsys)
        shown = said(["doctor", "--provider", "openai", *url], 1, capsys)
        assert f"no such model {SHOWN}" in shown
        assert f"so m{SHOWN} is asked" in shown
        shown = said(["batch", str(source), target, *url], 1, capsys)
        assert f"for example id{SHOWN}: 400" in shown
        assert f"no such model {SHOWN}" in shown


def test_words_of_the_command_line_are_made_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that was copied, or a file's name, may hold anything."""
    assert SHOWN in said(["ask", "Hi", f"--no{ESCAPES}"], 2, capsys)
    assert SHOWN in said(["chat", "--load", f"none{ESCAPES}", "--base-url", "http://x"], 1, capsys)
    assert SHOWN.lower() in said(["doctor", "--provider", ESCAPES], 1, capsys).lower()
    said(["ask", "Hi", "--provider", ESCAPES], 2, capsys)
    said(["batch", f"in{ESCAPES}", "out", "--base-url", "http://x", "--model", "m"], 1, capsys)
    said(["serve", "--fault", ESCAPES], 1, capsys)
    monkeypatch.setenv("PROVIDERS_SYNC_PROVIDER", ESCAPES)
    said(["ask", "Hi"], 1, capsys)


def test_refusals_and_tool_calls_are_made_visible(capsys: pytest.CaptureFixture[str]) -> None:
    """They are said beside the answer, on standard error."""
    with serve(
        [refusal(f"No{ESCAPES}"), tool_call(f"f{ESCAPES}", {})], protocol="openai"
    ) as server:
        shown = said(["ask", "Hi", "--base-url", server.url, "--model", "m"], 0, capsys)
    assert f"the model refused: No{SHOWN}" in shown
    assert f"the model calls f{SHOWN}" in shown
