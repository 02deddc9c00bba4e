"""What the operator's consoles are told of this loop: who comes and goes, what is said.

The loop notes events while somebody watches, and `publish` sends them behind the turn that made
them, when it has been carried out. Consoles look on and are not waited for: what finds no room in a
console's pair is counted, for that console to say. Answers to directives have half of the pair to
themselves, so no flood of messages keeps them away. A worker that is killed may leave a console
without the events of its last turn; its successor tells which directives were taken.

Owner: one loop, in its turn.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from typing import TYPE_CHECKING, Final

from prefork_chat.inheritance import sender_of_console
from prefork_chat.protocol import events
from prefork_chat.protocol.envelope import SECTION_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_chat.inheritance import Inheritance
    from prefork_chat.protocol.envelope import Origin
    from prefork_chat.worker.connection import Connection

_INT: Final = struct.Struct("i")


class Events:
    """The events of loop (p_id, t_id) since the last turn.

    `is_watched` is set by the loop, once a turn: somebody wants events.
    """

    __slots__ = (
        "_answers",
        "_consoles",
        "_first_sender",
        "_loop",
        "_noted",
        "_pairs",
        "_shows_text",
        "is_watched",
    )

    def __init__(self, inheritance: Inheritance, t_id: int) -> None:
        self._consoles = inheritance.registry.consoles
        self._pairs = inheritance.pairs.consoles
        self._loop = inheritance.p_id * inheritance.table.threads + t_id
        shape = (inheritance.table.workers, inheritance.table.threads)
        self._first_sender = sender_of_console(*shape, 0)
        self._shows_text = inheritance.config.operator.see_messages
        self._noted: list[bytes] = []
        self._answers: dict[tuple[int, int], list[bytes]] = {}
        self.is_watched = 0

    @property
    def are_due(self) -> bool:
        """True when there is something to publish."""
        return bool(self._noted or self._answers)

    def joined(self, connection: Connection) -> None:
        """Note that a client has its name."""
        if self.is_watched:
            address = address_of(connection.socket)
            self._noted.append(events.joined(connection.session.name, address.encode()))

    def left(self, name: bytes) -> None:
        """Note that a name is free again."""
        if self.is_watched:
            self._noted.append(events.left(name))

    def said(self, origin: Origin, lines: Sequence[bytes]) -> None:
        """Note messages of one origin that are delivered here; to be called if watched."""
        if not self._shows_text:
            lines = list(map(events.without_text, lines))
        if lines:
            self._noted.append(events.said(origin.name, lines))

    def answer(self, place: int, visit: int, number: int, count: int) -> None:
        """Note that a directive has been carried out, about so many sessions."""
        answers = self._answers.setdefault((place, visit), [])
        answers.append(events.answered(number, count))

    def announce(self, taken: Sequence[int]) -> None:
        """Tell all consoles which of their directives this loop's predecessor has taken.

        `taken` are the numbers of the last datagrams, by sender.
        """
        for place, visit in enumerate(self._consoles.visits()):
            number = taken[self._first_sender + place]
            if visit and number:
                self._answers[place, visit] = [events.taken(number)]
        self.publish()

    def publish(self) -> None:
        """Send what was noted, as far as there is room."""
        for place, visit in self._answers:
            self._send(place, events.pack(visit, self._loop, self._answers[place, visit]))
        self._answers.clear()
        if not self._noted:
            return
        for batch in _batches(self._noted):
            for place in self._consoles.watching():
                visit = self._consoles.visit(place)
                if self._is_half_full(place) or not self._send(
                    place, events.pack(visit, self._loop, batch)
                ):
                    lines = sum(map(events.count_lines, batch))
                    self._consoles.lose(self._loop, place, lines)
        self._noted.clear()

    def _is_half_full(self, place: int) -> bool:
        inlet = self._pairs[place].inlet
        queued: int = _INT.unpack(fcntl.ioctl(inlet, termios.TIOCOUTQ, bytes(_INT.size)))[0]
        return queued > inlet.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2

    def _send(self, place: int, datagram: bytes) -> bool:
        """Send to a console, or not: it is not waited for."""
        try:
            os.write(self._pairs[place].inlet.fileno(), datagram)
        except BlockingIOError:
            return False
        return True


def address_of(client: socket.SocketType) -> str:
    """Return where a client is, empty for a Unix socket or one that has gone."""
    try:
        peer = client.getpeername()
    except OSError:
        return ""
    if not isinstance(peer, tuple):
        return ""
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(client: socket.SocketType) -> str:
    """Return a client's address without its port, empty for a Unix socket."""
    return address_of(client).rpartition(":")[0].strip("[]")


def _batches(noted: list[bytes]) -> Iterator[list[bytes]]:
    """Return the events, in order, as many to a batch as a datagram may hold."""
    batch: list[bytes] = []
    size = 0
    for event in noted:
        if batch and size + len(event) > SECTION_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += len(event)
    yield batch
