"""What comes of what loops tell the historian: rows, answers, messages for who has come back.

A batch is the sections of the datagrams that were there at once. `Batch.carry_out` runs inside one
transaction of the archive and puts the answers into the mailing's outboxes, to be composed in the
same transaction. `Batch.carry_out_without` is for when nothing can be stored. Neither sends.

    H   messages that have arrived, between accounts: stored as they are
    A   their receipts (`OK CHAT bob`), of one loop's clients: sent on as they are
    M   messages for somebody who is not here: stored if that is an account, answered `OK CHAT bob
        stored`, or else `NOUSER`. Those of our own origin are stored messages that did not arrive.
    R   what became of stored messages that were sent to their recipients; the tag is the id
    G   messages for a room: stored, then `K`: we have them, and have reached nobody
    T   an account has come: it gets what waits for it

A stored message goes to its recipient's loop as any message does, in the name of its sender, with
its id as the tag, from an origin that is no session (generation 0). So whatever may happen to a
message on its way - a slow reader, a move to another worker, a kill - is dealt with where it always
is, and the answer comes back here. Until it does, it is under way (`Archive.note_sent`) and is not
sent again. Owner: the historian's only thread.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Final

from prefork_chat.chat import outcomes
from prefork_chat.history.archive import GUEST
from prefork_chat.protocol import envelope
from prefork_chat.protocol.envelope import Origin, RoomBatch
from prefork_chat.protocol.names import fold
from prefork_chat.protocol.replies import Code
from prefork_chat.worker import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prefork_chat.historian.mailing import Mailing
    from prefork_chat.history.archive import Archive
    from prefork_chat.inheritance import Attendance

MOST_AT_ONCE: Final = 100
"""Stored messages that are under way to one recipient; at most 100 KB."""


class Unknowable(Exception):  # noqa: N818 - an outcome, not an error of ours
    """Whether a name is an account cannot be found out now."""


class Batches:
    """Carries out one batch after the other.

    `owed` is what became of stored messages while nothing could be written down; `returned` are
    the keys of those whom stored messages have not reached: to be tried again a bit later.
    """

    def __init__(
        self, attendance: Attendance, mailing: Mailing, is_account: Callable[[bytes], bool]
    ) -> None:
        """`is_account` says whether a folded name is one; it may raise Unknowable."""
        self._p_id: Final = attendance.p_id
        self._registry: Final = attendance.registry
        self._mailing: Final = mailing
        self._is_account: Final = is_account
        self.owed: list[bytes] = []
        self.returned: set[bytes] = set()

    def carry_out(
        self, archive: Archive, sections: Iterable[bytes], callers: Iterable[bytes]
    ) -> None:
        """Do what the sections ask for, and send to `callers`, keys of accounts, what waits.

        Inside a transaction of the archive; raises sqlite3.Error.
        """
        awaited = dict.fromkeys(callers)
        for section in (*self.owed, *sections):
            awaited.update(dict.fromkeys(self._open(archive, section)))
        for key in awaited:
            self._call(archive, key)

    def carry_out_without(self, sections: Iterable[bytes]) -> None:
        """Answer for the sections when nothing can be stored.

        What has arrived has arrived; what would have had to be stored is refused.
        """
        for section in sections:
            header, _, body = section.partition(b"\n")
            kind = header[:1]
            if kind == envelope.SEND_ON:
                self._send_on(header, body)
            elif kind == envelope.MESSAGES and (origin := Origin.parse(header)).generation:
                lines = [envelope.parse_line(line) for line in body.split(b"\n")]
                text = [outcomes.undelivered(Code.INTERNAL, dest, tag) for tag, dest, _ in lines]
                self._answer(origin, len(lines), text)
            elif kind == envelope.ROOM_BATCH:
                batch, origin_line, _ = envelope.open_room_batch(header, body)
                self._confirm(batch, Origin.parse(origin_line))
            elif kind not in {envelope.STORE, envelope.HERE}:
                self.owed.append(section)

    def give_up(self, sections: Iterable[bytes]) -> None:
        """Answer for sections that nobody must try to store again, as far as they can be read."""
        owed = self.owed.copy()
        for section in sections:
            with suppress(Exception):  # whatever it is that is wrong with them
                self.carry_out_without([section])
        self.owed = owed

    def _open(self, archive: Archive, section: bytes) -> Sequence[bytes]:
        """Do what a section asks for; return the keys of those who may now get stored messages."""
        header, _, body = section.partition(b"\n")
        kind = header[:1]
        if kind == envelope.STORE:
            archive.add_filed(envelope.parse_store(body))
        elif kind == envelope.SEND_ON:
            self._send_on(header, body)
        elif kind == envelope.MESSAGES:
            origin = Origin.parse(header)
            if origin.generation:
                return self._keep(archive, origin, body.split(b"\n"))
            ids = [envelope.parse_line(line)[:2] for line in body.split(b"\n")]
            self._return(archive, [(dest, int(tag)) for tag, dest in ids])
        elif kind == envelope.ROOM_BATCH:
            batch, origin_line, messages = envelope.open_room_batch(header, body)
            self._store_of_room(archive, batch, Origin.parse(origin_line), messages)
        elif kind == envelope.RECEIPTS:
            return self._learn(archive, body.split(b"\n"))
        else:
            return [fold(envelope.parse_here(header))]
        return ()

    def _send_on(self, header: bytes, body: bytes) -> None:
        """Send receipts on to the loop that their senders were at, or left word where they are."""
        p_id, t_id, sections = envelope.parse_send_on(header, body)
        self._mailing.outbox(p_id, t_id).add(sections)

    def _store_of_room(
        self, archive: Archive, batch: RoomBatch, origin: Origin, messages: bytes
    ) -> None:
        """Store what somebody has said to a room, then say so."""
        sender = archive.person(*_person(origin))
        room = batch.room.decode()
        archive.add(sender, messages, archive.person(room.lower(), room))
        self._confirm(batch, origin)

    def _confirm(self, batch: RoomBatch, origin: Origin) -> None:
        """Tell the loop of a batch that we have it, and have reached nobody."""
        if not origin.is_quiet:
            section = envelope.pack_reached([(batch.batch, 0)])
            self._mailing.outbox(origin.p_id, origin.t_id).add(section)

    def _keep(self, archive: Archive, origin: Origin, lines: list[bytes]) -> Sequence[bytes]:
        """Store what somebody has said to people who are not here, if they are accounts."""
        sender = archive.person(*_person(origin))
        answers: list[bytes] = []
        refusals: list[bytes] = []
        waiting: dict[bytes, list[tuple[int, str]]] = defaultdict(list)
        for line in lines:
            tag, dest, message = envelope.parse_line(line)
            try:
                is_account = self._is_account(fold(dest))
            except Unknowable:
                refusals.append(outcomes.undelivered(Code.INTERNAL, dest, tag))
                continue
            if not is_account:
                refusals.append(outcomes.undelivered(Code.NOUSER, dest, tag))
                continue
            waiting[fold(dest)].append((archive.add(sender, line), message.decode()))
            answers.append(outcomes.stored(dest, tag))
        for recipient_key, messages in waiting.items():
            archive.await_arrival(archive.person(recipient_key.decode()), sender, messages)
        said = refusals if origin.is_quiet else answers + refusals
        if said:
            self._answer(origin, len(said), said)
        return list(waiting)

    def _learn(self, archive: Archive, answers: list[bytes]) -> Sequence[bytes]:
        """Take note of what became of stored messages; return whom more may be sent to."""
        arrived: dict[bytes, list[int]] = defaultdict(list)
        returned = []
        for answer in answers:
            tag, verdict, _, *rest = answer[1:].split(b" ", 4)
            if verdict == b"OK":
                arrived[fold(rest[0])].append(int(tag))
            else:
                returned.append((rest[1].split(b" ", 1)[0], int(tag)))
        for key, ids in arrived.items():
            archive.note_arrived(archive.person(key.decode()), ids)
        self._return(archive, returned)
        return list(arrived)

    def _return(self, archive: Archive, messages: Iterable[tuple[bytes, int]]) -> None:
        for dest, id_ in messages:
            key = fold(dest)
            archive.note_returned(archive.person(key.decode()), [id_])
            self.returned.add(key)

    def _call(self, archive: Archive, key: bytes) -> None:
        """Send somebody what waits for him, if he is here and nothing is under way to him."""
        location = self._registry.check(key)
        if location is None:
            return
        if not self._registry.progress[location.slot] & progress.REGISTERED:
            return  # his JOIN has not been answered yet: his loop tells us when it has
        recipient = archive.person(key.decode())
        if archive.is_under_way(recipient):
            return
        pending = archive.pending(recipient, MOST_AT_ONCE)
        outbox = self._mailing.outbox(location.p_id, location.t_id)
        for sender, messages in groupby(pending, key=lambda each: each.sender):
            origin = Origin(self._p_id, 0, 0, 0, False, False, sender.encode())
            lines = [
                envelope.pack_line(b"%d" % id_, key, text.encode()) for id_, _, text in messages
            ]
            outbox.add(envelope.pack_messages(origin, lines))
        archive.note_sent(recipient, [each.id for each in pending])

    def _answer(self, origin: Origin, answered: int, lines: list[bytes]) -> None:
        """Send reply lines to the loop that has a session now; if it is over, nobody wants them."""
        if not lines:
            return
        loop = self._registry.loop_of(origin.slot, origin.generation)
        if loop is None:
            return
        for section in envelope.pack_receipts(origin.slot, origin.generation, answered, lines):
            self._mailing.outbox(*loop).add(section)


def _person(origin: Origin) -> tuple[str, str]:
    """Return key and name of who has said something: an account, or a guest of that name."""
    name = origin.name.decode()
    key = name.lower()
    return key if origin.is_registered else GUEST + key, name
