"""IPC objects: what is there before a daemon and after it, and who holds its semaphores.

The semaphores of a daemon have keys that only its runtime directory tells; `DaemonSemaphores` asks
the supervisor's own `Ledger` for them. Reading never takes a semaphore.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat.registry.ipc import Semaphore, SemaphoreGone
from prefork_chat.supervisor.ledger import Ledger
from prefork_chat.supervisor.runtime import RuntimeDirectory
from tests.harness.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYSV: Final = ("sem", "shm", "msg")
_POSIX: Final = ("/dev/shm", "/dev/mqueue")
_ATTEMPTS: Final = 16
"""As many keys as the ledger tries for one purpose."""

PURPOSES: Final = ("accept", "write")


def all_objects() -> set[str]:
    """Name every System V semaphore, shared memory and queue, and every POSIX one, there is."""
    found: set[str] = set()
    for kind in _SYSV:
        try:
            lines = Path(f"/proc/sysvipc/{kind}").read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without it
        found.update(f"{kind} {line.split()[0]} {line.split()[1]}" for line in lines)
    for directory in _POSIX:
        if os.path.isdir(directory):
            found.update(f"{directory}/{name}" for name in os.listdir(directory))
    return found


def is_in_use(name: str) -> bool:
    """Say whether an object of `all_objects` is a semaphore that a living process used last."""
    kind, _, rest = name.partition(" ")
    if kind != "sem":
        return False
    try:
        return is_alive(Semaphore(int(rest.split()[0])).last_pid)
    except SemaphoreGone:
        return False


class DaemonSemaphores:
    """The semaphores of the daemon in one runtime directory, by purpose: "accept", "write"."""

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory

    def open(self, purpose: str) -> Semaphore:
        """Open the semaphore for `purpose` of the daemon that runs now."""
        for key in self._keys(purpose):
            try:
                return Semaphore(key)
            except SemaphoreGone:
                continue
        raise AssertionError(f"the daemon has no {purpose} semaphore")

    def left(self) -> list[str]:
        """Name those that exist, for a daemon that has ended."""
        found = []
        for purpose in PURPOSES:
            for key in self._keys(purpose):
                try:
                    Semaphore(key)
                except SemaphoreGone:
                    continue
                found.append(f"the {purpose} semaphore {key:#x}")
        return found

    @contextmanager
    def held(self, purpose: str) -> Iterator[None]:
        """Hold one while the block runs, as a process that never gives it back would."""
        semaphore = self.open(purpose)
        semaphore.acquire()
        try:
            yield
        finally:
            try:
                semaphore.release()
            except SemaphoreGone:
                pass  # the daemon has ended meanwhile

    def _keys(self, purpose: str) -> list[int]:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ledger = Ledger(RuntimeDirectory(self._directory, fd, -1))
            return [ledger.semaphore_key(purpose, attempt) for attempt in range(_ATTEMPTS)]
        finally:
            os.close(fd)
