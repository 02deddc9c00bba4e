"""How a loop gets rid of its clients while they chat: one after the other, to other workers.

A worker that is told to leave (`Order.LEAVE`) moves every session to a worker with a lower p_id
(those with the highest leave, so nobody is moved twice for long). Each loop does it by itself, in
its own thread, between turns, when everything that a turn has decided has been done:

    release    not served any more; the word in its slot says RELEASED      (we, lock-free)
    give       the keeper sends a duplicate of its socket to the target     (we, by `keeping.give`)
    take over  the session is the target's, the flag is gone                (`Registry.take_over`)
    forget     its slot says another loop: we close our duplicate           (we, when we see it)

Of all who try to take a session over one gets it: the target; we, who want it back if it is not
taken in time; our successor, if we die. So there is always one loop that answers for it. From its
release to its take-over nobody serves it, for a millisecond or two; what comes for it meanwhile is
sent to ourselves, recorded and numbered like all datagrams, and goes on from here once it is taken.

Who is on his way out finishes here. So does, for as long as it takes, a question that waits for its
answer, half a line that is in our memory only (`durability = "fast"`; else the kernel has it, too),
and a backlog for which there is no room in the runtime directory. A client of whom the keeper has
no duplicate, for want of descriptors, cannot be given away: it is served here until it goes, and
tried again, ever more seldom.

Lines that were on their way to us when a session moved reach it a little later than those that
were sent to its new loop right after; none is lost or comes twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from time import monotonic_ns
from typing import TYPE_CHECKING

from prefork_chat import keeping, log
from prefork_chat.registry import table
from prefork_chat.registry.table import WorkerState
from prefork_chat.worker import progress

if TYPE_CHECKING:
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.transaction import Parts

MOST_MOVES = 64
"""Sessions of a loop under way at a time: as many as a target serves again within milliseconds."""

TAKEN_WITHIN_SECONDS = 2.0
"""After that the target stands still, or the keeper does not have the socket. A target that dies is
seen at once: what was in its hands, out of the nursery and not taken over, is taken back."""

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
"""Between two attempts to move the same session: the wait doubles with each that fails."""

ALIVE_SECONDS = 1.5
"""Who has not beaten for so long does not get anybody: loops beat once a second at least."""

MOVING_SECONDS = 0.002
WAITING_SECONDS = 0.02
"""How often to look whether sessions have been taken, and whether others may go."""

_NANOSECONDS = 1_000_000_000


@dataclass(slots=True)
class _Move:
    """One session on its way to the worker `p_id`, the one that was there when it was released.

    `is_given`: the keeper has been told.
    """

    connection: Connection
    p_id: int
    incarnation: int
    back_at: float
    is_given: bool = False


class Leaving:
    """The sessions of loop (p_id, t_id) that are under way to other workers. Owner: the loop."""

    def __init__(self, inheritance: Inheritance, t_id: int, parts: Parts) -> None:
        self._here = (inheritance.p_id, t_id)
        self._registry = inheritance.registry
        self._table = inheritance.table
        self._keeper = inheritance.keeper
        self._is_exact = inheritance.config.server.durability == "exact"
        self._clients = parts.clients
        self._routes = parts.routes
        self._departures = parts.departures
        self._passages = parts.rooms.passages
        self._moves: list[_Move] = []
        self._failures: dict[Connection, int] = {}
        self._not_before: dict[Connection, float] = {}

    @property
    def wait_seconds(self) -> float:
        """How long the loop may sleep until the next `advance`."""
        return MOVING_SECONDS if self._moves else WAITING_SECONDS

    def advance(self, now: float) -> None:
        """Take everything one step further; the turn must have been carried out.

        Members of rooms go in batches: while one is under way nothing is read (`Rooms.is_full`).
        """
        were_members_away = bool(self._clients.members.away)
        self._see_who_was_taken(now)
        self._give()
        if not self._routes.is_blocked:  # or what a client says elsewhere overtakes what it said
            self._release(now, members_too=not were_members_away)
            self._give()

    def recall(self, now: float) -> None:
        """Take back all who have not been taken: this worker is to end otherwise."""
        for move in self._moves:
            if not self._take_back(move.connection, now):
                self._forget(move.connection)
        self._moves.clear()
        self._routes.send_held()

    def _see_who_was_taken(self, now: float) -> None:
        moves, self._moves = self._moves, []
        for move in moves:
            connection = move.connection
            if self._registry.loop_of(connection.slot, connection.generation) != self._here:
                self._forget(connection)
            elif self._table.incarnations[move.p_id] != move.incarnation and self._take_back(
                connection, now
            ):
                pass  # it may go at once, to whoever is there now
            elif now >= move.back_at and self._take_back(connection, now):
                self._note_failure(move, now)
            else:
                self._moves.append(move)
        if len(self._moves) < len(moves):
            self._routes.send_held()

    def _forget(self, connection: Connection) -> None:
        rooms = [(m.room.place, m.room.generation) for m in connection.rooms.values()]
        self._passages.let_go(connection.slot, connection.generation, rooms)
        self._clients.forget(connection)

    def _take_back(self, connection: Connection, now: float) -> bool:
        """Serve a session again; False if somebody has taken it over."""
        session = (connection.slot, connection.generation)
        if self._registry.take_over(*session, *self._here, progress.RELEASED) is None:
            return False
        self._clients.take_back(connection)
        if not connection.session.name:
            self._departures.expect_login(connection, now)
        return True

    def _note_failure(self, move: _Move, now: float) -> None:
        connection = move.connection
        failures = self._failures[connection] = self._failures.get(connection, 0) + 1
        wait_seconds = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (failures - 1))
        self._not_before[connection] = now + wait_seconds
        log.get_logger().info(log.SESSION_RETURNED, slot=connection.slot, p_id=move.p_id)

    def _give(self) -> None:
        """Tell the keeper of all who were released; what it has no room for, next time."""
        for move in self._moves:
            if not move.is_given:
                connection = move.connection
                try:
                    keeping.give(self._keeper, connection.slot, connection.generation, move.p_id)
                except BlockingIOError:
                    return
                move.is_given = True

    def _release(self, now: float, *, members_too: bool) -> None:
        """Release as many as may be under way, each to the worker that has fewest clients."""
        targets = self._targets()
        room = MOST_MOVES - len(self._moves)
        if not targets or room <= 0:
            return
        clients = self._clients.everybody()
        movable = (
            connection
            for connection in clients
            if self._may_move(connection, now) and (members_too or not connection.rooms)
        )
        for connection in list(islice(movable, room)):
            if connection.backlog is not None and not connection.backlog.protect(
                self._clients.spill_path(connection)
            ):
                self._not_before[connection] = now + TAKEN_WITHIN_SECONDS
                continue
            if connection.rooms and not self._passages.leave(connection):
                self._not_before[connection] = now + TAKEN_WITHIN_SECONDS
                continue
            p_id = min(targets, key=targets.__getitem__)
            targets[p_id] += 1
            self._departures.forget_login(connection)
            self._clients.release(connection)
            incarnation = self._table.incarnations[p_id]
            self._moves.append(_Move(connection, p_id, incarnation, now + TAKEN_WITHIN_SECONDS))

    def _may_move(self, connection: Connection, now: float) -> bool:
        return not (
            connection.is_departing
            or connection.inquiry is not None
            or (connection.decoder.partial and not self._is_exact)
            or self._not_before.get(connection, 0.0) > now
        )

    def _targets(self) -> dict[int, int]:
        """The workers that serve and are to stay, with how many clients each of them has."""
        alive_since_ns = monotonic_ns() - int(ALIVE_SECONDS * _NANOSECONDS)
        p_id, _ = self._here
        return {
            target: self._table.clients(target)
            for target in range(p_id)
            if self._table.row(target)[table.STATE] == WorkerState.READY
            and self._table.stalest_heartbeat_ns(target) > alive_since_ns
        }
