"""Where a client's commands are carried out: all but CHAT to somebody who is here.

`chat.commands` decides what a line asks for (an effect); this module does it: claims and frees
names in the registry, lists who is here, says how the daemon is doing. What takes longer than a
turn may it has a clerk find out (`inquiries`), and does what comes of that. Rooms have a desk of
their own (`roomdesk`).

Owner: one loop, in its turn. Claiming and freeing take the registry's write semaphore, the only
thing in a turn that can block.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple, assert_never

from prefork_chat.chat import outcomes
from prefork_chat.chat.effects import (
    Act,
    Admit,
    Answer,
    Authenticate,
    Claim,
    Close,
    Effect,
    Enrol,
    EnterRoom,
    ExitRoom,
    FindWords,
    Leave,
    ListMembers,
    ListNames,
    ListRooms,
    Question,
    ReadHistory,
    Refuse,
    Reply,
    Report,
    Route,
    SetPassword,
    TellRoom,
    Vouch,
)
from prefork_chat.registry.sessions import NameInUse
from prefork_chat.worker import librarian
from prefork_chat.worker.roomdesk import RoomDesk

if TYPE_CHECKING:
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.clients import Clients
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.credentials import Credentials
    from prefork_chat.worker.departures import Departures
    from prefork_chat.worker.inquiries import Inquiries
    from prefork_chat.worker.operator import Operator
    from prefork_chat.worker.rooms import Rooms


MOST_LINES = 4096
"""With so many lines on their way to it, a client must read before it may ask for lists: a chunk
of 3,000 WHOS would otherwise be answered with hundreds of megabytes."""


class Staff(NamedTuple):
    """Who does what the desk does not do itself."""

    departures: Departures
    rooms: Rooms
    inquiries: Inquiries
    credentials: Credentials
    operator: Operator


class Desk:
    """Carries effects out for the clients of loop (p_id, t_id)."""

    __slots__ = (
        "_clients",
        "_credentials",
        "_departures",
        "_inquiries",
        "_operator",
        "_registry",
        "_room_desk",
        "_rooms",
        "_table",
    )

    def __init__(self, inheritance: Inheritance, clients: Clients, staff: Staff) -> None:
        self._registry = inheritance.registry
        self._table = inheritance.table
        self._clients = clients
        self._departures, self._rooms, self._inquiries, self._credentials, self._operator = staff
        self._room_desk = RoomDesk(inheritance, clients, staff.rooms)

    def carry_out(self, connection: Connection, effect: Effect, now: float) -> None:
        """Do what `effect` asks and answer the client; `now` is the turn's monotonic time."""
        if isinstance(effect, Claim | Authenticate | SetPassword):
            effect = self._credentials.examine(connection, effect)
        elif isinstance(effect, ReadHistory | FindWords):
            effect = librarian.admit(connection, effect)
        if not isinstance(effect, Question):
            connection.inquiry = None
            self._act(connection, effect, now)
        elif (answer := self._inquiries.ask(connection, effect)) is not None:
            self._answer(connection, answer, now)

    def _act(  # noqa: C901 - a table
        self, connection: Connection, effect: Act, now: float
    ) -> None:
        say = self._clients.say
        match effect:
            case ListNames() | ListMembers() | ListRooms() | Report() if (
                len(connection.out) >= MOST_LINES
            ):
                say(connection, outcomes.too_much_asked(effect))
            case Reply(lines):
                say(connection, *lines)
                if connection.note_extras():
                    self._rooms.presence.begin_all(connection)
            case Refuse(line):
                say(connection, line)
            case Claim():
                say(connection, self._claim(connection, effect, now, is_owner=False))
            case ListNames(tag):
                say(connection, *outcomes.listed(self._registry.names(), tag))
            case Report(tag):
                say(connection, *outcomes.reported(self._figures(), tag))
            case Leave(tag):
                self._departures.begin(connection, now, outcomes.left(tag))
            case Close(line):
                self._departures.begin(connection, now, line)
            case TellRoom() | EnterRoom() | ExitRoom() | ListMembers() | ListRooms():
                self._room_desk.carry_out(connection, effect)
            case Route():
                raise AssertionError("routes are the loop's own business")
            case _:
                assert_never(effect)

    def _answer(self, connection: Connection, answer: Answer, now: float) -> None:
        """Do what a question has come to."""
        say = self._clients.say
        match answer:
            case Reply(lines):
                say(connection, *lines)
            case Refuse(line):
                say(connection, line)
            case Admit(claim, is_owner):
                say(connection, self._claim(connection, claim, now, is_owner=is_owner))
            case Vouch():
                say(connection, outcomes.vouched(connection.session, answer))
            case Enrol(tag):
                say(connection, outcomes.enrolled(connection.session, tag))
                connection.note_registered()
            case _:
                assert_never(answer)

    def _claim(self, connection: Connection, claim: Claim, now: float, *, is_owner: bool) -> bytes:
        objection = self._operator.objection(connection, claim, now)
        if objection is not None:
            return objection
        try:
            self._registry.enter(connection.slot, connection.generation, claim.key, claim.name)
        except NameInUse:
            return outcomes.name_in_use(claim)
        self._departures.forget_login(connection)
        answer = outcomes.joined(connection.session, claim, is_owner=is_owner)
        connection.note_registered()
        self._clients.enter(connection)
        self._operator.welcome(connection)
        return answer

    def _figures(self) -> dict[bytes, int]:
        rows = self._table.snapshot()
        started_ns = min((row.started_ns for row in rows if row.pid), default=0)
        return {
            b"workers": sum(1 for row in rows if row.pid),
            b"loops": sum(len(row.loops) for row in rows if row.pid),
            b"clients": sum(loop.clients for row in rows for loop in row.loops),
            b"names": self._registry.count,
            b"accepted": sum(row.accepted for row in rows),
            b"delivered": sum(loop.delivered for row in rows for loop in row.loops),
            b"refused": sum(loop.refused for row in rows for loop in row.loops),
            b"oldest_worker_seconds": (monotonic_ns() - started_ns) // 1_000_000_000,
        }
