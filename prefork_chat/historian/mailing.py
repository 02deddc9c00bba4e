"""What the historian has to say to loops: one outbox for each, and what found no room yet.

Like a loop's `Routes`, without clients: sections pile up during a batch, are composed into numbered
datagrams for its record, and sent after the commit. A full pair is waited for; what is not sent is
part of every record until it is. Owner: the historian's only thread.
"""

from __future__ import annotations

import select
from itertools import count
from typing import TYPE_CHECKING, Final

from prefork_chat.worker.outbox import Outbox
from prefork_chat.worker.routes import GENERATION_SHIFT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_chat.inheritance import Attendance

MOST_PENDING_BYTES: Final = 4 * 1024 * 1024
"""With so much unsent nothing more is taken in: some worker is far behind, or dead."""


class Mailing:
    """Outboxes by (p_id, t_id), and the pairs that are full."""

    def __init__(self, attendance: Attendance, epoll: select.epoll) -> None:
        self._pairs: Final = attendance.pairs
        self._sender: Final = attendance.sender
        self._epoll: Final = epoll
        self._numbers: Final = count((attendance.generation << GENERATION_SHIFT) + 1)
        self._outboxes: Final[dict[tuple[int, int], Outbox]] = {}
        self._filled: Final[list[Outbox]] = []
        self._blocked: Final[dict[int, list[Outbox]]] = {}

    def outbox(self, p_id: int, t_id: int) -> Outbox:
        """Return the outbox of loop (p_id, t_id)."""
        outbox = self._outboxes.get((p_id, t_id))
        if outbox is None:
            inlet_fd = self._pairs.processes[p_id].inlet.fileno()
            outbox = self._outboxes[p_id, t_id] = Outbox(p_id, t_id, inlet_fd, self._filled)
        return outbox

    def compose(self) -> list[tuple[int, bytes]]:
        """Return all that is not sent yet, this batch's last, as (p_id, datagram)."""
        blocked = [outbox for same_pair in self._blocked.values() for outbox in same_pair]
        datagrams = [(outbox.p_id, datagram) for outbox in blocked for datagram in outbox.unsent]
        for outbox in self._filled:
            composed = outbox.compose(self._sender, self._numbers)
            datagrams += [(outbox.p_id, datagram) for datagram in composed]
        return datagrams

    def discard(self) -> None:
        """Forget what this batch had to say: it did not come about."""
        for outbox in self._filled:
            outbox.discard()
        self._filled.clear()

    def flush(self) -> None:
        """Send what was composed."""
        for outbox in self._filled:
            if not outbox.flush() and not outbox.is_blocked:
                self._block(outbox)
        self._filled.clear()

    def resume(self, datagrams: Iterable[tuple[int, bytes]]) -> None:
        """Send what a predecessor had to send, whether it did or not."""
        for p_id, datagram in datagrams:
            outbox = self.outbox(p_id, datagram[0])
            outbox.resume(datagram)
            if not outbox.is_blocked and not outbox.drain():
                self._block(outbox)

    def unblock(self, inlet_fd: int) -> None:
        """Try again after epoll said that the pair takes datagrams."""
        self._epoll.unregister(inlet_fd)
        for outbox in self._blocked.pop(inlet_fd):
            outbox.is_blocked = False
            if not outbox.drain():
                self._block(outbox)

    @property
    def is_behind(self) -> bool:
        """True while too much waits to be sent."""
        pending = sum(outbox.pending_bytes for same in self._blocked.values() for outbox in same)
        return pending > MOST_PENDING_BYTES

    def _block(self, outbox: Outbox) -> None:
        outbox.is_blocked = True
        same_pair = self._blocked.setdefault(outbox.inlet_fd, [])
        if not same_pair:
            self._epoll.register(outbox.inlet_fd, select.EPOLLOUT)
        same_pair.append(outbox)
