"""What the operator may do to the clients of a loop: talk to them, mute them, send them away.

A directive comes as an "O" section of a datagram, numbered like those of loops, and is carried out
in the turn that takes it: what clients are told and what becomes of them is in that turn's record,
and so is the number. A worker that is killed loses no directive, and its successor repeats none.
Whoever moves to another worker (`leaving`) at that very moment may miss one.

Whom the operator has banned or muted is in a file (`bans`) that is looked at when somebody joins,
and again when the muted speaks: so both end by themselves, and hold after a restart. Owner: one
loop, in its turn.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, assert_never

from prefork_chat.bans import Bans, applies_to
from prefork_chat.chat import outcomes
from prefork_chat.config import resolve_state_dir
from prefork_chat.protocol import directives
from prefork_chat.protocol.directives import Expel, Kick, Mute, Note, Tell
from prefork_chat.worker import progress
from prefork_chat.worker.departures import NEVER
from prefork_chat.worker.events import host_of

if TYPE_CHECKING:
    from prefork_chat.chat.effects import Claim
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.protocol.directives import Directive
    from prefork_chat.worker.clients import Clients
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.departures import Departures
    from prefork_chat.worker.events import Events


class Operator:
    """The operator's arm in loop (p_id, t_id)."""

    __slots__ = (
        "_are_any_banned",
        "_bans",
        "_clients",
        "_departures",
        "_events",
        "_looked_at",
        "_pending_limit",
    )

    def __init__(
        self, inheritance: Inheritance, clients: Clients, departures: Departures, events: Events
    ) -> None:
        self._bans = Bans(resolve_state_dir(inheritance.config))
        self._pending_limit = inheritance.config.limits.client_pending_bytes
        self._are_any_banned = False
        self._looked_at = NEVER
        self._clients = clients
        self._departures = departures
        self._events = events

    # Directives

    def obey(self, header: bytes, body: bytes, now: float) -> None:
        """Carry out the directive of a section; `now` is the turn's monotonic time."""
        self._looked_at = NEVER  # whom it is about may be in the file, and JOIN in this very turn
        place, visit, number = directives.parse_header(header)
        count = self._carry_out(directives.parse(body), now)
        self._events.answer(place, visit, number, count)

    def _carry_out(self, directive: Directive, now: float) -> int:
        """Return how many sessions it was about."""
        match directive:
            case Note(text):
                line = outcomes.operator_says(text)
                return sum(self._say(each, line) for each in self._clients.everybody())
            case Tell(name, text):
                found = self._find(name)
                return sum(self._say(each, outcomes.operator_says(text)) for each in found)
            case Kick(name, terms):
                return self._dismiss(self._find(name), outcomes.kicked(terms), now)
            case Expel(target, terms):
                found = [each for each in self._clients.everybody() if _is_at(each, target)]
                return self._dismiss(found, outcomes.banned(terms), now)
            case Mute(name):
                found = self._find(name)
                for connection in found:
                    self._tell_of_its_voice(connection)
                return len(found)
            case _:
                assert_never(directive)

    def _find(self, name: str) -> list[Connection]:
        found = self._clients.find(name.encode())
        return [] if found is None or found.is_departing else [found]

    def _say(self, connection: Connection, line: bytes) -> bool:
        """Say something to a client that reads; who has too much to read already misses it."""
        backlog = connection.backlog
        if connection.is_departing or (
            backlog is not None and backlog.pending_bytes >= self._pending_limit
        ):
            return False
        self._clients.say(connection, line)
        return True

    def _dismiss(self, found: list[Connection], last_words: bytes, now: float) -> int:
        for connection in found:
            self._departures.dismiss(connection, now, last_words)
        return len(found)

    # Voices

    def _tell_of_its_voice(self, connection: Connection) -> None:
        """Do what the file says, and tell the client, so that the turn's record has it."""
        mute = self._bans.of_name("mute", connection.session.key, time.time())
        _set_muted(connection, is_muted=mute is not None)
        line = outcomes.heard_again() if mute is None else outcomes.muted(mute.terms)
        self._clients.say(connection, line)

    def reconsider(self, connection: Connection) -> None:
        """Give a muted client that speaks its voice back, if its time is over."""
        if self._bans.of_name("mute", connection.session.key, time.time()) is None:
            _set_muted(connection, is_muted=False)

    # Who joins

    def objection(self, connection: Connection, claim: Claim, now: float) -> bytes | None:
        """Return the refusal of a JOIN by a banned name, or from a banned address, or None.

        `now` is the turn's monotonic time: all who join in a turn are worth one look at the file.
        """
        if now != self._looked_at:
            self._are_any_banned = self._bans.are_any
            self._looked_at = now
        if not self._are_any_banned:
            return None
        today = time.time()
        ban = self._bans.of_name("ban", claim.key, today)
        if ban is None and self._bans.has_addresses:
            ban = self._bans.of_address(host_of(connection.socket), today)
        return None if ban is None else outcomes.not_admitted(claim, ban.terms)

    def welcome(self, connection: Connection) -> None:
        """Take note of a client that has joined; a mute of its name is of that client, too.

        To be called right behind `objection`.
        """
        if self._are_any_banned and self._bans.of_name("mute", connection.session.key, time.time()):
            _set_muted(connection, is_muted=True)
        self._events.joined(connection)


def _set_muted(connection: Connection, *, is_muted: bool) -> None:
    """Set the flag, which the session's word takes along.

    Without an origin each of its lines goes where the flag is looked at.
    """
    connection.session.muted = is_muted
    connection.flags = connection.flags & ~progress.MUTED | progress.MUTED * is_muted
    connection.origin = None


def _is_at(connection: Connection, target: str) -> bool:
    if connection.is_departing:
        return False
    return applies_to(target, connection.session.key, host_of(connection.socket))
