"""``ask`` and ``chat`` with piped input and output: bytes in, bytes out."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from providers_sync.terminal.screens import JsonScreen
from providers_sync.testing import (
    answer,
    cut,
    event,
    finish,
    reasoning,
    refusal,
    serve,
    stall,
    status,
    text,
    tool_call,
    usage,
    wait,
)
from providers_sync.types import Extra

ROOT = Path(__file__).parent.parent
PIPES: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
COMMAND = [sys.executable, "-W", "error", "-m", "providers_sync"]


def command(*arguments: str, url: str) -> list[str]:
    """Return the command line of ``ask`` or ``chat`` for this server."""
    options = ["--provider", "openai", "--model", "m", "--base-url", url]
    return [*COMMAND, arguments[0], *options, *arguments[1:]]


def environment(tmp_path: Path | None = None, **more: str) -> dict[str, str]:
    """Return the command's environment: this checkout, UTF-8, and none of the user's history."""
    base = {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "XDG_STATE_HOME": str(tmp_path or "/none")}
    return {**os.environ, **base, **more}


def run(
    *arguments: str, url: str, stdin: bytes | None = b"", code: int = 0, **env: str
) -> tuple[bytes, str]:
    """Run the command with pipes; return its standard output and its standard error."""
    done = subprocess.run(
        command(*arguments, url=url),
        input=stdin,
        capture_output=True,
        env=environment(**env),
        timeout=30,
    )
    stderr = done.stderr.decode()
    assert "Traceback" not in stderr
    assert done.returncode == code, stderr
    return done.stdout, stderr


# --- ask, piped


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (
            ["# Hi *you*\r\n\x1b[2J\t", "<b>Grüße 😀\x07"],
            "# Hi *you*\r\n\x1b[2J\t<b>Grüße 😀\x07\n",
        ),
        (["one\n"], "one\n"),
        (["one", "\n\n"], "one\n\n"),
        (["\n", "  x"], "\n  x\n"),
    ],
)
def test_piped_answer_is_the_models_text_byte_by_byte(chunks: list[str], expected: str) -> None:
    """Nothing is rendered or cleaned; only a missing final line break is added."""
    with serve([text(chunk) for chunk in chunks]) as server:
        assert run("ask", "Hi", url=server.url) == (expected.encode(), "")


def test_piped_text_is_written_as_it_arrives() -> None:
    """A program at the other end reads the first text before the model has sent the rest."""
    go_on = threading.Event()
    with serve([text("first "), wait(go_on), text("second")]) as server:
        line = command("ask", "Hi", url=server.url)
        with subprocess.Popen(
            line, stdout=subprocess.PIPE, env=environment(), stdin=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            assert os.read(process.stdout.fileno(), 100) == b"first "
            go_on.set()
            assert process.stdout.read() == b"second\n"
    assert process.returncode == 0


def test_closed_output_pipe_ends_the_command_quietly() -> None:
    """As with ``head``: no traceback, and the connection to the server is closed."""
    with serve([text("first\n"), stall()]) as server:
        line = command("ask", "Hi", url=server.url)
        with subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            stdin=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            os.read(process.stdout.fileno(), 100)
            process.stdout.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
            assert process.stderr.read() == b"providers-sync: stopped\n"
        server.wait_closed()


def test_piped_input_is_the_context_of_the_question() -> None:
    """``cat log | ask "what failed?"``; a byte order mark is no part of it."""
    with serve(["ok"]) as server:
        run("ask", "What failed?", url=server.url, stdin=b"\xef\xbb\xbfline 1\r\nerr\n")
        run("ask", url=server.url, stdin="Grüße?\n".encode())
        run("ask", "Alone?", url=server.url, stdin=b" \n")
        sent = [request.json()["messages"][-1]["content"] for request in server.requests]
    assert sent == ["line 1\r\nerr\n\nWhat failed?", "Grüße?\n", "Alone?"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        ([], b"", "there is no question"),
        ([""], b"context", "the question is empty: is the variable in it set?"),
        ([" \n"], b"", "the question is empty"),
        (["Hi"], "Größe\n5 µm".encode("latin1"), "line 1 has the byte 0xf6; .*iconv -f latin1"),
        (["Hi"], b"one\n\xff", "line 2 has the byte 0xff"),
        ([], "Hi".encode("utf-16"), "iconv -f utf-16 -t utf-8"),
        (["Hi"], b"one\na\0b", "line 2 has a NUL character; -a FILE sends an image"),
    ],
)
def test_what_is_no_question_is_an_error(arguments: list[str], stdin: bytes, message: str) -> None:
    """Nothing is sent."""
    with serve(["ok"]) as server:
        _, stderr = run("ask", *arguments, url=server.url, stdin=stdin, code=1)
        assert re.search(message, stderr)
        assert stderr.count("\n") == 1
        assert server.requests == []


def test_pipe_that_never_ends_is_refused() -> None:
    """As from a device; it is not read into memory for ever."""
    with serve(["ok"]) as server:
        line = command("ask", "Hi", url=server.url)
        source = subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE)
        done = subprocess.run(
            line, stdin=source.stdout, capture_output=True, env=environment(), timeout=30
        )
        source.kill()
        source.communicate()
        assert server.requests == []
    assert done.stderr == b"providers-sync: standard input has more than 64 MB\n"


@pytest.mark.parametrize(
    ("stdin", "sent"), [(b"\xef\xbb\xbfOne?\n", ["One?"]), (b"On\xff\nTwo?\n", ["Two?"])]
)
def test_piped_chat_reads_utf8(stdin: bytes, sent: list[str]) -> None:
    """Without the byte order mark; a line that is not UTF-8 is not sent, and is told."""
    with serve(["ok"]) as server:
        _, stderr = run("chat", url=server.url, stdin=stdin, code=b"\xff" in stdin)
        asked = [request.json()["messages"][-1]["content"] for request in server.requests]
    assert asked == sent
    assert ("line 1 of standard input is not UTF-8 text" in stderr) == (b"\xff" in stdin)


@pytest.mark.parametrize("typed", [b'"""\none\nb\xffd\nthree\n"""', b"one\\\nb\xffd\\\nthree"])
def test_message_with_a_line_that_is_no_text_is_not_sent(typed: bytes) -> None:
    """No part of it; the next message is."""
    with serve(["ok"]) as server:
        _, stderr = run("chat", url=server.url, stdin=typed + b"\nNext\n", code=1)
        asked = [request.json()["messages"][-1]["content"] for request in server.requests]
    assert asked == ["Next"]
    assert stderr.count("is not UTF-8 text; its message is not sent") == 1


def test_pipe_that_stays_silent_is_not_waited_for() -> None:
    """A question was given: it is sent after two seconds, and a line says without what."""
    with serve(["ok"]) as server:
        with subprocess.Popen(
            command("ask", "Hi", url=server.url), env=environment(), **PIPES
        ) as process:
            assert process.stderr is not None
            assert process.stdout is not None
            assert b"nothing was piped in for two seconds" in process.stderr.readline()
            assert process.stdout.read() == b"ok\n"
            assert process.stdin is not None
            process.stdin.close()
        assert server.requests[0].json()["messages"][-1]["content"] == "Hi"


def test_silent_pipe_without_a_question_is_waited_for() -> None:
    """A notice says so: the question comes from there."""
    with (
        serve(["ok"]) as server,
        subprocess.Popen(command("ask", url=server.url), env=environment(), **PIPES) as process,
    ):
        assert process.stderr is not None
        assert b"reading standard input" in process.stderr.readline()
        assert process.communicate(b"Hi")[0] == b"ok\n"


def test_system_message_and_stats() -> None:
    """``--system`` is sent first; ``--stats`` goes to standard error."""
    with serve([text("o"), text("k"), usage(3, 2)]) as server:
        stdout, stderr = run("ask", "Hi", "--system", "Be brief.", "--stats", url=server.url)
        first = server.requests[0].json()["messages"][0]
    assert first == {"role": "system", "content": "Be brief."}
    assert stdout == b"ok\n"
    assert re.fullmatch(
        r"providers-sync: complete: 2 chunks, the first after [\d.]+ s, [\d.]+ s in total, "
        r"tokens: 3 in, 2 out\n",
        stderr,
    )


def test_stats_of_one_chunk() -> None:
    """One chunk is not counted in the plural."""
    with serve([text("ok")]) as server:
        _, stderr = run("ask", "Hi", "--stats", url=server.url)
    assert stderr.startswith("providers-sync: complete: 1 chunk, the first after ")


def test_json_output_is_one_object_per_line() -> None:
    """Every kind of event, then the outcome; ASCII only, whatever the locale."""
    script = [
        reasoning("Hm"),
        "Grüße",
        tool_call("add", {"a": 1}, id="c"),
        refusal("No"),
        usage(1, 2),
    ]
    with serve(script) as server:
        stdout, stderr = run("ask", "Hi", "--json", url=server.url, PYTHONIOENCODING="ascii")
    events = [json.loads(line) for line in stdout.splitlines()]
    end = events.pop()
    assert {"type": "reasoning", "text": "Hm"} in events
    assert {"type": "text", "text": "Grüße"} in events
    assert {"type": "refusal", "text": "No"} in events
    call = {"type": "tool_call", "id": "c", "name": "add", "arguments": {"a": 1}, "raw": '{"a": 1}'}
    assert call in events
    assert {"usage", "finish"} < {event["type"] for event in events}
    assert (end["type"], end["outcome"], end["error"]) == ("end", "complete", None)
    assert end["stats"]["chunks"] == 1
    assert stderr == ""


def test_json_ends_with_an_outcome_even_if_nothing_arrived() -> None:
    """A script needs to read only the last line."""
    for script, outcome, error in [
        (status(401, "Who?"), "failed", "AuthenticationError"),
        ([text("Half"), cut()], "cut", "StreamCut"),
    ]:
        with serve(script) as server:
            stdout, _ = run("ask", "Hi", "--json", url=server.url, code=1)
        end = json.loads(stdout.splitlines()[-1])
        assert (end["type"], end["outcome"], end["error"]) == ("end", outcome, error)


def test_cut_answer_is_shown_before_the_error() -> None:
    """The text that had arrived is on standard output with a line break, the error on stderr."""
    with serve([text("Half"), cut()]) as server:
        stdout, stderr = run("ask", "Hi", url=server.url, code=1)
    assert stdout == b"Half\n"
    assert "the connection broke" in stderr


def test_refusal_and_tool_calls_go_to_standard_error() -> None:
    """They are not part of the text, but they are not lost."""
    with serve([refusal("I won't."), tool_call("add", {"a": 1})]) as server:
        stdout, stderr = run("ask", "Hi", url=server.url)
    assert stdout == b""
    assert "the model refused: I won't." in stderr
    assert 'the model calls add({"a": 1})' in stderr


LIMIT = "was cut off by a limit on its length (finish reason length)"
ENDINGS: list[tuple[list[Any], str, str]] = [
    (["Hel", finish("length")], "Hel\n", f"the answer {LIMIT}"),
    ([finish("length")], "", f"the answer is empty: it {LIMIT}"),
    (
        [reasoning("Hm"), finish("length")],
        "",
        f"the answer is empty: it has only reasoning, and {LIMIT}",
    ),
    (
        ["Hel", finish("content_filter")],
        "Hel\n",
        "the answer was ended by a content filter (finish reason content_filter)",
    ),
    (
        ["Hel", finish("model_context_window_exceeded")],
        "Hel\n",
        "the answer was cut off because the model's context window is full "
        "(finish reason model_context_window_exceeded)",
    ),
    (
        ["Hel", finish("weird\n\x1b[2J")],
        "Hel\n",
        "the answer ended for an unknown reason (finish reason weird ␛[2J)",
    ),
    ([" ", finish("stop")], " \n", "the answer is empty (finish reason stop)"),
    ([refusal("I won't."), finish("stop")], "", "the model refused: I won't."),
]


@pytest.mark.parametrize(("script", "expected", "words"), ENDINGS)
def test_line_says_why_an_answer_is_not_whole_or_empty(
    script: list[Any], expected: str, words: str
) -> None:
    """It is on standard error; the answer is on standard output, and the exit code is 0."""
    with serve(script) as server:
        assert run("ask", "Hi", url=server.url) == (
            expected.encode(),
            f"providers-sync: {words}\n",
        )


@pytest.mark.parametrize("script", [["Hi"], [tool_call("add", {})]])
def test_nothing_is_said_about_a_whole_answer(script: list[Any]) -> None:
    """Neither about a text nor about a call without text."""
    with serve(script) as server:
        _, stderr = run("ask", "Hi", url=server.url)
    assert "the answer" not in stderr


def test_chat_says_why_an_answer_is_not_whole() -> None:
    """After each answer, and the conversation goes on."""
    with serve([["Hel", finish("length")], [refusal("No.")], ["Whole"]]) as server:
        stdout, stderr = run("chat", url=server.url, stdin=b"One\nTwo\nThree\n")
    assert stdout == b"Hel\nWhole\n"
    assert stderr.splitlines() == [
        f"providers-sync: the answer {LIMIT}",
        "providers-sync: the model refused: No.",
    ]


@pytest.mark.parametrize(
    ("script", "code", "is_whole", "words"),
    [
        (["Hi"], 0, True, None),
        (["Hel", finish("length")], 0, False, f"the answer {LIMIT}"),
        ([finish("stop")], 0, True, "the answer is empty (finish reason stop)"),
        ([refusal("No.")], 0, False, "the answer is a refusal (finish reason stop)"),
        (["Hel", cut()], 1, False, None),
        (status(401), 1, False, None),
    ],
)
def test_json_end_tells_whether_the_answer_is_whole(
    script: Any, code: int, is_whole: bool, words: str | None
) -> None:
    """And in words, where there is something to say."""
    with serve(script) as server:
        stdout, _ = run("ask", "Hi", "--json", url=server.url, code=code)
    end = json.loads(stdout.splitlines()[-1])
    assert (end["is_whole"], end["note"]) == (is_whole, words)


MEDIA = {
    "content": [
        {"type": "text", "text": "Look."},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
    ],
    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example"}}],
    "unheard_of": {"a": 1},
}


def test_json_output_has_citations_media_and_everything_else() -> None:
    """Each under its own type; bytes are base64."""
    with serve([event({"choices": [{"index": 0, "delta": MEDIA}]})]) as server:
        stdout, _ = run("ask", "Hi", "--json", url=server.url)
        _, stderr = run("ask", "Hi", url=server.url)
    events = {each["type"]: each for each in map(json.loads, stdout.splitlines())}
    assert events["citation"]["url"] == "https://a.example"
    assert (events["media"]["mime_type"], events["media"]["data"]) == ("image/png", "iVBORw==")
    assert events["extra"]["value"] == {"a": 1}
    assert events["finish"] == {"type": "finish", "reason": "stop"}
    assert stderr == "providers-sync: the model sends image/png (4 bytes); --json prints it\n"


def test_answer_of_an_image_only_is_not_empty() -> None:
    """Its type and size are on standard error, and nothing else."""
    url = {"url": "https://a.example/cat.png"}
    delta = {"images": [{"type": "image_url", "image_url": url}]}
    with serve([event({"choices": [{"index": 0, "delta": delta}]})]) as server:
        assert run("ask", "Hi", url=server.url) == (
            b"",
            "providers-sync: the model sends image (https://a.example/cat.png); --json prints it\n",
        )


def test_json_output_is_json_whatever_the_server_says() -> None:
    """NaN becomes text; what is nested too deeply for JSON is shortened."""
    value: Any = {"n": float("nan")}
    with serve([event({"choices": [], "odd": value}), "Hi"]) as server:
        stdout, _ = run("ask", "Hi", "--json", url=server.url)
    first = json.loads(stdout.splitlines()[0], parse_constant=pytest.fail)
    assert first == {"type": "extra", "path": "odd", "value": {"n": "NaN"}}
    out = io.StringIO()
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    JsonScreen(out).show(Extra("odd", deep))
    assert json.loads(out.getvalue())["value"].startswith("[[[[")


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_pipes_are_utf8_whatever_the_locale(locale: str) -> None:
    """Both the input and the output."""
    settings = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with serve(["Grüße 😀"]) as server:
        stdout, _ = run("ask", "Hé?", url=server.url, stdin="ö\n".encode(), **settings)
        assert server.requests[0].json()["messages"][-1]["content"] == "ö\n\nHé?"
        assert stdout == "Grüße 😀\n".encode()
        stdout, _ = run("chat", url=server.url, stdin="Hé?\n".encode(), **settings)
        assert server.requests[1].json()["messages"][-1]["content"] == "Hé?"


@pytest.mark.parametrize(
    ("redirection", "code", "error"),
    [
        (">/dev/full", 1, "providers-sync: [Errno 28] No space left on device\n"),
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
    ],
)
def test_output_that_cannot_be_written_is_reported_in_one_line(
    redirection: str, code: int, error: str
) -> None:
    """A full disk is an error without a traceback; a closed output is no error."""
    with serve(["Hello"]) as server:
        line = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command("ask", "Hi", url=server.url)]
        done = subprocess.run(line, input=b"", capture_output=True, env=environment())
    assert (done.returncode, done.stderr.decode()) == (code, error)


@pytest.mark.parametrize("phase", ["headers", "text", "middle", "middle of JSON"])
def test_interrupt_when_piped_keeps_the_partial_text(phase: str) -> None:
    """Ctrl-C in each phase: exit code 130, one line, no traceback, and a closed connection."""
    scripts: dict[str, Any] = {
        "headers": answer(before=[stall()]),
        "text": [stall()],
        "middle": [text("Half"), stall()],
    }
    with serve(scripts[phase.split(" of ")[0]]) as server:
        more = ["--json"] if "JSON" in phase else []
        with subprocess.Popen(
            command("ask", "Hi", *more, url=server.url),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            server.wait_request(timeout=20)
            first = os.read(process.stdout.fileno(), 1000) if "middle" in phase else b""
            process.send_signal(signal.SIGINT)
            stdout = first + process.stdout.read()
            assert process.stderr.read() == b"providers-sync: stopped\n"
        server.wait_closed()
    assert process.returncode == 130
    if more:
        assert json.loads(stdout.splitlines()[-1])["outcome"] == "cancelled"
    else:
        assert stdout == (b"Half\n" if phase == "middle" else b"")


def test_interrupt_during_import_is_quiet(tmp_path: Path) -> None:
    """Ctrl-C right after Enter ends the command like any other program, without a traceback."""
    slow = "import sys\nprint('loading', flush=True)\nsys.stdin.read()\n"
    (tmp_path / "sseclient.py").write_text(slow)
    code = "import sys; from providers_sync_command import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", code, "providers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)])),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"loading\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGINT


# --- chat, piped


def test_piped_chat_answers_line_by_line(tmp_path: Path) -> None:
    """Messages and commands are read from the pipe; only answers go to standard output."""
    saved = tmp_path / "chat.json"
    lines = [
        *("One?", "", "Two \\", "lines?", '"""', "a block", "", "of lines", '"""', "//slash"),
        *(f"/save {saved}", "/undo", "/undo", "/model", "/model big", "Three?", "/nonsense"),
        *(f"/load {saved}", "/load none.json", "/save", "/resume", "/help", "Four?", "/quit", "no"),
    ]
    with serve(lambda request: [f"# {len(request.json()['messages'])}"]) as server:
        stdout, stderr = run(
            "chat", "--system", "S", url=server.url, stdin="\n".join(lines).encode(), code=1
        )
        sent = [request.json()["messages"][-1]["content"] for request in server.requests]
        assert [request.json()["model"] for request in server.requests] == ["m"] * 4 + ["big"] * 2
    assert sent == ["One?", "Two \nlines?", "a block\n\nof lines", "/slash", "Three?", "Four?"]
    assert stdout == b"# 2\n# 4\n# 6\n# 8\n# 6\n# 10\n"
    for message in (
        f"Saved to {saved}: 8 messages.",
        "Removed: /slash\nRemoved: a block",
        "The model is m.",
        "The model is big.",
        "there is no command /nonsense",
        f"Loaded from {saved}: 8 messages.",
        "No such file",
        "/save needs a file name",
        "there is no interrupted answer to resume",
        "/resume ",
    ):
        assert message in stderr


def test_piped_chat_continues_after_a_failure() -> None:
    """The failed answer can be resumed; the exit code reports the failure."""
    script = [[text("Half "), cut()], [text("done")], ["Next"]]
    with serve(script) as server:
        stdout, stderr = run(
            "chat", "--stats", url=server.url, stdin=b"One\n/resume\nTwo\n", code=1
        )
        turns = server.requests[2].json()["messages"]
    assert stdout == b"Half \ndone\nNext\n"
    assert "/resume continues the answer" in stderr
    assert stderr.count("complete: ") == 2
    assert [turn["content"] for turn in turns] == ["One", "Half done", "Two"]


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ('"""\nOne\ntwo', "One\ntwo"),
        ('"""\nOne\ntwo\\\n  """  \n', "One\ntwo\\"),
        ("One \\", "One "),
        ('"""\n/one\ntwo\n"""', "/one\ntwo"),
    ],
)
def test_message_of_several_lines_is_one_message(typed: str, sent: str) -> None:
    """The end of the input also ends it, and a slash at its start does not make it a command."""
    with serve(["ok"]) as server:
        stdout, _ = run("chat", url=server.url, stdin=typed.encode())
        assert stdout == b"ok\n"
        assert server.requests[0].json()["messages"][-1]["content"] == sent


def test_chat_file_names_expand_a_tilde(tmp_path: Path) -> None:
    """A tilde is the home directory; errors name the file that was requested."""
    lines = ["/save ~/chat.json", "/load ~/chat.json", f"/save {tmp_path}", "/save ~/no/chat.json"]
    typed = "\n".join(lines).encode()
    _, stderr = run("chat", url="http://x/v1", stdin=typed, code=1, HOME=str(tmp_path))
    assert stderr.splitlines() == [
        f"Saved to {tmp_path}/chat.json: 0 messages.",
        f"Loaded from {tmp_path}/chat.json: 0 messages.",
        f"providers-sync: {tmp_path}: Is a directory",
        f"providers-sync: {tmp_path}/no/chat.json: No such file or directory",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["chat.json"]


def test_invalid_file_name_is_reported(tmp_path: Path) -> None:
    """The conversation continues."""
    saved = tmp_path / "chat.json"
    typed = f"/save\n/load\n/save a\0b\n/save {saved}\n".encode()
    _, stderr = run("chat", url="http://x/v1", stdin=typed, code=1)
    message = "providers-sync: {} needs a file name".format
    assert stderr.splitlines() == [
        message("/save"),
        message("/load"),
        "providers-sync: line 3 of standard input is not UTF-8 text; its message is not sent",
        f"Saved to {saved}: 0 messages.",
    ]


def test_chat_prints_no_control_characters(tmp_path: Path) -> None:
    """They are made visible, in text from a saved file and in typed text."""
    saved = tmp_path / "chat.json"
    with serve(["ok"]) as server:
        run("chat", url=server.url, stdin=f"One\n/save {saved}\n".encode())
    saved.write_text(saved.read_text().replace("One", "One\\u001b[2J\\u202e"))
    lines = [f"/load {saved}", "/undo", "/model m\x1b[2J", "/save \x1b[2J/x", "/\x1b[2J"]
    _, stderr = run("chat", url="http://x/v1", stdin="\n".join(lines).encode(), code=1)
    assert "Removed: One␛[2J<U+202E>" in stderr
    assert "The model is m␛[2J." in stderr
    assert "there is no command /␛[2J" in stderr
    assert "\x1b" not in stderr


def test_chat_loads_a_conversation_at_startup(tmp_path: Path) -> None:
    """``--load`` continues the conversation in a file; a missing file is a one-line error."""
    saved = tmp_path / "chat.json"
    with serve(["ok"]) as server:
        run("chat", url=server.url, stdin=f"One\n/save {saved}\n".encode())
        stdout, _ = run("chat", "--load", str(saved), "--json", url=server.url, stdin=b"Two\n")
        assert len(server.requests[1].json()["messages"]) == 3
        assert json.loads(stdout.splitlines()[-1])["type"] == "end"
        _, stderr = run("chat", "--load", "none.json", url=server.url, code=1)
        assert stderr.count("\n") == 1
