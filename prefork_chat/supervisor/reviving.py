"""How a supervisor goes on with the daemon of one that was killed, by what systemd has held for it.

Decides whether what has come back fits, and what of an estate is taken up (`Reviving`): memory,
journals, pairs, listeners and clients. All else goes by the dead one's life and is made anew: the
lock, the admin socket, and the semaphores, for systemd may remove those of a unit that has ended
(`RemoveIPC=`), and nobody who lives has one. Called by the supervisor's only thread at its start.

Its workers are dead, for systemd starts no supervisor beside them (`KillMode=`); if one lives all
the same, we wait for it. What they were about is in the journals and is their successors'.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat.errors import ConfigError, StartError, UpgradeError
from prefork_chat.log import STORE_REJECTED, get_logger
from prefork_chat.registry.registry import Registry
from prefork_chat.registry.table import PID
from prefork_chat.supervisor import deed as deeds
from prefork_chat.supervisor.reloading import adopt, read_fixed
from prefork_chat.supervisor.sources import SPILLS, Making, Resuming
from prefork_chat.supervisor.store import DEED, client_of, estate_name, stored_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prefork_chat.config import Config
    from prefork_chat.pairs import Pair
    from prefork_chat.registry.ipc import Semaphore, SharedMemory
    from prefork_chat.supervisor.deed import Deed
    from prefork_chat.supervisor.ledger import Ledger
    from prefork_chat.supervisor.listeners import Listeners
    from prefork_chat.supervisor.notify import PassedFd
    from prefork_chat.supervisor.runtime import RuntimeDirectory

# They notice the death of their supervisor within a second.
_WORKERS_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Revival:
    """What has come back and fits: `config` is what ours comes to in that daemon.

    `descriptors` are by the estate's names, `kept` as the keeper has them; `stored` are all names.
    """

    config: Config
    deed: Deed
    deed_fd: int
    descriptors: Mapping[str, int]
    kept: Mapping[int, tuple[int, int]]
    stored: Sequence[str]


def revive(stored: Sequence[PassedFd], config: Config) -> Revival | None:
    """Return what can be gone on with; None, and all is closed, if there is nothing or no way."""
    if not stored:
        return None
    try:
        return _read(stored, config)
    except (ConfigError, UpgradeError, StartError) as error:
        get_logger().warning(STORE_REJECTED, reason=str(error), meaning="the daemon starts afresh")
        for passed in stored:
            os.close(passed.fd)
        return None


def _read(stored: Sequence[PassedFd], config: Config) -> Revival:
    fds = {passed.name: passed.fd for passed in stored}
    deed_fd = fds.get(stored_name(DEED))
    if deed_fd is None:
        raise StartError("the deed has not come back")
    content = os.pread(deed_fd, os.fstat(deed_fd).st_size, 0)
    if not content:
        raise StartError("the daemon before had ended in order")
    deed = deeds.decode(content)
    missing = [name for name in deed.stored if name not in fds]
    if missing:
        raise StartError(f"{len(missing)} descriptors have not come back: {missing[0]} ...")
    if not Path(deed.runtime_dir, SPILLS).is_dir():
        raise StartError(f"{deed.runtime_dir} is not what it was (RuntimeDirectoryPreserve=)")
    adopted, _ = adopt(read_fixed(deed.fixed), config, deed.places)
    kept: dict[int, tuple[int, int]] = {}
    for name, fd in fds.items():
        session = client_of(name)
        if session is None:
            continue
        slot, generation = session
        older = kept.get(slot)
        if older is None or older[0] < generation:
            kept[slot] = (generation, fd)
            fd = -1 if older is None else older[1]  # noqa: PLW2901 - the one to be closed
        if fd != -1:
            os.close(fd)
    named = ((estate_name(name), fd) for name, fd in fds.items())
    descriptors = {name: fd for name, fd in named if name is not None}
    return Revival(adopted, deed, deed_fd, descriptors, kept, list(fds))


class Reviving(Making):
    """Takes up the estate of `revival`, and makes what does not outlive a supervisor."""

    def __init__(self, revival: Revival, wait: Callable[[float], bool]) -> None:
        """`wait` is `ListenerOpener`'s."""
        super().__init__(revival.config, (), wait)
        self.places = revival.deed.places
        self.threads = revival.deed.threads
        self._deed: Final = revival.deed
        self._kept: Final = revival.kept
        self._resuming: Final = Resuming(revival.deed, revival.descriptors)

    def spills(self, runtime: RuntimeDirectory) -> Path:
        """Leave all that is there: it is in use."""
        return self._resuming.spills(runtime)

    def ledger(self, runtime: RuntimeDirectory) -> Ledger:
        """Remove what does not outlive a supervisor; our sockets' files stay listed."""
        return self._clear_ledger(runtime, self._resuming.socket_files())

    def memory(self) -> SharedMemory:
        """Map it."""
        return self._resuming.memory()

    def registry(self, memory: SharedMemory, write_semaphore: Semaphore) -> Registry:
        """Attach to it, and see its workers dead."""
        registry = Registry(memory, write_semaphore)
        for p_id in range(registry.workers):
            await_end(registry.table.row(p_id)[PID])
            registry.table.end(p_id)
        return registry

    def pair(self, name: str, /) -> Pair:
        """Go on with both ends."""
        return self._resuming.pair(name)

    def journal(self, name: str, /) -> int:
        """Leave it as it is."""
        return self._resuming.journal(name)

    def attendants(self) -> int:
        """Leave it as it is: it says how often each was forked."""
        return self._resuming.attendants()

    def listeners(self) -> Listeners:
        """Go on listening."""
        return self._resuming.listeners()

    def kept(self) -> Mapping[int, tuple[int, int]]:
        """Return those that have come back."""
        return self._kept


def await_end(pid: int) -> None:
    """Wait for a child that lives beside us; another process has its pid if it is elsewhere.

    Raises StartError if it does not end.
    """
    deadline = time.monotonic() + _WORKERS_SECONDS
    while pid and _is_beside_us(pid):
        if time.monotonic() >= deadline:
            raise StartError(f"process {pid} of the killed supervisor lives on")
        time.sleep(_POLL_SECONDS)


def _is_beside_us(pid: int) -> bool:
    """Say whether a process of our own control group has this pid."""
    try:
        theirs = Path(f"/proc/{pid}/cgroup").read_bytes()
    except OSError:
        return False
    return pid != os.getpid() and theirs == Path("/proc/self/cgroup").read_bytes()
