"""Which daemon writes the history of a state directory: the one whose historian has the lock.

Accounts may be shared by daemons; a history has one writer, which knows by heart what is in the
file. The lock is the historian's own, so it ends with the process, however that ends, and its
successor takes it: after a crash, a reload, an upgrade in place, a restart. A second daemon goes on
without a history, as it does on a full disk, says so, and takes it over when the first has ended.
Raises OSError. Owner: the historian's only thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

LOCK_NAME: Final = "history.lock"
_REASON: Final = "another daemon writes the history there: give each a state_dir of its own"


class Claim:
    """The lock of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path: Final = state_dir / LOCK_NAME
        self._fd = -1

    def take(self) -> None:
        """Take the lock, if we do not have it; raises OSError if another daemon does."""
        if self._fd >= 0:
            if self._is_at_its_path():
                return
            os.close(self._fd)  # somebody has tidied up: others would take another file's lock
            self._fd = -1
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise OSError(errno.EBUSY, _REASON) from None
        self._fd = fd

    def _is_at_its_path(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        except FileNotFoundError:
            return False
