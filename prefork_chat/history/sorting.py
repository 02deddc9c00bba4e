"""How the tail becomes rows: messages by id, and who has to do with which of them.

The historian sorts when it has nothing to store, or when the tail has grown too long. One step
takes a few batches from the tail's beginning, in a transaction of its own: killed in between,
nothing has happened. So ids in the tables are always lower than all that are in the tail.

`said` has, for each chunk of ids and each number, which messages of the chunk that number has to do
with: sender and recipient of a direct message, the room of another. Several rows for the same two
if they were sorted at several times. What somebody says to himself has a number of its own beside
his (`note_to_self`), so a conversation is always what two numbers have in common. One row for many
messages instead of three entries of indexes for each: a third of the CPU. (Measured November 2026:
1.3 us of SQLite a message; with indexes 3.5.)

Owner: the historian's only thread. Raises sqlite3.Error.
"""

from __future__ import annotations

import sys
from array import array
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from prefork_chat.history import tail
from prefork_chat.history.schema import CHUNK_SHIFT, FIRST_DIALOGUE, dialogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prefork_chat.history.archive import Archive, Message

STEP_MESSAGES: Final = 1 << CHUNK_SHIFT
"""Sorted in one transaction, whole batches: about 10 ms, so long does a message wait that comes
meanwhile."""

_EMPTY: Final = array("H")
_MASK: Final = (1 << CHUNK_SHIFT) - 1


def note_to_self(person: int) -> int:
    """Return the number of what somebody says to himself."""
    return -person


def numbers_of(room: int, sender: int, recipient: int) -> tuple[int, ...]:
    """Return who has to do with a message; `room` is 0 if it is none's."""
    if room:
        return (room,)
    return sender, recipient if recipient != sender else note_to_self(sender)


class Sorter:
    """Makes rows of the tail."""

    def __init__(self, archive: Archive) -> None:
        self._archive: Final = archive

    @property
    def is_behind(self) -> bool:
        """True when there is something to sort."""
        return self._archive.sorted_id < self._archive.last_id

    def advance(self, most: int = STEP_MESSAGES) -> None:
        """Sort batches until there are `most` messages, one at least, in a transaction of its own.

        ValueError or LookupError: one of them cannot be understood, and nothing has happened.
        """
        archive = self._archive
        with archive.transaction():
            batches = self._oldest(most)
            if not batches:
                return
            messages = [message for batch in batches for message in self._messages(*batch)]
            archive.sort(messages, messages[-1][0])

    def _oldest(self, most: int) -> list[tuple[int, int, int, bytes]]:
        """Return (first, count, time, body) of the next batches."""
        found = []
        size = 0
        for row in self._archive.connection.execute("SELECT * FROM tail ORDER BY first"):
            found.append(row)
            size += row[1]
            if size >= most:
                break
        return found

    def _messages(self, first: int, _count: int, time_ms: int, body: bytes) -> list[Message]:
        person = self._archive.person
        recipients: dict[bytes, int] = {}
        messages: list[Message] = []
        id_ = first
        for speaker, room, lines in tail.sections(body):
            sender = person(speaker.lower(), speaker) if isinstance(speaker, str) else speaker
            for line in lines:
                if room:
                    messages.append((id_, time_ms, room, sender, room, line.decode()))
                else:
                    verb, name, text = line.split(b" ", 2)
                    if verb != b"CHAT":
                        name, text = tail.words(line)
                    recipient = recipients.get(name)
                    if recipient is None:
                        recipient = recipients[name] = person(name.decode().lower())
                    talk = dialogue(sender, recipient)
                    messages.append((id_, time_ms, talk, sender, recipient, text.decode()))
                id_ += 1
        return messages


def said(messages: Iterable[Message]) -> Iterator[tuple[int, int, int, bytes]]:
    """Give the rows of `said` for messages in order of their ids."""
    chunk = -1
    ids: defaultdict[int, array[int]] = defaultdict(_EMPTY.__copy__)
    for id_, _, talk, sender, recipient, _ in messages:
        if id_ >> CHUNK_SHIFT != chunk:
            yield from _rows(chunk, ids)
            chunk = id_ >> CHUNK_SHIFT
            ids.clear()
        place = id_ & _MASK
        if talk < FIRST_DIALOGUE:
            ids[talk].append(place)
        else:
            ids[sender].append(place)
            ids[recipient if recipient != sender else note_to_self(sender)].append(place)
    yield from _rows(chunk, ids)


def _rows(chunk: int, ids: Mapping[int, array[int]]) -> Iterator[tuple[int, int, int, bytes]]:
    start = chunk << CHUNK_SHIFT
    for number in sorted(ids):
        places = ids[number]
        first = start + places[0]
        if sys.byteorder == "big":
            places.byteswap()
        yield chunk, number, first, places.tobytes()


def unpack_ids(chunk: int, packed: bytes) -> list[int]:
    """Return the ids of a row of `said`."""
    places = array("H", packed)
    if sys.byteorder == "big":
        places.byteswap()
    start = chunk << CHUNK_SHIFT
    return [start + place for place in places]
