"""What of a loop's messages goes to the historian, and when.

Messages between two accounts that are here are delivered like all others; but when the kernel has
them the loop does not answer for them: it files them with the historian, which answers once they
are stored. What guests say or are told is nobody's history and costs nothing here. Messages for
accounts that are away are sent to the historian in their stead (`Routes.find`), and when an account
has joined, its loop calls for what waits for it. Owner: one loop, in its turn.
"""

from __future__ import annotations

from collections import defaultdict
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

    The loop has `arrange` note in `filings` what it has put into clients' `out`: origin, number of
    lines, lines and receipts.
    """

    __slots__ = ("_answers", "_count", "_filed", "_limit_bytes", "_routes", "filings", "is_on")

    def __init__(self, inheritance: Inheritance, routes: Routes) -> None:
        self.is_on = inheritance.config.history.enabled
        self._limit_bytes = MOST_BEHIND * inheritance.config.limits.outbox_bytes
        self._routes = routes
        self.filings: list[tuple[Origin, int, bytes, bytes]] = []
        self._filed: list[bytes] = []
        self._answers: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
        self._count = 0

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
        self.filings.append((origin, len(lines), b"\n".join(lines), answers))

    def record(self) -> list[Filing]:
        """Return what `settle` will file, for the turn's record."""
        return [(origin.header, lines, answers) for origin, _, lines, answers in self.filings]

    def restore(self, filings: Iterable[Filing]) -> None:
        """Take over what a predecessor had to file."""
        for header, lines, answers in filings:
            origin = Origin.parse(header[:-1])
            self.filings.append((origin, lines.count(b"\n") + 1, lines, answers))

    def settle(self, receipts: Receipts) -> None:
        """File what was written; wait for slow readers; refuse for the gone."""
        if receipts.unsent or receipts.doubtful:
            for origin, _, lines, answers in self.filings:
                self._settle_carefully(receipts, origin, lines, answers)
        else:
            for filing in self.filings:
                self._file(*filing)
        self.filings.clear()
        self._hand_in(receipts)

    def _settle_carefully(
        self, receipts: Receipts, origin: Origin, lines: bytes, answers: bytes
    ) -> None:
        """Settle line by line."""
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
            self._file(origin, len(taken), b"\n".join(taken), told)
        if failures:
            receipts.answer(origin, len(failures), failures)

    def file_late(self, receipts: Receipts, awaited: Awaited) -> None:
        """Have a line stored whose last byte the kernel has taken now, and then confirmed."""
        origin, tag, name, message = awaited
        line = envelope.pack_line(tag, name, message)
        answer = b"" if origin.is_quiet else outcomes.delivered(name, tag)
        self._file(origin, 1, line, answer)
        self._hand_in(receipts)

    def _file(self, origin: Origin, count: int, lines: bytes, answers: bytes) -> None:
        self._filed.append(envelope.pack_filed(origin.name, lines))
        self._count += count
        if answers:
            receipt = envelope.pack_receipt(origin.slot, origin.generation, count, answers)
            self._answers[origin.p_id, origin.t_id].append(receipt)

    def _hand_in(self, receipts: Receipts) -> None:
        """Send the historian what was filed, ready to be stored, then its receipts, by loop.

        A sender who has moved since then gets his from the loop that he was at.
        """
        if not self._filed:
            return
        historian = self._routes.historian
        for filed in envelope.portions(self._filed):
            historian.add(envelope.pack_store(filed))
        for loop, answers in self._answers.items():
            for sections in envelope.portions(answers):
                historian.add(envelope.pack_send_on(*loop, sections))
        receipts.delivered += self._count
        receipts.has_answered = True
        self._filed.clear()
        self._answers.clear()
        self._count = 0
