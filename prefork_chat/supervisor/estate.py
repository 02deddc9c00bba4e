"""What there is before the first fork and is removed after the last child: all workers inherit it.

Called by the supervisor's only thread. The order is the module's decision: first the lock, then the
leftovers of a dead predecessor, then what has a name, each in the ledger before it is made, and
listeners last, so that nobody connects before there is something to serve him. `close` goes back
the same way. Where a part comes from - made anew, or handed on by a supervisor before us - is its
source's business (`sources`). The supervisor makes the registry and never takes its lock: a worker
that dies with it can hang nobody here.

There is room for `ServerConfig.worker_places` workers from the start: pairs, journals and table
rows cannot be added to what workers have by fork.

Every kept client is an open descriptor of the supervisor, so its limit bounds how many are kept:
what is left of it when all this is open, less what a worker opens for itself, for it begins with
all of them. If that is less than `max_clients`, it is said at the start.
"""

from __future__ import annotations

import mmap
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prefork_chat.inheritance import ATTENDANTS, DOOR, Attendance, Inheritance
from prefork_chat.log import KEEPER_LIMITED, get_logger
from prefork_chat.pairs import Pair, Pairs
from prefork_chat.registry.layout import CONSOLES
from prefork_chat.registry.table import WorkerTable
from prefork_chat.supervisor.deed import Deed, SocketFileEntry, write_child
from prefork_chat.supervisor.keeper import Keeper
from prefork_chat.supervisor.local import LocalObjects
from prefork_chat.supervisor.mail import Mail
from prefork_chat.supervisor.reloading import write_fixed
from prefork_chat.supervisor.sources import (
    ADMIN,
    ATTENDANTS_TABLE,
    DIRECTORY,
    NEWS,
    PIDFILE,
    REGISTRY,
    client_name,
    inlet_name,
    listener_name,
    outlet_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from prefork_chat.config import Config
    from prefork_chat.registry.ipc import Semaphore, SharedMemory
    from prefork_chat.registry.registry import Registry
    from prefork_chat.supervisor.children import Children
    from prefork_chat.supervisor.deed import ChildEntry
    from prefork_chat.supervisor.listeners import Listeners
    from prefork_chat.supervisor.runtime import RuntimeDirectory
    from prefork_chat.supervisor.runtimesocket import RuntimeSocket
    from prefork_chat.supervisor.sources import Source
    from prefork_chat.supervisor.store import Store

_KEEPER: Final = "keeper"
# What a process of ours opens besides what it begins with: poll sets, wake-ups, a log, a stack
# dump, clients that are being turned away; and each loop's own.
_RESERVE: Final = 64
_RESERVE_OF_LOOP: Final = 8


@dataclass(frozen=True, slots=True)
class Estate:
    """The daemon's objects. Owner: the supervisor's thread; workers see them as `Inheritance`.

    `news`: the eventfd by which workers say that their state has changed. `journals[p_id][t_id]`
    are memfds, each one as large as its loop has made it; `notebooks` are the same for attendants,
    and `attendants` is their table, in a memfd, for it says the same of each as of a worker.
    """

    runtime: RuntimeDirectory
    admin: RuntimeSocket
    door: RuntimeSocket
    local: LocalObjects
    spills: Path
    write_semaphore: Semaphore
    accept_semaphore: Semaphore
    memory: SharedMemory
    registry: Registry
    pairs: Pairs
    named_pairs: Mapping[str, Pair]
    keeper_pair: Pair
    nurseries: tuple[Pair, ...]
    journals: tuple[tuple[int, ...], ...]
    notebooks: tuple[int, ...]
    attendants_fd: int
    attendants: WorkerTable
    keeper: Keeper
    mail: Mail
    listeners: Listeners
    news: int
    supervisor_pidfd: int
    _undo: ExitStack

    @classmethod
    def put_up(
        cls, source: Source, max_clients: int, descriptors: int, store: Store | None = None
    ) -> Estate:
        """Get everything from `source`; `descriptors`: how many this process may have open.

        `store` is told of the clients that are kept.

        Raises AlreadyRunning, StartError or ListenError, and has removed all that there was then.
        """
        with ExitStack() as undo:
            runtime = source.runtime()
            undo.callback(runtime.release)
            admin = source.admin(runtime)
            undo.callback(admin.close)
            door = source.door(runtime)
            undo.callback(door.close)
            local = LocalObjects(runtime)
            undo.callback(local.remove)
            spills = source.spills(runtime)
            undo.callback(shutil.rmtree, spills, ignore_errors=True)
            ledger = source.ledger(runtime)
            undo.callback(ledger.forget)
            write_semaphore = source.semaphore("write")
            undo.callback(write_semaphore.remove)
            accept_semaphore = source.semaphore("accept")
            undo.callback(accept_semaphore.remove)
            memory = source.memory()
            registry = source.registry(memory, write_semaphore)
            named_pairs: dict[str, Pair] = {}

            def pair(name: str) -> Pair:
                made = named_pairs[name] = source.pair(name)
                undo.callback(made.close)
                return made

            pairs = Pairs.arrange(source.places, source.threads, ATTENDANTS, CONSOLES, pair)
            keeper_pair = pair(_KEEPER)
            nurseries = tuple(pair(f"nursery.{p_id}") for p_id in range(source.places))
            journals = _get_journals(source, undo)
            notebooks = _get_notebooks(source, undo)
            attendants_fd = source.attendants()
            undo.callback(os.close, attendants_fd)
            news = source.news()
            undo.callback(os.close, news)
            supervisor_pidfd = os.pidfd_open(os.getpid())
            undo.callback(os.close, supervisor_pidfd)
            listeners = source.listeners()
            undo.callback(listeners.close)
            kept = source.kept()
            # Those kept now are open already, and count among those that can be.
            unused = descriptors - len(os.listdir("/proc/self/fd")) + len(kept)
            keeper = Keeper(keeper_pair, nurseries, _most_kept(source.threads, unused), store)
            undo.callback(keeper.close)
            keeper.resume(kept, source.undelivered())
            _complain_if_fewer(keeper.limit, max_clients, descriptors)
            mail = Mail(pairs)
            undo.callback(mail.close)
            return cls(
                runtime,
                admin,
                door,
                local,
                spills,
                write_semaphore,
                accept_semaphore,
                memory,
                registry,
                pairs,
                named_pairs,
                keeper_pair,
                nurseries,
                journals,
                notebooks,
                attendants_fd,
                _map_table(attendants_fd),
                keeper,
                mail,
                listeners,
                news,
                supervisor_pidfd,
                undo.pop_all(),
            )

    def inheritance(self, config: Config, p_id: int, generation: int) -> Inheritance:
        """Return what the worker `generation` of `p_id` starts from."""
        return Inheritance(
            config=config,
            p_id=p_id,
            generation=generation,
            registry=self.registry,
            table=self.registry.table,
            accept_semaphore=self.accept_semaphore,
            pairs=self.pairs,
            keeper=self.keeper_pair.inlet,
            nursery=self.nurseries[p_id].outlet,
            kept=self.keeper.kept,
            journals=self.journals[p_id],
            spills=self.spills,
            listeners=(*self.listeners.sockets, self.door.socket),
            news=self.news,
            supervisor_pidfd=self.supervisor_pidfd,
        )

    def attendance(self, config: Config, place: int, generation: int) -> Attendance:
        """Return what the attendant `generation` of a place starts from."""
        registry = self.registry
        return Attendance(
            config=config,
            place=place,
            generation=generation,
            p_id=registry.workers + place,
            sender=registry.workers * registry.threads + place,
            registry=registry,
            pairs=self.pairs,
            row=self.attendants.row(place),
            journal=self.notebooks[place],
            runtime_dir=self.runtime.path,
            news=self.news,
            supervisor_pidfd=self.supervisor_pidfd,
        )

    def descriptors(self) -> dict[str, int]:
        """Return every descriptor that a supervisor after us needs, by its name."""
        found = {
            DIRECTORY: self.runtime.fd,
            PIDFILE: self.runtime.pidfile_fd,
            ADMIN: self.admin.socket.fileno(),
            DOOR: self.door.socket.fileno(),
            REGISTRY: self.memory.fd,
            NEWS: self.news,
            ATTENDANTS_TABLE: self.attendants_fd,
        }
        for name, pair in self.named_pairs.items():
            found[inlet_name(name)] = pair.inlet.fileno()
            found[outlet_name(name)] = pair.outlet.fileno()
        for p_id, row in enumerate(self.journals):
            found |= {_journal_name(p_id, t_id): fd for t_id, fd in enumerate(row)}
        found |= dict(zip(map(_notebook_name, ATTENDANTS), self.notebooks, strict=True))
        for number, listener in enumerate(self.listeners.sockets):
            found[listener_name(number)] = listener.fileno()
        for slot, (generation, fd) in self.keeper.kept.items():
            found[client_name(slot, generation)] = fd
        return found

    def lasting(self) -> dict[str, int]:
        """Return every descriptor that is the same from start to end and not the supervisor's."""
        own = {DIRECTORY, PIDFILE, ADMIN, DOOR, NEWS}
        own |= {client_name(slot, held[0]) for slot, held in self.keeper.kept.items()}
        return {name: fd for name, fd in self.descriptors().items() if name not in own}

    def deed(
        self,
        config: Config,
        children: Children,
        attendants: list[ChildEntry],
        begun_ns: int,
    ) -> Deed:
        """Return what a supervisor after us must know besides the descriptors."""
        return Deed(
            begun_ns=begun_ns,
            runtime_dir=str(self.runtime.path),
            fixed=write_fixed(config),
            semaphores={"write": self.write_semaphore.key, "accept": self.accept_semaphore.key},
            places=self.registry.workers,
            threads=self.registry.threads,
            listeners=len(self.listeners.sockets),
            files=[SocketFileEntry(file.path, *file.identity) for file in self.listeners.files],
            kept=[(slot, generation) for slot, (generation, _) in self.keeper.kept.items()],
            undelivered=self.keeper.undelivered,
            children=[write_child(child) for child in children.everyone()],
            attendants=attendants,
        )

    def close(self) -> None:
        """Remove everything. The registry's memory goes with the last process that has it."""
        self._undo.close()


def _get_journals(source: Source, undo: ExitStack) -> tuple[tuple[int, ...], ...]:
    def journal(p_id: int, t_id: int) -> int:
        fd = source.journal(_journal_name(p_id, t_id))
        undo.callback(os.close, fd)
        return fd

    return tuple(
        tuple(journal(p_id, t_id) for t_id in range(source.threads))
        for p_id in range(source.places)
    )


def _get_notebooks(source: Source, undo: ExitStack) -> tuple[int, ...]:
    notebooks = []
    for name in ATTENDANTS:
        notebooks.append(source.journal(_notebook_name(name)))
        undo.callback(os.close, notebooks[-1])
    return tuple(notebooks)


def _map_table(fd: int) -> WorkerTable:
    """Look at the attendants' table as at one of workers with a loop each."""
    words = memoryview(mmap.mmap(fd, mmap.PAGESIZE)).cast("q")
    return WorkerTable.of_attendants(words, len(ATTENDANTS))


def _notebook_name(attendant: str) -> str:
    return f"journal.{attendant}"


def _journal_name(p_id: int, t_id: int) -> str:
    return f"journal.{p_id}.{t_id}"


def _most_kept(threads: int, unused: int) -> int:
    """Return how many of the unused descriptors may be clients'."""
    return max(0, unused - _RESERVE - _RESERVE_OF_LOOP * threads)


def _complain_if_fewer(most: int, max_clients: int, descriptors: int) -> None:
    if most < max_clients:
        get_logger().warning(
            KEEPER_LIMITED,
            clients=most,
            max_clients=max_clients,
            descriptors=descriptors,
            meaning="clients beyond end with their worker; raise `ulimit -n` or LimitNOFILE=",
        )
