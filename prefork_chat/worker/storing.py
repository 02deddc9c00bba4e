"""What of a loop's messages goes to the historian, and when.

Messages between two accounts that are here are delivered like all others; but when the kernel has
them the loop does not answer for them: it files them with the historian, which answers once they
are stored. What guests say or are told is nobody's history and costs nothing here. Messages for
accounts that are away are sent to the historian in their stead (`Routes.find`), and when an account
has joined, its loop calls for what waits for it. Owner: one loop; only its thread comes here, while
it holds the turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork_chat.chat import outcomes
from prefork_chat.protocol import envelope
from prefork_chat.protocol.envelope import Origin
from prefork_chat.protocol.names import fold
from prefork_chat.protocol.replies import Code
from prefork_chat.worker.spill import Awaited

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.journal import Filing, Line
    from prefork_chat.worker.receipts import Receipts
    from prefork_chat.worker.routes import Routes

MOST_BEHIND: Final = 4
"""So many times `outbox_bytes` may wait for the historian; above it messages to store are BUSY."""


class Storing:
    """The messages of this turn that are to be stored once they are written.

    The loop appends to `filings` what it has put into clients' `out`: an origin and its lines.
    """

    __slots__ = ("_limit_bytes", "_routes", "filings", "is_on")

    def __init__(self, inheritance: Inheritance, routes: Routes) -> None:
        self.is_on = inheritance.config.history.enabled
        self._limit_bytes = MOST_BEHIND * inheritance.config.limits.outbox_bytes
        self._routes = routes
        self.filings: list[tuple[Origin, list[Line]]] = []

    @property
    def is_behind(self) -> bool:
        """True while so much waits for the historian that nothing more may."""
        return self._routes.historian.pending_bytes > self._limit_bytes

    def call(self, connection: Connection) -> None:
        """Have an account that has just joined sent what waits for it."""
        if self.is_on:
            self._routes.historian.add(envelope.pack_here(connection.session.name))

    def record(self) -> list[Filing]:
        """Return what `settle` will file, for the turn's record."""
        return [(origin.header, lines) for origin, lines in self.filings]

    def restore(self, filings: Iterable[Filing]) -> None:
        """Take over what a predecessor had to file."""
        self.filings += [(Origin.parse(header[:-1]), lines) for header, lines in filings]

    def settle(self, receipts: Receipts) -> None:
        """File what was written; wait for slow readers; refuse for the gone."""
        for origin, lines in self.filings:
            if not receipts.unsent and not receipts.doubtful:
                self.file(receipts, origin, lines)
                continue
            taken: list[Line] = []
            failures: list[bytes] = []
            for tag, name, message in lines:
                key = fold(name)
                connection = receipts.unsent.get(key)
                if key in receipts.doubtful:
                    failures.append(outcomes.undelivered(Code.UNSURE, name, tag))
                elif connection is None:
                    taken.append((tag, name, message))
                elif connection.backlog is not None:
                    connection.backlog.await_receipt(Awaited(origin, tag, name, message))
                else:
                    failures.append(outcomes.undelivered(Code.NOUSER, name, tag))
            if taken:
                self.file(receipts, origin, taken)
            if failures:
                receipts.answer(origin, len(failures), failures)
        self.filings.clear()

    def file(self, receipts: Receipts, origin: Origin, lines: list[Line]) -> None:
        """Have lines stored whose bytes the kernel has, and then confirmed."""
        receipts.delivered += len(lines)
        receipts.has_answered = True
        self._routes.historian.add(envelope.pack_filed(origin, lines))
