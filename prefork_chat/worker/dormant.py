"""Adopted clients that nobody has needed yet: a socket that is polled and a slot, no connection.

Most clients of a dead worker have nothing to say at the moment when its successor comes, and those
who have should not wait until the successor has made objects of all the others. So `Adoption` lets
those of whom nothing is to be done be dormant, and `Clients` wakes each when it speaks, is spoken
to, or is looked for. A successor finds them as this one did: what is known of them is in their
slots. Owner: one loop, in its turn.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from prefork_chat.worker import progress
from prefork_chat.worker.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork_chat.inheritance import Inheritance
    from prefork_chat.registry.slots import Held

NOBODY: Final = -1
"""No descriptor."""

_DEALT_WITH: Final = progress.GREETED | progress.JOINED
_TO_BE_SEEN_TO: Final = _DEALT_WITH | progress.LEAVING | progress.TORN | progress.IN_ROOMS


def may_sleep(held: Held, word: int) -> bool:
    """Say whether nothing is to be done of a session: it has joined, and is in no room.

    Who is to be greeted, to join in time, to be told of a loss, to be closed, or to be counted
    among the members of a room, cannot wait until he is needed.
    """
    return word & _TO_BE_SEEN_TO == _DEALT_WITH and held.name != b""


def connect(slot: int, generation: int, word: int, fd: int) -> Connection:
    """Make a connection of a slot's word and a socket."""
    family = socket.AF_UNIX if word & progress.LOCAL else socket.AF_INET
    client = socket.SocketType(family, socket.SOCK_STREAM, 0, fd)
    return Connection(client, slot, generation, word)


class Dormant:
    """The dormant clients of a loop, by the descriptors of their sockets."""

    __slots__ = ("_by_fd", "_kept", "_registry")

    def __init__(self, inheritance: Inheritance) -> None:
        self._registry = inheritance.registry
        self._kept = inheritance.kept
        self._by_fd: dict[int, Held] = {}

    def __len__(self) -> int:
        return len(self._by_fd)

    def add(self, sessions: Mapping[int, Held]) -> None:
        """Let the sessions of these sockets, which are kept, be dormant."""
        self._by_fd.update(sessions)

    def wake(self, fd: int) -> Connection | None:
        """Make the connection of a dormant client; None if nobody with that socket is dormant."""
        held = self._by_fd.pop(fd, None)
        if held is None:
            return None
        word = self._registry.progress[held.slot]
        connection = connect(held.slot, held.generation, word, fd)
        connection.session.name = held.name
        connection.session.key = held.name.lower()
        return connection

    def fds(self) -> list[int]:
        """Return the sockets of all who are dormant."""
        return list(self._by_fd)

    def fd_of_slot(self, slot: int) -> int:
        """Return the socket of whoever is dormant in a slot, NOBODY if nobody is."""
        # A number in use by a dormant client has not been closed: it is still that of `kept`.
        fd = self._kept.get(slot, (0, NOBODY))[1] if self._by_fd else NOBODY
        return fd if fd in self._by_fd else NOBODY

    def fd_of_name(self, key: bytes) -> int:
        """Return the socket of the dormant client of that folded name, NOBODY if there is none."""
        location = self._registry.check(key) if self._by_fd else None
        return NOBODY if location is None else self.fd_of_slot(location.slot)
