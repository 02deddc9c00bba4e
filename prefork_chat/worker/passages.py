"""Which batches of its rooms a session gets while it moves from loop to loop: each once.

A loop that lets a session go, and the one that takes it over, are both sent batches of its rooms
for a while. What each of them had got by then is noted (see `moves`); by that the new loop leaves
out what is the old one's business, and the old one sends on what is not the new one's. While a
member is under way, neither here nor elsewhere, its old loop takes no batch and no line: for the
millisecond that it takes, they wait in the kernel.

Used by `rooms`, `leaving` and `adoption`. Owner: one loop, in its turn, and before its thread
starts the main thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prefork_chat import log
from prefork_chat.registry.rooms import is_in
from prefork_chat.worker.moves import Left

if TYPE_CHECKING:
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.protocol.envelope import Origin, RoomBatch
    from prefork_chat.worker.clients import Clients
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.journal import Journal
    from prefork_chat.worker.receipts import Receipts


class _Gone(NamedTuple):
    """A session that has moved to `loop`, which had got all up to `arrived` by then."""

    generation: int
    loop: int
    arrived: list[int]


class Passages:
    """The sessions in rooms that have come to loop (p_id, t_id), and gone from it.

    `receipts` are the loop's, by which lines get to where a session is.
    """

    def __init__(
        self,
        inheritance: Inheritance,
        t_id: int,
        clients: Clients,
        receipts: Receipts,
        journal: Journal,
    ) -> None:
        self._threads = inheritance.table.threads
        self._loop = inheritance.p_id * self._threads + t_id
        self._registry = inheritance.registry
        self._clients = clients
        self._members = clients.members
        self._moves = clients.members.moves
        self.receipts = receipts
        self._journal = journal
        self._heard = journal.heard()
        self._hearing: dict[int, int] = {}
        self._gone: dict[tuple[int, int], dict[int, _Gone]] = {}

    def hear(self, origin: Origin, batch: int) -> None:
        """Note that a batch has come in this turn."""
        self._hearing[origin.p_id * self._threads + origin.t_id] = batch

    def record(self) -> list[tuple[int, int]]:
        """Return (loop, last batch) of this turn, for its record."""
        return list(self._hearing.items())

    def publish(self) -> None:
        """Let what was recorded count."""
        if self._hearing:
            self._journal.note_heard(list(self._hearing.items()))
            for loop, batch in self._hearing.items():
                self._heard[loop] = batch
            self._hearing.clear()

    # Coming

    def expect(self, slot: int, generation: int) -> None:
        """Note what we have got, before we take a session over. Its rooms must not end now."""
        try:
            self._moves.note_arrived(slot, generation, self._loop, self._now())
        except OSError as error:
            log.get_logger().warning(log.MOVE_UNNOTED, reason=error.strerror)
        self._members.announce(slot)

    def settle_in(self, connection: Connection) -> None:
        """Find out which batches are not for a session that is here now, wherever it was before."""
        session = (connection.slot, connection.generation)
        left = self._moves.left(*session)
        if left is None:
            return
        arrived = self._moves.arrived(*session, self._loop)
        now = self._now()
        not_before = dict(self._hearing)
        for loop, got_there in enumerate(left.heard):
            got = max(got_there, _at(arrived, loop))
            if got > now[loop]:
                not_before[loop] = got
        self._members.noted.add(connection)
        if not_before:
            self._members.newcomers[connection] = not_before

    def is_for(self, connection: Connection, origin: Origin, batch: int) -> bool:
        """Say whether a batch is for a newcomer: older ones are the business of its old loop."""
        not_before = self._members.newcomers[connection]
        return batch > not_before.get(origin.p_id * self._threads + origin.t_id, 0)

    def see_through(self, connection: Connection) -> None:
        """Forget of a newcomer what cannot come any more."""
        not_before = self._members.newcomers[connection]
        for loop in [loop for loop, batch in not_before.items() if batch <= self._heard[loop]]:
            del not_before[loop]
        if not not_before:
            del self._members.newcomers[connection]

    # Going

    def leave(self, connection: Connection) -> bool:
        """Note what we have got, before a session is let go; False if it has to stay."""
        rooms = [(m.room.place, m.room.generation) for m in connection.rooms.values()]
        heard = self._heard.copy()
        for loop, batch in self._members.newcomers.get(connection, {}).items():
            heard[loop] = max(heard[loop], batch)
        try:
            left = Left(self._loop, rooms, heard)
            self._moves.note_left(connection.slot, connection.generation, left)
        except OSError as error:
            log.get_logger().warning(log.MOVE_UNNOTED, reason=error.strerror)
            return False
        return True

    def let_go(self, slot: int, generation: int, rooms: list[tuple[int, int]]) -> None:
        """Note that a session which was in these rooms here is at another loop now."""
        place = self._registry.loop_of(slot, generation)
        if place is None:
            return
        loop = place[0] * self._threads + place[1]
        gone = _Gone(generation, loop, self._moves.arrived(slot, generation, loop))
        for room in rooms:
            self._gone.setdefault(room, {})[slot] = gone

    def send_on(self, batch: RoomBatch, origin: Origin, body: bytes) -> int:
        """Send a batch on to those who have gone and do not get it there; return to how many."""
        gone = self._gone.get((batch.place, batch.generation))
        if not gone:
            return 0
        source = origin.p_id * self._threads + origin.t_id
        reached = 0
        for slot, (generation, loop, arrived) in list(gone.items()):
            if self._registry.generations[slot] != generation:
                del gone[slot]
            elif (
                (not batch.loops >> loop & 1 or batch.batch <= _at(arrived, source))
                and (slot, generation) != (origin.slot, origin.generation)
                and is_in(self._registry.memberships, slot, batch.place)
            ):
                self.receipts.pass_on(slot, generation, body)
                reached += 1
        return reached

    # Adoption

    def restore(self) -> None:
        """Go on where a predecessor was; our clients have been restored."""
        for slot, generation, left in self._moves.all_left():
            if self._registry.generations[slot] != generation:
                self._moves.forget(slot, generation)
                continue
            connection = self._clients.of_session(slot, generation)
            if connection is not None:
                self.settle_in(connection)
            elif left.loop == self._loop:
                self.let_go(slot, generation, left.rooms)

    def _now(self) -> list[int]:
        """Return what we have got, this turn included."""
        now = self._heard.copy()
        for loop, batch in self._hearing.items():
            now[loop] = batch
        return now


def _at(heard: list[int], loop: int) -> int:
    return heard[loop] if loop < len(heard) else 0
