"""Where a client's commands about rooms are carried out: ENTR, EXIT, CHAT #room, ROOM, WHOS #room.

`chat.commands` decides what a line asks for (an effect), `chat.rooms` has the words of the answers.
What is said goes on to `rooms`, which answers once it knows whom it has reached. Called by `desk`.
Owner: one loop, in its turn. Entering a room takes the registry's write semaphore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.chat import rooms as words
from prefork_chat.chat.effects import (
    EnterRoom,
    ExitRoom,
    ListMembers,
    ListRooms,
    RoomEffect,
    TellRoom,
)
from prefork_chat.protocol.names import fold
from prefork_chat.registry.rooms import RoomsFull
from prefork_chat.worker import progress
from prefork_chat.worker.members import LocalRoom

if TYPE_CHECKING:
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.clients import Clients
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.rooms import Rooms


class RoomDesk:
    """Carries out what the clients of a loop ask about rooms."""

    __slots__ = ("_clients", "_loop", "_members", "_most_rooms", "_rooms", "_table")

    def __init__(self, inheritance: Inheritance, clients: Clients, rooms: Rooms) -> None:
        self._loop = rooms.loop
        self._table = inheritance.registry.rooms
        self._most_rooms = inheritance.config.limits.rooms_per_client
        self._clients = clients
        self._members = clients.members
        self._rooms = rooms

    def carry_out(self, connection: Connection, effect: RoomEffect) -> None:
        """Do what a command asks and answer the client."""
        say = self._clients.say
        match effect:
            case TellRoom():
                membership = connection.rooms.get(fold(effect.room))
                if membership is None:
                    say(connection, self._not_in(effect))
                else:
                    self._rooms.say(connection, membership.room, effect.message, effect.tag)
            case EnterRoom():
                say(connection, self._enter(connection, effect))
            case ExitRoom():
                say(connection, self._exit(connection, effect))
            case ListRooms(tag):
                say(connection, *words.listed(self._list(connection), tag))
            case ListMembers():
                say(connection, *self._list_members(effect))

    def _enter(self, connection: Connection, effect: EnterRoom) -> bytes:
        key = fold(effect.room)
        if not self._table.capacity:
            return words.no_rooms_here(effect)
        membership = connection.rooms.get(key)
        if membership is not None:
            room = membership.room
        elif len(connection.rooms) >= self._most_rooms:
            return words.too_many(effect, len(connection.rooms))
        else:
            try:
                room = self._members.enter(connection, key, effect.room)
            except RoomsFull:
                return words.rooms_full(effect)
            connection.flags |= progress.IN_ROOMS
            self._rooms.presence.begin(connection, room)
        return words.entered(room.name, self._count(room), effect.tag)

    def _exit(self, connection: Connection, effect: ExitRoom) -> bytes:
        membership = connection.rooms.get(fold(effect.room))
        if membership is None:
            return self._not_in(effect)
        self._members.exit(connection, membership)
        return words.exited(membership.room.name, self._count(membership.room), effect.tag)

    def _not_in(self, effect: ExitRoom | TellRoom) -> bytes:
        if self._table.find(fold(effect.room)) is None:
            return words.no_room(effect)
        return words.not_in(effect)

    def _list(self, connection: Connection) -> list[tuple[bytes, int, bool]]:
        found = []
        for room, counts in self._table.all():
            local = self._members.find(room.place, room.generation)
            if local is not None:
                counts[self._loop] = local.count
            if members := sum(counts):
                found.append((room.name, members, fold(room.name) in connection.rooms))
        return sorted(found, key=lambda listed: fold(listed[0]))

    def _list_members(self, effect: ListMembers) -> tuple[bytes, ...]:
        room = self._table.find(fold(effect.room))
        if room is None:
            return (words.no_room(effect),)
        local = self._members.find(room.place, room.generation)
        names = self._rooms.presence.names_of(local or LocalRoom(room))
        return words.members_listed(room.name, list(names), effect.tag)

    def _count(self, room: LocalRoom) -> int:
        """Return how many members a room has in all loops."""
        counts = self._table.counts(room.place)
        return sum(counts) - counts[self._loop] + room.count
