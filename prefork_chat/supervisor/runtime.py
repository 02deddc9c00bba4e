"""The runtime directory: what names a daemon, and the lock that says whether it lives.

One directory, one daemon. The directory holds the pidfile, whose flock the supervisor keeps for as
long as it lives (the kernel drops it at any death), and the ledger of objects (`ledger`). The lock
is the truth; the pid in the file is only there to be told to people.

Used by the supervisor's only thread, first thing at the start and last at the end. The lock hangs
on the open file, which fork shares, so every child closes it at once (`close_in_child`): otherwise
a dead supervisor would seem to live in its workers. All files are reached through the directory's
descriptor: somebody who moves the directory does not separate the daemon from its lock.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prefork_chat.errors import AlreadyRunning, StartError

if TYPE_CHECKING:
    from pathlib import Path

PIDFILE: Final = "supervisor.pid"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PIDFILE: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
# How long a lock may outlive its supervisor: a child that was being forked when it was killed still
# has to run up to its close.
_ORPHANED_LOCK_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class RuntimeDirectory:
    """A claimed directory; owner: the supervisor's thread.

    `fd` is the directory's descriptor, `pidfile_fd` the one that has the lock: who has both has the
    directory.
    """

    path: Path
    fd: int
    pidfile_fd: int

    @classmethod
    def claim(cls, path: Path) -> RuntimeDirectory:
        """Make the directory (mode 0700) if it is not there, lock it, and write the pid.

        Raises AlreadyRunning if a living supervisor has it, StartError if it cannot be used or is
        not safe: it must belong to this user and be writable for nobody else.
        """
        fd = _open_directory(path)
        try:
            _check_is_safe(path, fd)
            pidfile_fd = _lock_pidfile(path, fd)
        except BaseException:
            os.close(fd)
            raise
        text = b"%d\n" % os.getpid()
        os.pwrite(pidfile_fd, text, 0)
        os.ftruncate(pidfile_fd, len(text))
        return cls(path, fd, pidfile_fd)

    def identity(self) -> tuple[int, int]:
        """Return what no other directory of this kernel has now: device and inode."""
        status = os.fstat(self.fd)
        return status.st_dev, status.st_ino

    def release(self) -> None:
        """Remove the pidfile and let go of the lock. The directory itself stays."""
        try:
            os.unlink(PIDFILE, dir_fd=self.fd)
        except FileNotFoundError:
            pass  # somebody tidied up: the lock was what counted
        self.close_in_child()

    def close_in_child(self) -> None:
        """Close the descriptors in this process and remove nothing."""
        os.close(self.pidfile_fd)
        os.close(self.fd)


def _open_directory(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, _DIRECTORY)
    except OSError as error:
        raise StartError(f"runtime directory {path}: {error.strerror}") from error


def _check_is_safe(path: Path, fd: int) -> None:
    """Raise StartError if others could put files, or a symbolic link, in the daemon's way."""
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        raise StartError(f"runtime directory {path} belongs to uid {status.st_uid}")
    if os.lstat(path).st_uid not in (0, os.geteuid()):
        raise StartError(f"runtime directory {path} is another user's symbolic link")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise StartError(f"runtime directory {path} is writable for others (mode {mode:04o})")


def _lock_pidfile(path: Path, directory_fd: int) -> int:
    deadline = time.monotonic() + _ORPHANED_LOCK_SECONDS
    while True:
        fd = _open_pidfile(path, directory_fd)
        if _try_lock(fd):
            if _is_in_place(fd, directory_fd):
                return fd
            os.close(fd)  # its owner ended, and removed it, between our open and our lock
            continue
        pid = _read_pid(fd)
        os.close(fd)
        if _is_alive(pid) or time.monotonic() >= deadline:
            raise AlreadyRunning(f"another daemon (pid {pid}) runs in {path}")
        time.sleep(_POLL_SECONDS)


def _open_pidfile(path: Path, directory_fd: int) -> int:
    try:
        return os.open(PIDFILE, _PIDFILE, 0o644, dir_fd=directory_fd)
    except OSError as error:
        raise StartError(f"{path / PIDFILE}: {error.strerror}") from error


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_in_place(fd: int, directory_fd: int) -> bool:
    try:
        there = os.stat(PIDFILE, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def _read_pid(fd: int) -> int:
    line = os.pread(fd, 32, 0).partition(b"\n")[0]
    return int(line) if line.isdigit() else 0


def _is_alive(pid: int) -> bool:
    if pid == 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
