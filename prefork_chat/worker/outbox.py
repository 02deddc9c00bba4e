"""What one loop has to say to another in this turn, and how it gets into that process's pair.

One `Outbox` a destination loop; owned by the sending loop, touched by its thread only. All
sections of a turn leave in one datagram (more only above SECTION_BYTES). A full pair is
back-pressure, never loss: sections stay here in order, and the sending loop stops reading the
clients that write to a congested outbox.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from prefork_chat.protocol.envelope import (
    SECTION_BYTES,
    SECTION_SEPARATOR,
    Origin,
    pack_messages,
)

if TYPE_CHECKING:
    from prefork_chat.worker.connection import Connection


class Outbox:
    """Sections for one loop (p_id, t_id) of any process.

    `lines` collects the message lines of the connection that is being read; `seal` makes a section
    of them. `waiting` are the connections that are paused until this outbox has room again. An
    outbox that gets its first section puts itself into `filled`, the list of those to flush at the
    end of the turn.
    """

    __slots__ = ("_filled", "_sections", "_to", "inlet_fd", "lines", "pending_bytes", "waiting")

    def __init__(self, inlet_fd: int, t_id: int, filled: list[Outbox]) -> None:
        self.inlet_fd = inlet_fd
        self._to = bytes((t_id,))
        self._filled = filled
        self.lines: list[bytes] = []
        self._sections: deque[bytes] = deque()
        self.pending_bytes = 0
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
        self.pending_bytes += len(section)

    def flush(self) -> bool:
        """Write all sections in few datagrams; False when the pair is full: call again later."""
        sections = self._sections
        while sections:
            batch = self._next_batch()
            try:
                os.write(self.inlet_fd, self._to + SECTION_SEPARATOR.join(batch))
            except BlockingIOError:
                sections.extendleft(reversed(batch))
                return False
            self.pending_bytes -= sum(map(len, batch))
        return True

    def _next_batch(self) -> list[bytes]:
        sections = self._sections
        if self.pending_bytes <= SECTION_BYTES:
            batch = list(sections)
            sections.clear()
            return batch
        batch = [sections.popleft()]
        size = len(batch[0])
        while sections and size + len(sections[0]) <= SECTION_BYTES:
            size += len(sections[0])
            batch.append(sections.popleft())
        return batch


class OwnOutbox(Outbox):
    """What a loop says to its own clients: handed over in memory, at the end of the turn."""

    __slots__ = ("_deliveries",)

    def __init__(self) -> None:
        super().__init__(-1, 0, [])
        self._deliveries: list[tuple[Origin, list[bytes]]] = []

    def seal(self, origin: Origin) -> None:
        """Keep the collected lines as one delivery."""
        self._deliveries.append((origin, self.lines))
        self.lines = []

    @property
    def is_filled(self) -> bool:
        """True when there are deliveries to take."""
        return bool(self._deliveries)

    def take(self) -> list[tuple[Origin, list[bytes]]]:
        """Return the deliveries of this turn, oldest first, and forget them."""
        deliveries = self._deliveries
        if deliveries:
            self._deliveries = []
        return deliveries
