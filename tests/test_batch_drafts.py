"""The ledger as a file: whose it is, what stands beside it, and what its file system cannot do."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from providers_sync import batch
from providers_sync.testing import ScriptedProvider

ROOT = Path(__file__).parent.parent
FAILED = b'{"id":"batch_req_x","custom_id":"row-1","response":null,"error":{"code":"StreamCut"}}\n'


def run(path: Path) -> list[batch.Result]:
    """Ask one row."""
    return list(batch.map(ScriptedProvider("Hello"), ["Hi"], ledger=path))


def check_answered(path: Path) -> None:
    """Assert that the ledger holds the answer, and no failure."""
    (line,) = path.read_bytes().splitlines()
    assert json.loads(line)["error"] is None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with a failed row, which the next run takes out."""
    path = tmp_path / "answers.jsonl"
    path.write_bytes(FAILED)
    return path


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder"])
def test_what_stands_beside_the_ledger_is_left_alone(path: Path, kind: str) -> None:
    """A file of the user's, or a link that somebody put there to have a file emptied."""
    beside, victim = path.with_name("answers.jsonl.new"), path.with_name("victim")
    if kind == "file":
        beside.write_text("my notes")
    elif kind == "folder":
        beside.mkdir()
    else:
        beside.symlink_to(victim)
    if kind == "link":
        victim.write_text("my notes")
    before = sorted(os.listdir(path.parent))
    assert run(path)[0].text == "Hello"
    check_answered(path)
    assert not path.is_symlink()
    assert sorted(os.listdir(path.parent)) == before
    if kind in ("file", "link"):
        assert beside.read_text() == "my notes"


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_a_new_ledger_is_for_its_owner_alone(tmp_path: Path, mask: int) -> None:
    """Answers are private, as saved chats are; one that is there keeps its mode."""
    old = os.umask(mask)
    try:
        run(tmp_path / "new")
        (tmp_path / "shared").touch(0o664)
        (tmp_path / "shared").chmod(0o664)
        run(tmp_path / "shared")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o664


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_the_draft_is_private_until_it_has_the_mode_of_the_ledger(
    path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a name of its own, by which a person knows it, and is locked before it is renamed."""
    path.chmod(mode)
    drafts: list[tuple[str, int]] = []
    real = tempfile.mkstemp

    def mkstemp(*arguments: Any, **options: Any) -> Any:
        fd, name = real(*arguments, **options)
        drafts.append((os.path.basename(name), stat.S_IMODE(os.fstat(fd).st_mode)))
        return fd, name

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    run(path)
    ((name, at_first),) = drafts
    assert (name.startswith(".answers.jsonl-"), name.endswith(".new")) == (True, True)
    assert at_first == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_long_name_leaves_room_for_the_drafts(tmp_path: Path) -> None:
    """The longest name a file may have, in letters of several bytes."""
    path = tmp_path / ("€" * 85)
    path.write_bytes(FAILED)
    run(path)
    check_answered(path)


@pytest.mark.parametrize("call", ["fsync", "replace", "fchmod"])
def test_a_rewriting_that_fails_leaves_the_ledger_and_nothing_else(
    path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full in the middle of it: a ``LedgerError``, unlocked at once."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ledger = os.stat(path)
    real = getattr(os, call)
    monkeypatch.setattr(
        os,
        call,
        lambda fd, *more: (
            real(fd, *more) if call == "fsync" and is_old(fd, ledger) else full(fd, *more)
        ),
    )
    with pytest.raises(batch.LedgerError, match="No space left"):
        run(path)
    monkeypatch.undo()
    assert path.read_bytes() == FAILED
    assert os.listdir(path.parent) == [path.name]
    run(path)
    check_answered(path)


def is_old(fd: int, ledger: os.stat_result) -> bool:
    """Whether a descriptor is the ledger itself, or a folder."""
    found = os.fstat(fd)
    return os.path.samestat(found, ledger) or stat.S_ISDIR(found.st_mode)


def test_failures_stay_where_the_folder_takes_no_new_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that may be written in a folder that may not: the last line of a name counts."""
    monkeypatch.setattr(tempfile, "mkstemp", denied)
    assert run(path)[0].error is None
    assert run(path)[0].recorded
    assert path.read_bytes().startswith(FAILED)
    assert path.read_bytes().count(b"\n") == 2


def denied(*_: Any, **__: Any) -> Any:
    """Refuse, as the system does."""
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_write_that_fails_after_a_rewriting_leaves_no_hole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file is appended to, as the old one was: what was taken back is written over."""
    path.write_bytes(FAILED + FAILED.replace(b"row-1", b"row-2"))
    real = os.write
    failures = [OSError(errno.ENOSPC, "No space left on device")]

    def write(fd: int, data: Any) -> int:
        if failures and stat.S_ISREG(os.fstat(fd).st_mode):
            real(fd, data[:9])
            raise failures.pop()
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    ledger = batch.ledger.Ledger(path)
    with pytest.raises(batch.LedgerError, match="No space left"):
        ledger.append([b"half of this"])
    ledger.append([b"all of it\n"])
    ledger.close()
    assert path.read_bytes() == b"all of it\n"


KILLED = """
import os, signal, sys
from providers_sync.batch.ledger import Ledger
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Ledger(sys.argv[1])
"""


def test_the_draft_of_a_killed_process_is_in_nobodys_way(path: Path) -> None:
    """It is told from the ledger by its name, and the next run makes another."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == FAILED
    run(path)
    check_answered(path)
    left = [name for name in os.listdir(path.parent) if name != path.name]
    assert [name.startswith(".answers.jsonl-") for name in left] == [True]


# --- links and places


def test_a_link_to_nothing_makes_the_file_that_it_names(tmp_path: Path) -> None:
    """As any program does that writes to it; and the link stays one."""
    link, real = tmp_path / "link", tmp_path / "real"
    link.symlink_to(real)
    run(link)
    check_answered(real)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


def test_a_place_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    """Also a link that goes round in a circle, and a pipe, which must not be waited for."""
    (tmp_path / "round").symlink_to("round")
    os.mkfifo(tmp_path / "pipe")
    for name in ("round", "pipe", "nul\0byte", "half\ud800", "x" * 300):
        with pytest.raises(batch.LedgerError):
            run(tmp_path / name)


# --- file systems


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES])
@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_folder_that_cannot_be_synced_is_no_obstacle(
    path: Path, number: int, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CIFS, 9p, some of FUSE; and a folder that may be entered but not read."""
    fail_in_folders(monkeypatch, call, number)
    assert run(path)[0].text == "Hello"
    monkeypatch.undo()
    check_answered(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_error_of_the_disk_is_one_of_the_ledger(
    path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder at the beginning, and in the file whenever it is written."""
    fail_in_folders(monkeypatch, "fsync", number)
    with pytest.raises(batch.LedgerError, match=os.strerror(number)):
        run(path)
    monkeypatch.undo()

    def fsync(fd: int) -> None:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))

    new = path.with_name("new")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(batch.LedgerError, match=f"cannot write the ledger .*{os.strerror(number)}"):
        run(new)
    assert new.read_bytes() == b""


def fail_in_folders(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """Let a call of ``os`` fail for folders."""
    real = getattr(os, call)

    def failing(target: Any, *more: Any, **options: Any) -> Any:
        found = os.fstat(target) if isinstance(target, int) else None
        is_folder = stat.S_ISDIR(found.st_mode) if found else os.path.isdir(target)
        if is_folder:
            raise OSError(number, os.strerror(number))
        return real(target, *more, **options)

    monkeypatch.setattr(os, call, failing)
