"""Tests of the journal of tool calls: its keys, its file, and what survives a crash."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from journal_kit import (
    CALLS,
    KEYS,
    QUESTION,
    call,
    run_once,
    run_with_kills_elsewhere,
    start,
    states,
    words,
)
from test_processes import FORK_WARNING, FORKS, in_child, in_threads

from providers_sync import InvalidRequestError, ToolCall
from providers_sync.errors import ToolError
from providers_sync.returned_messages import assistant_message
from providers_sync.tools.journal import Entry, Journal, call_keys

FIRST, SECOND = list(KEYS)[:2]
SEAT = {"seat": "0A"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal.open(path) as journal:
        yield journal


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def found(path: Path, key: str = FIRST) -> Entry | None:
    """Return what the next run finds."""
    with Journal.open(path) as journal:
        return journal.find(key)


# --- lines


def test_a_call_begins_and_ends_with_a_line_each(path: Path, journal: Journal) -> None:
    """Each is in the file when the method returns, and the next run reads it."""
    assert journal.find(FIRST) is None
    journal.begin(FIRST, CALLS[0])
    begin = {"event": "begin", "key": FIRST, "name": "book", "arguments": SEAT}
    assert lines(path) == [begin]
    assert journal.find(FIRST) == Entry("book", SEAT)
    journal.end(FIRST, "taken", True, 0.1234)
    end = {"event": "end", "key": FIRST, "content": "taken", "is_error": True, "seconds": 0.123}
    assert lines(path) == [begin, end]
    ended = journal.find(FIRST)
    assert ended == Entry("book", SEAT, "taken", True, 0.1234)
    assert ended.has_ended
    journal.begin(SECOND, CALLS[1])
    journal.close()
    assert found(path) == replace(ended, seconds=0.123)
    begun = found(path, SECOND)
    assert begun == Entry("book", {"seat": "1A"})
    assert not begun.has_ended
    assert found(path, "another") is None


def test_every_line_is_synced(
    path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an ``fsync`` fails: the line does not count then."""
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(path.read_bytes()))
    journal.begin(FIRST, CALLS[0])
    journal.end(FIRST, "booked", False, 0)
    assert [text.count(b"\n") for text in synced] == [1, 2]

    def fsync(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ToolError, match="Input/output error; book has not been called"):
        journal.begin(SECOND, CALLS[1])
    assert journal.find(SECOND) is None
    assert path.read_bytes() == synced[-1]


def test_any_text_is_kept(path: Path, journal: Journal) -> None:
    """Line ends, NUL, lone surrogates; the file is ASCII, and a line is a line."""
    content = 'a\nb\r\u2028\0\ud800é"{}'
    journal.begin(FIRST, ToolCall("", "sql\ud800", None, "SELECT 'é'\n;"))
    journal.end(FIRST, content, False, 1)
    journal.close()
    assert path.read_bytes().isascii()
    assert path.read_bytes().count(b"\n") == 2
    assert found(path) == Entry("sql\ud800", "SELECT 'é'\n;", content, False, 1)


def test_a_call_that_is_made_again_has_to_end_again(path: Path, journal: Journal) -> None:
    """The last line counts."""
    for _ in range(2):
        journal.begin(FIRST, CALLS[0])
        assert journal.find(FIRST) == Entry("book", SEAT)
        journal.end(FIRST, "booked", False, 0)
    journal.begin(FIRST, CALLS[0])
    journal.close()
    assert found(path) == Entry("book", SEAT)


def test_calls_side_by_side(path: Path, journal: Journal) -> None:
    """Lines of several threads do not mix."""
    content = "x" * 5000

    def work(number: int) -> None:
        for each in range(20):
            key = f"{number}-{each}"
            journal.begin(key, CALLS[0])
            journal.end(key, content + key, False, 0)

    in_threads(4, work)
    journal.close()
    with Journal.open(path) as again:
        for number in range(4):
            for each in range(20):
                entry = again.find(f"{number}-{each}")
                assert entry
                assert entry.content == f"{content}{number}-{each}"


# --- keys

HISTORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which seats are free?"},
    assistant_message("", [call("0A", "call_7")]),
    {"role": "tool", "tool_call_id": "call_7", "content": "free"},
    {"role": "assistant", "content": "0A"},
    *QUESTION,
]


def key(messages: Any = HISTORY, one: ToolCall = CALLS[0]) -> str:
    return call_keys(messages, [one])[0]


def with_ids(id: str) -> Any:
    """The history as another server would have numbered it."""
    messages: Any = json.loads(json.dumps(HISTORY).replace("call_7", id))
    messages[2]["providers_sync"] = {"version": 1, "fields": {"reasoning_content": id}}
    used = {"type": "tool_use", "id": id, "name": "book", "input": {}}
    result = {"type": "tool_result", "tool_use_id": id, "content": "booked"}
    messages[1:1] = [
        {"role": "assistant", "content": [used]},
        {"role": "user", "content": [result]},
    ]
    return messages


def test_what_a_server_changes_does_not_count() -> None:
    """Ids, also in the history, what a protocol wants back, and how the JSON is written."""
    assert key(with_ids("a")) == key(with_ids("b"))
    assert key() == key(one=call("0A", "other"))
    one = ToolCall("", "book", {"seat": "0A", "rows": [1, {"a": 1, "b": 2}]}, "")
    two = ToolCall("", "book", {"rows": [1.0, {"b": 2, "a": 1}], "seat": "0A"}, " ")
    assert key(one=one) == key(one=two)


def test_a_run_that_goes_on_has_the_same_keys() -> None:
    """From its messages, with or without the results of the last round, in another process."""
    assert key(json.loads(json.dumps(HISTORY))) == key()
    answer = assistant_message("", CALLS[:2])
    result = {"role": "tool", "tool_call_id": "call_1", "content": "booked"}
    second = key([*HISTORY, answer, result, result])
    assert (
        second == key([*HISTORY, answer]) == key([*HISTORY, {"role": "assistant", "content": ""}])
    )
    assert second != key()


@pytest.mark.parametrize(
    ("messages", "one"),
    [
        ([*HISTORY[:-1], {"role": "user", "content": "Book another."}], CALLS[0]),
        ([{"role": "system", "content": "Be long."}, *HISTORY[1:]], CALLS[0]),
        ([*HISTORY, {"role": "assistant", "content": "0A"}], CALLS[0]),
        (HISTORY, call("0B")),
        (HISTORY, replace(CALLS[0], name="cancel")),
        (HISTORY, ToolCall("", "book", None, json.dumps(SEAT))),
        (HISTORY, ToolCall("", "book", {"seat": "0A", "confirm": True}, "")),
    ],
)
def test_another_call_has_another_key(messages: Any, one: ToolCall) -> None:
    """Of another question, in another round, or with another name or arguments."""
    assert key(messages, one) != key()


def test_true_is_not_one() -> None:
    """Though Python says so."""
    keys = {key(one=ToolCall("", "f", {"a": value}, "")) for value in (1, True, "1", None, [1])}
    assert len(keys) == 5


def test_equal_calls_of_one_answer_have_a_key_each() -> None:
    """And the order of different ones does not matter: a model asked again may change it."""
    twice = call_keys(HISTORY, [CALLS[0], CALLS[0], CALLS[1]])
    assert len(set(twice)) == 3
    assert call_keys(HISTORY, [CALLS[1], CALLS[0], CALLS[0]]) == [twice[2], *twice[:2]]


def test_files_count_by_path_and_bytes_by_content(tmp_path: Path) -> None:
    """No file is read, and nothing in a message makes the keys fail."""

    def image(value: Any) -> str:
        part = {"type": "image", "image": value}
        return key([{"role": "user", "content": [part, {"type": "text", "text": "\ud800"}]}])

    values = [tmp_path / "a.png", tmp_path / "b.png", b"a", b"b", "https://example.org/a.png"]
    assert len({image(value) for value in values}) == 5
    assert image(Path("a.png")) == image(Path("a.png"))
    assert image(bytearray(b"a")) == image(b"a")
    assert image(object()) == image(object())
    assert image({1: float("inf"), "a": 2**64, "b": {1}})


def test_a_conversation_without_a_question_has_keys() -> None:
    """Its first message stands for the question."""
    first, other = ({"role": "assistant", "content": text} for text in "ab")
    assert key([first]) == key([first]) != key([other])
    assert key([first, other]) not in (key([first]), key([other]))


# --- the file


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_a_new_journal_is_readable_by_its_owner_only(path: Path, mask: int) -> None:
    """An existing one keeps its mode."""
    old = os.umask(mask)
    try:
        assert found(path) is None
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    assert found(path) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_second_run_is_refused(path: Path, journal: Journal) -> None:
    """At once, and until the first one ends."""
    with pytest.raises(ToolError, match=r"another run uses the journal .*run\.jsonl: wait until"):
        Journal.open(path)
    journal.close()
    assert found(path) is None


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("pipe", ToolError, "not a regular file"),
        ("/dev/null", ToolError, "not a regular file"),
        (".", ToolError, "Is a directory"),
        ("nowhere/run.jsonl", ToolError, "No such file"),
        ("circular", ToolError, "symbolic links"),
        ("nul\0byte", InvalidRequestError, "path of a file: .*embedded null"),
        (5, InvalidRequestError, "path of a file: expected str"),
    ],
)
def test_what_is_not_a_file_is_refused(
    tmp_path: Path, name: Any, error: type[Exception], reason: str
) -> None:
    """And nothing blocks."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circular").symlink_to("circular")
    with pytest.raises(error, match=reason):
        Journal.open(tmp_path / name if isinstance(name, str) else name)


BEGIN = b'{"event":"begin","key":"a","name":"book","arguments":{}}\n'
END = b'{"event":"end","key":"a","content":"ok","is_error":false,"seconds":0.1}\n'


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"name,seat\nAnn,4A\n", 1),
        (b"one prompt", 1),
        (b'{"id":"batch_req_1","custom_id":"a","response":{},"error":null}\n', 1),
        (b'{"id":"batch_req_1","custom_id":"a","resp', 1),
        (b"[]", 1),
        (b"\0\0ELF", 1),
        (b"[" * 100_000, 1),
        (BEGIN + b"{" + BEGIN, 2),
        (BEGIN + END[:20] + b"\n", 2),
        (BEGIN + END[:20] + bytes(9) + b"\n" + END, 2),
        (BEGIN + b"\n" + END, 2),
        (BEGIN + END + b"hello", 3),
        (END, 1),
        (END[:-1], 1),
        (BEGIN.replace(b'"name":"book",', b""), 1),
        (BEGIN.replace(b'"a"', b"5"), 1),
        (BEGIN.replace(b"begin", b"start"), 1),
        (BEGIN + END.replace(b'"ok"', b"null"), 2),
        (BEGIN + END.replace(b"false", b'"no"')[:-1], 2),
        (BEGIN + END.replace(b"0.1", b"null"), 2),
    ],
)
def test_another_file_is_refused_and_unchanged(path: Path, content: bytes, line: int) -> None:
    """The error names the file and the line; the file can be used by others."""
    path.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=rf"{path} is not a journal .*: line {line} "):
        Journal.open(path)
    assert path.read_bytes() == content
    path.write_bytes(b"")
    assert found(path) is None


def test_a_line_that_a_person_has_removed_or_added_counts(path: Path) -> None:
    """The way to resolve a call of which nobody knows whether it was made."""
    path.write_bytes(BEGIN + END.replace(b",", b" , ").replace(b"\n", b"\r\n"))
    assert found(path, "a") == Entry("book", {}, "ok", False, 0.1)
    path.write_bytes(BEGIN.replace(b'"a"', b'"b"'))
    assert found(path, "a") is None


# --- torn lines


@pytest.mark.parametrize("last", [BEGIN, END])
def test_a_line_torn_anywhere_is_removed(path: Path, last: bytes) -> None:
    """A torn begin has never begun, a torn end has not ended; the next line is whole."""
    before = BEGIN.replace(b'"a"', b'"b"') + (BEGIN if last is END else b"")
    for size in range(len(last) - 1):
        path.write_bytes(before + last[:size])
        with Journal.open(path) as journal:
            assert path.read_bytes() == before
            entry = journal.find("a")
            assert entry == (Entry("book", {}) if last is END else None), size
            journal.begin("c", CALLS[0])
        assert found(path, "b") == Entry("book", {})
        assert found(path, "c") == Entry("book", SEAT)
    path.write_bytes(before + last[:-1])  # only the newline is missing: the call may be made
    assert (entry := found(path, "a"))
    assert entry.has_ended == (last is END)
    assert path.read_bytes() == before + last


def test_the_first_line_torn_anywhere_is_removed(path: Path) -> None:
    """There is no line before it that shows that the file is a journal."""
    for size in range(len(BEGIN) - 1):
        path.write_bytes(BEGIN[:size])
        assert found(path, "a") is None
        assert path.read_bytes() == b""


@pytest.mark.parametrize("torn", [bytes(99), END[:20] + bytes(30), END[:20] + bytes(30) + b"}\n"])
def test_zeros_of_a_power_loss_are_removed(path: Path, torn: bytes) -> None:
    """Unwritten blocks read as zeros."""
    path.write_bytes(BEGIN + torn)
    assert found(path, "a") == Entry("book", {})
    assert path.read_bytes() == BEGIN


# --- failures


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Limit the size of files: to the kernel the disk is full beyond it, also for pytest's own."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk_is_an_error_before_the_call(path: Path, journal: Journal) -> None:
    """Half a line is removed; with free space the journal goes on."""
    journal.begin(FIRST, CALLS[0])
    before = path.read_bytes()
    full = "File too large; book has not been called"
    with full_disk(len(before) + 20), pytest.raises(ToolError, match=rf"run\.jsonl: {full}"):
        journal.begin(SECOND, CALLS[1])
    assert journal.find(SECOND) is None
    assert path.read_bytes() == before
    full = "File too large; a call of book has ended, but the next"
    with full_disk(len(before) + 20), pytest.raises(ToolError, match=full):
        journal.end(FIRST, "booked", False, 0)
    assert path.read_bytes() == before
    journal.end(FIRST, "booked", False, 0)
    journal.close()
    assert found(path) == Entry("book", SEAT, "booked")


def test_half_a_line_that_cannot_be_removed_is_removed_later(
    path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is ever appended to it."""

    def fail(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal.begin(FIRST, CALLS[0])
    before = path.read_bytes()
    monkeypatch.setattr(os, "ftruncate", fail)
    with full_disk(len(before) + 20), pytest.raises(ToolError, match="File too large"):
        journal.end(FIRST, "booked", False, 0)
    with pytest.raises(ToolError, match="Input/output error"):
        journal.end(FIRST, "booked", False, 0)
    assert len(path.read_bytes()) == len(before) + 20
    monkeypatch.undo()
    journal.end(FIRST, "booked", False, 0)
    journal.close()
    assert found(path) == Entry("book", SEAT, "booked")


@pytest.mark.parametrize("work", ["end", "close"])
def test_no_other_thread_comes_between_a_write_and_its_end(
    path: Path, journal: Journal, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or removing half a line would remove another's; or the descriptor would be another file's."""
    journal.begin(FIRST, CALLS[0])
    before = path.read_bytes()
    other = threading.Thread(
        target=journal.close if work == "close" else lambda: journal.end(FIRST, "booked", False, 0)
    )

    def write(fd: int, data: Any, real: Any = os.write) -> int:
        monkeypatch.undo()
        real(fd, data[:9])
        other.start()
        other.join(0.05)
        assert path.read_bytes() == before + bytes(data[:9])
        assert os.path.samestat(os.fstat(fd), path.stat())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(ToolError, match="No space left"):
        journal.begin(SECOND, CALLS[1])
    other.join()
    journal.close()
    assert found(path) == Entry("book", SEAT, "booked" if work == "end" else None)


def test_a_closed_journal_writes_nothing(path: Path, journal: Journal) -> None:
    """For example a function that ends after its run: the descriptor may be another file's."""
    journal.begin(FIRST, CALLS[0])
    journal.close()
    journal.close()
    other = path.with_name("other")
    with other.open("wb"), pytest.raises(ToolError, match="it is closed in this process"):
        journal.end(FIRST, "booked", False, 0)
    assert other.read_bytes() == b""


# --- processes


@FORKS
@FORK_WARNING
def test_a_forked_child_has_no_part_in_the_journal(path: Path, journal: Journal) -> None:
    """It neither writes nor holds the lock, even if another thread was writing at the fork."""

    def child() -> None:
        with pytest.raises(ToolError, match="it is closed in this process"):
            journal.begin(FIRST, CALLS[0])
        with pytest.raises(ToolError, match="another run"):
            Journal.open(path)

    def fork_or_write(number: int) -> None:
        for each in range(10):
            if number:
                journal.begin(f"{number}-{each}", CALLS[0])
            else:
                in_child(child)

    in_threads(3, fork_or_write)
    assert len(lines(path)) == 20


@FORKS
@FORK_WARNING
def test_a_process_killed_at_any_system_call_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each write, after half of it, and before and after each sync."""
    status, step = -signal.SIGKILL, -1
    while status == -signal.SIGKILL:
        step += 1
        run = tmp_path / str(step)
        run.mkdir()
        with monkeypatch.context() as patch:
            kill_at(step, patch)
            pid = start(run, 1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        run_after(run)
    assert status == 0
    assert step == 2 + 9 * len(CALLS)  # the folder; two lines and the effect


def kill_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Replace the system calls by some that kill the process at this one."""
    steps = iter(range(1000))

    def kill_now() -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(fd: int, data: Any, real: Any = os.write) -> Any:
        kill_now()
        if len(data) > len(FIRST) + 1:  # a line of the journal
            written = real(fd, data[: len(data) // 2])
            kill_now()
            return written + real(fd, data[written:])
        return real(fd, data)

    def fsync(fd: int, real: Any = os.fsync) -> None:
        kill_now()
        real(fd)
        kill_now()

    patch.setattr(os, "write", write)
    patch.setattr(os, "fsync", fsync)


def run_after(folder: Path) -> None:
    """Check the run after a crash: every call is made once, those that had begun are reported."""
    assert run_once(folder, 1, 30)
    assert sorted(words(folder / "effects")) == sorted(KEYS)
    assert states(folder / "run.jsonl") == dict.fromkeys(KEYS, "end")


@FORKS
@FORK_WARNING
def test_processes_killed_at_random_repeat_nothing(tmp_path: Path) -> None:
    """With two calls side by side."""
    seen = run_with_kills_elsewhere(tmp_path, 30, 2)
    assert seen["killed"] >= 30
