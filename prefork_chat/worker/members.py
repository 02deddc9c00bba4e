"""Which clients of a loop are in which rooms, and how that outlives the process.

A room that has members here is a `LocalRoom`; a client knows its memberships by the room's key.
What changes in a turn is part of the turn's record (`record`) and comes into force with it
(`publish`): the words of the sessions, by which a successor finds their rooms again, and the counts
in the registry, by which other loops find us. Entering alone raises the count at once, so that it
is never below the truth. Owner: one loop, in its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prefork_chat.protocol.names import fold
from prefork_chat.registry.layout import MEMBERSHIPS
from prefork_chat.registry.rooms import pack_memberships, parse_memberships
from prefork_chat.worker.moves import Moves

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_chat.protocol.envelope import Origin
    from prefork_chat.registry.registry import Registry
    from prefork_chat.registry.rooms import Room
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.journal import Words


class Heard(NamedTuple):
    """A batch that members here have yet to get: `body` are its lines, joined by LF.

    `sent_on`: to how many who have gone to other loops it has been sent.
    """

    origin: Origin
    batch: int
    body: bytes
    lines: int
    sent_on: int


class Membership:
    """A client in a room. `position`: of its word in the slot; `missed`: messages not got."""

    __slots__ = ("missed", "position", "room")

    def __init__(self, room: LocalRoom, position: int, missed: int = 0) -> None:
        self.room = room
        self.position = position
        self.missed = missed


class LocalRoom:
    """A room with members at this loop.

    `away` are those on their way to another loop, by slot: they count, and nobody serves them.
    `heard` are the batches of this turn.
    """

    __slots__ = ("away", "generation", "heard", "key", "members", "name", "place")

    def __init__(self, room: Room) -> None:
        self.place, self.generation, self.name = room
        self.key = fold(room.name)
        self.members: dict[Connection, Membership] = {}
        self.away: dict[int, Connection] = {}
        self.heard: list[Heard] = []

    @property
    def count(self) -> int:
        """Members of this loop."""
        return len(self.members) + len(self.away)


class Members:
    """The rooms of a loop's clients.

    `by_place` has those that have members here. `changes` are the names of clients who have come to
    a room (True) or gone (False), until somebody takes them. `away` are the slots of members who
    are on their way to other loops. `newcomers` are those who have come from other loops, and up to
    which batch of each loop nothing is for them; `noted` those for whom there are notes in `moves`.
    """

    __slots__ = (
        "_changed",
        "_loop",
        "_recorded",
        "_registry",
        "_resized",
        "away",
        "by_place",
        "changes",
        "moves",
        "newcomers",
        "noted",
    )

    def __init__(self, registry: Registry, loop: int, directory: Path) -> None:
        """`loop` is the loop's index, `directory` where notes about moves are."""
        self._registry = registry
        self._loop = loop
        self._changed: dict[Connection, None] = {}
        self._recorded: list[Words] = []
        self._resized: dict[LocalRoom, None] = {}
        self.by_place: dict[int, LocalRoom] = {}
        self.changes: dict[LocalRoom, dict[bytes, bool]] = {}
        self.away: set[int] = set()
        self.newcomers: dict[Connection, dict[int, int]] = {}
        self.noted: set[Connection] = set()
        self.moves = Moves(directory)

    def find(self, place: int, generation: int) -> LocalRoom | None:
        """Return the room at `place` in that generation, None if nobody here is in it."""
        room = self.by_place.get(place)
        return room if room is not None and room.generation == generation else None

    def enter(self, connection: Connection, key: bytes, name: bytes) -> LocalRoom:
        """Make a client, who is in fewer than MEMBERSHIPS rooms, a member. Raises RoomsFull."""
        room = self._local(self._registry.rooms.enter(key, name, self._loop))
        taken = {membership.position for membership in connection.rooms.values()}
        position = next(free for free in range(MEMBERSHIPS) if free not in taken)
        self._join(connection, Membership(room, position))
        self._note_presence(connection, room, is_here=True)
        self.note_change(connection)
        return room

    def exit(self, connection: Connection, membership: Membership) -> None:
        """Let a client be no member any more."""
        room = membership.room
        del connection.rooms[room.key]
        del room.members[connection]
        self._resized[room] = None
        self._note_presence(connection, room, is_here=False)
        self.note_change(connection)

    def drop(self, connection: Connection) -> None:
        """Take a client who leaves for good out of all rooms; it still knows which they were."""
        for membership in connection.rooms.values():
            del membership.room.members[connection]
            self._resized[membership.room] = None
            self._note_presence(connection, membership.room, is_here=False)
        self.newcomers.pop(connection, None)
        if connection in self.noted:
            self.noted.remove(connection)
            self.moves.forget(connection.slot, connection.generation)

    def note_change(self, connection: Connection) -> None:
        """Have the client's memberships recorded with this turn."""
        self._changed[connection] = None

    # Sessions that come from other processes, or go there

    def restore(self, connection: Connection) -> None:
        """Give an adopted client the rooms that its slot says, of which it is known to be one."""
        for position, place, missed in self._memberships_of(connection.slot):
            room = self._registry.rooms.at(place)
            if room is not None:
                self._join(connection, Membership(self._local(room), position, missed))

    def announce(self, slot: int) -> None:
        """Raise the counts of a session's rooms before it is taken over: they must not end now.

        To be followed by `publish_counts`, whether it is taken over or not.
        """
        for _, place, _ in self._memberships_of(slot):
            room = self._registry.rooms.at(place)
            if room is not None:
                count = self._local(room).count
                self._registry.rooms.set_count(place, self._loop, count + 1)

    def reset_counts(self) -> None:
        """Tell the registry how many members there are, whatever a predecessor has told it."""
        counts = {place: room.count for place, room in self.by_place.items()}
        self._registry.rooms.reset(self._loop, counts)

    def release(self, connection: Connection) -> None:
        """Serve a client no more, but count it until another loop does."""
        for membership in connection.rooms.values():
            room = membership.room
            del room.members[connection]
            room.away[connection.slot] = connection
            self.away.add(connection.slot)

    def take_back(self, connection: Connection) -> None:
        """Serve a released client again."""
        self.away.discard(connection.slot)
        for membership in connection.rooms.values():
            del membership.room.away[connection.slot]
            membership.room.members[connection] = membership

    def forget(self, connection: Connection) -> None:
        """Count a released client no more: another loop does."""
        self.away.discard(connection.slot)
        self.newcomers.pop(connection, None)
        self.noted.discard(connection)
        for membership in connection.rooms.values():
            del membership.room.away[connection.slot]
            self._resized[membership.room] = None
        self.publish_counts()

    # The turn's record

    def record(self) -> list[Words]:
        """Return the words of all sessions whose rooms this turn has changed."""
        for connection in self._changed:
            memberships = connection.rooms.values()
            words = pack_memberships((m.position, m.room.place, m.missed) for m in memberships)
            self._recorded.append((connection.slot, connection.generation, words))
        self._changed.clear()
        return self._recorded

    def publish(self) -> None:
        """Bring what was recorded into force."""
        for slot, _, words in self.record():
            self.store(slot, words)
        self._recorded = []
        self.publish_counts()

    def publish_counts(self) -> None:
        """Tell other loops of the rooms that have fewer members here; forget those without."""
        for room in self._resized:
            self._registry.rooms.set_count(room.place, self._loop, room.count)
            if not room.count:
                del self.by_place[room.place]
        self._resized.clear()

    def store(self, slot: int, words: list[int]) -> None:
        """Write a session's words, one by one: each room's stands where it stood before."""
        start = slot * MEMBERSHIPS
        memberships = self._registry.memberships
        for position, word in enumerate(words, start):
            memberships[position] = word

    def _memberships_of(self, slot: int) -> list[tuple[int, int, int]]:
        start = slot * MEMBERSHIPS
        words = self._registry.memberships[start : start + MEMBERSHIPS].tolist()
        return parse_memberships(words)

    def _local(self, room: Room) -> LocalRoom:
        local = self.find(room.place, room.generation)
        if local is None:
            local = self.by_place[room.place] = LocalRoom(room)
        self._resized[local] = None
        return local

    def _note_presence(self, connection: Connection, room: LocalRoom, *, is_here: bool) -> None:
        self.changes.setdefault(room, {})[connection.session.name] = is_here

    @staticmethod
    def _join(connection: Connection, membership: Membership) -> None:
        connection.rooms = {**connection.rooms, membership.room.key: membership}
        membership.room.members[connection] = membership
