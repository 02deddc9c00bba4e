"""How a loop comes to sessions that another process has served, and goes on at the byte.

A session is a slot of the registry and a socket that the supervisor has kept; both outlived the
process that served them. Adopted clients come in by the same door as new ones. What the predecessor
had decided and not done, the last record of its journal, is done first (`Transaction.redo`); after
that nothing tells an adopted client from one that was always here. Killed in the middle it is done
again by the next worker: whatever it does is idempotent, or recorded like the work of any turn.

`run` takes over the sessions of the predecessor, in the worker's main thread, before the loop polls
for the first time. `foster` takes over one that another worker has released on its way out (see
`leaving`), in the loop's thread, in any turn: of that one nothing is left to be done.
"""

from __future__ import annotations

import contextlib
import os
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork_chat import log
from prefork_chat.chat import outcomes
from prefork_chat.protocol.decoder import Decoder
from prefork_chat.worker import counters, progress, spill
from prefork_chat.worker.backlog import Backlog
from prefork_chat.worker.dormant import connect, may_sleep
from prefork_chat.worker.moves import is_note
from prefork_chat.worker.spill import Spill

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prefork_chat.inheritance import Inheritance
    from prefork_chat.keeping import Keep
    from prefork_chat.registry.slots import Held
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.journal import Record
    from prefork_chat.worker.transaction import Parts, Transaction

_NOTHING: Final = -1
_NOT_KEPT: Final = (_NOTHING, _NOTHING)


class Adopted(NamedTuple):
    """How many sessions were taken over, and how many could not be (their sockets are gone)."""

    clients: int
    missing: int


class Adoption:
    """Takes over sessions for loop (p_id, t_id).

    Owner: the main thread until the loop's starts, then the loop.
    """

    def __init__(
        self, inheritance: Inheritance, t_id: int, parts: Parts, transaction: Transaction
    ) -> None:
        self._here = (inheritance.p_id, t_id)
        self._is_exact = inheritance.config.server.durability == "exact"
        self._registry = inheritance.registry
        self._kept = inheritance.kept
        self._journal = parts.journal
        self._clients = parts.clients
        self._receipts = parts.receipts
        self._departures = parts.departures
        self._rooms = parts.rooms
        self._transaction = transaction
        self._log = log.get_logger(p_id=inheritance.p_id, generation=inheritance.generation)

    def run(self, sessions: Sequence[Held], greet: Callable[[Connection], None]) -> Adopted:
        """Adopt `sessions`, the slots of this loop.

        `greet` says hello to a client that has not heard it yet.
        """
        now = monotonic()
        suspect = self._journal.suspect()
        record = self._journal.load()
        if record is not None:
            self._restore_words(record)
        missing = self._restore_all(sessions, record, greet, now)
        is_settled = record is None or self._journal.settled >= record.turn
        self._rooms.restore(record, is_settled=is_settled)
        if record is not None:
            self._transaction.redo(record, missing)
        for connection in self._clients.by_fd.values():  # who is dormant is in no room
            self._rooms.catch_up(connection)
            self._rooms.presence.begin_all(connection, anew=True)
        expelled = self._clients.of_slot(suspect)
        if expelled is not None:
            self._log.error(log.CLIENT_EXPELLED, slot=suspect)
            self._departures.begin(expelled, now, outcomes.expelled())
        if not self._is_exact:
            self._journal.clear()
        return Adopted(len(sessions) - len(missing), len(missing))

    def _restore_all(
        self,
        sessions: Sequence[Held],
        record: Record | None,
        greet: Callable[[Connection], None],
        now: float,
    ) -> dict[tuple[int, int], bytes]:
        """Take all sessions over; return the keys of those whose sockets are gone."""
        missing: dict[tuple[int, int], bytes] = {}
        dormant: dict[int, Held] = {}
        awake = set() if record is None else {*record.unread, *record.departing}
        words = self._registry.progress
        kept = self._kept
        for held in sessions:
            slot = held.slot
            generation, fd = kept.get(slot, _NOT_KEPT)
            if generation != held.generation:
                missing[slot, held.generation] = held.name.lower()
                self._registry.free(slot, held.generation)
            elif record is not None and may_sleep(held, words[slot]) and slot not in awake:
                dormant[fd] = held
            else:
                connection = connect(slot, generation, words[slot], fd)
                self._restore(connection, held.name, record, now)
                if record is None and connection.flags & progress.GREETED:
                    self._tell_of_the_loss(connection)
                if not connection.flags & progress.GREETED:
                    greet(connection)
        self._clients.add_dormant(dormant)
        self._restore_backlogs(record)
        for connection in self._clients.by_fd.values():
            if connection.flags & progress.TORN and connection.backlog is None:
                self._tell_of_the_loss(connection)
        return missing

    def foster(self, given: Keep, now: float) -> Connection | None:
        """Take over a session that came through the nursery, with its socket.

        None, and the descriptor is closed, if another has taken it over or it has ended. A worker
        that is killed before the take-over has changed nothing; after it the session is its own
        and is adopted. This thread alone delivers to the name, so nobody can notice that it is
        here before it is.
        """
        session = (given.slot, given.generation)
        members = self._clients.members
        if self._registry.progress[given.slot] & progress.IN_ROOMS:
            self._rooms.passages.expect(*session)
        held = self._registry.take_over(*session, *self._here, progress.RELEASED)
        if held is None:
            members.publish_counts()
            os.close(given.fd)
            return None
        connection = connect(given.slot, given.generation, held.progress, given.fd)
        self._restore(connection, held.name, None, now)
        members.publish_counts()
        self._rooms.passages.settle_in(connection)
        self._rooms.presence.begin_all(connection, anew=True)
        content = spill.load(self._clients.spill_path(connection))
        if content is not None:
            self._restore_backlog(connection, content, content.answered, _NOTHING)
        return connection

    def _restore_words(self, record: Record) -> None:
        """Bring the sessions' words up to the record, if its worker did not come to it."""
        self._journal.note_taken(record.taken)
        if self._journal.settled >= record.turn:
            return
        registry = self._registry
        for slot, generation, _, end, word in record.inputs:
            if registry.generations[slot] == generation:
                registry.progress[slot] = word
                registry.positions[slot] = end
        for slot, generation, _, word, _ in record.writes:
            if registry.generations[slot] == generation:
                registry.progress[slot] = word
        if record.rooms is not None:
            for slot, generation, words in record.rooms.memberships:
                if registry.generations[slot] == generation:
                    self._clients.members.store(slot, words)

    def _restore(
        self, connection: Connection, name: bytes, record: Record | None, now: float
    ) -> None:
        """Put a connection where its session's word says that it stood."""
        flags = connection.flags
        if record is not None and connection.slot in record.unread:
            unread = record.unread[connection.slot]
            connection.decoder = Decoder(connection.decoder.state, unread)
        self._clients.add(connection)
        if name and flags & progress.JOINED and not flags & progress.LEAVING:
            connection.session.name = name
            connection.session.key = name.lower()
            self._clients.enter(connection)
            if flags & progress.IN_ROOMS:
                self._clients.members.restore(connection)
        elif name:  # of a JOIN that was not answered, or of somebody who has said good-bye
            self._registry.withdraw(connection.slot, connection.generation)
        if flags & progress.LEAVING:
            self._departures.resume(connection, now)
        elif record is not None and connection.slot in record.departing:
            self._departures.begin(connection, now, *record.departing[connection.slot])
        elif not flags & progress.JOINED:
            self._departures.expect_login(connection, now)

    def _tell_of_the_loss(self, connection: Connection) -> None:
        """What was under way was in its worker's memory only, and is lost: the client must know."""
        if connection.flags & progress.TORN:
            self._clients.say(connection, b"")  # ends the torn line
        connection.flags &= ~progress.TORN
        connection.outstanding = 0
        self._clients.say(connection, outcomes.resumed())

    def _restore_backlogs(self, record: Record | None) -> None:
        """Read what predecessors kept for slow readers; release the answers that are due."""
        confirmed: dict[int, int] = {}
        unsettled: dict[int, int] = {}
        if record is not None:
            confirmed = {slot: position for slot, _, position in record.confirmed}
            if self._journal.settled < record.turn:
                unsettled = {
                    slot: start + len(data) for slot, _, start, _, data in record.all_writes()
                }
        for path in self._clients.spills.iterdir():
            if is_note(path):
                continue
            slot, generation = _session_of(path)
            connection = self._clients.of_session(slot, generation)
            if connection is None:
                if slot == _NOTHING or self._registry.generations[slot] != generation:
                    path.unlink(missing_ok=True)
                continue
            content = spill.load(path)
            if content is None:
                path.unlink(missing_ok=True)
                continue
            self._restore_backlog(
                connection,
                content,
                max(content.answered, confirmed.get(slot, 0)),
                unsettled.get(slot, _NOTHING),
            )

    def _restore_backlog(
        self, connection: Connection, content: spill.Content, answered: int, unsettled: int
    ) -> None:
        """Give a slow reader its backlog back; what ends at `unsettled` is settled by `redo`."""
        kept = content.kept
        is_unsettled = bool(kept) and kept[-1].end == unsettled
        if is_unsettled:
            kept[-1].awaited.clear()
        is_local = connection.flags & progress.LOCAL
        taken = content.taken if is_local else counters.taken(connection.socket)
        due = [aw for k in kept if answered < k.end <= taken for aw in k.awaited]
        self._receipts.release(due)
        path = self._clients.spill_path(connection)
        backlog = Backlog.restore(kept, taken, answered)
        if not self._is_exact or not (due or backlog.pending_bytes):
            path.unlink(missing_ok=True)
        else:
            backlog.spill = Spill.reopen(path, content, forget_newest_awaited=is_unsettled)
            is_over = not backlog.pending_bytes
            self._clients.answered.append((connection, backlog.spill, taken, is_over))
        if backlog.pending_bytes:
            connection.written = backlog.end
            self._clients.resume_backlog(connection, backlog)


def _session_of(path: Path) -> tuple[int, int]:
    """Return (slot, generation) that a spill's name says; (-1, -1) for what is no spill's."""
    slot, _, generation = path.name.partition(".")
    with contextlib.suppress(ValueError):
        return int(slot), int(generation)
    return _NOTHING, _NOTHING
