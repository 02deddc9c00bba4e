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
from typing import TYPE_CHECKING, Final, TypeAlias

from prefork_chat.history import tail
from prefork_chat.history.schema import CHUNK_SHIFT, FIRST_DIALOGUE, dialogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prefork_chat.history.archive import Archive, Message

STEP_MESSAGES: Final = 1 << CHUNK_SHIFT
"""Sorted in one transaction, whole bodies: about 10 ms, so long does a message wait that comes
meanwhile."""

Stored: TypeAlias = tuple[int, int, int, bytes]
"""A row of `tail`: first, count, time, body."""

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
    def behind(self) -> int:
        """How many messages are to be sorted."""
        return self._archive.last_id - self._archive.sorted_id

    def advance(self, most: int = STEP_MESSAGES) -> None:
        """Sort bodies until there are `most` messages, one at least, in a transaction of its own.

        ValueError or LookupError: one of them cannot be understood, and nothing has happened.
        """
        archive = self._archive
        with archive.transaction():
            bodies = self._oldest(most)
            if not bodies:
                return
            recipients: dict[bytes, int] = {}
            messages = [row for body in bodies for row in self._messages(body, recipients)]
            archive.sort(messages, messages[-1][0])

    def _oldest(self, most: int) -> list[Stored]:
        """Return the next bodies."""
        found = []
        size = 0
        tail_rows = self._archive.connection.execute(
            "SELECT first, count, time, body FROM tail ORDER BY first"
        )
        for row in tail_rows:
            found.append(row)
            size += row[1]
            if size >= most:
                break
        return found

    def _messages(self, stored: Stored, recipients: dict[bytes, int]) -> list[Message]:
        """Return the messages of a body; `recipients`: who has been found for others."""
        person = self._archive.person
        messages: list[Message] = []
        id_, _, time_ms, body = stored
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


def unpack_places(packed: bytes) -> array[int]:
    """Return which messages of its chunk a row of `said` has."""
    places = array("H", packed)
    if sys.byteorder == "big":
        places.byteswap()
    return places
