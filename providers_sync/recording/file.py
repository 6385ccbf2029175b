"""``RecordingFile``: the exchanges in a file that several processes may append to."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import BinaryIO

from ..clock import monotonic
from ..errors import InvalidRequestError
from ..locked_file import LockedFile
from . import unwritten
from .exchange import BEGINNING, Exchange

LOCK_WAIT_S = 10.0
"""How long another process may write."""
_POLL_S = 0.005
_TAIL = 64
"""How many bytes show whether what was read of a file is still as it was."""


class RecordingError(InvalidRequestError):
    """A file of recordings cannot be used, or has no recording of a request."""


def read_recordings(path: str | os.PathLike[str]) -> Iterator[Exchange]:
    """Yield the exchanges of a file, in their order.

    Empty lines, and half a line at the end, are left out.

    Args:
        path: The file.

    Raises:
        RecordingError: For a file that cannot be read, and for a line that is wrong.
    """
    name = os.fspath(path)
    unwritten.wait(name)
    try:
        with open(name, "rb") as file:
            for _, exchange in _read(file, name, 1):
                if exchange is not None:
                    yield exchange
    except (OSError, ValueError) as error:
        if isinstance(error, RecordingError):
            raise
        raise _error(name, "read", error) from error


def _read(file: BinaryIO, name: str, number: int) -> Iterator[tuple[bytes, Exchange | None]]:
    """Yield each line, the first of which has this number, and its exchange if it is not empty."""
    for line in file:
        exchange = None
        if line.strip():
            try:
                exchange = Exchange.from_line(line)
            except ValueError as error:
                if _is_begun(line):  # its writer has died, or still writes
                    return
                raise RecordingError(
                    f"line {number} of {name!r} is not a recording: {error}; delete the line"
                ) from error
        yield line, exchange
        number += 1


def _is_begun(line: bytes) -> bool:
    """Return whether it may be the beginning of a line that ``to_line`` has made."""
    return not line.endswith(b"\n") and line[: len(BEGINNING)] == BEGINNING[: len(line)]


def _error(name: str, verb: str, error: BaseException) -> RecordingError:
    return RecordingError(f"{name!r} cannot be {verb}: {getattr(error, 'strerror', None) or error}")


class RecordingFile:
    """What a file holds for each request, and which of it this object has given out."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._lock = threading.Lock()
        self._exchanges: dict[str, list[Exchange]] = {}
        self._ids: set[str] = set()
        self._size = 0
        """How much of the file has been read."""
        self._tail = b""
        """The end of that."""
        self._lines = 0
        self._given: dict[str, set[str]] = {}
        """The ids that were given out or recorded, by fingerprint."""
        self._count: dict[str, int] = {}

    def check(self) -> None:
        """Raise ``RecordingError`` if it certainly cannot be written: before an answer is lost."""
        folder = os.path.dirname(os.path.realpath(self.path))
        reason = ""
        if not os.path.isdir(folder):
            reason = f"create the folder {folder!r} first"
        elif not os.path.exists(self.path):
            reason = "" if os.access(folder, os.W_OK) else "its folder is not writable"
        elif not os.path.isfile(self.path):
            reason = "it is not a regular file"
        elif not os.access(self.path, os.W_OK | os.R_OK):
            reason = 'permission denied; mode="replay" only reads it'
        if reason:
            raise RecordingError(f"{self.path!r} cannot be written: {reason}")

    def load(self) -> None:
        """Read what the file holds now. Raises ``RecordingError``."""
        unwritten.wait(self.path)
        with self._lock:
            self._refresh()

    def nth(self, fingerprint: str) -> tuple[Exchange | None, int]:
        """Return the next recording of a request, if any, and how many times it was asked."""
        self.load()
        with self._lock:
            number = self._count.get(fingerprint, 0)
            self._count[fingerprint] = number + 1
            found = self._exchanges.get(fingerprint, [])
            return (found[number] if number < len(found) else None), number + 1

    def next_whole(
        self, fingerprint: str, max_age: float | None
    ) -> tuple[Exchange | None, list[str]]:
        """Return the next whole answer to a request, if there is one that is not too old.

        If there is none, also the ids of what another answer replaces.
        """
        now = datetime.now(timezone.utc)
        self.load()
        with self._lock:
            given = self._given.setdefault(fingerprint, set())
            found = self._exchanges.get(fingerprint, [])
            for exchange in found:
                # One from the future has no known age: a clock was wrong.
                age = abs((now - exchange.recorded_at).total_seconds())
                is_fresh = max_age is None or age <= max_age
                if exchange.is_whole and is_fresh and exchange.id not in given:
                    given.add(exchange.id)
                    return exchange, []
            return None, [each.id for each in found if each.id not in given]

    def replaced(self, fingerprint: str) -> list[str]:
        """Return the ids of all recordings of a request, unless this object has made one."""
        self.load()
        with self._lock:
            if self._given.get(fingerprint):
                return []
            return [each.id for each in self._exchanges.get(fingerprint, ())]

    def all(self) -> list[Exchange]:
        """Return what the file holds, without what was replaced."""
        with self._lock:
            return [each for found in self._exchanges.values() for each in found]

    def append(self, exchange: Exchange) -> None:
        """Write an exchange; it is on the disk when this returns. Raises ``RecordingError``."""
        with self._lock:
            file = self._open()
            try:
                self._end_last_line(file)
                file.append(exchange.to_line())
            except OSError as error:
                raise _error(self.path, "written", error) from error
            finally:
                file.close()
            for fingerprint in exchange.fingerprints:
                self._given.setdefault(fingerprint, set()).add(exchange.id)

    def _open(self) -> LockedFile:
        until = monotonic() + LOCK_WAIT_S
        while True:
            try:
                file = LockedFile(self.path)
                if stat.S_IMODE(os.fstat(file.fd).st_mode) & 0o077 and hasattr(os, "fchmod"):
                    with contextlib.suppress(OSError):  # it belongs to somebody else
                        os.fchmod(file.fd, 0o600)
                return file
            except BlockingIOError as error:
                if monotonic() > until:
                    raise _error(self.path, "locked", error) from error
                threading.Event().wait(_POLL_S)
            except (OSError, ValueError) as error:
                raise _error(self.path, "opened", error) from error

    def _end_last_line(self, file: LockedFile) -> None:
        """Remove what a process has left that died while it wrote; end a whole line."""
        size = os.fstat(file.fd).st_size
        end = size
        while end:
            start = max(0, end - 65536)
            os.lseek(file.fd, start, os.SEEK_SET)
            block = os.read(file.fd, end - start)
            place = block.rfind(b"\n")
            if place >= 0:
                end = start + place + 1
                break
            end = start
        if end == size:
            return
        os.lseek(file.fd, end, os.SEEK_SET)
        with open(file.fd, "rb", closefd=False) as reader:
            line = reader.read()
        try:
            Exchange.from_line(line)
        except ValueError as error:
            if not _is_begun(line):
                raise RecordingError(
                    f"the last line of {self.path!r} is not a recording"
                ) from error
            file.truncate(end)
        else:
            file.append(b"\n")  # an editor has removed it

    def _refresh(self) -> None:
        """Read what was appended since the last time."""
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            size = 0
        except (OSError, ValueError) as error:
            raise _error(self.path, "read", error) from error
        if size == self._size:
            return
        try:
            with open(self.path, "rb") as file:
                file.seek(max(0, self._size - len(self._tail)))
                if file.read(len(self._tail)) != self._tail:  # it was edited, or replaced
                    self._forget()
                    file.seek(0)
                for line, exchange in _read(file, self.path, self._lines + 1):
                    self._size += len(line)
                    self._tail = (self._tail + line)[-_TAIL:]
                    self._lines += line.endswith(b"\n")
                    if exchange is not None:
                        self._add(exchange)
        except FileNotFoundError:
            self._forget()
        except OSError as error:
            raise _error(self.path, "read", error) from error

    def _forget(self) -> None:
        self._size = self._lines = 0
        self._tail = b""
        self._exchanges.clear()
        self._ids.clear()

    def _add(self, exchange: Exchange) -> None:
        while exchange.id in self._ids:  # a line that was copied
            exchange.id += "+"
        self._ids.add(exchange.id)
        for fingerprint in exchange.fingerprints:
            found = self._exchanges.setdefault(fingerprint, [])
            if exchange.replaces:
                found[:] = [each for each in found if each.id not in exchange.replaces]
            found.append(exchange)
