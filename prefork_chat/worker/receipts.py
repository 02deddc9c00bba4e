"""What became of the messages: receipts, refusals and bounces, on both of their ends.

The loop that delivers a message answers for it, once the kernel has taken the bytes that it wrote:
that is the promise of `OK CHAT`. What needs no write, a refusal or a name that is not here, is
answered at once. The answer goes to the loop that has the sender's session then, wherever it was
when the message was sent; that loop gives it to whoever holds the slot in that generation, and to
nobody else. Owner: one loop, in its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.chat import outcomes
from prefork_chat.protocol import envelope
from prefork_chat.protocol.envelope import Origin
from prefork_chat.protocol.names import fold
from prefork_chat.protocol.replies import Code
from prefork_chat.worker.spill import Awaited
from prefork_chat.worker.storing import Storing

if TYPE_CHECKING:
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.backlog import Backlog
    from prefork_chat.worker.clients import Clients
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.journal import Delivery
    from prefork_chat.worker.routes import Routes


class Careful:
    """The lines of one delivery that needed more than an append.

    `accepted` were handed to a client, as (tag or b"", destination); `refusals` are final answers
    for their sender, to the lines `refused`; `strays` are lines for names that are not at this
    loop. If they are said by an account (`is_for_history`), those handed to accounts are `filed`
    instead, as lines, with their `receipts`.
    """

    __slots__ = (
        "accepted",
        "filed",
        "is_for_history",
        "receipts",
        "refusals",
        "refused",
        "strays",
    )

    def __init__(self, *, is_for_history: bool = False) -> None:
        self.is_for_history = is_for_history
        self.filed: list[bytes] = []
        self.receipts: list[bytes] = []
        self.accepted: list[tuple[bytes, bytes]] = []
        self.refusals: list[bytes] = []
        self.refused: list[bytes] = []
        self.strays: list[bytes] = []

    def delivered(self, lines: list[bytes]) -> list[bytes]:
        """Return those of the delivery's lines that were handed to a client."""
        others = {*self.refused, *self.strays}
        return [line for line in lines if line not in others]


class Receipts:
    """The answers that loop (p_id, t_id) owes and the ones that its clients wait for.

    The loop appends to `deliveries` what it has put into clients' `out` in this turn: an origin,
    the destinations of its plain lines, and (tag, destination) of the others. It notes in `unsent`,
    by key, the clients that did not get all their bytes, and in `doubtful` those of which nobody
    knows. `has_answered` is set with every answer, until somebody clears it.
    """

    def __init__(
        self, inheritance: Inheritance, t_id: int, clients: Clients, routes: Routes
    ) -> None:
        self._here = (inheritance.p_id, t_id)
        self._registry = inheritance.registry
        self._clients = clients
        self._routes = routes
        self.storing = Storing(inheritance, routes)
        self.deliveries: list[tuple[Origin, list[bytes], list[tuple[bytes, bytes]]]] = []
        self.unsent: dict[bytes, Connection] = {}
        self.doubtful: set[bytes] = set()
        self.has_answered = False
        self.delivered = 0
        self.bounced = 0

    def turn_back(self, origin: Origin, careful: Careful) -> None:
        """Answer for the lines of a delivery that go to nobody here."""
        if careful.refusals:
            self.answer(origin, len(careful.refusals), careful.refusals)
        if careful.strays:
            self.bounced += len(careful.strays)
            self._reroute(origin, careful.strays)

    def record(self) -> list[Delivery]:
        """Return what `settle` will answer for, for the turn's record."""
        return [(origin.header, plain, tagged) for origin, plain, tagged in self.deliveries]

    def restore(self, deliveries: list[Delivery]) -> None:
        """Take over what a predecessor had to answer for."""
        for header, plain, tagged in deliveries:
            self.deliveries.append((Origin.parse(header[:-1]), plain, tagged))

    def settle(self) -> None:
        """Answer for the deliveries of this turn, after everything was written that could be."""
        for origin, plain, tagged in self.deliveries:
            if not self.unsent and not self.doubtful and not tagged:
                self.delivered += len(plain)
                if not origin.is_quiet:
                    self.answer(origin, len(plain), [outcomes.all_delivered(plain)])
            else:
                self._settle_carefully(origin, plain, tagged)
        self.deliveries.clear()
        if self.storing.filings:
            self.storing.settle(self)
        self.unsent.clear()
        self.doubtful.clear()

    def _settle_carefully(
        self, origin: Origin, plain: list[bytes], tagged: list[tuple[bytes, bytes]]
    ) -> None:
        """Answer line by line: wait for slow readers, refuse for the gone."""
        failures = []
        confirmations = []
        for tag, name in [(b"", name) for name in plain] + tagged:
            key = fold(name)
            connection = self.unsent.get(key)
            if key in self.doubtful:
                failures.append(outcomes.undelivered(Code.UNSURE, name, tag))
            elif connection is None:
                self.delivered += 1
                confirmations.append(outcomes.delivered(name, tag))
            elif connection.backlog is not None:
                connection.backlog.await_receipt(Awaited(origin, tag, name))
            else:
                failures.append(outcomes.undelivered(Code.NOUSER, name, tag))
        lines = failures if origin.is_quiet else confirmations + failures
        if lines:
            self.answer(origin, len(lines), lines)

    def release(self, receipts: list[Awaited]) -> None:
        """Confirm messages to a slow reader whose last byte the kernel has now taken."""
        for awaited in receipts:
            origin, tag, name, message = awaited
            if message:
                self.storing.file_late(self, awaited)
                continue
            self.delivered += 1
            if not origin.is_quiet:
                self.answer(origin, 1, [outcomes.delivered(name, tag)])

    def abandon(self, backlog: Backlog) -> None:
        """Answer for what a client that is gone did not get; part of it he may have got."""
        torn, untouched = backlog.abandon()
        for origin, tag, name, _ in torn:
            self.answer(origin, 1, [outcomes.undelivered(Code.UNSURE, name, tag)])
        for origin, tag, name, _ in untouched:
            self.answer(origin, 1, [outcomes.undelivered(Code.NOUSER, name, tag)])

    def answer(self, origin: Origin, answered: int, lines: list[bytes]) -> None:
        """Send reply lines to a session, settling `answered` of its CHATs."""
        self.has_answered = True
        connection = self._clients.of_session(origin.slot, origin.generation)
        if connection is not None:
            self._receive_here(connection, answered, b"\n".join(lines))
        else:
            self._send(origin.slot, origin.generation, answered, lines)

    def receive(self, slot: int, generation: int, answered: int, text: bytes) -> None:
        """Give reply lines to the session that waits for them."""
        connection = self._clients.of_session(slot, generation)
        if connection is not None:
            self._receive_here(connection, answered, text)
        else:
            self._send(slot, generation, answered, text.split(b"\n"))

    def pass_on(self, slot: int, generation: int, text: bytes) -> None:
        """Bring lines that are no answers to a session that has moved to another loop."""
        self.receive(slot, generation, 0, text)

    def _receive_here(self, connection: Connection, answered: int, text: bytes) -> None:
        connection.outstanding = max(0, connection.outstanding - answered)
        self._clients.say(connection, text)

    def _send(self, slot: int, generation: int, answered: int, lines: list[bytes]) -> None:
        """Send reply lines to the loop that has a session that is not here, or not any more.

        If it is over, or about to be, they are nobody's business any more.
        """
        if not generation:  # of no session: the historian asks what became of what it has sent
            for section in envelope.pack_receipts(slot, generation, answered, lines):
                self._routes.historian.add(section)
            return
        loop = self._registry.loop_of(slot, generation)
        if loop is None or (loop == self._here and slot not in self._clients.released):
            return
        for section in envelope.pack_receipts(slot, generation, answered, lines):
            if loop == self._here:
                self._routes.hold(section)
            else:
                self._routes.outbox(*loop).add(section)

    def _reroute(self, origin: Origin, lines: list[bytes]) -> None:
        """Send lines on whose names are not, or no longer, here; tell the sender of the missing.

        A name that the registry has here and we have not is of somebody who is on his way to
        another loop, or else is leaving. Other lines cannot go on for ever: the registry names a
        loop for as long as that loop has the name, save for the rest of the turn in which its owner
        leaves.
        """
        held = []
        refusals = []
        for line in lines:
            tag, destination, _ = envelope.parse_line(line)
            outbox = self._routes.find(destination)
            if outbox is self._routes.own and self._clients.find(fold(destination)) is None:
                if self._routes.by_name[destination][1] in self._clients.released:
                    held.append(line)
                    continue
                outbox = None
            if outbox is None:
                refusals.append(outcomes.undelivered(Code.NOUSER, destination, tag))
                continue
            outbox.lines.append(line)
            outbox.seal(origin)
        if held:
            self._routes.hold(envelope.pack_messages(origin, held))
        if refusals:
            self.answer(origin, len(refusals), refusals)
