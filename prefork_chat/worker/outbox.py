"""What one loop has to say to another in this turn, and how it gets into that process's pair.

One `Outbox` a destination loop; owned by the sending loop, touched in its turn only. All sections
of a turn leave in one datagram (more only above SECTION_BYTES): `compose` numbers and packs what
the turn has so far, for its record, and `flush` sends it. A full pair is back-pressure, never loss:
datagrams stay here in order, and the sending loop stops reading the clients that write to a
congested outbox.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from prefork_chat.protocol.envelope import (
    SECTION_BYTES,
    Origin,
    pack_datagram,
    pack_messages,
    portions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_chat.worker.connection import Connection


class Outbox:
    """Sections for loop `t_id` of process `p_id`, by way of its pair's `inlet_fd`.

    `lines` collects the message lines of the connection that is being read; `seal` makes a section
    of them. `waiting` are the connections that are paused until this outbox has room again. An
    outbox that gets its first section puts itself into `filled`, the list of those to flush at the
    end of the turn. `unsent` are datagrams that found no room, which is so while `is_blocked`.
    """

    __slots__ = (
        "_composed",
        "_filled",
        "_sections",
        "inlet_fd",
        "is_blocked",
        "lines",
        "p_id",
        "pending_bytes",
        "t_id",
        "unsent",
        "waiting",
    )

    def __init__(self, p_id: int, t_id: int, inlet_fd: int, filled: list[Outbox]) -> None:
        self.p_id = p_id
        self.t_id = t_id
        self.inlet_fd = inlet_fd
        self._filled = filled
        self._sections: list[bytes] = []
        self._composed: list[bytes] = []
        self.unsent: deque[bytes] = deque()
        self.lines: list[bytes] = []
        self.pending_bytes = 0
        self.is_blocked = False
        self.waiting: list[Connection] = []

    def seal(self, origin: Origin) -> None:
        """Turn the collected lines, all from `origin`, into a section."""
        self.add(pack_messages(origin, self.lines))
        self.lines.clear()

    def add(self, section: bytes) -> None:
        """Queue a ready section."""
        if not self._sections:
            self._filled.append(self)
        self._sections.append(section)
        self._composed.clear()
        self.pending_bytes += len(section)

    def compose(self, loop: int, numbers: Iterator[int]) -> list[bytes]:
        """Return the datagrams of this turn's sections, numbered, from the loop of that index.

        They are the same until another section comes; then there are others of higher numbers.
        """
        if not self._composed:
            self._composed = [
                pack_datagram(self.t_id, loop, next(numbers), batch) for batch in self._batches()
            ]
        return self._composed

    def discard(self) -> None:
        """Forget this turn's sections."""
        self.pending_bytes -= sum(map(len, self._sections))
        self._sections.clear()
        self._composed = []

    def resume(self, datagram: bytes) -> None:
        """Queue a datagram that a predecessor may have sent or not, before all others."""
        self.unsent.append(datagram)
        self.pending_bytes += len(datagram)

    def flush(self) -> bool:
        """Send what is composed, behind what found no room before; False: there is no room."""
        self.unsent += self._composed
        self._composed = []
        self._sections.clear()
        return not self.is_blocked and self.drain()

    def drain(self) -> bool:
        """Send what found no room before; False: there is none yet."""
        unsent = self.unsent
        while unsent:
            try:
                os.write(self.inlet_fd, unsent[0])
            except BlockingIOError:
                self.pending_bytes = sum(map(len, unsent)) + sum(map(len, self._sections))
                return False
            unsent.popleft()
        self.pending_bytes = sum(map(len, self._sections))
        return True

    def _batches(self) -> list[list[bytes]]:
        """This turn's sections, as many to a datagram as it may hold."""
        if self.pending_bytes <= SECTION_BYTES:
            return [self._sections]
        return portions(self._sections)


class OwnOutbox(Outbox):
    """What a loop says to its own clients: handed over in memory, in the same turn."""

    __slots__ = ("_deliveries",)

    def __init__(self, p_id: int, t_id: int) -> None:
        super().__init__(p_id, t_id, -1, [])
        self._deliveries: list[tuple[Origin, list[bytes]]] = []

    def seal(self, origin: Origin) -> None:
        """Keep the collected lines as one delivery."""
        self._deliveries.append((origin, self.lines))
        self.lines = []

    def take(self) -> list[tuple[Origin, list[bytes]]]:
        """Return the deliveries of this turn, oldest first, and forget them."""
        deliveries = self._deliveries
        if deliveries:
            self._deliveries = []
        return deliveries
