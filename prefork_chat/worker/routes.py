"""Where a line for a name goes: the loop's cache of locations and its outboxes.

The registry knows every name's location; a loop asks it once and remembers the outbox of the loop
where that name lives, with the slot of who had it and that slot's owner word (0.03 µs instead of a
probe). It is good while that word is the same: who leaves and comes back elsewhere, or is moved, is
found there by the next line. A name that moves while a line is under way is found gone by the
destination loop, which sends the line on. What is for a session on its way from here to another
loop is *held*: it goes into our own pair, to come round again, once that session is somewhere.
Owner: one loop, in its turn.
"""

from __future__ import annotations

import select
from itertools import count
from typing import TYPE_CHECKING

from prefork_chat.inheritance import ATTENDANTS
from prefork_chat.protocol.names import fold, is_name
from prefork_chat.worker.connection import Connection, Pause
from prefork_chat.worker.outbox import Outbox, OwnOutbox

if TYPE_CHECKING:
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.clients import Clients

_HELD = -1
"""Where `_blocked` has what is held: it waits for no pair."""

GENERATION_SHIFT = 40
"""A worker's datagrams have higher numbers than all of its predecessors': 10**12 for each."""

MOST_ROUTES = 65_536
"""Names remembered by a loop; above it the cache starts anew (about 10 MB at its fullest)."""


class Routes:
    """Outboxes by destination, and back-pressure when a process is behind.

    `by_name` maps a destination as it was typed to (outbox, slot, owner word): the hot path looks
    there first, and calls `find` on a miss and when `owners[slot]` is another by now. `historian`
    is that process's outbox.
    """

    __slots__ = (
        "_blocked",
        "_clients",
        "_epoll",
        "_filled",
        "_held",
        "_keeps_for_away",
        "_limit_bytes",
        "_loop",
        "_numbers",
        "_outboxes",
        "_pairs",
        "_registered",
        "_registry",
        "by_name",
        "historian",
        "own",
        "owners",
    )

    def __init__(
        self, inheritance: Inheritance, t_id: int, epoll: select.epoll, clients: Clients
    ) -> None:
        self._registry = inheritance.registry
        self._pairs = inheritance.pairs
        self._epoll = epoll
        self._clients = clients
        self._limit_bytes = inheritance.config.limits.outbox_bytes
        self._loop = inheritance.p_id * inheritance.table.threads + t_id
        self._numbers = count((inheritance.generation << GENERATION_SHIFT) + 1)
        self.own = OwnOutbox(inheritance.p_id, t_id)
        self._outboxes: dict[tuple[int, int], Outbox] = {(inheritance.p_id, t_id): self.own}
        self._filled: list[Outbox] = []
        inlet_fd = inheritance.pairs.processes[inheritance.p_id].inlet.fileno()
        self._held = Outbox(inheritance.p_id, t_id, inlet_fd, self._filled)
        self._registered = inheritance.registry.registered
        self._keeps_for_away = inheritance.config.history.enabled
        self.historian = self.outbox(inheritance.table.workers + ATTENDANTS.index("historian"), 0)
        self._blocked: dict[int, list[Outbox]] = {}
        self.by_name: dict[bytes, tuple[Outbox, int, int]] = {}
        self.owners = inheritance.registry.owners

    def find(self, destination: bytes) -> Outbox | None:
        """Ask the registry where `destination` (as typed) is; None: nobody of that name is here.

        What is for an account that is away goes to the historian.
        """
        key = fold(destination)
        location = self._registry.check(key)
        if location is None:
            return self._find_away(destination, key)
        owner = self.owners[location.slot]
        if self._registry.check(key) != location:  # it moved while we looked: ask when it is over
            return self.find(destination)
        if len(self.by_name) >= MOST_ROUTES:
            self.by_name.clear()
        outbox = self.outbox(location.p_id, location.t_id)
        self.by_name[destination] = (outbox, location.slot, owner)
        return outbox

    def _find_away(self, destination: bytes, key: bytes) -> Outbox | None:
        """Return the historian's outbox if an account that is away may have this name."""
        is_away = self._keeps_for_away and is_name(destination) and self._registered.may_have(key)
        return self.historian if is_away else None

    def outbox(self, p_id: int, t_id: int) -> Outbox:
        """Return the outbox of loop (p_id, t_id)."""
        outbox = self._outboxes.get((p_id, t_id))
        if outbox is None:
            inlet_fd = self._pairs.processes[p_id].inlet.fileno()
            outbox = Outbox(p_id, t_id, inlet_fd, self._filled)
            self._outboxes[p_id, t_id] = outbox
        return outbox

    def hold_back(self, connection: Connection, outbox: Outbox) -> None:
        """Stop reading `connection` while `outbox` holds more than its limit."""
        if outbox.pending_bytes > self._limit_bytes:
            self._clients.pause(connection, Pause.CONGESTED)
            outbox.waiting.append(connection)

    def compose(self) -> list[tuple[int, bytes]]:
        """Return all datagrams that are not sent yet, those of this turn last, with their p_id."""
        datagrams = [
            (outbox.p_id, datagram)
            for same_pair in self._blocked.values()
            for outbox in same_pair
            for datagram in outbox.unsent
        ]
        for outbox in self._filled:
            composed = outbox.compose(self._loop, self._numbers)
            datagrams += [(outbox.p_id, datagram) for datagram in composed]
        return datagrams

    def resume(self, datagrams: list[tuple[int, bytes]]) -> None:
        """Send what a predecessor had to send, whether it did or not."""
        for p_id, datagram in datagrams:
            outbox = self.outbox(p_id, datagram[0])
            if outbox is self.own:
                outbox = self._held
            outbox.resume(datagram)
            if not outbox.is_blocked and not outbox.drain():
                self._block(outbox)

    def flush(self) -> None:
        """Send what the turn has put into the outboxes, as composed: one datagram each."""
        for outbox in self._filled:
            is_sent = outbox.flush()
            if not is_sent and not outbox.is_blocked:
                self._block(outbox)
            self._release(outbox)
        self._filled.clear()

    def hold(self, section: bytes) -> None:
        """Have a section come back to us, but not before `send_held`."""
        self._held.add(section)
        if not self._held.is_blocked:
            self._held.is_blocked = True
            self._blocked[_HELD] = [self._held]

    def send_held(self) -> None:
        """Send ourselves what was held, as far as it has been recorded."""
        if self._blocked.pop(_HELD, None) is not None:
            self._held.is_blocked = False
            if not self._held.drain():
                self._block(self._held)

    @property
    def is_filled(self) -> bool:
        """True when there is something to flush."""
        return bool(self._filled)

    @property
    def is_empty(self) -> bool:
        """True when nothing waits, for room in a pair or for the end of a move."""
        return not self._blocked

    @property
    def is_blocked(self) -> bool:
        """True when something waits for room in a pair."""
        return bool(self._blocked.keys() - {_HELD})

    def _block(self, outbox: Outbox) -> None:
        outbox.is_blocked = True
        same_pair = self._blocked.setdefault(outbox.inlet_fd, [])
        if not same_pair:
            self._epoll.register(outbox.inlet_fd, select.EPOLLOUT)
        same_pair.append(outbox)

    def unblock(self, inlet_fd: int) -> None:
        """Try again after epoll said that the pair takes datagrams."""
        outboxes = self._blocked.pop(inlet_fd, None)
        if outboxes is None:
            return
        self._epoll.unregister(inlet_fd)
        for outbox in outboxes:
            outbox.is_blocked = False
            if not outbox.drain():
                self._block(outbox)
            self._release(outbox)

    def _release(self, outbox: Outbox) -> None:
        """Read those again who waited for `outbox`, once it has room."""
        if outbox.waiting and outbox.pending_bytes <= self._limit_bytes // 2:
            waiting, outbox.waiting = outbox.waiting, []
            for connection in waiting:
                self._clients.resume(connection, Pause.CONGESTED)
