"""A console's connection to the daemon: its place, its events, and the way to every loop.

`Link.open` comes to a running daemon: it has descriptors handed over and takes a place, which is
its own for as long as its connection at the admin socket lasts. That ends with the supervisor, and
when the supervisor becomes another program; then there has to be another link. Workers come and go
meanwhile.

Directives are datagrams in the parent-level pairs of the workers: what is written there is carried
out, by whoever is that worker then. Their numbers come from the clock that all processes of a
machine share, so they grow from console to console. Owner: the console's only thread.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from prefork_chat import bulletin, control
from prefork_chat.attachment import CONSOLES, PAIRS, attach
from prefork_chat.control import Client, Clients, Done, Failed, Post, Seated, Visit, connect
from prefork_chat.errors import OperationError
from prefork_chat.inheritance import sender_of_console
from prefork_chat.protocol import directives, events
from prefork_chat.protocol.envelope import pack_datagram
from prefork_chat.protocol.events import Answered, Taken

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_chat.attachment import Attachment
    from prefork_chat.protocol.directives import Directive
    from prefork_chat.protocol.events import Event

_EVENT_BYTES: Final = 128 * 1024
"""More than the largest datagram: a full one and the largest event behind it."""

_MOST_DATAGRAMS: Final = 32  # heard in one go
_PATIENCE_MS: Final = 1000  # for room in the pair of a worker that is behind


class Link:
    """A visit at a daemon.

    `daemon` says whose it is, `seat` which place it is; `directory` is the daemon's.
    """

    def __init__(
        self, directory: Path, attached: Attachment, visit: socket.socket, seat: Seated
    ) -> None:
        """Take over what has been handed over, and the connection that is the visit."""
        self.directory: Final = directory
        self.daemon: Final = attached.daemon
        self.seat: Final = seat
        self._attached: Final = attached
        self._visit: Final = visit
        self._registry: Final = attached.registry
        self._outlet: Final = attached.descriptors[f"console.{seat.place}"]
        self._lost_before: Final = self._registry.consoles.lost(seat.place)
        self._number = 0

    @classmethod
    def open(cls, directory: Path, *, wants_events: bool) -> Link:
        """Come to the daemon in that directory; raises NotRunning or OperationError."""
        with ExitStack() as undo:
            attached = undo.enter_context(attach(directory, PAIRS, CONSOLES))
            visit = undo.enter_context(connect(directory))
            seat = next(_ask(visit, Visit(wants_events=wants_events)), None)
            if not isinstance(seat, Seated):
                raise OperationError(f"not understood: {seat}")
            undo.pop_all()
        return cls(directory, attached, visit, seat)

    def close(self) -> None:
        """Leave: the place is free again."""
        self._visit.close()
        self._attached.close()

    @property
    def visit_fd(self) -> int:
        """Readable when the visit is over."""
        return self._visit.fileno()

    @property
    def events_fd(self) -> int:
        """Readable when there is something to hear."""
        return self._outlet

    # Looking on

    def hear(self) -> tuple[list[tuple[int, Event]], bool]:
        """Return what has come, with the index of its loop; and whether that was all."""
        heard: list[tuple[int, Event]] = []
        for _ in range(_MOST_DATAGRAMS):
            try:
                datagram = os.read(self._outlet, _EVENT_BYTES)
            except BlockingIOError:
                return heard, True
            visit, loop, found = events.parse(datagram)
            if visit == self.seat.visit:
                heard += [(loop, event) for event in found]
            else:  # answers to the link before this one, at the same place
                heard += [(loop, e) for e in found if isinstance(e, Answered | Taken)]
        return heard, False

    @property
    def lost(self) -> int:
        """How many lines have found no room since this link is open."""
        return self._registry.consoles.lost(self.seat.place) - self._lost_before

    def names(self) -> list[str]:
        """Return who is here."""
        return [name.decode() for name in self._registry.names()]

    def rooms(self) -> list[tuple[str, int]]:
        """Return the rooms that have members, and how many."""
        found = self._registry.rooms.all()
        return [(room.name.decode(), sum(counts)) for room, counts in found]

    def clients(self) -> list[Client]:
        """Ask the supervisor for all clients; raises NotRunning or OperationError."""
        with connect(self.directory) as connection:
            answers = _ask(connection, Clients())
            return [answer for answer in answers if isinstance(answer, Client)]

    # Speaking

    def post(self, text: str) -> None:
        """Have the daemon's board show what has been said to everybody.

        Raises NotRunning or OperationError.
        """
        with connect(self.directory) as connection:
            list(_ask(connection, Post("broadcast", bulletin.fit("broadcast", text))))

    def send(self, directive: Directive) -> tuple[int, set[int]]:
        """Send a directive to every loop; return its number, and the indexes of the loops."""
        self._number = max(self._number + 1, time.monotonic_ns())
        section = directives.pack(self.seat.place, self.seat.visit, self._number, directive)
        shape = (self._registry.workers, self._registry.threads)
        sender = sender_of_console(*shape, self.seat.place)
        loops = set()
        for p_id in self._serving():
            inlet = self._attached.descriptors[f"process.{p_id}"]
            for t_id in range(self._registry.threads):
                _write(inlet, pack_datagram(t_id, sender, self._number, [section]))
                loops.add(p_id * self._registry.threads + t_id)
        return self._number, loops

    def _serving(self) -> list[int]:
        """Return the workers that there are, and those whose successor has sessions to adopt.

        What is sent to others would have the supervisor fork one to deal with it.
        """
        incarnations = self._registry.table.incarnations.tolist()
        serving = {p_id for p_id, incarnation in enumerate(incarnations) if incarnation > 0}
        if any(incarnation < 0 for incarnation in incarnations):
            serving |= {held.p_id for held in self._registry.sessions()}
        return sorted(serving)


def _write(inlet: int, datagram: bytes) -> None:
    """Write a datagram; a worker that has no room for so long is one that does not answer."""
    try:
        os.write(inlet, datagram)
    except BlockingIOError:
        poll = select.poll()
        poll.register(inlet, select.POLLOUT)
        poll.poll(_PATIENCE_MS)
        try:
            os.write(inlet, datagram)
        except BlockingIOError:
            pass


def _ask(connection: socket.socket, request: control.Request) -> Iterator[control.Answer]:
    """Ask, and return the answers up to the `Done`; raises OperationError."""
    try:
        connection.sendall(control.encode(request))
        with connection.makefile("rb") as lines:
            for line in lines:
                match control.decode_answer(line):
                    case Done():
                        return
                    case Failed(text):
                        raise OperationError(text)
                    case answer:
                        yield answer
    except OSError as error:
        raise OperationError(f"the daemon has hung up: {error.strerror}") from error
    raise OperationError("the daemon has hung up")
