r"""When a client goes, and in which order: answers, then the name, last words, the socket.

A client departs by LEAV, by end of file, by a fault that the protocol cannot survive, or by not
saying who it is in time. Before it goes, every CHAT that it sent is answered, so `printf 'JOIN
a\\nCHAT b hi\\n' | nc -N HOST PORT` sees its receipts. Who is sent away by the operator goes at
once. Owner: one loop, in its turn, after the turn's receipts are settled.
"""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING

from prefork_chat.chat import outcomes
from prefork_chat.worker import progress
from prefork_chat.worker.connection import Connection, Pause

if TYPE_CHECKING:
    from prefork_chat.worker.clients import Clients

SETTLE_SECONDS = 5.0
"""The longest that a departing client waits for the outcome of its last messages."""

QUIET_SETTLE_SECONDS = 0.2
"""The same for a quiet one: it gets errors only, so nobody knows whether all of them have come."""

FLUSH_SECONDS = 5.0
"""The longest that we wait for a departing client to read its last lines."""

NEVER = float("inf")


class Departures:
    """The clients of a loop that are on their way out, and those that have yet to JOIN."""

    __slots__ = ("_clients", "_departing", "_login_seconds", "_logins")

    def __init__(self, clients: Clients, login_seconds: float) -> None:
        self._clients = clients
        self._login_seconds = login_seconds
        self._logins: OrderedDict[Connection, float] = OrderedDict()
        self._departing: list[Connection] = []

    def expect_login(self, connection: Connection, now: float) -> None:
        """Give a new client `login_seconds` to JOIN."""
        self._logins[connection] = now + self._login_seconds

    def forget_login(self, connection: Connection) -> None:
        """Note that a client has joined, or is gone: nobody waits for its JOIN any more."""
        self._logins.pop(connection, None)

    def begin(self, connection: Connection, now: float, *last_words: bytes) -> None:
        """Read no more; once its messages are answered free the name, say `last_words`, close."""
        if connection.is_departing:
            return
        self.forget_login(connection)
        # Its events come still: edge by edge, not many more before it is closed.
        connection.pauses |= Pause.DEPARTING.value
        connection.last_words = last_words
        is_quiet = connection.session.quiet
        connection.departs_at = now + (QUIET_SETTLE_SECONDS if is_quiet else SETTLE_SECONDS)
        self._departing.append(connection)

    def dismiss(self, connection: Connection, now: float, *last_words: bytes) -> None:
        """Free the name and say `last_words` in this turn, then close: no answer is waited for."""
        if connection.is_departing:
            return
        self.forget_login(connection)
        self._clients.pause(connection, Pause.DEPARTING)
        connection.last_words = last_words
        self._say_goodbye(connection, now)
        self._departing.append(connection)

    def resume(self, connection: Connection, now: float) -> None:
        """Go on with an adopted client that has been sent its last words."""
        self._clients.pause(connection, Pause.DEPARTING)
        connection.has_said_goodbye = True
        connection.departs_at = now + FLUSH_SECONDS
        self._departing.append(connection)

    def due(self, now: float) -> list[Connection]:
        """Take every departure one step further; return the connections to be closed now."""
        self._expire_logins(now)
        if not self._departing:
            return []
        departing, self._departing = self._departing, []
        finished: list[Connection] = []
        for connection in departing:
            if connection.fd < 0:
                continue
            is_finished = self._advance(connection, now)
            (finished if is_finished else self._departing).append(connection)
        return finished

    def say_goodbyes(self) -> None:
        """Let those go who wait for nothing: their last words are in the turn that they left in."""
        for connection in self._departing:
            if not (connection.has_said_goodbye or connection.fd < 0 or _is_waiting(connection)):
                self._say_goodbye(connection, monotonic())

    def finished(self) -> list[Connection]:
        """Take out those who have been written their last words; they are to be closed now."""
        if not self._departing:
            return []
        finished = [connection for connection in self._departing if _has_gone(connection)]
        if finished:
            self._departing = [each for each in self._departing if not _has_gone(each)]
        return finished

    def unsaid(self) -> dict[int, list[bytes]]:
        """Return the last words, by slot, of those who have yet to be sent them."""
        return {
            connection.slot: list(connection.last_words)
            for connection in self._departing
            if connection.last_words and not connection.has_said_goodbye and connection.fd >= 0
        }

    def _advance(self, connection: Connection, now: float) -> bool:
        """Return True when the connection has said all that it had to say, or had its time."""
        if not connection.has_said_goodbye:
            if _is_waiting(connection) and now < connection.departs_at:
                return False
            self._say_goodbye(connection, now)
        return _has_gone(connection) or now >= connection.departs_at

    def _say_goodbye(self, connection: Connection, now: float) -> None:
        connection.has_said_goodbye = True
        connection.departs_at = now + FLUSH_SECONDS
        connection.flags |= progress.LEAVING
        self._clients.withdraw(connection)
        if connection.last_words:
            self._clients.say(connection, *connection.last_words)

    def _expire_logins(self, now: float) -> None:
        while self._next_login_by() <= now:
            self.begin(next(iter(self._logins)), now, outcomes.login_expired())

    def _next_login_by(self) -> float:
        return next(iter(self._logins.values())) if self._logins else NEVER

    def wake_at(self) -> float:
        """When the loop has to look here again at the latest, in monotonic seconds."""
        login_by = self._next_login_by()
        if not self._departing:
            return login_by
        return min(login_by, *[connection.departs_at for connection in self._departing])


def _is_waiting(connection: Connection) -> bool:
    """Say whether outcomes of its messages are to come, or may be, before it goes."""
    return bool(connection.outstanding or (connection.session.quiet and connection.session.name))


def _has_gone(connection: Connection) -> bool:
    """Say whether it has been written all that it was to hear."""
    return connection.has_said_goodbye and not connection.out and connection.backlog is None
