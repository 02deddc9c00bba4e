"""What of a loop's messages goes to the historian, and when.

Messages between two accounts that are here are delivered like all others; but when the kernel has
them the loop does not answer for them: it files them with the historian, which answers once they
are stored. What guests say or are told is nobody's history and costs nothing here. Messages for
accounts that are away are sent to the historian in their stead (`Routes.find`), and when an account
has joined, its loop calls for what waits for it. Owner: one loop, in its turn.
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
    from prefork_chat.worker.journal import Filing
    from prefork_chat.worker.receipts import Receipts
    from prefork_chat.worker.routes import Routes

MOST_BEHIND: Final = 4
"""So many times `outbox_bytes` may wait for the historian; above it messages to store are BUSY."""


class Storing:
    """The messages of this turn that are to be stored once they are written.

    The loop has `arrange` note in `filings` what it has put into clients' `out`.
    """

    __slots__ = ("_limit_bytes", "_routes", "filings", "is_on")

    def __init__(self, inheritance: Inheritance, routes: Routes) -> None:
        self.is_on = inheritance.config.history.enabled
        self._limit_bytes = MOST_BEHIND * inheritance.config.limits.outbox_bytes
        self._routes = routes
        self.filings: list[Filing] = []

    @property
    def is_behind(self) -> bool:
        """True while so much waits for the historian that nothing more may."""
        return self._routes.historian.pending_bytes > self._limit_bytes

    def call(self, connection: Connection) -> None:
        """Have an account that has just joined sent what waits for it."""
        if self.is_on:
            self._routes.historian.add(envelope.pack_here(connection.session.name))

    def arrange(self, origin: Origin, lines: list[bytes], receipts: bytes) -> None:
        """Have these lines of an origin filed when they are written, with their receipts."""
        answers = b"" if origin.is_quiet else receipts
        self.filings.append((origin.header, b"\n".join(lines), answers))

    def record(self) -> list[Filing]:
        """Return what `settle` will file, for the turn's record."""
        return self.filings.copy()

    def restore(self, filings: Iterable[Filing]) -> None:
        """Take over what a predecessor had to file."""
        self.filings += filings

    def settle(self, receipts: Receipts) -> None:
        """File what was written; wait for slow readers; refuse for the gone."""
        is_plain = not receipts.unsent and not receipts.doubtful
        for filing in self.filings:
            if is_plain:
                self._file(receipts, *filing)
            else:
                self._settle_carefully(receipts, *filing)
        self.filings.clear()

    def _settle_carefully(
        self, receipts: Receipts, header: bytes, lines: bytes, answers: bytes
    ) -> None:
        """Settle line by line."""
        origin = Origin.parse(header[:-1])
        taken: list[bytes] = []
        confirmations: list[bytes] = []
        failures: list[bytes] = []
        for line in lines.split(b"\n"):
            tag, name, message = envelope.parse_line(line)
            key = fold(name)
            connection = receipts.unsent.get(key)
            if key in receipts.doubtful:
                failures.append(outcomes.undelivered(Code.UNSURE, name, tag))
            elif connection is None:
                taken.append(line)
                confirmations.append(outcomes.delivered(name, tag))
            elif connection.backlog is not None:
                connection.backlog.await_receipt(Awaited(origin, tag, name, message))
            else:
                failures.append(outcomes.undelivered(Code.NOUSER, name, tag))
        if taken:
            told = b"\n".join(confirmations) if answers else b""
            self._file(receipts, header, b"\n".join(taken), told)
        if failures:
            receipts.answer(origin, len(failures), failures)

    def file_late(self, receipts: Receipts, awaited: Awaited) -> None:
        """Have a line stored whose last byte the kernel has taken now, and then confirmed."""
        origin, tag, name, message = awaited
        line = envelope.pack_line(tag, name, message)
        answer = b"" if origin.is_quiet else outcomes.delivered(name, tag)
        self._file(receipts, origin.header, line, answer)

    def _file(self, receipts: Receipts, header: bytes, lines: bytes, answers: bytes) -> None:
        receipts.delivered += lines.count(b"\n") + 1
        receipts.has_answered = True
        self._routes.historian.add(envelope.pack_filed(header, lines, answers))
