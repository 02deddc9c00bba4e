"""How a turn takes effect: recorded first, then done, and done again by a successor if need be.

While a turn reads and delivers, nothing leaves the process: client input and datagrams are peeked
at, lines and sections pile up. `carry_out` then makes it happen, in this order, and what a kill
leaves after each step is what the next worker of this p_id starts from:

    compose    what every client gets, and every loop
    commit     one record in the journal.        Killed before: it never happened; the input is
                                                 still in the kernel and will be read again.
    write      to clients                        Killed after: `redo` carries the record out again,
    consume    their input, and datagrams        each write from the byte that the kernel has not
    settle     who gets which answer             got, input up to the position in the record,
    commit     the answers, a second record      datagrams with their old numbers, which their
    write      answers of clients of this loop   receivers know if they had them before; and
    send       datagrams to other loops          settles anew.
    settled    the record is done                Killed after: only datagrams are sent again.

With `durability = "fast"` there is no record and nothing is peeked at: what was in flight when a
worker dies is lost, its clients stay. Owner: one loop, in its turn.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from prefork_chat.worker import counters, progress
from prefork_chat.worker.connection import Connection, Pause
from prefork_chat.worker.journal import UNDER_WAY, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork_chat.config import Config
    from prefork_chat.registry.registry import Registry
    from prefork_chat.worker.clients import Clients
    from prefork_chat.worker.departures import Departures
    from prefork_chat.worker.journal import Input, Journal, SharedWrite, Write
    from prefork_chat.worker.receipts import Receipts
    from prefork_chat.worker.rooms import Rooms
    from prefork_chat.worker.routes import Routes

CONSUME_BYTES: Final = 2048
"""How much of a followed client may be dealt with and not consumed: less often costs less, but a
lot of short lines would fill its receive buffer."""

Writes: TypeAlias = list[tuple[Connection, bytes]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a loop is made of, for those who carry its turns out."""

    registry: Registry
    journal: Journal
    clients: Clients
    routes: Routes
    receipts: Receipts
    departures: Departures
    rooms: Rooms


class Transaction:
    """The effects of the turn of one loop.

    The loop appends to `inputs` what it has read: (connection, bytes to be consumed, bytes
    peeked), notes in `taken`, by loop index, the numbers of the datagrams that it dealt with, and
    counts in `inbox` the datagrams that it has peeked at.
    """

    __slots__ = (
        "_can_follow_tcp",
        "_clients",
        "_departures",
        "_inbox",
        "_is_exact",
        "_journal",
        "_pending_limit",
        "_positions",
        "_receipts",
        "_rooms",
        "_routes",
        "_turn",
        "_words",
        "inbox",
        "inputs",
        "taken",
    )

    def __init__(self, parts: Parts, inbox: socket.socket, config: Config) -> None:
        """`inbox`: the outlet of the loop's thread-level pair."""
        self._is_exact = config.server.durability == "exact"
        self._pending_limit = config.limits.client_pending_bytes
        self._inbox = inbox.fileno()
        self._words = parts.registry.progress
        self._positions = parts.registry.positions
        self._can_follow_tcp = self._is_exact  # until a socket says that it cannot
        self._journal = parts.journal
        self._clients = parts.clients
        self._routes = parts.routes
        self._receipts = parts.receipts
        self._departures = parts.departures
        self._rooms = parts.rooms
        self._turn = parts.journal.settled
        self.inputs: list[tuple[Connection, int, int]] = []
        self.taken: dict[int, int] = {}
        self.inbox = 0

    @property
    def is_empty(self) -> bool:
        """True when `carry_out` has nothing to do."""
        return (
            not self.inputs
            and not self.inbox
            and self._clients.is_settled
            and not self._routes.is_filled
        )

    def carry_out(self) -> None:
        """Do what the turn has decided."""
        self._journal.note_read()
        self._departures.say_goodbyes()
        self._rooms.send()
        self._act()
        for connection in self._departures.finished():
            self.lose(connection)
        self._finish()

    def redo(self, record: Record, missing: Mapping[tuple[int, int], bytes]) -> None:
        """Do what a predecessor had decided and may not have done, or only in part.

        `missing` are the keys of sessions, by slot and generation, that could not be adopted.
        """
        self._turn = record.turn
        self._routes.resume(record.datagrams)
        if self._journal.settled < record.turn:
            for slot, generation, size, end, _ in record.inputs:
                connection = self._clients.of_session(slot, generation)
                if connection is not None and end < 0:
                    _consume_again(connection, size, -1 - end)
            self._rewrite(record.all_writes(), missing)
            self._receipts.restore(record.deliveries)
            self._receipts.storing.restore(record.filings)
        self._finish()

    def hand_over(self) -> None:
        """Leave to the successor what only this process knows, at the end of a turn."""
        if self._is_exact:
            return  # it knows nothing that is not recorded
        if not self.is_empty:
            self.carry_out()
        unread = {}
        for connection in self._clients.by_fd.values():
            if connection.decoder.partial:
                unread[connection.slot] = connection.decoder.partial
            if connection.backlog is not None:
                connection.backlog.persist(self._clients.spill_path(connection))
        self._turn += 1
        datagrams = self._routes.compose()
        record = Record(
            self._turn,
            datagrams=datagrams,
            is_handover=True,
            unread=unread,
            departing=self._departures.unsaid(),
            rooms=self._rooms.record(),
        )
        self._journal.commit(record)

    def take_up_reading(self, connection: Connection) -> None:
        """Find out where a client's next byte is that nobody has dealt with, and begin there."""
        is_local = connection.flags & progress.LOCAL
        if not is_local and connection.dealt < 0:
            consumed = counters.consumed(connection.socket)
            dealt = self._positions[connection.slot] if self._is_exact else consumed
            connection.dealt = max(consumed, dealt)
            _discard(connection, connection.dealt - consumed, 0)
            connection.consumed = connection.dealt
        elif connection.dealt < 0:
            connection.dealt = 0
        if is_local and self._is_exact:
            counters.follow_peeks(connection.socket)
        elif self._can_follow_tcp:
            try:
                counters.follow_peeks(connection.socket)
                connection.is_followed = True
            except OSError:
                self._can_follow_tcp = False

    def lose(self, connection: Connection) -> None:
        """Let go of a client: free its name, close, and answer for what it did not get."""
        if connection.fd < 0:
            return
        backlog = connection.backlog
        self._departures.forget_login(connection)
        self._clients.give_up(connection)
        if connection.rooms:
            self._receipts.has_answered = True  # others must be told before its slot is freed
        connection.backlog = None
        if backlog is not None:
            self._receipts.abandon(backlog)
            if backlog.spill is not None:
                self._clients.answered.append((connection, backlog.spill, backlog.end, True))

    def drain(self, connection: Connection) -> None:
        """Write on to a slow reader whose socket takes bytes again, and release its receipts."""
        while (backlog := connection.backlog) is not None:
            try:
                taken = connection.socket.send(backlog.head)
            except BlockingIOError:
                return
            except OSError:
                self.lose(connection)
                return
            receipts = backlog.consume(taken)
            self._receipts.release(receipts)
            is_over = not backlog.pending_bytes
            spill = backlog.spill
            if spill is not None:
                if connection.flags & progress.LOCAL:
                    spill.note_taken(backlog.start)
                if receipts or is_over:
                    self._clients.answered.append((connection, spill, backlog.start, is_over))
            if is_over:
                self._set_torn(connection, 0)
                self._clients.catch_up(connection)
                self._clients.resume(connection, Pause.UNREAD)

    # Carrying out

    def _act(self) -> None:
        self._receipts.has_answered = False
        shared = self._rooms.fan_out()
        writes = self._compose()
        shares = [_share(data, connections) for data, connections in shared]
        if self._is_exact:
            self._record(writes, shares)
        else:
            self._store_words(writes)
        self.taken.clear()
        self._rooms.publish()
        self._clients.free_names()
        self._note_answered()
        for data, connections in shared:
            writes += [(connection, data) for connection in connections]
        self._write(writes)

    def _finish(self) -> None:
        self._consume()
        self._rooms.settle(self._receipts.unsent)
        self._receipts.settle()
        while self._receipts.has_answered:  # again only if a client is lost meanwhile
            self._act()
            self._receipts.unsent.clear()
        self._routes.flush()
        if self._is_exact:
            self._journal.settle(self._turn)
        self._clients.close_lost()

    def _compose(self) -> Writes:
        """Join what every client gets into one piece."""
        touched = self._clients.touched
        writes = []
        for connection in touched:
            out = connection.out
            out.append(b"")
            data = b"\n".join(out)
            out.clear()
            if connection.written < 0:
                connection.written = _written(connection)
            connection.written += len(data)
            writes.append((connection, data))
        touched.clear()
        return writes

    def _record(self, writes: Writes, shares: list[SharedWrite]) -> None:
        """Record the turn, and from then on its words count."""
        inputs: list[Input] = []
        written: list[Write] = []
        for connection, size, peeked in self.inputs:
            if connection.flags & progress.LOCAL:
                end = -1 - peeked
            else:
                end = connection.dealt = connection.dealt + size
            inputs.append((connection.slot, connection.generation, size, end, connection.word))
        for connection, data in writes:
            start = connection.written - len(data)
            written.append((connection.slot, connection.generation, start, connection.word, data))
        self._turn += 1
        self._journal.commit(
            Record(
                self._turn,
                list(self.taken.items()),
                inputs,
                written,
                self._routes.compose(),
                self._receipts.record(),
                [
                    (connection.slot, connection.generation, position)
                    for connection, _, position, _ in self._clients.answered
                ],
                shared=shares,
                rooms=self._rooms.record(),
                filings=self._receipts.storing.record(),
            )
        )
        words, positions = self._words, self._positions
        for slot, _, _, end, word in inputs:
            words[slot] = word
            positions[slot] = end
        for slot, _, _, word, _ in written:
            words[slot] = word

    def _store_words(self, writes: Writes) -> None:
        """Let the turn's words count where nothing is recorded."""
        self._routes.compose()
        self._rooms.record()
        words = self._words
        for connection, _, _ in self.inputs:
            words[connection.slot] = connection.word
        for connection, _ in writes:
            words[connection.slot] = connection.word

    def _note_answered(self) -> None:
        """Give up what spills hold of the past, now that its answers are recorded."""
        if not self._clients.answered:
            return
        for connection, spill, position, is_over in self._clients.answered:
            backlog = connection.backlog
            if is_over:
                spill.remove()
            elif backlog is not None and backlog.spill is spill and backlog.is_outgrown:
                backlog.rewrite(self._clients.spill_path(connection))
            elif backlog is None or backlog.spill is spill:
                spill.note_answered(position)
        self._clients.answered.clear()

    def _write(self, writes: Writes) -> None:
        """Write to every client that got lines in this turn, all of them at once."""
        for index, (connection, data) in enumerate(writes, start=1):
            if connection.backlog is not None or connection.fd < 0:
                self._keep(connection, data, 0)
                continue
            is_local = connection.flags & progress.LOCAL
            if is_local:
                self._journal.note_writing(index)
            try:
                taken = connection.socket.send(data)
            except BlockingIOError:
                taken = 0
            except OSError:
                self._receipts.unsent[connection.session.key] = connection
                self.lose(connection)
                continue
            if is_local:
                self._journal.note_written(index, taken)
            if taken < len(data):
                self._keep(connection, data, taken)

    def _keep(self, connection: Connection, data: bytes, taken: int) -> None:
        """Keep what a client's socket did not take; its receipts of this turn must wait."""
        self._receipts.unsent[connection.session.key] = connection
        if connection.fd < 0:
            return
        backlog = self._clients.stall(connection, data, taken)
        if backlog.spill is None:
            self._set_torn(connection, progress.TORN)
        if backlog.pending_bytes >= self._pending_limit:
            self._clients.pause(connection, Pause.UNREAD)

    def _set_torn(self, connection: Connection, flag: int) -> None:
        """Say in the session's word whether the rest of a line is in this process only."""
        if connection.flags & progress.TORN != flag:
            connection.flags ^= progress.TORN
            self._words[connection.slot] = connection.word

    def _consume(self) -> None:
        """Take out of the kernel what the turn has dealt with."""
        if self._is_exact:
            for connection, size, peeked in self.inputs:
                if connection.fd < 0:
                    continue
                if not connection.is_followed:
                    _discard(connection, size, peeked)
                elif connection.dealt - connection.consumed >= CONSUME_BYTES:
                    _discard(connection, connection.dealt - connection.consumed, 0)
                    connection.consumed = connection.dealt
            for _ in range(self.inbox):
                os.read(self._inbox, 1)
        self.inputs.clear()
        self.inbox = 0

    # Carrying out again

    def _rewrite(self, writes: list[Write], missing: Mapping[tuple[int, int], bytes]) -> None:
        """Complete the writes of a record, whatever part of them the kernel has."""
        noted, last_taken = self._journal.written()
        for index, (slot, generation, start, _, data) in enumerate(writes, start=1):
            connection = self._clients.of_session(slot, generation)
            if connection is None:
                self._receipts.doubtful.add(missing.get((slot, generation), b""))
                continue
            end = start + len(data)
            backlog = connection.backlog
            if backlog is not None and backlog.end >= end:
                # It was put there by this record; its receipts are settled anew.
                self._receipts.unsent[connection.session.key] = connection
                continue
            if not connection.flags & progress.LOCAL:
                taken = min(max(0, counters.taken(connection.socket) - start), len(data))
            elif index != noted:
                taken = len(data) if index < noted else 0
            elif last_taken != UNDER_WAY:
                taken = last_taken
            else:  # most of the time that passes there is spent in the write
                taken = len(data)
                self._receipts.doubtful.add(connection.session.key)
            connection.written = end
            self._complete(connection, index, data, taken)

    def _complete(self, connection: Connection, index: int, data: bytes, taken: int) -> None:
        """Write what follows on the first `taken` bytes of the write of that index."""
        if taken == len(data):
            return
        if connection.backlog is None:
            is_local = connection.flags & progress.LOCAL
            if is_local:
                self._journal.note_writing(index)
            try:
                taken += connection.socket.send(memoryview(data)[taken:])
            except BlockingIOError:
                pass  # a slow reader
            except OSError:
                if taken:
                    self._receipts.doubtful.add(connection.session.key)
                self._receipts.unsent[connection.session.key] = connection
                self.lose(connection)
                return
            if is_local:
                self._journal.note_written(index, taken)
        if taken < len(data):
            self._keep(connection, data, taken)


def _share(data: bytes, connections: list[Connection]) -> SharedWrite:
    """Say where in the streams of all these clients the data goes."""
    receivers = []
    size = len(data)
    for connection in connections:
        start = connection.written
        if start < 0:
            start = _written(connection)
        connection.written = start + size
        receivers.append((connection.slot, connection.generation, start))
    return data, receivers


def _written(connection: Connection) -> int:
    """Ask the kernel how much was ever written to an adopted client without a backlog."""
    if connection.flags & progress.LOCAL:
        return 0
    return counters.taken(connection.socket)


def _discard(connection: Connection, size: int, peeked: int) -> None:
    """Consume `size` of the `peeked` bytes."""
    with contextlib.suppress(OSError):  # it is gone; the next event says so
        if size:
            connection.socket.recv(size, socket.MSG_TRUNC)
        if connection.flags & progress.LOCAL and peeked > size:
            counters.follow_peeks(connection.socket)


def _consume_again(connection: Connection, size: int, peeked: int) -> None:
    """Consume `size` of the `peeked` bytes of a Unix socket, unless that was done."""
    if counters.peeked(connection.socket) >= peeked:
        _discard(connection, size, peeked)
