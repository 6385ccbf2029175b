"""The ledger: a file of JSON lines that gets each answer once and survives any kind of end.

Appended lines are on the disk when ``append`` returns. A lock, which the kernel lifts when the
process dies, keeps others out. On opening, a torn last line is repaired and failures are taken
out: then the file holds answers only, each once, and all other rows are asked again.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import ProviderError
from .results import is_answer

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_START = b'{"id":"batch_req_'
"""How every line of ours begins, so that a torn one can be told from somebody's text."""
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
_FAR = 1 << 62
"""Windows locks bytes, and nobody else may read those: lock one far behind the end."""


class LedgerError(ProviderError, OSError):
    """The ledger cannot be used, or not written any more; what it holds is safe."""


class Ledger:
    """An open, locked ledger; the file is made if there is none.

    Raises ``LedgerError`` where another process has it, and where the file is something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._real = os.path.realpath(path)
        self._index: dict[str, int] = {}
        try:
            self._fd = _open_locked(self._real)
        except OSError as error:
            raise _failed("open", self.path, error) from error
        _open_ledgers.add(self)
        try:
            self._load()
            self._reader = open(self._real, "rb")  # noqa: SIM115 (closed with the ledger)
        except BaseException as error:
            self._let_go()
            if isinstance(error, OSError):
                raise _failed("read", self.path, error) from error
            raise

    def __len__(self) -> int:
        """Return how many answers it held when it was opened."""
        return len(self._index)

    def recorded(self, custom_id: str) -> dict[str, Any] | None:
        """Return the line of an answer that an earlier run recorded; for one thread only."""
        if (offset := self._index.get(custom_id)) is None:
            return None
        self._reader.seek(offset)
        record: dict[str, Any] = json.loads(self._reader.readline())
        return record

    def append(self, lines: Sequence[bytes]) -> None:
        """Write lines; they are on the disk when this returns. Raises ``LedgerError``."""
        size = os.fstat(self._fd).st_size
        try:
            _write(self._fd, b"".join(lines))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)  # no half a line
            raise _failed("write", self.path, error) from error

    def close(self) -> None:
        """Close and unlock."""
        self._reader.close()
        self._let_go()

    def _let_go(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _load(self) -> None:
        """Find the answers, repair the last line, take out what is no answer."""
        count = 0
        for offset, raw in _lines(self._real):
            record = _record(raw)
            if not raw.endswith(b"\n"):
                if record is None and _is_torn(raw, count):
                    os.ftruncate(self._fd, offset)
                    os.fsync(self._fd)
                    break
                if record is not None:
                    _write(self._fd, b"\n")  # only the newline was lost
            count += 1
            if record is None and not _is_hole(raw):
                raise _refused(self.path, f"line {count} is not one of a ledger; give another file")
            if record is not None and is_answer(record):
                self._index[record["custom_id"]] = offset
        # An open file cannot be replaced on Windows: there the failed lines stay.
        if count != len(self._index) and sys.platform != "win32":
            self._rewrite()

    def _rewrite(self) -> None:
        """Put a file of the answers alone in this one's place, at one stroke."""
        draft = f"{self._real}.new"
        fd = os.open(draft, _FLAGS | os.O_TRUNC, 0o600)
        try:
            _lock(fd)  # before it gets its name, so that nobody slips in
            os.fchmod(fd, stat.S_IMODE(os.fstat(self._fd).st_mode))
            with open(self._real, "rb") as old, open(fd, "ab", closefd=False) as new:
                for custom_id, offset in self._index.items():
                    old.seek(offset)
                    self._index[custom_id] = new.tell()
                    new.write(old.readline())
            os.fsync(fd)
            os.replace(draft, self._real)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
        self._let_go()
        self._fd = fd
        _sync_folder(self._real)


_open_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


def _leave_in_child() -> None:
    """A forked worker shares the lock, and would hold it after the death of its parent."""
    for ledger in _open_ledgers:
        ledger._let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_in_child)


# --- files


def _open_locked(path: str) -> int:
    while True:
        fd = os.open(path, _FLAGS, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _refused(path, "it is no regular file")
            _lock(fd)
            # Its last holder may have put another file in its place meanwhile.
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                _sync_folder(path)
                return fd
        except BlockingIOError as error:
            os.close(fd)
            raise _refused(path, "another process is writing it; wait for its end") from error
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _lock(fd: int) -> None:
    """Lock for this process alone, or raise ``BlockingIOError``."""
    if sys.platform != "win32":
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        os.lseek(fd, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.fsync(fd)


def _sync_folder(path: str) -> None:
    """Bring a new name to the disk, as far as the system can."""
    if sys.platform != "win32":
        fd = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    offset = 0
    with open(path, "rb") as file:
        for raw in file:
            yield offset, raw
            offset += len(raw)


def _record(raw: bytes) -> dict[str, Any] | None:
    """Return the line's value if it is one of OpenAI's batch output."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    wanted = {"custom_id", "response", "error"}
    return value if isinstance(value, dict) and wanted <= value.keys() else None


def _is_torn(raw: bytes, after: int) -> bool:
    """Whether a process was killed while it wrote this, ``after`` so many good lines."""
    start = _START if after == 0 else b"{"  # behind good lines it need not be one of ours
    return start.startswith(raw) or raw.startswith(start) or b"\0" in raw


def _is_hole(raw: bytes) -> bool:
    """Whether a file system that lost its power left this, or a person's editor."""
    return b"\0" in raw or not raw.strip()


# --- errors


_REMEDY = "what it holds is safe: put it right, and run the same again to go on"


def _failed(what: str, path: str, error: OSError) -> LedgerError:
    if isinstance(error, LedgerError):
        return error
    return LedgerError(f"cannot {what} the ledger {path}: {error.strerror}; {_REMEDY}")


def _refused(path: str, why: str) -> LedgerError:
    return LedgerError(f"{path} cannot be the ledger: {why}")
