"""How what one says in a room comes to all others who are in it.

What a client says to a room in a turn is one *batch*. It goes once to each loop that has members
(a ROOM_BATCH section), which makes its lines, adds them to what its members get in that turn, and
says afterwards how many it has reached (REACHED). The loop of the sender adds up, and when all have
said so it answers each message: `OK CHAT #room n=<reached>`. The historian is one of them: it gets
every batch, has reached nobody, and says so when the batch is stored.

Reached is who has it in his socket, or in his backlog. A member who reads so slowly that his
backlog is over `client_pending_bytes` misses it: that is counted with his membership, and he is
told before the next message that he gets, or when he has caught up.

A batch is *pending* from the turn in which it is sent to the one in which the last loop has said
how many. Pending batches are in every record meanwhile, and so are memberships that change and what
this turn's writes will reach: a successor goes on with all of it (see `transaction`). Sections
travel in numbered datagrams, so each is dealt with once, whoever is killed.

Owner: one loop, in its turn. Who comes and goes, and who is told what is there, is `roomdesk`'s.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork_chat.chat import rooms as words
from prefork_chat.protocol import envelope
from prefork_chat.protocol.envelope import Origin, RoomBatch
from prefork_chat.worker.journal import RoomsRecord
from prefork_chat.worker.members import Heard
from prefork_chat.worker.presence import Presence
from prefork_chat.worker.routes import GENERATION_SHIFT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.clients import Clients
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.journal import Reached, Record
    from prefork_chat.worker.members import LocalRoom
    from prefork_chat.worker.passages import Passages
    from prefork_chat.worker.routes import Routes

MOST_BYTES: Final = 16 * 1024 * 1024
"""What a turn hands out to members before it reads no more: about 10 ms of writing."""


class _Said:
    """What one client says to one room in this turn."""

    __slots__ = ("connection", "messages", "origin", "room", "tags")

    def __init__(self, connection: Connection, origin: Origin, room: LocalRoom) -> None:
        self.connection = connection
        self.origin = origin
        self.room = room
        self.messages: list[bytes] = []
        self.tags: list[bytes] = []


class _Pending:
    """A batch of which `loops` have yet to say how many they have reached, the others did."""

    __slots__ = ("loops", "origin", "reached", "room", "tags")

    def __init__(
        self, origin: Origin, room: bytes, tags: list[bytes], loops: int, reached: int
    ) -> None:
        self.origin = origin
        self.room = room
        self.tags = tags
        self.loops = loops
        self.reached = reached


class Shared(NamedTuple):
    """Bytes that many clients get who get nothing else in this turn."""

    data: bytes
    connections: list[Connection]


class Rooms:
    """What is said in the rooms of loop (p_id, t_id), whose index among all loops is `loop`.

    `presence` tells members who comes and goes, `passages` sees to those who move.
    """

    def __init__(
        self,
        inheritance: Inheritance,
        t_id: int,
        clients: Clients,
        routes: Routes,
        passages: Passages,
    ) -> None:
        self._here = (inheritance.p_id, t_id)
        self._threads = inheritance.table.threads
        self.loop = inheritance.p_id * self._threads + t_id
        self._table = inheritance.registry.rooms
        self._pending_limit = inheritance.config.limits.client_pending_bytes
        self._clients = clients
        self._members = clients.members
        self._routes = routes
        self._receipts = passages.receipts
        self.passages = passages
        self._events = clients.events
        self.presence = Presence(inheritance, t_id, clients, routes)
        self._numbers = count((inheritance.generation << GENERATION_SHIFT) + 1)
        self._said: dict[tuple[Connection, LocalRoom], _Said] = {}
        self._noisy: list[LocalRoom] = []
        self._pending: dict[int, _Pending] = {}
        self._reached: list[Reached] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """True when this turn should read no more.

        It has much to hand out, or nobody knows whether a member who is under way is to get it.
        """
        return self._bytes >= MOST_BYTES or bool(self._members.away)

    @property
    def is_waiting(self) -> bool:
        """True while other loops have yet to say how many a batch has reached."""
        return bool(self._pending)

    # Sending: what was said here goes to every loop that has members

    def say(self, connection: Connection, room: LocalRoom, message: bytes, tag: bytes) -> None:
        """Take what a member says to a room; it goes out when the turn ends."""
        said = self._said.get((connection, room))
        if said is None:
            origin = connection.origin
            if origin is None:
                origin = connection.origin = connection.introduce(*self._here)
            said = self._said[connection, room] = _Said(connection, origin, room)
        said.messages.append(message)
        said.tags.append(tag)
        if not said.origin.is_quiet:
            connection.outstanding += 1
        self._bytes += len(message) * len(room.members)

    def send(self) -> None:
        """Make a batch of all that each client has said to each room, before the turn ends."""
        for said in self._said.values():
            room = said.room
            counts = self._table.counts(room.place)
            others = [loop for loop, n in enumerate(counts) if n and loop != self.loop]
            loops = sum(1 << loop for loop in (self.loop, *others))
            number = next(self._numbers)
            batch = RoomBatch(number, room.place, room.generation, loops, room.name)
            outboxes = [self._routes.outbox(*divmod(loop, self._threads)) for loop in others]
            if self._receipts.storing.is_on:
                outboxes.append(self._routes.historian)  # who says so, too, once all is stored
            section = b""
            for outbox in outboxes:
                section = section or envelope.pack_room_batch(batch, said.origin, said.messages)
                outbox.add(section)
                self._routes.hold_back(said.connection, outbox)
            if not said.origin.is_quiet:
                pending = _Pending(said.origin, room.name, said.tags, 1 + len(outboxes), 0)
                self._pending[number] = pending
            self._table.count_said(room.place, self.loop, len(said.messages))
            self._hear(room, batch, said.origin, said.messages)
            if self._events.is_watched:
                heading = b"CHAT %b " % said.room.name
                self._events.said(said.origin, [heading + message for message in said.messages])
        self._said.clear()

    # Delivering: what was said anywhere goes to the members here

    def receive_batch(self, batch: RoomBatch, origin: Origin, messages: list[bytes]) -> None:
        """Take a batch of another loop."""
        room = self._members.find(batch.place, batch.generation)
        if room is not None:
            self._bytes += sum(map(len, messages)) * len(room.members)
        self._hear(room, batch, origin, messages)

    def _hear(
        self, room: LocalRoom | None, batch: RoomBatch, origin: Origin, messages: list[bytes]
    ) -> None:
        """Keep a batch for the members here, and send it on to those who have gone."""
        heading = words.heading(batch.room, origin.name)
        body = heading + (b"\n" + heading).join(messages)
        self.passages.hear(origin, batch.batch)
        sent_on = self.passages.send_on(batch, origin, body)
        if room is not None:
            if not room.heard:
                self._noisy.append(room)
            room.heard.append(Heard(origin, batch.batch, body, len(messages), sent_on))
        elif not origin.is_quiet:
            self._reached.append((origin.header, batch.batch, batch.place, sent_on))

    def fan_out(self) -> list[Shared]:
        """Hand what was heard in this turn to the members; return what many get alike."""
        self.presence.announce()
        if not self._noisy:
            return []
        noisy, self._noisy = self._noisy, []
        self._bytes = 0
        is_alone = len(noisy) == 1
        return [self._fan_out(room, is_alone=is_alone) for room in noisy]

    def _fan_out(self, room: LocalRoom, *, is_alone: bool) -> Shared:
        """Hand all of a room's batches to every member, but for those that he has sent himself."""
        heard, room.heard = room.heard, []
        body = b"\n".join([batch.body for batch in heard])
        speakers = self._speakers(room, heard)
        newcomers = self._members.newcomers
        left_out = set()
        not_for: Counter[Heard] = Counter()  # batches of two loops may have one number
        alike: list[Connection] = []
        for member in room.members:
            if member.backlog is not None and not self._has_room(member, room, heard):
                left_out.add(member)
            elif newcomers and member in newcomers:
                self._tell_newcomer(member, heard, not_for)
            elif member in speakers:
                others = [batch.body for batch in heard if not _is_of(batch.origin, member)]
                if others:
                    self._clients.say(member, *others)
            elif member.out or not (is_alone or len(member.rooms) == 1):
                self._clients.say(member, body)
            else:
                alike.append(member)
        reached = len(room.members) - len(left_out)
        for batch in heard:
            origin = batch.origin
            speaker = self._clients.of_session(origin.slot, origin.generation)
            is_among = speaker in room.members and speaker not in left_out
            total = reached - is_among + batch.sent_on
            if not_for:
                total -= not_for[batch]
            self._receipts.delivered += batch.lines * total
            if not origin.is_quiet:
                self._reached.append((origin.header, batch.batch, room.place, total))
        return Shared(body + b"\n", alike)

    def _tell_newcomer(
        self, member: Connection, heard: list[Heard], not_for: Counter[Heard]
    ) -> None:
        """Hand to somebody who has come from another loop what is not that loop's business."""
        for batch in heard:
            if _is_of(batch.origin, member):
                continue
            if self.passages.is_for(member, batch.origin, batch.batch):
                self._clients.say(member, batch.body)
            else:
                not_for[batch] += 1
        self.passages.see_through(member)

    def _speakers(self, room: LocalRoom, heard: list[Heard]) -> set[Connection]:
        """Return the members here who have said something of it."""
        speakers = set()
        for origin, *_ in heard:
            speaker = self._clients.of_session(origin.slot, origin.generation)
            if speaker is not None and speaker in room.members:
                speakers.add(speaker)
        return speakers

    def _has_room(self, member: Connection, room: LocalRoom, heard: list[Heard]) -> bool:
        """Say whether a slow reader can take more; else count what he misses."""
        backlog = member.backlog
        membership = room.members[member]
        if backlog is not None and backlog.pending_bytes >= self._pending_limit:
            membership.missed += sum(
                batch.lines for batch in heard if not _is_of(batch.origin, member)
            )
            self._members.note_change(member)
            return False
        self._tell_of_missed(member, room)
        return True

    def catch_up(self, member: Connection) -> None:
        """Tell a slow reader, who has read all that there was, what he has missed."""
        if member.backlog is None:
            for membership in member.rooms.values():
                if member in membership.room.members:
                    self._tell_of_missed(member, membership.room)

    def _tell_of_missed(self, member: Connection, room: LocalRoom) -> None:
        membership = member.rooms[room.key]
        if membership.missed:
            self._clients.say(member, words.missed(room.name, membership.missed))
            membership.missed = 0
            self._members.note_change(member)

    # Answering: how many were reached

    def settle(self, unsent: Mapping[bytes, Connection]) -> None:
        """Say of each batch how many it has reached, after everything was written that could be.

        `unsent`: those who did not get all their bytes, some of them because they are gone.
        """
        if not self._reached:
            return
        lost = [member for member in unsent.values() if member.backlog is None and member.rooms]
        for_loops: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for header, batch, place, reached in self._reached:
            origin = Origin.parse(header[:-1])
            left = reached - sum(1 for member in lost if _was_reached(member, place, origin))
            for_loops.setdefault((origin.p_id, origin.t_id), []).append((batch, left))
        self._reached.clear()
        for loop, pairs in for_loops.items():
            if loop == self._here:
                self._receipts.has_answered |= bool(lost)  # or see `restore`
                self.receive_reached(pairs)
            else:
                self._receipts.has_answered = True
                self._routes.outbox(*loop).add(envelope.pack_reached(pairs))

    def receive_reached(self, pairs: list[tuple[int, int]]) -> None:
        """Add up what loops have reached; answer the batches of which all have said so."""
        for batch, reached in pairs:
            pending = self._pending.get(batch)
            if pending is None:
                continue  # of a predecessor who kept no record (`durability = "fast"`)
            pending.loops -= 1
            pending.reached += reached
            if not pending.loops:
                del self._pending[batch]
                lines = words.told(pending.room, pending.reached, pending.tags)
                self._receipts.answer(pending.origin, len(lines), lines)

    # What outlives the process

    def record(self) -> RoomsRecord | None:
        """Return what a successor must know of this turn, for its record."""
        memberships = self._members.record()
        heard = self.passages.record()
        if not (memberships or self._pending or self._reached or heard):
            return None
        pending = [
            (batch, p.origin.header, p.room, p.tags, p.loops, p.reached)
            for batch, p in self._pending.items()
        ]
        return RoomsRecord(memberships, pending, list(self._reached), heard)

    def publish(self) -> None:
        """Bring into force what was recorded."""
        self._members.publish()
        self.passages.publish()

    def restore(self, record: Record | None, *, is_settled: bool) -> None:
        """Go on where a predecessor was; its clients have been restored."""
        self._members.reset_counts()
        self.passages.restore()
        if record is None or record.rooms is None:
            return
        for batch, header, room, tags, loops, reached in record.rooms.pending:
            origin = Origin.parse(header[:-1])
            self._pending[batch] = _Pending(origin, room, tags, loops, reached)
        if is_settled:
            # We have added up what we reached of our own, and recorded nothing since: there was
            # nothing to send. (Else `reached` is empty: it was settled before the record was made.)
            self.receive_reached([(batch, n) for _, batch, _, n in record.rooms.reached])
        else:
            self._reached = record.rooms.reached


def _is_of(origin: Origin, member: Connection) -> bool:
    """Say whether a batch is of this client itself."""
    return origin.slot == member.slot and origin.generation == member.generation


def _was_reached(member: Connection, place: int, origin: Origin) -> bool:
    """Say whether a client who is gone now was counted as reached by a batch in this turn."""
    if _is_of(origin, member):
        return False
    return any(m.room.place == place and not m.missed for m in member.rooms.values())
