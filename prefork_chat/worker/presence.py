"""Who comes to a room and who goes, for those of its members who want to know (`HELO pres`).

The loop of whoever comes or goes tells all loops with members, in the datagrams of the turn that
decides it (a PRESENCE section). What a loop hears it collects, and tells its members in a few
lines, not more often than every PAUSE_SECONDS: `HERE #room bob carol`, `GONE #room dave`. So a
thousand who come at once cost each member a few lines. Who comes himself, or switches this on, is
told who is there; who has been adopted is told anew, behind `GONE #room *`, for what had been
collected for him is lost with his worker.

Owner: one loop, in its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork_chat.chat import rooms as words
from prefork_chat.protocol import envelope
from prefork_chat.worker import progress
from prefork_chat.worker.departures import NEVER

if TYPE_CHECKING:
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.clients import Clients
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.members import LocalRoom
    from prefork_chat.worker.routes import Routes

PAUSE_SECONDS: Final = 0.5
"""Between two times that the members of a room are told who has come and gone."""


class Presence:
    """What loop (p_id, t_id) has to tell of comings and goings."""

    def __init__(
        self, inheritance: Inheritance, t_id: int, clients: Clients, routes: Routes
    ) -> None:
        self._here = (inheritance.p_id, t_id)
        self._threads = inheritance.table.threads
        self._registry = inheritance.registry
        self._clients = clients
        self._members = clients.members
        self._routes = routes
        self._news: dict[LocalRoom, dict[bytes, bool]] = {}
        self._curious: dict[LocalRoom, dict[Connection, bool]] = {}
        self._told_at: dict[LocalRoom, float] = {}

    def announce(self) -> None:
        """Tell all loops of those of our clients who came and went since the last time."""
        if not self._members.changes:
            return
        changes, self._members.changes = self._members.changes, {}
        for room, names in changes.items():
            section = envelope.pack_presence(room.place, room.generation, names)
            for loop, members in enumerate(self._registry.rooms.counts(room.place)):
                place = divmod(loop, self._threads)
                if members and place != self._here:
                    self._routes.outbox(*place).add(section)
            self.receive(room.place, room.generation, names)

    def receive(self, place: int, generation: int, names: dict[bytes, bool]) -> None:
        """Collect who has come (True) to a room, and who has gone."""
        room = self._members.find(place, generation)
        if room is not None:
            self._news.setdefault(room, {}).update(names)

    def begin(self, connection: Connection, room: LocalRoom, *, anew: bool = False) -> None:
        """Tell a member who is in a room, if he wants to know, as soon as others are told.

        `anew`: he is to forget what he was told before.
        """
        if connection.session.presence:
            self._curious.setdefault(room, {})[connection] = anew

    def begin_all(self, connection: Connection, *, anew: bool = False) -> None:
        """Do so for all rooms of a client."""
        for membership in connection.rooms.values():
            self.begin(connection, membership.room, anew=anew)

    def wake_at(self) -> float:
        """When there is something to tell, in monotonic seconds."""
        if not (self._news or self._curious):
            return NEVER
        rooms = self._news.keys() | self._curious.keys()
        return min(self._told_at.get(room, 0.0) for room in rooms) + PAUSE_SECONDS

    def tell(self, now: float) -> None:
        """Tell the members of every room of which they have not been told of late."""
        if now < self.wake_at():
            return
        for room in list(self._news.keys() | self._curious.keys()):
            if now >= self._told_at.get(room, 0.0) + PAUSE_SECONDS:
                self._tell(room)
                self._told_at[room] = now
        self._told_at = {r: at for r, at in self._told_at.items() if now < at + PAUSE_SECONDS}

    def _tell(self, room: LocalRoom) -> None:
        news = self._news.pop(room, {})
        curious = self._curious.pop(room, {})
        lines = _lines(room.name, news)
        everybody = self.names_of(room) if curious else {}
        for member in list(room.members):
            if member in curious:
                if curious[member]:
                    self._clients.say(member, words.all_gone(room.name))
                self._clients.say(member, *_lines(room.name, everybody, member.session.name))
            elif member.session.presence and member.session.name in news:
                self._clients.say(member, *_lines(room.name, news, member.session.name))
            elif member.session.presence:
                self._clients.say(member, *lines)

    def names_of(self, room: LocalRoom) -> dict[bytes, bool]:
        """Return the names of all members of a room, here and elsewhere."""
        names = dict.fromkeys([member.session.name for member in room.members], True)
        for held in self._registry.members(room.place, progress.IN_ROOMS):
            is_here = (held.p_id, held.t_id) == self._here and held.slot not in room.away
            if held.name and not is_here:
                names[held.name] = True
        return names


def _lines(room: bytes, names: dict[bytes, bool], but: bytes = b"") -> list[bytes]:
    """Return what tells a member that these have come (True) or gone."""
    come = [name for name, is_here in names.items() if is_here and name != but]
    gone = [name for name, is_here in names.items() if not is_here and name != but]
    return [*words.gone(room, gone), *words.here(room, come)]
