"""The acceptor of a worker: takes its turn at accept and gives clients to the least loaded loop.

One thread in each worker, blocked in the accept semaphore most of the time; the kernel serves
waiters first come, first served, so workers take turns, and it gives the semaphore back when a
holder is killed. It is held for poll and accept only. A worker that is to be replaced, or has no
descriptors left, does not contend. Reads `load` of the loops; hands sockets over by
`Loop.welcome`. Turns away who comes from a banned address. Also decides when a worker
has served its `connections_per_process`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from typing import TYPE_CHECKING

from prefork_chat import keeping, log
from prefork_chat.bans import Bans
from prefork_chat.chat import outcomes
from prefork_chat.config import resolve_state_dir
from prefork_chat.registry import table
from prefork_chat.registry.ipc import SemaphoreGone
from prefork_chat.registry.sessions import RegistryFull
from prefork_chat.registry.table import WorkerState
from prefork_chat.worker import progress
from prefork_chat.worker.clients import hang_up
from prefork_chat.worker.connection import Connection
from prefork_chat.worker.events import host_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from prefork_chat.config import TcpConfig
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.loop import Loop

POLL_SECONDS = 1.0
"""The longest that the semaphore is held while nobody connects."""

PAUSE_SECONDS = 1.0
"""How long a worker without free descriptors leaves accepting to others."""

LEAD_CLIENTS = 8
"""How many clients more than another a worker may have before it lets that one go first."""

YIELD_SECONDS = 0.002
"""How long it lets others go first. In a burst the semaphore alone is uneven (35 to 165 of 200):
who is quick is back at it before the other was there. Short: the other may be unable to accept.
"""

RECEIVE_BYTES = 208 * 1024
"""Receive buffer of a client (net.core.rmem_max is 208 KiB, too, where nobody has changed it). The
line that has no end yet stays in it, and holds on to the whole segment that it came in: 64 KiB on
loopback, half of the buffer that is the default. With the other half too small for a segment the
window would be closed, and the line's end never come.
"""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts for worker `p_id` until closed or retired; `run` is the body of its thread."""

    def __init__(
        self,
        inheritance: Inheritance,
        loops: Sequence[Loop],
        rng: random.Random,
        wake_worker: Callable[[], None],
    ) -> None:
        """`wake_worker` is called, in the acceptor's thread, when `is_retiring` turns true."""
        self._loops = loops
        self._wake_worker = wake_worker
        self._semaphore = inheritance.accept_semaphore
        self._table = inheritance.table
        self._p_id = inheritance.p_id
        self._row = inheritance.table.row(inheritance.p_id)
        self._registry = inheritance.registry
        self._keeper = inheritance.keeper
        self._bans = Bans(resolve_state_dir(inheritance.config))
        self._retire_after = _draw_limit(inheritance, rng)
        self._log = log.get_logger(p_id=self._p_id, generation=inheritance.generation)
        self._listeners = {listener.fileno(): listener for listener in inheritance.listeners}
        for listener in inheritance.listeners:
            _tune(listener, inheritance.config.tcp)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = select.poll()
        for fd in (*self._listeners, self._wake):
            self._poller.register(fd, select.POLLIN)
        self._accepted = 0
        self._is_busy = False
        self._is_closed = False
        self._is_paused = False

    def close(self) -> None:
        """Accept no more (any thread); the thread ends at its next step."""
        self._is_closed = True
        os.eventfd_write(self._wake, 1)

    @property
    def is_done(self) -> bool:
        """True once it was closed and every client that it accepted is with a loop (any thread)."""
        return self._is_closed and not self._is_busy

    @property
    def is_retiring(self) -> bool:
        """True once the worker has accepted all that it was to accept."""
        return self._row[table.STATE] == WorkerState.RETIRING

    def run(self) -> None:
        """Accept, turn by turn, until closed or retired.

        Raises SemaphoreGone if somebody removed the accept semaphore under a daemon that lives: a
        worker that fails is seen, one that accepts nobody any more is not.
        """
        while not (self._is_closed or self.is_retiring):
            clients = self._take_turn()
            for client in clients:
                self._give(client)
            self._is_busy = False
            if self._is_paused:
                self._wait(PAUSE_SECONDS)
            elif clients and self._is_ahead():
                self._wait(YIELD_SECONDS)

    def _take_turn(self) -> list[socket.socket]:
        try:
            with self._semaphore:
                clients = self._accept_ready()
                self._row[table.ACCEPTED] = self._accepted
                self._retire_if_due()
                return clients
        except SemaphoreGone:
            if self._is_closed:
                return []
            raise

    def _accept_ready(self) -> list[socket.socket]:
        """Wait for clients; accept one from every listener that has some: none starves another."""
        self._is_busy = True  # before the next line, for `is_done`
        if self._is_closed:
            return []
        clients = []
        for fd, _ in self._poller.poll(POLL_SECONDS * 1000):
            if fd == self._wake:
                continue
            client = self._accept_from(self._listeners[fd])
            if client is not None:
                clients.append(client)
        self._accepted += len(clients)
        return clients

    def _accept_from(self, listener: socket.socket) -> socket.socket | None:
        try:
            client, _ = listener.accept()
        except OSError as error:
            # What is left, EAGAIN and ECONNABORTED among it, is a client that did not wait.
            if error.errno in _EXHAUSTED:
                self._pause(error)
            return None
        if self._is_paused:
            self._is_paused = False
            self._log.info(log.ACCEPT_RESUMED)
        return client

    def _pause(self, error: OSError) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._log.warning(log.ACCEPT_PAUSED, reason=error.strerror, clients=self._load())

    def _wait(self, seconds: float) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.poll(seconds * 1000)

    def _give(self, client: socket.socket) -> None:
        """Make a session of a client: a slot, a keeper of its socket, a loop; in this order.

        Killed before the keeper has the socket, the client sees the connection end, ungreeted. From
        then on the session lives, whoever serves it.
        """
        if self._bans.has_addresses:
            ban = self._bans.of_address(host_of(client), time.time())
            if ban is not None:
                _turn_away(client, outcomes.not_welcome(ban.terms))
                return
        loop = min(self._loops, key=lambda loop: loop.load)
        t_id = self._loops.index(loop)
        try:
            slot, generation = self._registry.claim(self._p_id, t_id)
        except RegistryFull:
            _turn_away(client, outcomes.full())
            return
        client.setblocking(False)
        flags = progress.LOCAL if client.family == socket.AF_UNIX else 0
        self._registry.progress[slot] = flags
        self._registry.positions[slot] = 0
        keeping.keep(self._keeper, slot, generation, client.fileno())
        shape = (client.family, client.type, client.proto)
        accepted = socket.SocketType(*shape, client.detach())
        connection = Connection(accepted, slot, generation, flags)
        connection.written = connection.consumed = connection.dealt = 0
        loop.welcome(connection)

    def _load(self) -> int:
        return sum(loop.load for loop in self._loops)

    def _is_ahead(self) -> bool:
        """Say whether another worker that accepts has considerably fewer clients."""
        others = (p_id for p_id in range(self._table.workers) if p_id != self._p_id)
        ready = (p for p in others if self._table.row(p)[table.STATE] == WorkerState.READY)
        least = min(map(self._table.clients, ready), default=self._load())
        return self._load() > least + LEAD_CLIENTS

    def _retire_if_due(self) -> None:
        """Retire after `connections_per_process`: the successor takes the clients over."""
        if self._retire_after and self._accepted >= self._retire_after and not self._is_closed:
            self._row[table.STATE] = WorkerState.RETIRING
            self._wake_worker()
            self._log.info(log.WORKER_RETIRING, accepted=self._accepted)


def _draw_limit(inheritance: Inheritance, rng: random.Random) -> int:
    """Draw after how many clients this worker retires (0: never); all at once would be a gap."""
    server = inheritance.config.server
    if not server.connections_per_process:
        return 0
    spread = rng.uniform(-server.connections_jitter, server.connections_jitter)
    return max(1, round(server.connections_per_process * (1 + spread)))


def _tune(listener: socket.socket, tcp: TcpConfig) -> None:
    """Set what accepted sockets inherit (Linux): no Nagle delay, keepalive for half-open peers."""
    if listener.family == socket.AF_UNIX:
        return
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, tcp.keepalive_idle_seconds)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, tcp.keepalive_interval_seconds)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, tcp.keepalive_probes)


def _turn_away(client: socket.socket, line: bytes) -> None:
    """Tell a client why there is no place for it, and close."""
    client.setblocking(False)
    with contextlib.suppress(OSError):
        client.send(line + b"\n")
    hang_up(client)
