"""``providers-sync record`` and ``replay``: the real commands, against a real server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timezone
from pathlib import Path
from typing import Any

import pytest

from providers_sync import PROVIDERS, OpenAICompatible, ProviderError, StreamCut
from providers_sync.cli import main
from providers_sync.cli.recording_list import model_of, question_of, table
from providers_sync.gateway import SERVED, Gateway
from providers_sync.recording import Exchange, Recorded, read_recordings
from providers_sync.recording.exchange import RecordedRequest
from providers_sync.recording.file import RecordingFile
from providers_sync.testing import answer, cut, pause, refusal, serve, stall, status, text

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-W", "error", "-m", "providers_sync"]
VARIABLES = list(dict.fromkeys(kind.base_url_variable for kind in PROVIDERS.values()))


@pytest.fixture
def file(tmp_path: Path) -> str:
    """The path of a file of recordings, which does not exist yet."""
    return str(tmp_path / "answers.jsonl")


def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Run the command; return its exit code, standard output and standard error."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        timeout=30,
    )
    return done.returncode, done.stdout, done.stderr


def at(url: str, name: str = "openai") -> list[str]:
    """Return the options for a server."""
    return ["--provider", name, "--base-url", url, "--model", "m"]


def record(path: str, *scripts: Any, name: str = "openai") -> str:
    """Record the answer to a question for each script; return the address of the server."""
    kind = PROVIDERS[name]
    with serve(list(scripts)) as server:
        provider = kind("m", base_url=server.url, retry=1, timeouts=0.3)
        with Recorded(provider, path, "record") as recorded:
            for number in range(len(scripts)):
                with contextlib.suppress(ProviderError):
                    recorded.complete(f"question {number + 1}")
        return server.url


def test_record_adds_and_replay_answers(file: str, capsys: Any) -> None:
    """The answer is shown as by ``ask``; afterwards the file gives it without any server."""
    with serve([["Hel", "lo"], ["Bye"]]) as server:
        options = at(server.url)
        assert run("record", file, "Hi", *options, stdin="log\n") == (0, "Hello\n", "")
        assert main(["record", file, "More", *options]) == 0
        assert [len(each.json()["messages"]) for each in server.requests] == [1, 1]
    capsys.readouterr()
    assert run("replay", file, "Hi", *options, stdin="log\n") == (0, "Hello\n", "")
    assert main(["replay", file, "More", "--json", *options]) == 0
    first, *_, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"type": "text", "text": "Bye"}
    assert (last["type"], last["outcome"]) == ("end", "complete")
    assert main(["replay", file, "Mare", *options]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert "body.messages[0].content was " in printed.err
    assert "and is 'Mare' now" in printed.err
    assert "use `providers-sync record`" in printed.err


def test_second_recording_of_a_request_replaces_the_first(file: str, capsys: Any) -> None:
    """The list and the answers have the last one only."""
    with serve([["Hello"], ["Good day"]]) as server:
        options = at(server.url)
        for _ in "ab":
            assert main(["record", file, "Hi", *options]) == 0
    capsys.readouterr()
    assert len(list(read_recordings(file))) == 2
    assert main(["replay", file]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["replay", file, "Hi", *options]) == 0
    assert capsys.readouterr().out == "Good day\n"


def test_exit_code_is_that_of_ask(file: str, capsys: Any) -> None:
    """The text that had arrived comes first, then the error."""
    with serve([["Hel", cut()], status(401, "Wrong key")]) as server:
        options = at(server.url)
        assert main(["record", file, "1", *options]) == 1
        assert main(["record", file, "2", *options]) == 1
    first = capsys.readouterr()
    assert first.out == "Hel\n"
    for number in "12":
        assert main(["replay", file, number, *options]) == 1
    assert capsys.readouterr() == first
    for number in "12":
        assert main(["replay", file, "--number", number]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == (first.out, first.err.partition("; no key")[0] + "\n")


def test_only_model_is_the_servers_and_then_that_of_the_file(
    echo: Gateway, file: str, capsys: Any
) -> None:
    """``replay`` does not ask the server for its list."""
    options = ["--base-url", echo.url("openai")]
    assert main(["record", file, "Hi", *options]) == 0
    echo.close()
    assert main(["replay", file, "Hi", *options]) == 0
    assert capsys.readouterr().out == "You said: Hi\n" * 2
    other = Recorded(OpenAICompatible("b", base_url=options[1], retry=1), file)
    with pytest.raises(ConnectionError):
        other.complete("Hi")
    assert main(["replay", file, "Hi", *options]) == 1
    assert "use --model NAME; the file has echo, b" in capsys.readouterr().err


@pytest.mark.parametrize("name", SERVED)
def test_number_plays_through_the_recorded_decoder(
    echo: Gateway, name: str, file: str, capsys: Any
) -> None:
    """No provider is named: that of the recording is known by its decoder."""
    model = ["--model", "echo"] if name in ("openai", "anthropic", "gemini") else []
    options = ["--provider", name, "--base-url", echo.url(name), *model]
    assert main(["record", file, "Да 😀", *options]) == 0
    assert main(["replay", file, "--number", "1", "--stats"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "You said: Да 😀\n" * 2
    outcome = "unverified" if name == "ai365vip" else "complete"
    assert printed.err.startswith(f"providers-sync: {outcome}: ")
    assert main(["replay", file]) == 0
    assert capsys.readouterr().out.endswith("Да 😀\n")


def test_number_shows_what_is_not_text_and_the_pace(file: str, capsys: Any) -> None:
    """A timeout comes again, at once; ``--paced`` waits."""
    record(file, [refusal("No.")], ["a", pause(0.1), "b"], ["Hel", stall()])
    assert main(["replay", file, "--number", "1"]) == 0
    assert "the model refused: No." in capsys.readouterr().err
    assert main(["replay", file, "--number", "2", "--paced", "--json"]) == 0
    (_, exchange, _) = read_recordings(file)
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert end["stats"]["duration_s"] >= exchange.pieces[-1][0] >= 0.1
    assert main(["replay", file, "--number", "3", "--json"]) == 1
    *_, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert (end["error"], end["outcome"]) == ("APITimeoutError", "deadline")


def test_list_is_readable(file: str, capsys: Any) -> None:
    """One line each, in the order of the file, in local time."""
    url = record(file, ["Hello"], status(503), answer(before=[cut()]))
    assert main(["replay", file]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    names = "no recorded status how pieces seconds bytes model at host question"
    assert title.split() == names.split()
    exchanges = list(read_recordings(file))
    host = url.removeprefix("http://")
    for number, (line, each) in enumerate(zip(lines, exchanges, strict=True), 1):
        day, time, code, how, pieces, _, size, model, _, shown_host, *asked = line.split()[1:]
        assert f"{day} {time}" == each.recorded_at.astimezone().strftime("%Y-%m-%d %H:%M")
        assert (model, shown_host, how, asked) == ("m", host, each.how, ["question", str(number)])
        assert code == ("-" if each.status is None else str(each.status))
        assert (pieces, size) == (str(len(each.pieces)), str(len(each.body)))
    assert [line.split()[3] for line in lines] == ["200", "503", "-"]
    narrow = list(table(exchanges, 70))
    assert [len(line) <= 70 for line in narrow] == [True] * 8
    assert narrow[3] == f"    m at {host}: question 1"


HOSTILE = "\x1b]0;pwned\x07\u202e\nline"
SHOWN = "␛]0;pwned␇<U+202E> line"


def test_nothing_in_a_file_can_control_the_terminal() -> None:
    """Every field comes from outside."""
    body = {"model": HOSTILE, "messages": [{"role": "user", "content": HOSTILE}]}
    request = RecordedRequest("POST", f"http://{HOSTILE.replace(']', '')}/", body)
    exchange = Exchange(request, how=HOSTILE)
    exchange.recorded_at = exchange.recorded_at.replace(year=1, month=1, day=1, tzinfo=timezone.max)
    _, line = table([exchange])
    assert line.endswith(f"  {SHOWN}")
    assert line.isprintable()
    assert line.count("␛") == 4


@pytest.mark.parametrize(
    ("body", "question"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]}, "a"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {}]}]}, "a"),
        ({"contents": [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]}, "a b"),
        ({"input": "a"}, "a"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}, "a"),
        ({"conversation": '{"history": [{"speaker": "human", "text": "a"}]}'}, "a"),
        ({"conversation": "["}, ""),
        ({"messages": [[[[[[["deep"]]]]]]]}, ""),
        ({"messages": 3}, ""),
        ({"messages": []}, ""),
        (["messages"], ""),
        (None, ""),
    ],
)
def test_question_of_any_body(body: Any, question: str) -> None:
    """A body may be of any protocol, and of any shape."""
    assert question_of(Exchange(RecordedRequest("POST", "http://a.test/", body))) == question


@pytest.mark.parametrize(
    ("url", "body", "model"),
    [
        ("/v1/chat/completions", {"model": "m"}, "m"),
        ("/v1beta/models/m-1:streamGenerateContent?alt=sse", {}, "m-1"),
        ("/api/chat", {"model": {"id": "m"}}, "m"),
        ("/api/chat", {"model": 3}, ""),
        ("/api/chat", None, ""),
    ],
)
def test_model_of_any_request(url: str, body: Any, model: str) -> None:
    """It is in the body, or in the address."""
    assert model_of(Exchange(RecordedRequest("POST", f"http://a.test{url}", body))) == model


def test_other_commands_load_no_recordings() -> None:
    """Only ``record`` and ``replay`` do."""
    code = (
        "import sys; from providers_sync.cli.parser import make_parser; make_parser(); "
        "print([name for name in sys.modules if 'recording' in name or '.testing' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "['providers_sync.cli.recordings']\n"


# --- serve


@contextlib.contextmanager
def served(file: str, *options: str) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """Run ``replay --serve``; yield its first line, its address and the process."""
    command = [*COMMAND, "replay", file, "--serve", "--port", "0", *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            url = first.split(" recordings) at ")[1].split()[0]
            assert [process.stdout.readline() for _ in VARIABLES] == [
                f"export {variable}={url}\n" for variable in VARIABLES
            ]
            yield first, url, process
        finally:
            process.kill()


def test_serve_answers_any_client_until_interrupted(file: str) -> None:
    """An equal request gets its recording, others the next one; Ctrl-C ends it."""
    record(file, [text("one")], [text("two")], ["thr", cut()])
    with served(file) as (first, url, process):
        with OpenAICompatible("m", base_url=f"{url}/v1", retry=1) as client:
            for question, reply in (("question 2", "two"), ("else", "one"), ("other", "two")):
                assert client.complete(question).text == reply
            with pytest.raises(StreamCut) as caught:
                client.complete("question 3")
            assert caught.value.partial == "thr"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert f"Serving {file} (3 recordings) at {url} until Ctrl-C: " in first
    assert (process.returncode, errors) == (130, "\n")


# --- wrong uses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Hi", "--number", "1"], "choose one of: a question, --number N, --serve"),
        (["--number", "1", "--serve"], "choose one of: a question, --number N, --serve"),
        (["--model", "m"], "--model needs a question"),
        (["--number", "1", "--base-url", "http://x"], "--base-url needs a question"),
        (["--serve", "--tool", "a:b"], "--tool needs a question"),
        (["--json"], "--json needs a question or --number N"),
        (["--serve", "--stats"], "--stats needs a question or --number N"),
        (["--paced"], "--paced needs a question, --number N or --serve"),
        (["--port", "0"], "--port needs --serve"),
        (["--number", "2"], "there is no recording 2: "),
        (["--number", "0"], "there is no recording 0: "),
        (["Hi"], "use --provider NAME, as for the recording"),
    ],
)
def test_replay_reports_wrong_options(
    file: str, monkeypatch: Any, capsys: Any, arguments: list[str], message: str
) -> None:
    """One line that names the remedy."""
    record(file, ["Hello"])
    for name in [name for name in os.environ if name.endswith(("_KEY", "_URL"))]:
        monkeypatch.delenv(name)
    assert main(["replay", file, *arguments]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)


def test_serve_needs_a_free_port(file: str, capsys: Any) -> None:
    """As with ``serve``."""
    record(file, ["Hello"])
    with serve() as other:
        assert main(["replay", file, "--serve", "--port", str(other.port)]) == 1
    assert "--port 0 picks a free port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist: `providers-sync record "),
        (b"", "has no recordings: `providers-sync record "),
        (b"Dear reader,\n", "is not a recording"),
    ],
)
def test_replay_reports_a_wrong_file(
    file: str, capsys: Any, content: bytes | None, message: str
) -> None:
    """Also when a question is asked."""
    if content is not None:
        Path(file).write_bytes(content)
    for more in ([], ["Hi", *at("http://127.0.0.1:9")]):
        assert main(["replay", file, *more]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"Dear reader,\n", b"Dear reader", b'{"version": 1}\n'])
def test_record_leaves_another_file_alone(file: str, capsys: Any, content: bytes) -> None:
    """Nothing is sent, and nothing in the file is changed."""
    Path(file).write_bytes(content)
    with serve() as server:
        assert main(["record", file, "Hi", *at(server.url)]) == 1
        assert server.requests == []
    assert Path(file).read_bytes() == content
    assert " is not a re" in capsys.readouterr().err


def test_record_needs_a_folder_and_a_file(tmp_path: Path, capsys: Any) -> None:
    """The command says so before it sends anything."""
    with serve() as server:
        assert main(["record", str(tmp_path / "new" / "a"), "Hi", *at(server.url)]) == 1
        assert f"create the folder {str(tmp_path / 'new')!r} first" in capsys.readouterr().err
        assert main(["record", str(tmp_path), "Hi", *at(server.url)]) == 1
        assert "it is not a regular file" in capsys.readouterr().err
        assert server.requests == []


def test_record_fails_if_the_answer_cannot_be_written(
    file: str, monkeypatch: Any, capsys: Any
) -> None:
    """The text is shown, with the exit code of a failure."""
    monkeypatch.setattr(RecordingFile, "append", lambda *_: None)
    with serve([["Hello"]]) as server:
        assert main(["record", file, "Hi", *at(server.url)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "Hello\n"
    assert f"the answer is not in {file}: it could not be written" in printed.err


def test_number_reports_a_decoder_of_another_program(file: str, capsys: Any) -> None:
    """It is named, with the remedy."""
    record(file, ["Hello"])
    (exchange,) = read_recordings(file)
    exchange.decoder = "MyDecoder"
    Path(file).write_bytes(exchange.to_line())
    assert main(["replay", file, "--number", "1"]) == 1
    assert "the decoder of this recording is 'MyDecoder'" in capsys.readouterr().err
