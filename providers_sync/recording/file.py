"""``RecordingFile``: the exchanges in a file that several processes may append to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from ..clock import monotonic
from ..errors import InvalidRequestError, ProviderError
from ..locked_file import LockedFile
from . import unwritten
from .exchange import Exchange

LOCK_WAIT_S = 10.0
"""How long another process may write."""
_POLL_S = 0.005


class RecordingError(InvalidRequestError):
    """A file of recordings cannot be used, or has no recording of a request."""


def read_recordings(path: str | os.PathLike[str]) -> Iterator[Exchange]:
    """Yield the exchanges of a file, in their order; half a line at its end is left out.

    Raises ``RecordingError`` for a file that cannot be read, and for a line that is wrong.
    """
    name = os.fspath(path)
    unwritten.wait(name)
    try:
        with open(name, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield Exchange.from_line(line)
                except ValueError as error:
                    raise RecordingError(
                        f"line {number} of {name} is no recording: {error}; delete it"
                    ) from error
    except OSError as error:
        raise RecordingError(f"{name} cannot be read: {error.strerror}") from error


class RecordingFile:
    """What a file holds for each request, and which of it this object has given out."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._lock = threading.Lock()
        self._exchanges: dict[str, list[Exchange]] = {}
        self._size = 0
        """How much of the file has been read."""
        self._lines = 0
        self._given: dict[str, set[str]] = {}
        """The ids that were given out or recorded, by fingerprint."""
        self._count: dict[str, int] = {}

    def load(self) -> None:
        """Read what the file holds now. Raises ``RecordingError``."""
        unwritten.wait(self.path)
        with self._lock:
            self._refresh()

    def nth(self, fingerprint: str) -> tuple[Exchange | None, int]:
        """Return the next recording of a request, if there is one, and how often it was asked."""
        self.load()
        with self._lock:
            number = self._count.get(fingerprint, 0)
            self._count[fingerprint] = number + 1
            found = self._exchanges.get(fingerprint, [])
            return (found[number] if number < len(found) else None), number + 1

    def next_whole(self, fingerprint: str, max_age: float | None) -> Exchange | None:
        """Return the next whole answer to a request, if there is one that is not too old."""
        oldest = None
        if max_age is not None:
            oldest = datetime.now(timezone.utc) - timedelta(seconds=max_age)
        self.load()
        with self._lock:
            given = self._given.setdefault(fingerprint, set())
            for exchange in self._exchanges.get(fingerprint, ()):
                is_fresh = oldest is None or exchange.recorded_at >= oldest
                if exchange.is_whole and is_fresh and exchange.id not in given:
                    given.add(exchange.id)
                    return exchange
        return None

    def has_given(self, fingerprint: str) -> bool:
        """Return whether a recording of this request was given out or made."""
        with self._lock:
            return bool(self._given.get(fingerprint))

    def all(self) -> list[Exchange]:
        """Return what the file holds, without what was replaced."""
        with self._lock:
            return [each for found in self._exchanges.values() for each in found]

    def append(self, exchange: Exchange) -> None:
        """Write an exchange; it is on the disk when this returns. Raises ``RecordingError``."""
        with self._lock:
            file = self._open()
            try:
                self._cut_half_line(file)
                file.append(exchange.to_line())
            except OSError as error:
                raise self._error("written", error) from error
            finally:
                file.close()
            given = self._given.setdefault(exchange.request.fingerprint, set())
            given.add(exchange.id)

    def _open(self) -> LockedFile:
        until = monotonic() + LOCK_WAIT_S
        while True:
            try:
                return LockedFile(self.path)
            except BlockingIOError as error:
                if monotonic() > until:
                    raise self._error("locked", error) from error
                threading.Event().wait(_POLL_S)
            except (OSError, ValueError) as error:
                raise self._error("opened", error) from error

    def _cut_half_line(self, file: LockedFile) -> None:
        """Remove what a process has left that died while it wrote."""
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
        if end != size:
            file.truncate(end)

    def _refresh(self) -> None:
        """Read what was appended since the last time."""
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            size = 0
        except (OSError, ValueError) as error:
            raise self._error("read", error) from error
        if size < self._size:  # it was replaced, or emptied
            self._size = self._lines = 0
            self._exchanges.clear()
        if size == self._size:
            return
        try:
            with open(self.path, "rb") as file:
                file.seek(self._size)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._add(line)
        except OSError as error:
            raise self._error("read", error) from error

    def _add(self, line: bytes) -> None:
        self._size += len(line)
        self._lines += 1
        try:
            exchange = Exchange.from_line(line)
        except ValueError as error:
            raise RecordingError(
                f"line {self._lines} of {self.path} is no recording: {error}; delete it"
            ) from error
        found = self._exchanges.setdefault(exchange.request.fingerprint, [])
        if exchange.replaces:
            found.clear()
        found.append(exchange)

    def _error(self, verb: str, error: BaseException) -> ProviderError:
        reason = getattr(error, "strerror", None) or error
        return RecordingError(f"{self.path!r} cannot be {verb}: {reason}")
