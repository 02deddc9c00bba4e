"""The clients of one loop: who they are, whether they are read, and when they are closed.

Decides which epoll events a client socket is registered for, and keeps the four ways to find a
connection in step: by file descriptor (events), by slot (receipts), and by name, apart for those
whose sockets take bytes (delivery, the fast way) and those that read too slowly. A name that a
client leaves is freed in the registry at the end of the turn only: until the turn's receipts are
settled nobody else can have it. Owner: one loop; only its thread comes here, while it holds the
turn.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING

from prefork_chat.worker.connection import Backlog, Connection, Pause

if TYPE_CHECKING:
    from prefork_chat.registry.registry import Location, Registry

DISCARD_BYTES = 64 * 1024
"""How much unread input is thrown away before a close: with some left the kernel sends RST instead
of FIN, and RST can take our last words away from the client."""


class Clients:
    """All connections of a loop.

    Every joined connection is in `present` or, while it has a backlog, in `behind`, by key (folded
    name). `touched` are the connections with lines in `out`, each once; the loop empties it when it
    flushes.
    """

    __slots__ = (
        "_epoll",
        "_registry",
        "_vacated",
        "behind",
        "by_fd",
        "by_slot",
        "present",
        "touched",
    )

    def __init__(self, epoll: select.epoll, registry: Registry) -> None:
        self._epoll = epoll
        self._registry = registry
        self._vacated: list[tuple[Connection, int]] = []
        self.by_fd: dict[int, Connection] = {}
        self.by_slot: dict[int, Connection] = {}
        self.present: dict[bytes, Connection] = {}
        self.behind: dict[bytes, Connection] = {}
        self.touched: list[Connection] = []

    def add(self, fd: int) -> Connection:
        """Take a non-blocking client socket over and begin to read it."""
        connection = Connection(fd)
        self.by_fd[fd] = connection
        self._epoll.register(fd, select.EPOLLIN)
        return connection

    def enter(self, connection: Connection, location: Location) -> None:
        """Make a connection whose session has claimed its name reachable by it."""
        connection.slot = location.slot
        connection.generation = location.generation
        self.by_slot[location.slot] = connection
        by_key = self.present if connection.backlog is None else self.behind
        by_key[connection.session.key] = connection

    def find(self, key: bytes) -> Connection | None:
        """Return the joined connection of that folded name, None if it is not at this loop."""
        return self.present.get(key) or self.behind.get(key)

    def withdraw(self, connection: Connection) -> None:
        """Make a joined connection unreachable by name and slot; its socket stays."""
        if connection.slot < 0:
            return
        del self.by_slot[connection.slot]
        by_key = self.present if connection.backlog is None else self.behind
        del by_key[connection.session.key]
        self._vacated.append((connection, connection.slot))
        connection.slot = -1
        connection.origin = None

    def free_names(self) -> None:
        """Free the names of those who left in this turn (takes the registry's write semaphore)."""
        for connection, slot in self._vacated:
            self._registry.delete(slot, connection.generation)
            connection.session.key = b""
        self._vacated.clear()

    def say(self, connection: Connection, *lines: bytes) -> None:
        """Add whole lines to what the client gets at the end of this turn."""
        if not connection.out:
            self.touched.append(connection)
        connection.out.extend(lines)

    def stall(self, connection: Connection, data: bytes, taken: int) -> Backlog:
        """Keep what the kernel did not take of `data` and wait until the socket takes more."""
        if connection.backlog is None:
            connection.backlog = Backlog()
            if connection.slot >= 0:
                key = connection.session.key
                self.behind[key] = self.present.pop(key)
        connection.backlog.append(data, taken)
        self._watch(connection)
        return connection.backlog

    def catch_up(self, connection: Connection) -> None:
        """Note that the kernel has taken the last byte of the backlog."""
        connection.backlog = None
        if connection.slot >= 0:
            key = connection.session.key
            self.present[key] = self.behind.pop(key)
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

    def _watch(self, connection: Connection) -> None:
        if connection.fd < 0:
            return
        events = 0 if connection.pauses else select.EPOLLIN
        if connection.backlog is not None:
            events |= select.EPOLLOUT
        self._epoll.modify(connection.fd, events)

    def close(self, connection: Connection) -> None:
        """Close the socket so that the client sees the end, after all that was written to it."""
        fd, connection.fd = connection.fd, -1
        self.withdraw(connection)
        del self.by_fd[fd]
        self._epoll.unregister(fd)
        hang_up(fd)


def hang_up(fd: int) -> None:
    """Close client socket `fd` with a FIN, its unread input discarded; never blocks, never fails.

    shutdown() first: while any process holds a duplicate of the socket, close() alone would not
    end the connection.
    """
    with socket.socket(fileno=fd) as ending, contextlib.suppress(OSError):
        ending.shutdown(socket.SHUT_WR)
        os.read(fd, DISCARD_BYTES)
        ending.shutdown(socket.SHUT_RDWR)
