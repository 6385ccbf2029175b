"""A file of lines that one process at a time writes: locked, synced, created with mode 0600.

The kernel releases the lock when the process dies.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
import weakref

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
_LOCK_OFFSET = 1 << 62
"""Windows makes locked bytes unreadable to others: lock one far beyond the end of the file."""
_SYNC_UNSUPPORTED = {
    *(errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS),
    *(errno.EACCES, errno.EPERM),
}
"""Errors for a folder on CIFS, 9p or FUSE, or one without read permission."""


class LockedFile:
    """A regular file that is open for appending, and locked until ``close``. Thread-safe.

    A missing file is created; a symbolic link is followed. In a forked child it is closed.

    Raises ``OSError`` if it cannot be opened, is not a regular file, or is locked by another
    process or by another ``LockedFile`` of this one; ``ValueError`` for what cannot be a path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(os.fsdecode(path))
        self._lock = threading.RLock()  # a signal handler may close it while it is being closed
        self._torn_at: int | None = None
        """Where half a line begins that could not be removed."""
        self._fd = _open_locked(self.path)
        _open_files.add(self)

    @property
    def fd(self) -> int:
        """The descriptor. Raises ``OSError`` if the file is closed."""
        if self._fd < 0:
            raise OSError(errno.EBADF, "it is closed in this process")
        return self._fd

    def append(self, data: bytes) -> None:
        """Append ``data``; it is on the disk when this returns.

        Raises ``OSError``; then nothing of it stays in the file.
        """
        with self._lock:
            if self._torn_at is not None:
                self._truncate(self._torn_at)
            size = os.fstat(self.fd).st_size
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self.fd, rest) :]
                os.fsync(self.fd)
            except OSError:
                self._torn_at = size
                with contextlib.suppress(OSError):
                    self._truncate(size)
                raise

    def truncate(self, size: int) -> None:
        """Cut the file off; it is so on the disk when this returns. Raises ``OSError``."""
        with self._lock:
            self._truncate(size)
            os.fsync(self.fd)

    def _truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)
        self._torn_at = None

    def replace(self, fd: int) -> None:
        """Go on with another descriptor, which is locked too, and close the present one."""
        with self._lock:
            old, self._fd = self._fd, fd
            os.close(old)

    def close(self) -> None:
        """Close the file and release the lock; nothing happens if it is closed."""
        with self._lock:  # another thread may be about to write to this descriptor
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def close_in_child(self) -> None:
        """Close the file after a fork: another thread may have held the lock of the threads."""
        self._lock = threading.RLock()
        self.close()


_open_files: weakref.WeakSet[LockedFile] = weakref.WeakSet()


def _close_in_child() -> None:
    """Close all files: a forked child shares the lock and could hold it after its parent dies."""
    for file in _open_files:
        file.close_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _open_locked(path: str) -> int:
    while True:
        fd = os.open(path, _FLAGS, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            lock(fd)
            # The previous holder may have replaced the file in the meantime.
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                sync_folder(path)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def lock(fd: int) -> None:
    """Take an exclusive lock. Raises ``BlockingIOError`` if another process has it."""
    try:
        if sys.platform != "win32":
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            os.lseek(fd, _LOCK_OFFSET, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError) as error:
        reason = "another process is writing it; wait until it ends"
        raise BlockingIOError(errno.EAGAIN, reason) from error


def sync_folder(path: str) -> None:
    """Write the name of a new file to the disk, if the file system supports it."""
    if sys.platform != "win32":
        try:
            fd = os.open(os.path.dirname(path), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in _SYNC_UNSUPPORTED:
                raise
