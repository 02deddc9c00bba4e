"""What is made before the first fork and removed after the last child: all that workers inherit.

Called by the supervisor's only thread. The order is the module's decision: first the lock, then the
leftovers of a dead predecessor, then what has a name, each in the ledger before it is made, and
listeners last, so that nobody connects before there is something to serve him. `close` goes back
the same way. The supervisor makes the registry and never takes its lock: a worker that dies with it
can hang nobody here.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefork_chat.config import resolve_runtime_dir
from prefork_chat.errors import StartError
from prefork_chat.inheritance import Inheritance
from prefork_chat.pairs import Pairs
from prefork_chat.registry.layout import total_bytes
from prefork_chat.registry.registry import Registry
from prefork_chat.supervisor.ledger import Ledger
from prefork_chat.supervisor.listeners import ListenerOpener, Listeners
from prefork_chat.supervisor.runtime import RuntimeDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_chat.config import Config
    from prefork_chat.registry.ipc import Semaphore
    from prefork_chat.supervisor.notify import PassedFd


@dataclass(frozen=True, slots=True)
class Estate:
    """The daemon's objects. Owner: the supervisor's thread; workers see them as `Inheritance`.

    `news`: the eventfd by which workers say that their state has changed.
    """

    config: Config
    runtime: RuntimeDirectory
    registry: Registry
    accept_semaphore: Semaphore
    pairs: Pairs
    listeners: Listeners
    news: int
    supervisor_pidfd: int
    _undo: ExitStack

    @classmethod
    def make(
        cls, config: Config, passed: Sequence[PassedFd], wait: Callable[[float], bool]
    ) -> Estate:
        """Make everything; `passed` are systemd's sockets, `wait` is `ListenerOpener`'s.

        Raises AlreadyRunning, StartError or ListenError, and has removed all that it made then.
        """
        server = config.server
        shape = (server.max_clients, server.workers, server.threads)
        with ExitStack() as undo:
            runtime = RuntimeDirectory.claim(resolve_runtime_dir(config))
            undo.callback(runtime.release)
            ledger = Ledger(runtime)
            ledger.remove_leftovers()
            undo.callback(ledger.forget)
            write_semaphore = ledger.make_semaphore("write", 1)
            undo.callback(write_semaphore.remove)
            accept_semaphore = ledger.make_semaphore("accept", 1)
            undo.callback(accept_semaphore.remove)
            memory = ledger.make_memory("registry", total_bytes(*shape))
            registry = Registry.create(memory, write_semaphore, *shape)
            pairs = _make_pairs(config)
            undo.callback(pairs.close)
            news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, news)
            supervisor_pidfd = os.pidfd_open(os.getpid())
            undo.callback(os.close, supervisor_pidfd)
            listeners = ListenerOpener(server, ledger, wait).open(passed)
            undo.callback(listeners.close)
            return cls(
                config,
                runtime,
                registry,
                accept_semaphore,
                pairs,
                listeners,
                news,
                supervisor_pidfd,
                undo.pop_all(),
            )

    def inheritance(self, p_id: int, generation: int) -> Inheritance:
        """Return what the worker `generation` of `p_id` starts from."""
        return Inheritance(
            config=self.config,
            p_id=p_id,
            generation=generation,
            registry=self.registry,
            table=self.registry.table,
            accept_semaphore=self.accept_semaphore,
            pairs=self.pairs,
            listeners=tuple(self.listeners.sockets),
            news=self.news,
            supervisor_pidfd=self.supervisor_pidfd,
        )

    def close(self) -> None:
        """Remove everything. The registry's memory goes with the last process that has it."""
        self._undo.close()


def _make_pairs(config: Config) -> Pairs:
    server = config.server
    try:
        return Pairs.create(server.workers, server.threads, config.limits.pair_buffer_bytes)
    except OSError as error:
        reason = f"{error.strerror} (see `ulimit -n`)"
        raise StartError(f"socketpairs of the workers: {reason}") from error
