"""Files of recordings: several writers, damage, edits, permissions, and a full disk."""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from test_processes import FORK_WARNING, FORKS, in_child

from providers_sync import OpenAICompatible, Provider, ProviderError
from providers_sync.recording import (
    Exchange,
    Recorded,
    RecordingError,
    read_recordings,
    unwritten,
)
from providers_sync.testing import Request, ScriptedProvider, cut, serve

ROOT = Path(__file__).parent.parent
NOBODY = 65534
"""The number of a user without rights."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def echo(request: Request) -> Any:
    return ["You said: ", request.json()["messages"][-1]["content"]]


def ask(provider: Provider, prompt: Any = "Hi", **options: Any) -> str:
    return provider.complete(prompt, **options).text


def failure(provider: Provider, prompt: Any = "Hi") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        provider.complete(prompt)
    return caught.value


def recorded(path: Path, *prompts: str) -> ScriptedProvider:
    """Record answers to some prompts; return the provider."""
    provider = ScriptedProvider(echo)
    recording = Recorded(provider, path)
    for prompt in prompts:
        ask(recording, prompt)
    return provider


def prompts_of(path: Path) -> list[str]:
    return [each.request.body["messages"][-1]["content"] for each in read_recordings(path)]


# --- several writers

WRITER = """
import sys
from providers_sync import OpenAICompatible
from providers_sync.recording import Recorded
url, path, name = sys.argv[1:]
sys.stdin.readline()  # all start together
provider = Recorded(OpenAICompatible("m", base_url=url), path)
for number in range(10):
    assert provider.complete(f"{name} {number} " + "x" * 5000).text
    assert provider.complete("the same").text
"""


def test_processes_append_at_the_same_time(path: Path) -> None:
    """No line is lost or torn, and a reader that reads meanwhile sees whole lines only."""
    with serve(echo, keep=1) as server:
        arguments = [sys.executable, "-c", WRITER, server.url, str(path)]
        writers = [
            subprocess.Popen(
                [*arguments, str(number)],
                stdin=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            for number in range(3)
        ]
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        reader = Recorded(OpenAICompatible("m", base_url=server.url), path)
        while any(writer.poll() is None for writer in writers):
            reader._file().load()
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.close()
            assert writer.wait(30) == 0
    expected = {f"{name} {number} {'x' * 5000}" for name in range(3) for number in range(10)}
    assert expected | {"the same"} == set(prompts_of(path))
    assert len(expected) == sum(prompt != "the same" for prompt in prompts_of(path))
    replay = Recorded(ScriptedProvider(), path, "replay")
    assert len(replay._file().all()) >= 30 + 10


def test_lock_of_another_process_is_waited_for(path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    recorded(path, "one")
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        timer = threading.Timer(0.1, fcntl.flock, (other, fcntl.LOCK_UN))
        timer.start()
        recorded(path, "two")
        timer.join()
    assert prompts_of(path) == ["one", "two"]


def test_line_is_read_while_it_is_written(path: Path) -> None:
    """Half of it is not taken, whatever its half is; the rest is read later."""
    provider = recorded(path, "one", "two")
    one, two = path.read_bytes().splitlines(keepends=True)
    for split in (1, len(two) // 2, len(two) - 1):
        path.write_bytes(one)
        recording = Recorded(provider, path)
        with path.open("ab") as file:
            file.write(two[:split])
        recording._file().load()
        with path.open("ab") as file:
            file.write(two[split:])
        assert ask(recording, "two") == "You said: two"
    assert len(provider.requests) == 2


# --- damage and edits


@pytest.mark.parametrize("part", [1, 100, -2])
def test_half_a_line_of_a_killed_writer_is_removed(part: int, path: Path) -> None:
    recorded(path, "one", "two")
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[0][:part])
    assert prompts_of(path) == ["one", "two"]
    recorded(path, "three")
    assert prompts_of(path) == ["one", "two", "three"]
    assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize("mode", ["auto", "record", "replay"])
@pytest.mark.parametrize("text", [b"my notes", b'{"version":"1.2","name":"mine"}', b"a\nb"])
def test_file_of_another_kind_stays_as_it_is(text: bytes, mode: Any, path: Path) -> None:
    """Its last line has no newline, as half a line of ours."""
    path.write_bytes(text)
    provider = ScriptedProvider(echo)
    with pytest.raises(RecordingError, match="is not a recording"):
        ask(Recorded(provider, path, mode))
    assert path.read_bytes() == text
    assert provider.requests == []


def test_file_that_is_replaced_during_an_answer_stays_as_it_is(path: Path) -> None:
    """By one of another kind; the answer is delivered."""

    def replace(request: Request) -> Any:
        path.write_bytes(b"my notes")
        return ["Hello"]

    assert ask(Recorded(ScriptedProvider(replace), path)) == "Hello"
    assert path.read_bytes() == b"my notes"


@pytest.mark.parametrize("change", ["end", "empty lines", "CRLF", "BOM", "spaces"])
def test_what_editors_do_to_a_file(change: str, path: Path) -> None:
    """A recording without its newline stays; newlines of Windows and empty lines do not matter."""
    recorded(path, "one", "two")
    data = path.read_bytes()
    changed = {
        "end": data.rstrip(),
        "empty lines": b"\n" + data.replace(b"\n", b"\n\n"),
        "CRLF": data.replace(b"\n", b"\r\n"),
        "BOM": b"\xef\xbb\xbf" + data,
        "spaces": data.replace(b'":"', b'" : "'),
    }[change]
    assert changed != data
    path.write_bytes(changed)
    provider = recorded(path, "one", "two", "three")
    assert len(provider.requests) == 1
    assert prompts_of(path) == ["one", "two", "three"]
    assert len(recorded(path, "one", "two", "three").requests) == 0


WRONG = {
    "text": (b"<<<<<<< HEAD", "Expecting value"),
    "list": (b"[]", "TypeError"),
    "empty object": (b"{}", "'version' is missing"),
    "version": (b'{"version": 9}', "its version is 9"),
    "zeros": (b"\0" * 20, ""),
    "no text": (b"\xff\xfe\xff", ""),
    "deep": (b"[" * 100_000, ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_line_is_named(name: str, path: Path) -> None:
    line, reason = WRONG[name]
    recorded(path, "one", "two")
    one, two = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(one + line + b"\n" + two)
    for read in (lambda: Recorded(ScriptedProvider(), path), lambda: list(read_recordings(path))):
        with pytest.raises(RecordingError) as caught:
            read()
        assert f"line 2 of '{path}' is not a recording: {reason}" in str(caught.value)
        assert "delete the line" in str(caught.value)


FIELDS = {
    "pieces": [[-1, "x"]],
    "seconds": float("nan"),
    "how": "well",
    "recorded_at": "2026-01-01T00:00:00",
    "status": "two hundred",
    "headers": 3,
    "error": "oops",
    "replaces": True,
    "request": None,
}


@pytest.mark.parametrize("field", [*FIELDS, "base64"])
def test_wrong_field(field: str, path: Path) -> None:
    recorded(path, "one")
    value = json.loads(path.read_bytes())
    if field == "base64":
        value["pieces"] = [[0, {"base64": "!"}]]
    else:
        value[field] = FIELDS[field]
    with pytest.raises(ValueError, match=r"."):
        Exchange.from_line(json.dumps(value).encode())


def test_wrong_line_that_comes_later_is_an_error_until_it_is_removed(path: Path) -> None:
    """Nothing is sent meanwhile."""
    provider = recorded(path, "one")
    recording = Recorded(provider, path)
    good = path.read_bytes()
    path.write_bytes(good + b"oops\n")
    for _ in range(2):
        assert "line 2 of" in str(failure(recording))
    path.write_bytes(good)
    assert ask(recording, "one") == "You said: one"
    assert len(provider.requests) == 1


def test_edit_of_a_file_in_use(path: Path) -> None:
    """The new text is played, even if the file has become longer."""
    provider = recorded(path, "one", "two")
    recording = Recorded(provider, path)
    text = path.read_text(encoding="utf-8")
    edited = text.replace('\\"two\\"', '\\"2, which is not two but edited\\"')
    assert edited != text
    path.write_text(edited, encoding="utf-8")
    assert ask(recording, "two") == "You said: 2, which is not two but edited"
    assert len(provider.requests) == 2


def test_file_that_is_removed_is_empty(path: Path) -> None:
    provider = recorded(path, "one")
    recording = Recorded(provider, path)
    path.unlink()
    assert ask(recording, "one") == "You said: one"
    assert len(provider.requests) == 2
    assert prompts_of(path) == ["one"]


def test_copied_line_is_a_second_sample(path: Path) -> None:
    """Although it has the same id."""
    provider = recorded(path, "one")
    path.write_bytes(2 * path.read_bytes())
    recording = Recorded(provider, path)
    assert ask(recording, "one") == ask(recording, "one")
    assert len(provider.requests) == 1


def test_file_is_readable_by_a_person(path: Path) -> None:
    """Text as it is, one line for each request."""
    provider = ScriptedProvider(echo)
    ask(Recorded(provider, path), "Où est le café ?", temperature=0)
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert "Où est le café ?" in line
    value = json.loads(line)
    assert value["request"]["body"]["temperature"] == 0
    assert value["status"] == 200
    assert "".join(text for _, text in value["pieces"]).count("You said") == 1
    assert Exchange.from_line(line.encode()).to_line().decode() == line + "\n"


def test_half_a_pair_of_surrogates_is_recorded(path: Path) -> None:
    """JSON can send it; UTF-8 cannot hold it."""
    provider = ScriptedProvider(["Hello"])
    for _ in range(2):
        assert ask(Recorded(provider, path), "a \ud83d b") == "Hello"
    assert len(provider.requests) == 1


# --- permissions and faults of the file system


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.parametrize("exists", [False, True])
def test_only_the_owner_can_read_it(exists: bool, path: Path) -> None:
    before = os.umask(0)
    try:
        if exists:
            path.touch(0o666)
        recorded(path, "one")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", ["auto", "record"])
@pytest.mark.parametrize("place", ["a folder", "in a missing folder", "in a file"])
def test_place_that_cannot_be_written_is_refused_before_anything_is_sent(
    place: str, mode: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    path = {
        "a folder": tmp_path,
        "in a missing folder": tmp_path / "missing" / "answers.jsonl",
        "in a file": tmp_path / "file" / "answers.jsonl",
    }[place]
    with pytest.raises(RecordingError, match="cannot be") as caught:
        Recorded(ScriptedProvider(), path, mode)
    assert str(path) in str(caught.value)


@FORKS
@FORK_WARNING
def test_file_without_permission() -> None:
    """In a process of another user: permissions do not bind the superuser."""

    def check() -> None:
        if os.geteuid() == 0:
            os.setuid(NOBODY)
        with pytest.raises(RecordingError, match="ermission denied"):
            Recorded(ScriptedProvider(), path)
        with pytest.raises(RecordingError, match="ermission denied"):
            Recorded(ScriptedProvider(), path, "replay")

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "answers.jsonl"
        recorded(path, "one")
        path.chmod(0)
        in_child(check)


def test_folder_is_no_file_for_reading(tmp_path: Path) -> None:
    for read in (
        lambda: Recorded(ScriptedProvider(), tmp_path, "replay"),
        lambda: list(read_recordings(tmp_path)),
        lambda: list(read_recordings(tmp_path / "missing")),
    ):
        with pytest.raises(RecordingError, match="cannot be read"):
            read()


@pytest.mark.parametrize("script", [["Hel", "lo"], ["Hel", cut()]], ids=["whole", "cut"])
def test_answer_is_not_lost_when_it_cannot_be_recorded(
    script: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is delivered, with its own error if it has one; the log says what is missing."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with serve(script) as server:
        provider = OpenAICompatible("m", base_url=server.url, retry=1)
        recording = Recorded(provider, folder / "answers.jsonl")
        shutil.rmtree(folder)
        stream = recording.stream("Hi")
        chunks = []
        try:
            chunks += stream
        except ProviderError as error:
            assert error.partial == "Hel"  # noqa: PT017 (both kinds of answers)
    assert "".join(chunks) == ("Hel" if len(chunks) == 1 else "Hello")
    assert stream.outcome == ("cut" if len(chunks) == 1 else "complete")
    recording.close()
    unwritten.wait()  # the worker ends after the answer
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "answers.jsonl' cannot be opened: No such file or directory" in record.getMessage()


@FORKS
@FORK_WARNING
def test_full_disk(path: Path) -> None:
    """The answer is delivered, and the file stays as it was."""
    resource = pytest.importorskip("resource")
    recorded(path, "one")
    size = path.stat().st_size

    def fill() -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        provider = ScriptedProvider(echo)
        return ask(Recorded(provider, path), "two")

    assert in_child(fill) == "You said: two"
    assert path.stat().st_size == size


def test_change_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is that of the moment when the object was made."""
    monkeypatch.chdir(tmp_path)
    recording = Recorded(ScriptedProvider(["Hello"]), "answers.jsonl")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    ask(recording)
    assert (tmp_path / "answers.jsonl").exists()


def test_large_file_loads_quickly(path: Path) -> None:
    """Ten thousand answers, with many requests for one of them."""
    provider = recorded(path, "Hi")
    (exchange,) = read_recordings(path)
    with path.open("wb") as file:
        for number in range(10_000):
            exchange.id = str(number)
            exchange.request.body["seed"] = number // 2
            exchange.sent_fingerprint = ""
            file.write(exchange.to_line())
    started = time.monotonic()
    recording = Recorded(provider, path)
    loaded = time.monotonic() - started
    started = time.monotonic()
    for number in range(50):
        assert ask(recording, seed=number) == "You said: Hi"
    assert len(provider.requests) == 1
    played = time.monotonic() - started
    assert loaded < 5
    assert played < 2
