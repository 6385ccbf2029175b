"""The ledger: a locked file of JSON lines that holds each answer once and survives a crash.

Appended lines are on the disk when ``append`` returns. The kernel releases the lock when the
process dies. On opening, every line is checked before anything is changed; then a torn last line
is repaired and failed rows are removed: the file holds answers only, and all other rows are sent
again.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import BinaryIO

from ..errors import ProviderError
from ..locked_file import LockedFile, lock, sync_folder
from .ledger_lines import InvalidLine, NotJSON, RecordedResult, is_hole, is_torn, parse_line

if sys.platform != "win32":
    import fcntl

NAME_PREFIX = 60
"""Characters of the ledger's name in a temporary file's name, which has at most 255 bytes."""
COPY_BYTES = 1024 * 1024


class LedgerError(ProviderError, OSError):
    """The ledger cannot be opened, read or written; the recorded answers are safe."""


class UnusableLedgerError(LedgerError):
    """The ledger cannot be opened, or is none: nothing was sent, and the file is unchanged."""


class Ledger:
    """An open, locked ledger; a missing file is created with mode 0600.

    Raises ``LedgerError`` if another process has locked it, or if the file is not a ledger; such a
    file is left unchanged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(path)
        self._index: dict[str, int] = {}
        try:
            self._file = LockedFile(self.path)
        except (OSError, ValueError) as error:  # ValueError: not a valid path
            raise _failed("open", self.path, error) from error
        try:
            self._load()
            self._reader = open(self._file.path, "rb")  # noqa: SIM115 (closed with the ledger)
        except BaseException as error:
            self._file.close()
            if isinstance(error, (OSError, MemoryError)):
                raise _failed("use", self.path, error) from error
            raise

    def __len__(self) -> int:
        """Return the number of rows that had an answer when the ledger was opened."""
        return len(self._index)

    def recorded(self, custom_id: str) -> RecordedResult | None:
        """Return the answer that an earlier run recorded, if any. Not thread-safe.

        Raises ``LedgerError`` if it cannot be read any more.
        """
        if (offset := self._index.get(custom_id)) is None:
            return None
        try:
            self._reader.seek(offset)
            return parse_line(self._reader.readline())
        except (OSError, ValueError, MemoryError) as error:  # another program has overwritten it
            raise _failed("read", self.path, error) from error

    def append(self, lines: Sequence[bytes]) -> None:
        """Append lines; they are on the disk when this returns. Raises ``LedgerError``."""
        try:
            self._file.append(b"".join(lines))
        except OSError as error:
            raise _failed("write", self.path, error) from error

    def close(self) -> None:
        """Close the file and release the lock."""
        self._reader.close()
        self._file.close()

    def _load(self) -> None:
        """Index the answers; then repair the last line and remove all lines without an answer."""
        removed: list[tuple[int, int]] = []
        offset, good = 0, 0
        raw = b"\n"
        for number, raw in enumerate(_lines(self._file.path), 1):
            found = self._parse(number, raw, good)
            if found is not None and found.reply is not None:
                self._index[found.custom_id] = offset
            else:
                start = removed.pop()[0] if removed and removed[-1][1] == offset else offset
                removed.append((start, offset + len(raw)))
            good += found is not None
            offset += len(raw)
        if not raw.endswith(b"\n"):
            if removed and removed[-1][1] == offset:  # nothing to keep after the last answer
                self._file.truncate(removed.pop()[0])
            else:
                self._file.append(b"\n")  # only the newline is missing
        # Windows cannot replace an open file: there the failed lines stay.
        if removed and sys.platform != "win32":
            with contextlib.suppress(PermissionError):  # also if the folder is read-only
                self._rewrite_without(removed)

    def _parse(self, number: int, raw: bytes, good: int) -> RecordedResult | None:
        """Parse a line; return ``None`` for one that a crash or power loss damaged."""
        try:
            return parse_line(raw)
        except NotJSON as error:
            if is_hole(raw) or is_torn(raw, good):
                return None
            reason = str(error)
        except InvalidLine as error:
            reason = str(error)
        problem = f"line {number} is not a line of a ledger ({reason})"
        raise _refused(self.path, f"{problem}; use another file, or correct that line")

    def _rewrite_without(self, removed: list[tuple[int, int]]) -> None:
        """Replace the file atomically by a copy without these byte ranges."""
        path = self._file.path
        fd, temporary = _open_temporary(path)
        try:
            lock(fd)  # before the rename, so that no other process can lock it first
            _copy_permissions(self._file.fd, fd)
            with open(path, "rb") as old, open(fd, "ab", closefd=False) as new:
                _copy_without(removed, old, new)
            os.fsync(fd)
            os.replace(temporary, path)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._file.replace(fd)
        ends = [end for _, end in removed]
        shifts = [0, *accumulate(end - start for start, end in removed)]
        for custom_id, offset in self._index.items():
            self._index[custom_id] = offset - shifts[bisect.bisect_right(ends, offset)]
        sync_folder(path)


# --- files


def _open_temporary(path: str) -> tuple[int, str]:
    """Create a file next to ``path``, for appending, under a name that is not in use."""
    import tempfile

    folder, name = os.path.split(path)
    fd, temporary = tempfile.mkstemp(prefix=f".{name[:NAME_PREFIX]}-", suffix=".new", dir=folder)
    if sys.platform != "win32":
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd, temporary


def _copy_permissions(source: int, target: int) -> None:
    """Copy the owner and the mode of a file."""
    if sys.platform != "win32":
        status = os.fstat(source)
        with contextlib.suppress(OSError):  # only root may change the owner
            os.fchown(target, status.st_uid, status.st_gid)
        os.fchmod(target, stat.S_IMODE(status.st_mode))


def _copy_without(removed: list[tuple[int, int]], old: BinaryIO, new: BinaryIO) -> None:
    """Copy a file except for some byte ranges, which are in ascending order."""
    offset = 0
    for start, end in [*removed, (os.fstat(old.fileno()).st_size, 0)]:
        old.seek(offset)
        while chunk := old.read(min(COPY_BYTES, start - offset)):
            offset += len(chunk)
            new.write(chunk)
        offset = end


def _lines(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from file


# --- errors


_REMEDY = "the recorded answers are safe: fix the problem, then run the same batch again to resume"


def _failed(action: str, path: str, error: Exception) -> LedgerError:
    if isinstance(error, LedgerError):
        return error
    reason = getattr(error, "strerror", None) or str(error) or "not enough memory"
    kind = UnusableLedgerError if action in ("open", "use") else LedgerError
    remedy = f"; {_REMEDY}" if os.path.exists(path) else ""
    return kind(f"cannot {action} the ledger {path}: {reason}{remedy}")


def _refused(path: str, reason: str) -> LedgerError:
    return UnusableLedgerError(f"{path} cannot be used as a ledger: {reason}")
