"""The clients of one loop: who they are, whether they are read, and when they are closed.

Decides which epoll events a client socket is registered for, and keeps the four ways to find a
connection in step: by file descriptor (events), by slot (receipts), and by name, apart for those
whose sockets take bytes (delivery, the fast way) and those that read too slowly. What a client
leaves behind, its name, its backlog's file, its slot, is given back only after the turn that
decided it has been recorded. Owner: one loop, in its turn.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import TYPE_CHECKING, Final

from prefork_chat import keeping, log
from prefork_chat.keeping import LetGo
from prefork_chat.worker import progress
from prefork_chat.worker.backlog import Backlog
from prefork_chat.worker.dormant import Dormant
from prefork_chat.worker.members import Members
from prefork_chat.worker.spill import Spill

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from prefork_chat.inheritance import Inheritance
    from prefork_chat.registry.slots import Held
    from prefork_chat.worker.connection import Connection, Pause
    from prefork_chat.worker.events import Events

READABLE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
"""Edge-triggered: a line without an end stays in the kernel, and must not wake us for ever."""

DISCARD_BYTES = 64 * 1024
"""How much unread input is thrown away before a close: with some left the kernel sends RST instead
of FIN, and RST can take our last words away from the client."""


class Clients:
    """All connections of a loop.

    Of adopted clients whom nobody has needed yet there is none: they are *dormant*, and wake when
    they are asked for by `wake`, `find`, `of_slot`, `of_session` or `everybody`. The others are in
    `by_fd` and `by_slot` and, once joined, in `present` or, while there is a backlog, in `behind`,
    by key (folded name). `touched` are the connections with lines in `out`, each once. `unread` are
    those with more to read than was read, with their last event. `members` are those in rooms.
    `lost` are given up; they are closed when what their loss caused has been recorded. `released`
    are on their way to other workers, by slot: nobody serves them until they are taken over.
    `answered` are (connection, spill, position, is_over) of slow readers: all up to that position
    is answered for, and maybe the spill is over.
    """

    __slots__ = (
        "_dormant",
        "_epoll",
        "_is_exact",
        "_keeper",
        "_over",
        "_registry",
        "_withdrawn",
        "answered",
        "behind",
        "by_fd",
        "by_slot",
        "events",
        "lost",
        "members",
        "present",
        "released",
        "spills",
        "touched",
        "unread",
    )

    def __init__(
        self, epoll: select.epoll, inheritance: Inheritance, t_id: int, events: Events
    ) -> None:
        self._epoll = epoll
        self.events = events
        self._registry = inheritance.registry
        self._keeper = inheritance.keeper
        self._is_exact = inheritance.config.server.durability == "exact"
        self.spills = inheritance.spills
        self._dormant = Dormant(inheritance)
        self._withdrawn: list[Connection] = []
        self._over: list[LetGo] = []
        self.by_fd: dict[int, Connection] = {}
        self.by_slot: dict[int, Connection] = {}
        self.present: dict[bytes, Connection] = {}
        self.behind: dict[bytes, Connection] = {}
        self.touched: list[Connection] = []
        self.unread: dict[int, int] = {}
        self.lost: list[Connection] = []
        loop = inheritance.p_id * inheritance.table.threads + t_id
        self.members = Members(inheritance.registry, loop, inheritance.spills)
        self.released: dict[int, Connection] = {}
        self.answered: list[tuple[Connection, Spill, int, bool]] = []

    def add(self, connection: Connection) -> None:
        """Begin to read a client, new or adopted."""
        self.by_fd[connection.fd] = connection
        self.by_slot[connection.slot] = connection
        self._epoll.register(connection.fd, READABLE)

    def add_dormant(self, sessions: Mapping[int, Held]) -> None:
        """Begin to read adopted clients, by their sockets; they wake when they are needed."""
        register = self._epoll.register
        for fd in sessions:
            register(fd, READABLE)
        self._dormant.add(sessions)

    def wake(self, fd: int) -> Connection | None:
        """Return the connection of a dormant client, who is dormant no more; None if none is."""
        connection = self._dormant.wake(fd)
        if connection is not None:
            self.by_fd[fd] = connection
            self.by_slot[connection.slot] = connection
            self.enter(connection)
        return connection

    def everybody(self) -> Collection[Connection]:
        """Return the connections of all clients, now that nobody is dormant any more."""
        for fd in self._dormant.fds():
            self.wake(fd)
        return self.by_fd.values()

    @property
    def count(self) -> int:
        """Clients, awake or dormant (any thread)."""
        return len(self.by_fd) + len(self._dormant)

    def enter(self, connection: Connection) -> None:
        """Make a connection whose session has its name reachable by it."""
        connection.flags |= progress.JOINED
        by_key = self.present if connection.backlog is None else self.behind
        by_key[connection.session.key] = connection

    def find(self, key: bytes) -> Connection | None:
        """Return the joined connection of that folded name, None if it is not at this loop."""
        connection = self.present.get(key) or self.behind.get(key)
        return connection or self.wake(self._dormant.fd_of_name(key))

    def of_slot(self, slot: int) -> Connection | None:
        """Return the connection of whoever has a slot, None if he is not at this loop."""
        return self.by_slot.get(slot) or self.wake(self._dormant.fd_of_slot(slot))

    def of_session(self, slot: int, generation: int) -> Connection | None:
        """Return the connection of a session, None if it is not (or no longer) at this loop."""
        connection = self.of_slot(slot)
        return connection if connection and connection.generation == generation else None

    def withdraw(self, connection: Connection) -> None:
        """Make a connection unreachable by name; its name is free after `free_names`."""
        connection.origin = None
        key = connection.session.key
        for by_key in (self.present, self.behind):
            if by_key.get(key) is connection:
                del by_key[key]
                self._withdrawn.append(connection)
                self.members.drop(connection)

    def free_names(self) -> None:
        """Free the names of those who have left (takes the registry's write semaphore)."""
        if not self._withdrawn:
            return
        self._registry.withdraw_all(
            [(connection.slot, connection.generation) for connection in self._withdrawn]
        )
        for connection in self._withdrawn:
            self.events.left(connection.session.name)
        self._withdrawn.clear()

    def say(self, connection: Connection, *lines: bytes) -> None:
        """Add whole lines to what the client gets at the end of this turn."""
        if not connection.out:
            self.touched.append(connection)
        connection.out.extend(lines)

    def stall(self, connection: Connection, data: bytes, taken: int) -> Backlog:
        """Keep what the kernel did not take of `data`, the newest bytes for the client.

        Waits until the socket takes more.
        """
        backlog = connection.backlog
        if backlog is None:
            backlog = connection.backlog = Backlog(self._spill(connection, data, taken))
            self._change_index(connection, self.present, self.behind)
        backlog.append(data, taken, connection.written)
        self._watch(connection)
        return backlog

    def resume_backlog(self, connection: Connection, backlog: Backlog) -> None:
        """Give an adopted client the backlog that it had."""
        connection.backlog = backlog
        self._change_index(connection, self.present, self.behind)
        self._watch(connection)

    def catch_up(self, connection: Connection) -> None:
        """Note that the kernel has taken the last byte of the backlog."""
        connection.backlog = None
        self._change_index(connection, self.behind, self.present)
        self._watch(connection)

    def pause(self, connection: Connection, reason: Pause) -> None:
        """Stop reading the client, for `reason`."""
        was_read = not connection.pauses
        connection.pauses |= reason.value
        if was_read:
            self._watch(connection)

    def resume(self, connection: Connection, reason: Pause) -> None:
        """Take `reason` away; with the last one the client is read again."""
        connection.pauses &= ~reason.value
        if not connection.pauses:
            self._watch(connection)
            if connection.inquiry is not None:  # answered; the line may be in our memory only
                self.unread[connection.fd] = select.EPOLLIN

    def begin_turn(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Wake who is dormant and has an event; add those with more to read than was read."""
        if self._dormant:
            for fd, _ in events:  # in a row: each just before it is read takes twice as long
                self.wake(fd)
        if not self.unread:
            return events
        unread, self.unread = self.unread, {}
        for fd, _ in events:
            unread.pop(fd, None)
        return [*events, *unread.items()]

    def give_up(self, connection: Connection) -> None:
        """Have nothing more to do with a client but to close its socket."""
        self.withdraw(connection)
        self._epoll.unregister(connection.fd)
        del self.by_fd[connection.fd]
        del self.by_slot[connection.slot]
        self.unread.pop(connection.fd, None)
        connection.fd = -1
        self.lost.append(connection)

    def release(self, connection: Connection) -> None:
        """Serve a client no more: from now on another loop may take it over.

        Its socket stays open here until one has.
        """
        self._epoll.unregister(connection.fd)
        del self.by_fd[connection.fd]
        del self.by_slot[connection.slot]
        self.unread.pop(connection.fd, None)
        key = connection.session.key
        for by_key in (self.present, self.behind):
            if by_key.get(key) is connection:
                del by_key[key]
        connection.fd = -1
        self.members.release(connection)
        self.released[connection.slot] = connection
        self._registry.progress[connection.slot] = connection.word | progress.RELEASED

    def take_back(self, connection: Connection) -> None:
        """Serve a released client again, of which the registry says that it is ours."""
        del self.released[connection.slot]
        connection.fd = connection.socket.fileno()
        self.add(connection)
        if connection.session.name:
            self.enter(connection)
            self.members.take_back(connection)
        self._watch(connection)

    def forget(self, connection: Connection) -> None:
        """Let go of a released client that another loop has; its connection goes on there."""
        del self.released[connection.slot]
        self.members.forget(connection)
        connection.socket.close()
        if connection.backlog is not None and connection.backlog.spill is not None:
            connection.backlog.spill.close()

    def close_lost(self) -> None:
        """Close whom we gave up, free their slots, and have the keeper let them go."""
        if self.lost:
            for connection in self.lost:
                hang_up(connection.socket)
            over = [LetGo(connection.slot, connection.generation) for connection in self.lost]
            self._registry.free_all(over)
            self._over += over
            self.lost.clear()
            self.members.publish_counts()
        if not self._over:
            return
        with contextlib.suppress(BlockingIOError):  # the keeper is behind: next time
            while self._over:
                keeping.let_go(self._keeper, *self._over[: keeping.MOST_WORDS])
                del self._over[: keeping.MOST_WORDS]

    @property
    def is_settled(self) -> bool:
        """True when no client waits for anything to be written, freed or closed."""
        return not (self.touched or self.lost or self.answered or self._withdrawn or self._over)

    def spill_path(self, connection: Connection) -> Path:
        """Where the backlog of a client is kept for whoever adopts it."""
        return self.spills / f"{connection.slot}.{connection.generation}"

    def _spill(self, connection: Connection, data: bytes, taken: int) -> Spill | None:
        if not self._is_exact:
            return None
        try:
            first = connection.written - len(data) + taken
            return Spill.create(self.spill_path(connection), first)
        except OSError as error:
            log.get_logger().warning(log.BACKLOG_UNPROTECTED, reason=error.strerror)
            return None

    @staticmethod
    def _change_index(
        connection: Connection, old: dict[bytes, Connection], new: dict[bytes, Connection]
    ) -> None:
        """Move a connection from one index by name to the other, if it is in it."""
        key = connection.session.key
        if old.get(key) is connection:
            new[key] = old.pop(key)

    def _watch(self, connection: Connection) -> None:
        if connection.fd < 0:
            return
        events = select.EPOLLET if connection.pauses else READABLE
        if connection.backlog is not None:
            events |= select.EPOLLOUT
        self._epoll.modify(connection.fd, events)


def hang_up(client: socket.SocketType) -> None:
    """Close a client's socket with a FIN, its unread input discarded; never blocks, never fails.

    shutdown() first: while any process holds a duplicate of the socket, close() alone would not
    end the connection.
    """
    try:
        client.recv(DISCARD_BYTES)
    except OSError:
        pass  # nothing is unread, or the connection is gone
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is gone
    client.close()
