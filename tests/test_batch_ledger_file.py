"""Tests of the ledger as a file: permissions, rewriting, links, and limited file systems."""

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
    """Run a batch of one row."""
    return list(batch.map(ScriptedProvider("Hello"), ["Hi"], ledger=path))


def check_answered(path: Path) -> None:
    """Assert that the ledger holds the answer and no failed row."""
    (line,) = path.read_bytes().splitlines()
    assert json.loads(line)["error"] is None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with a failed row, which the next run removes."""
    path = tmp_path / "answers.jsonl"
    path.write_bytes(FAILED)
    return path


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder"])
def test_other_files_next_to_the_ledger_are_left_alone(path: Path, kind: str) -> None:
    """For example notes of the user, or a link planted to have another file emptied."""
    neighbour, victim = path.with_name("answers.jsonl.new"), path.with_name("victim")
    if kind == "file":
        neighbour.write_text("my notes")
    elif kind == "folder":
        neighbour.mkdir()
    else:
        neighbour.symlink_to(victim)
    if kind == "link":
        victim.write_text("my notes")
    before = sorted(os.listdir(path.parent))
    assert run(path)[0].text == "Hello"
    check_answered(path)
    assert not path.is_symlink()
    assert sorted(os.listdir(path.parent)) == before
    if kind in ("file", "link"):
        assert neighbour.read_text() == "my notes"


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_a_new_ledger_is_readable_by_its_owner_only(tmp_path: Path, mask: int) -> None:
    """Answers are private, like saved chats; an existing ledger keeps its mode."""
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
def test_the_temporary_file_is_private_until_it_has_the_mode_of_the_ledger(
    path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is unique and recognizable, and it is locked before it is renamed."""
    path.chmod(mode)
    temporaries: list[tuple[str, int]] = []
    real = tempfile.mkstemp

    def mkstemp(*arguments: Any, **options: Any) -> Any:
        fd, name = real(*arguments, **options)
        temporaries.append((os.path.basename(name), stat.S_IMODE(os.fstat(fd).st_mode)))
        return fd, name

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    run(path)
    ((name, first_mode),) = temporaries
    assert (name.startswith(".answers.jsonl-"), name.endswith(".new")) == (True, True)
    assert first_mode == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_long_name_leaves_space_for_the_temporary_name(tmp_path: Path) -> None:
    """The longest possible file name, in multi-byte characters, works."""
    path = tmp_path / ("€" * 85)
    path.write_bytes(FAILED)
    run(path)
    check_answered(path)


@pytest.mark.parametrize("call", ["fsync", "replace", "fchmod"])
def test_a_failed_rewrite_leaves_only_the_unchanged_ledger(
    path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up during the rewrite raises ``LedgerError``; the lock is released."""

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
    """Return whether a descriptor is the ledger itself, or a folder."""
    status = os.fstat(fd)
    return os.path.samestat(status, ledger) or stat.S_ISDIR(status.st_mode)


def test_failed_rows_stay_if_the_folder_is_read_only(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writable ledger in a read-only folder works: the last line of a name counts."""
    monkeypatch.setattr(tempfile, "mkstemp", denied)
    assert run(path)[0].error is None
    assert run(path)[0].recorded
    assert path.read_bytes().startswith(FAILED)
    assert path.read_bytes().count(b"\n") == 2


def denied(*_: Any, **__: Any) -> Any:
    """Raise the system's error."""
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_failed_write_after_a_rewrite_leaves_no_hole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file is open for appending too: the partial write is truncated, then overwritten."""
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


def test_the_temporary_file_of_a_killed_process_does_no_harm(path: Path) -> None:
    """Its name differs from the ledger's, and the next run creates another one."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == FAILED
    run(path)
    check_answered(path)
    others = [name for name in os.listdir(path.parent) if name != path.name]
    assert [name.startswith(".answers.jsonl-") for name in others] == [True]


# --- links and invalid paths


def test_a_dangling_link_creates_its_target(tmp_path: Path) -> None:
    """Any program that writes to the link creates its target, too; the link stays one."""
    link, real = tmp_path / "link", tmp_path / "real"
    link.symlink_to(real)
    run(link)
    check_answered(real)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


def test_an_invalid_path_is_refused(tmp_path: Path) -> None:
    """This includes a circular link, and a pipe, which must not block."""
    (tmp_path / "circular").symlink_to("circular")
    os.mkfifo(tmp_path / "pipe")
    for name in ("circular", "pipe", "nul\0byte", "half\ud800", "x" * 300):
        with pytest.raises(batch.LedgerError):
            run(tmp_path / name)


# --- file systems


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES])
@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_folder_that_cannot_be_synced_is_accepted(
    path: Path, number: int, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Examples are CIFS, 9p, some of FUSE, and a folder without read permission."""
    fail_in_folders(monkeypatch, call, number)
    assert run(path)[0].text == "Hello"
    monkeypatch.undo()
    check_answered(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_error_is_a_ledger_error(
    path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder when the ledger is opened, and in the file on every write."""
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
    """Make a function of ``os`` fail for folders."""
    real = getattr(os, call)

    def failing(target: Any, *more: Any, **options: Any) -> Any:
        status = os.fstat(target) if isinstance(target, int) else None
        is_folder = stat.S_ISDIR(status.st_mode) if status else os.path.isdir(target)
        if is_folder:
            raise OSError(number, os.strerror(number))
        return real(target, *more, **options)

    monkeypatch.setattr(os, call, failing)
