"""The ledger: a file of JSON lines that gets each answer once and survives any kind of end.

Appended lines are on the disk when ``append`` returns. A lock, which the kernel lifts when the
process dies, keeps others out. On opening, every line is checked before anything is changed; then
a torn last line is repaired and failures are taken out: the file holds answers only, and all other
rows are asked again.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import os
import stat
import sys
import weakref
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import BinaryIO

from ..errors import ProviderError
from .ledger_lines import InvalidLine, NotJSON, Recorded, is_hole, is_torn, parse_line

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
_FAR = 1 << 62
"""Windows locks bytes, and nobody else may read those: lock one far behind the end."""
DRAFT_NAME = 60
"""Characters of the ledger's name in its draft's: file systems take 255 bytes."""
COPY_BYTES = 1024 * 1024


class LedgerError(ProviderError, OSError):
    """The ledger cannot be used, or not written any more; what it holds is safe."""


class Ledger:
    """An open, locked ledger; the file is made if there is none, for its owner alone.

    Raises ``LedgerError`` where another process has it, and where the file is something else,
    which is then left as it was.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(path)
        self._index: dict[str, int] = {}
        try:
            self._real = os.path.realpath(self.path)
            self._fd = _open_locked(self._real)
        except (OSError, ValueError) as error:  # a ValueError: a path that no file can have
            raise _failed("open", self.path, error) from error
        _open_ledgers.add(self)
        try:
            self._load()
            self._reader = open(self._real, "rb")  # noqa: SIM115 (closed with the ledger)
        except BaseException as error:
            self._let_go()
            if isinstance(error, (OSError, MemoryError)):
                raise _failed("use", self.path, error) from error
            raise

    def __len__(self) -> int:
        """Return how many rows had an answer when it was opened."""
        return len(self._index)

    def recorded(self, custom_id: str) -> Recorded | None:
        """Return the answer that an earlier run recorded, if there is one; for one thread only.

        Raises ``LedgerError`` where it cannot be read any more.
        """
        if (offset := self._index.get(custom_id)) is None:
            return None
        try:
            self._reader.seek(offset)
            return parse_line(self._reader.readline())
        except (OSError, ValueError, MemoryError) as error:  # somebody has written over it
            raise _failed("read", self.path, error) from error

    def append(self, lines: Sequence[bytes]) -> None:
        """Write lines; they are on the disk when this returns. Raises ``LedgerError``."""
        try:
            size = os.fstat(self._fd).st_size
            try:
                _write(self._fd, b"".join(lines))
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, size)  # no half a line
                raise
        except OSError as error:
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
        """Find the answers; then repair the last line and take out what is no answer."""
        out: list[tuple[int, int]] = []
        offset, good = 0, 0
        raw = b"\n"
        for number, raw in enumerate(_lines(self._real), 1):
            found = self._checked(number, raw, good)
            if found is not None and found.reply is not None:
                self._index[found.custom_id] = offset
            else:
                start = out.pop()[0] if out and out[-1][1] == offset else offset
                out.append((start, offset + len(raw)))
            good += found is not None
            offset += len(raw)
        if not raw.endswith(b"\n"):
            if out and out[-1][1] == offset:  # behind the last answer there is nothing to keep
                os.ftruncate(self._fd, out.pop()[0])
                os.fsync(self._fd)
            else:
                _write(self._fd, b"\n")  # only the newline was lost
        # An open file cannot be replaced on Windows: there the failed lines stay.
        if out and sys.platform != "win32":
            with contextlib.suppress(PermissionError):  # and where the folder takes no new file
                self._take_out(out)

    def _checked(self, number: int, raw: bytes, good: int) -> Recorded | None:
        """Return what a line says, ``None`` for one that an accident has left."""
        try:
            return parse_line(raw)
        except NotJSON as error:
            if is_hole(raw) or is_torn(raw, good):
                return None
            why = str(error)
        except InvalidLine as error:
            why = str(error)
        what = f"line {number} is not one of a ledger ({why})"
        raise _refused(self.path, f"{what}; give another file, or correct that line")

    def _take_out(self, out: list[tuple[int, int]]) -> None:
        """Put a file without these places in this one's place, at one stroke."""
        fd, draft = _draft(self._real)
        try:
            _lock(fd)  # before it gets its name, so that nobody slips in
            _copy_rights(self._fd, fd)
            with open(self._real, "rb") as old, open(fd, "ab", closefd=False) as new:
                _copy_without(out, old, new)
            os.fsync(fd)
            os.replace(draft, self._real)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
        self._let_go()
        self._fd = fd
        ends, gone = [end for _, end in out], [0, *accumulate(end - start for start, end in out)]
        for custom_id, offset in self._index.items():
            self._index[custom_id] = offset - gone[bisect.bisect_right(ends, offset)]
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
        fd = os.open(path, _FLAGS, 0o600)
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


_NO_SYNC = {
    *(errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS),
    *(errno.EACCES, errno.EPERM),
}
"""A folder on CIFS, 9p or FUSE, or one that may be entered and not read."""


def _sync_folder(path: str) -> None:
    """Bring a new name to the disk, as far as the system can."""
    if sys.platform != "win32":
        try:
            fd = os.open(os.path.dirname(path), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise


def _draft(path: str) -> tuple[int, str]:
    """Open a new file beside another, for appending; nobody else's is touched."""
    import tempfile

    folder, name = os.path.split(path)
    fd, draft = tempfile.mkstemp(prefix=f".{name[:DRAFT_NAME]}-", suffix=".new", dir=folder)
    if sys.platform != "win32":
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd, draft


def _copy_rights(source: int, target: int) -> None:
    """Give a file the owner and the mode of another."""
    if sys.platform != "win32":
        found = os.fstat(source)
        with contextlib.suppress(OSError):  # only root may give a file away
            os.fchown(target, found.st_uid, found.st_gid)
        os.fchmod(target, stat.S_IMODE(found.st_mode))


def _copy_without(out: list[tuple[int, int]], old: BinaryIO, new: BinaryIO) -> None:
    """Copy a file but for some places, which are in order."""
    at = 0
    for start, end in [*out, (os.fstat(old.fileno()).st_size, 0)]:
        old.seek(at)
        while chunk := old.read(min(COPY_BYTES, start - at)):
            at += len(chunk)
            new.write(chunk)
        at = end


def _lines(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from file


# --- errors


_REMEDY = "what it holds is safe: put it right, and run the same again to go on"


def _failed(what: str, path: str, error: Exception) -> LedgerError:
    if isinstance(error, LedgerError):
        return error
    why = getattr(error, "strerror", None) or str(error) or "there is not enough memory"
    return LedgerError(f"cannot {what} the ledger {path}: {why}; {_REMEDY}")


def _refused(path: str, why: str) -> LedgerError:
    return LedgerError(f"{path} cannot be the ledger: {why}")
