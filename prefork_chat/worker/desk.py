"""Where a client's commands are carried out: all but CHAT to somebody who is here.

`chat.commands` decides what a line asks for (an effect); this module does it: claims and frees
names in the registry, lists who is here, says how the daemon is doing. Owner: one loop; only its
thread comes here, while it holds the turn. Claiming and freeing take the registry's write
semaphore, the only thing in a turn that can block.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, assert_never

from prefork_chat.chat import outcomes
from prefork_chat.chat.effects import (
    Claim,
    Close,
    Effect,
    Leave,
    ListNames,
    Refuse,
    Reply,
    Report,
    Route,
)
from prefork_chat.registry.registry import NameInUse

if TYPE_CHECKING:
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.clients import Clients
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.departures import Departures
    from prefork_chat.worker.operator import Operator


MOST_LINES = 4096
"""With so many lines on their way to it, a client must read before it may ask for lists: a chunk
of 3,000 WHOS would otherwise be answered with hundreds of megabytes."""


class Desk:
    """Carries effects out for the clients of loop (p_id, t_id)."""

    __slots__ = ("_clients", "_departures", "_operator", "_registry", "_table")

    def __init__(
        self,
        inheritance: Inheritance,
        clients: Clients,
        departures: Departures,
        operator: Operator,
    ) -> None:
        self._registry = inheritance.registry
        self._table = inheritance.table
        self._clients = clients
        self._departures = departures
        self._operator = operator

    def carry_out(self, connection: Connection, effect: Effect, now: float) -> None:
        """Do what `effect` asks and answer the client; `now` is the turn's monotonic time."""
        say = self._clients.say
        match effect:
            case ListNames() | Report() if len(connection.out) >= MOST_LINES:
                say(connection, outcomes.too_much_asked(effect))
            case Reply(lines):
                say(connection, *lines)
                connection.note_extras()
            case Refuse(line):
                say(connection, line)
            case Claim():
                say(connection, self._claim(connection, effect))
            case ListNames(tag):
                say(connection, *outcomes.listed(self._registry.names(), tag))
            case Report(tag):
                say(connection, *outcomes.reported(self._figures(), tag))
            case Leave(tag):
                self._departures.begin(connection, now, outcomes.left(tag))
            case Close(line):
                self._departures.begin(connection, now, line)
            case Route():
                raise AssertionError("routes are the loop's own business")
            case _:
                assert_never(effect)

    def _claim(self, connection: Connection, claim: Claim) -> bytes:
        objection = self._operator.objection(connection, claim)
        if objection is not None:
            return objection
        try:
            self._registry.enter(connection.slot, connection.generation, claim.key, claim.name)
        except NameInUse:
            return outcomes.name_in_use(claim)
        self._departures.forget_login(connection)
        answer = outcomes.joined(connection.session, claim)
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
