"""What is made before the first fork and removed after the last child: all that workers inherit.

Called by the supervisor's only thread. The order is the module's decision: first the lock, then the
leftovers of a dead predecessor, then what has a name, each in the ledger before it is made, and
listeners last, so that nobody connects before there is something to serve him. `close` goes back
the same way. The supervisor makes the registry and never takes its lock: a worker that dies with it
can hang nobody here.

There is room for `ServerConfig.worker_places` workers from the start: pairs, journals and table
rows cannot be added to what workers have by fork.

Every kept client is an open descriptor of the supervisor, so its limit bounds how many are kept:
what is left of it when all this is open, less what a worker opens for itself, for it begins with
all of them. If that is less than `max_clients`, it is said at the start.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prefork_chat.config import resolve_runtime_dir
from prefork_chat.errors import StartError
from prefork_chat.inheritance import Inheritance
from prefork_chat.log import KEEPER_LIMITED, get_logger
from prefork_chat.pairs import Pair, Pairs
from prefork_chat.registry.layout import total_bytes
from prefork_chat.registry.registry import Registry
from prefork_chat.supervisor.adminsocket import AdminSocket
from prefork_chat.supervisor.keeper import Keeper
from prefork_chat.supervisor.ledger import Ledger
from prefork_chat.supervisor.listeners import ListenerOpener, Listeners
from prefork_chat.supervisor.runtime import RuntimeDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prefork_chat.config import Config
    from prefork_chat.registry.ipc import Semaphore
    from prefork_chat.supervisor.notify import PassedFd

JOURNAL_NAME: Final = "prefork-chat-journal"
# What a process of ours opens besides what it begins with: poll sets, wake-ups, a log, a stack
# dump, clients that are being turned away; and each loop's own.
_RESERVE: Final = 64
_RESERVE_OF_LOOP: Final = 8

_SPILLS: Final = "spill"


@dataclass(frozen=True, slots=True)
class Estate:
    """The daemon's objects. Owner: the supervisor's thread; workers see them as `Inheritance`.

    `news`: the eventfd by which workers say that their state has changed. `journals[p_id][t_id]`
    are memfds, each one as large as its loop has made it.
    """

    runtime: RuntimeDirectory
    admin: AdminSocket
    spills: Path
    registry: Registry
    accept_semaphore: Semaphore
    pairs: Pairs
    keeper_pair: Pair
    nurseries: tuple[Pair, ...]
    journals: tuple[tuple[int, ...], ...]
    keeper: Keeper
    listeners: Listeners
    news: int
    supervisor_pidfd: int
    _undo: ExitStack

    @classmethod
    def make(
        cls,
        config: Config,
        descriptors: int,
        passed: Sequence[PassedFd],
        wait: Callable[[float], bool],
    ) -> Estate:
        """Make everything; `passed` are systemd's sockets, `wait` is `ListenerOpener`'s.

        `descriptors`: how many this process may have open. Raises AlreadyRunning, StartError or
        ListenError, and has removed all that it made then.
        """
        server = config.server
        shape = (server.max_clients, server.worker_places, server.threads)
        with ExitStack() as undo:
            runtime = RuntimeDirectory.claim(resolve_runtime_dir(config))
            undo.callback(runtime.release)
            admin = AdminSocket.open(runtime)
            undo.callback(admin.close)
            spills = _make_spills(runtime.path)
            undo.callback(shutil.rmtree, spills, ignore_errors=True)
            ledger = Ledger(runtime)
            ledger.remove_leftovers()
            undo.callback(ledger.forget)
            write_semaphore = ledger.make_semaphore("write", 1)
            undo.callback(write_semaphore.remove)
            accept_semaphore = ledger.make_semaphore("accept", 1)
            undo.callback(accept_semaphore.remove)
            memory = ledger.make_memory("registry", total_bytes(*shape))
            registry = Registry.create(memory, write_semaphore, *shape)
            try:
                pairs, keeper_pair, nurseries, journals = _make_channels(config, undo)
            except OSError as error:
                reason = f"{error.strerror} (see `ulimit -n`)"
                raise StartError(f"socketpairs of the workers: {reason}") from error
            news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, news)
            supervisor_pidfd = os.pidfd_open(os.getpid())
            undo.callback(os.close, supervisor_pidfd)
            listeners = ListenerOpener(server, ledger, wait).open(passed)
            undo.callback(listeners.close)
            keeper = Keeper(keeper_pair, nurseries, _most_kept(config, descriptors))
            undo.callback(keeper.close)
            return cls(
                runtime,
                admin,
                spills,
                registry,
                accept_semaphore,
                pairs,
                keeper_pair,
                nurseries,
                journals,
                keeper,
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
            listeners=tuple(self.listeners.sockets),
            news=self.news,
            supervisor_pidfd=self.supervisor_pidfd,
        )

    def close(self) -> None:
        """Remove everything. The registry's memory goes with the last process that has it."""
        self._undo.close()


def _make_channels(
    config: Config, undo: ExitStack
) -> tuple[Pairs, Pair, tuple[Pair, ...], tuple[tuple[int, ...], ...]]:
    """Open all pairs and journals; `undo` closes them. Raises OSError."""
    places, threads = config.server.worker_places, config.server.threads
    buffer_bytes = config.limits.pair_buffer_bytes
    pairs = Pairs.create(places, threads, buffer_bytes)
    undo.callback(pairs.close)
    keeper_pair = Pair.create(buffer_bytes)
    undo.callback(keeper_pair.close)
    nurseries = tuple(Pair.create(buffer_bytes) for _ in range(places))
    for nursery in nurseries:
        undo.callback(nursery.close)
    journals = tuple(
        tuple(os.memfd_create(JOURNAL_NAME, os.MFD_CLOEXEC) for _ in range(threads))
        for _ in range(places)
    )
    for row in journals:
        for journal in row:
            undo.callback(os.close, journal)
    return pairs, keeper_pair, nurseries, journals


def _most_kept(config: Config, descriptors: int) -> int:
    """Return for how many clients there are descriptors; complain if these are too few."""
    reserve = _RESERVE + _RESERVE_OF_LOOP * config.server.threads
    most = max(0, descriptors - len(os.listdir("/proc/self/fd")) - reserve)
    if most < config.server.max_clients:
        get_logger().warning(
            KEEPER_LIMITED,
            clients=most,
            max_clients=config.server.max_clients,
            descriptors=descriptors,
            meaning="clients beyond end with their worker; raise `ulimit -n` or LimitNOFILE=",
        )
    return most


def _make_spills(runtime_dir: Path) -> Path:
    """Make the directory where workers keep backlogs; what a killed daemon left in it goes."""
    spills = runtime_dir / _SPILLS
    shutil.rmtree(spills, ignore_errors=True)
    try:
        spills.mkdir(mode=0o700)
    except OSError as error:
        raise StartError(f"{spills}: {error.strerror}") from error
    return spills
