"""The acceptor of a worker: takes its turn at accept and gives clients to the worker's loops.

One thread in each worker, blocked in the accept semaphore most of the time; the kernel serves
waiters first come, first served, so workers take turns, and it gives the semaphore back when a
holder is killed. It is held for poll and accept only. Who waits in the same queue is accepted, gets
a slot, is kept and is handed over together: a system call, a hold of the registry, a datagram and a
wake of a loop is for all of them. A worker that is to be replaced, or has no descriptors left, does
not contend. Reads `load` of the loops; hands sockets over by `Loop.welcome`. Turns away who comes
from a banned address. Also decides when a worker has served its `connections_per_process`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork_chat import keeping, log
from prefork_chat.bans import Bans
from prefork_chat.chat import outcomes
from prefork_chat.config import resolve_state_dir
from prefork_chat.keeping import Keep
from prefork_chat.registry import table
from prefork_chat.registry.ipc import SemaphoreGone
from prefork_chat.registry.table import WorkerState
from prefork_chat.worker import progress
from prefork_chat.worker.clients import hang_up
from prefork_chat.worker.connection import Connection

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from prefork_chat.config import ServerConfig, TcpConfig
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.loop import Loop

POLL_SECONDS = 1.0
"""The longest that the semaphore is held while nobody connects."""

PAUSE_SECONDS = 1.0
"""How long a worker without free descriptors leaves accepting to others."""

MOST_AT_ONCE: Final = 16
"""Clients taken from a listener before another worker has its turn."""

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


class Newcomer(NamedTuple):
    """An accepted client. `host`: its address, empty for a Unix socket."""

    socket: socket.SocketType
    is_local: bool
    host: str


class Acceptor:
    """Accepts for worker `p_id` until closed or retired; `run` is the body of its thread."""

    def __init__(
        self,
        inheritance: Inheritance,
        loops: Sequence[Loop],
        rng: random.Random,
        wake_worker: Callable[[], None],
    ) -> None:
        """`wake_worker` is called, in our thread, when `is_retiring` or `is_done` turns true."""
        self._loops = loops
        self._wake_worker = wake_worker
        self._semaphore = inheritance.accept_semaphore
        self._table = inheritance.table
        self._p_id = inheritance.p_id
        self._row = inheritance.table.row(inheritance.p_id)
        self._registry = inheritance.registry
        self._keeper = inheritance.keeper
        self._bans = Bans(resolve_state_dir(inheritance.config))
        self._filled = clients_that_fill(inheritance.config.server)
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
            newcomers = self._take_turn()
            if newcomers:
                self._admit(newcomers)
            self._is_busy = False
            if self._is_paused:
                self._wait(PAUSE_SECONDS)
            elif newcomers and self._is_ahead():
                self._wait(YIELD_SECONDS)
        self._wake_worker()

    def _take_turn(self) -> list[Newcomer]:
        try:
            with self._semaphore:
                newcomers = self._accept_ready()
                self._row[table.ACCEPTED] = self._accepted
                self._retire_if_due()
                return newcomers
        except SemaphoreGone:
            if self._is_closed:
                return []
            raise

    def _accept_ready(self) -> list[Newcomer]:
        """Wait for clients; accept some from every listener that has any: none starves another."""
        self._is_busy = True  # before the next line, for `is_done`
        if self._is_closed:
            return []
        newcomers: list[Newcomer] = []
        for fd, _ in self._poller.poll(POLL_SECONDS * 1000):
            if fd != self._wake:
                self._accept_from(self._listeners[fd], newcomers)
        return newcomers

    def _accept_from(self, listener: socket.socket, newcomers: list[Newcomer]) -> None:
        """Accept who waits there, no more than are to be accepted at once or at all."""
        most = MOST_AT_ONCE
        if self._retire_after:
            most = min(most, self._retire_after - self._accepted)
        before = self._accepted
        is_local = listener.family == socket.AF_UNIX
        shape = (int(listener.family), int(listener.type), listener.proto)
        try:
            for _ in range(most):
                # What `accept` is made of: that makes a socket.socket, which we have no use for.
                fd, address = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
                client = socket.SocketType(*shape, fd)
                client.setblocking(False)
                newcomers.append(Newcomer(client, is_local, "" if is_local else address[0]))
                self._accepted += 1
        except OSError as error:
            # What is left, EAGAIN and ECONNABORTED among it, is a client that did not wait.
            if error.errno in _EXHAUSTED:
                self._pause(error)
                return
        if self._is_paused and self._accepted > before:
            self._is_paused = False
            self._log.info(log.ACCEPT_RESUMED)

    def _pause(self, error: OSError) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._log.warning(log.ACCEPT_PAUSED, reason=error.strerror, clients=self._load())

    def _wait(self, seconds: float) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.poll(seconds * 1000)

    def _admit(self, newcomers: list[Newcomer]) -> None:
        """Make sessions of clients: slots, a keeper of their sockets, loops; in this order.

        Killed before the keeper has the sockets, the clients see the connection end, ungreeted.
        From then on the sessions live, whoever serves them.
        """
        if self._bans.has_addresses:
            newcomers = self._turn_banned_away(newcomers)
        loads = [loop.load for loop in self._loops]
        t_ids = choose_loops(loads, len(newcomers), self._filled)
        claimed = self._registry.claim_all(self._p_id, t_ids)
        kept: list[Keep] = []
        welcome: list[list[Connection]] = [[] for _ in self._loops]
        for newcomer, t_id, session in zip_longest(newcomers, t_ids, claimed):
            client = newcomer.socket
            if session is None:
                _turn_away(client, outcomes.full())
                continue
            slot, generation = session
            flags = progress.LOCAL if newcomer.is_local else 0
            self._registry.progress[slot] = flags
            self._registry.positions[slot] = 0
            kept.append(Keep(slot, generation, client.fileno()))
            connection = Connection(client, slot, generation, flags)
            connection.written = connection.consumed = connection.dealt = 0
            welcome[t_id].append(connection)
        if kept:
            keeping.keep(self._keeper, *kept)
        for loop, connections in zip(self._loops, welcome, strict=True):
            if connections:
                loop.welcome(connections)

    def _turn_banned_away(self, newcomers: list[Newcomer]) -> list[Newcomer]:
        """Return those who do not come from a banned address."""
        welcome = []
        now = time.time()
        for newcomer in newcomers:
            ban = self._bans.of_address(newcomer.host, now)
            if ban is None:
                welcome.append(newcomer)
            else:
                _turn_away(newcomer.socket, outcomes.not_welcome(ban.terms))
        return welcome

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


def _turn_away(client: socket.SocketType, line: bytes) -> None:
    """Tell a client why there is no place for it, and close."""
    with contextlib.suppress(OSError):
        client.send(line + b"\n")
    hang_up(client)


def clients_that_fill(server: ServerConfig) -> int:
    """Return how many clients fill a loop; 0 if loops need not take turns, and so share alike."""
    return server.loop_clients if server.turn_lock else 0


def choose_loops(loads: list[int], count: int, filled: int) -> list[int]:
    """Choose a loop, by t_id, for each of so many clients; `loads` are those that the loops have.

    The first loop with less than `filled` clients, else the one with the fewest. What clients of
    one loop say to each other need not be sent to another; spread over loops that have to take
    turns anyway, they would only make those turns shorter.
    """
    loads = loads.copy()
    t_ids = []
    for _ in range(count):
        least = min(loads)
        wanted = (t_id for t_id, load in enumerate(loads) if load < filled or load == least)
        t_id = next(wanted)
        loads[t_id] += 1
        t_ids.append(t_id)
    return t_ids
