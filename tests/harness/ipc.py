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

from prefork_chat.board.board import key_of
from prefork_chat.channels.sysv import remove_sysv
from prefork_chat.registry.ipc import Semaphore, SemaphoreGone, remove_leftover_memory
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
    """The semaphores, the shared memory and the board of the daemon in one runtime directory."""

    def __init__(self, directory: Path) -> None:
        """`directory` exists; the daemon need not."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ledger = Ledger(RuntimeDirectory(directory, fd, -1))
            self._keys = {
                (purpose, attempt): ledger.semaphore_key(purpose, attempt)
                for attempt in _ATTEMPTS
                for purpose in PURPOSES
            }
            self._board = key_of(directory)
            self._names = {
                attempt: ledger.memory_name("registry", attempt) for attempt in _ATTEMPTS
            }
        finally:
            os.close(fd)

    def existing(self) -> set[str]:
        """Name those that exist now: `semaphore accept 0`, the 0 being the ledger's attempt."""
        return {
            *(f"semaphore {purpose} {attempt}" for purpose, attempt, _ in self._semaphores()),
            *(
                f"memory registry {attempt}"
                for attempt, name in self._names.items()
                if os.path.lexists(f"/dev/shm{name}")
            ),
            *("board" for _ in self._boards()),
        }

    def remove(self) -> None:
        """Remove all that a daemon left which was killed, listed in its ledger or not."""
        for _, _, semaphore in self._semaphores():
            semaphore.remove()
        for name in self._names.values():
            remove_leftover_memory(name)
        for row in self._boards():
            remove_sysv("memory", self._board, int(row["shmid"]))

    def semaphore(self, purpose: str) -> Semaphore:
        """Return the semaphore for one of `PURPOSES` of the daemon that runs now."""
        return next(semaphore for found, _, semaphore in self._semaphores() if found == purpose)

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

    def _boards(self) -> list[dict[str, str]]:
        return [row for row in _rows("shm") if int(row["key"]) == self._board]

    def _semaphores(self) -> Iterator[tuple[str, int, Semaphore]]:
        for (purpose, attempt), key in self._keys.items():
            try:
                yield purpose, attempt, Semaphore(key)
            except SemaphoreGone:
                continue


def left_in(directory: Path) -> list[str]:
    """Name all that a daemon in `directory` has or has left: its objects, and files in there."""
    if not directory.exists():
        return []
    return [*sorted(DaemonObjects(directory).existing()), *sorted(os.listdir(directory))]


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
