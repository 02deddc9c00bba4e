"""IPC objects: which ones a daemon has, or has left, and who holds its semaphores.

Other daemons may run on the same machine, so objects are told apart by their maker: `DaemonObjects`
finds those whose keys and names are derived from the runtime directory (the supervisor's own
`Ledger` says how), `used_by` all System V objects that certain processes made or used last (pids
come again: what was there before they lived is not theirs). POSIX objects have no such mark.
Nothing here takes a semaphore, but `held`.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat.registry.ipc import Semaphore, SemaphoreGone
from prefork_chat.supervisor.ledger import Ledger
from prefork_chat.supervisor.runtime import RuntimeDirectory

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PURPOSES: Final = ("accept", "write")
"""What a daemon has semaphores for."""

_ATTEMPTS: Final = range(16)
"""As many keys as the ledger tries for one purpose."""

_ID_COLUMNS: Final = {"sem": "semid", "shm": "shmid", "msg": "msqid"}
_PID_COLUMNS: Final = {"shm": ("cpid", "lpid"), "msg": ("lspid", "lrpid")}
_POSIX: Final = ("/dev/shm", "/dev/mqueue")
_OUR_PREFIX: Final = "prefork-chat-"


class DaemonObjects:
    """The semaphores and the shared memory of the daemon in one runtime directory."""

    def __init__(self, directory: Path) -> None:
        """`directory` exists; the daemon need not."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ledger = Ledger(RuntimeDirectory(directory, fd, -1))
            self._keys = {
                purpose: [ledger.semaphore_key(purpose, attempt) for attempt in _ATTEMPTS]
                for purpose in PURPOSES
            }
            self._names = [ledger.memory_name("registry", attempt) for attempt in _ATTEMPTS]
        finally:
            os.close(fd)

    def existing(self) -> set[str]:
        """Name those that exist now."""
        found = {f"/dev/shm{name}" for name in self._names if os.path.exists(f"/dev/shm{name}")}
        for purpose, semaphore in self._semaphores():
            found.add(f"the {purpose} semaphore {semaphore.key:#x}")
        return found

    def remove_semaphores(self) -> None:
        """Remove the semaphores of a daemon that was killed."""
        for _, semaphore in self._semaphores():
            semaphore.remove()

    def semaphore(self, purpose: str) -> Semaphore:
        """Return the semaphore for one of `PURPOSES` of the daemon that runs now."""
        return next(semaphore for found, semaphore in self._semaphores() if found == purpose)

    def semaphore_id(self, purpose: str) -> int:
        """Return the id by which ipcs and ipcrm know that semaphore."""
        key = self.semaphore(purpose).key
        return next(int(row["semid"]) for row in _rows("sem") if int(row["key"]) == key)

    @contextmanager
    def held(self, purpose: str) -> Iterator[None]:
        """Hold a semaphore while the block runs, as somebody would who never gives it back."""
        semaphore = self.semaphore(purpose)
        semaphore.acquire()
        try:
            yield
        finally:
            try:
                semaphore.release()
            except SemaphoreGone:
                pass  # the daemon has ended meanwhile

    def _semaphores(self) -> Iterator[tuple[str, Semaphore]]:
        for purpose, keys in self._keys.items():
            for key in keys:
                try:
                    yield purpose, Semaphore(key)
                except SemaphoreGone:
                    continue


def sysv_names() -> set[str]:
    """Name all System V semaphores, memories and queues that there are, whoever's they be."""
    return {f"{kind} {row[column]}" for kind, column in _ID_COLUMNS.items() for row in _rows(kind)}


def used_by(pids: Collection[int]) -> set[str]:
    """Name those of `sysv_names` that a process which has, or had, one of `pids` used last."""
    found = {
        f"{kind} {row[_ID_COLUMNS[kind]]}"
        for kind, columns in _PID_COLUMNS.items()
        for row in _rows(kind)
        if any(int(row[column]) in pids for column in columns)
    }
    for row in _rows("sem"):
        try:
            if Semaphore(int(row["key"])).last_pid in pids:
                found.add(f"sem {row['semid']}")
        except SemaphoreGone:
            continue
    return found


def posix_names() -> set[str]:
    """Name all POSIX shared memories, semaphores and queues, but those of this program.

    Of its own, `DaemonObjects` can tell whose they are; other tests may have some at the same time.
    """
    present = [directory for directory in _POSIX if os.path.isdir(directory)]
    return {
        f"{directory}/{name}"
        for directory in present
        for name in os.listdir(directory)
        if not name.startswith(_OUR_PREFIX)
    }


def _rows(kind: str) -> list[dict[str, str]]:
    try:
        head, *lines = Path(f"/proc/sysvipc/{kind}").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []  # a kernel without it
    return [dict(zip(head.split(), line.split(), strict=True)) for line in lines]
