"""The journal of a loop: the last turn's effects, in shared memory, until they have happened.

A turn computes first and acts afterwards. In between it writes down here all that it is about to
do, as one `Record`, and one aligned 8-byte store makes that record the valid one: the commit.
Whoever takes the loop over after a kill finds the last committed record whole and carries it out
again; nothing of a turn that was not committed has left the process. What may be done twice is
told apart by absolute positions: bytes of a client by their place in its stream, datagrams by
their number.

Memory of its own (a memfd, made by the supervisor before the first fork, inherited by every worker
of that p_id). Owner: the one loop (p_id, t_id) that lives, in its turn.

    words     <5q>          commit: place of the valid record << 32 | its length in bytes; 0: none
                            settled: number of the last turn of which everything has been done
                            written: place of a record, how many of its writes were done, and how
                            many bytes of the last one (see `_progress`)
                            reading: slot + 1 of the client that is being read, else 0
                            deaths: slot + 1 of a client << 8 | how many workers in a row have died
                            while they read it
              <q> each      number of the last datagram that was taken from each loop, and from
                            others who send some (`inheritance.senders`)
    records   on page boundaries behind them, MessagePack; a new one never overlaps the valid one
"""

from __future__ import annotations

import mmap
import os
from typing import Final, TypeAlias

import msgspec

_COMMIT: Final = 0
_SETTLED: Final = 1
_WRITTEN: Final = 2
_READING: Final = 3
_DEATHS: Final = 4
_TAKEN: Final = 5
_WORD_BYTES: Final = 8
_ALIGN: Final = 64

MOST_DEATHS: Final = 3
"""Deaths in a row while the same client is read, and nothing done in between, until it is not read
any more: its line would be read again, and kill, for ever."""

UNDER_WAY: Final = 0xFFFF_FFFF
"""In the place of the bytes taken: the write was about to be done, or just has been."""

INITIAL_BYTES: Final = 256 * 1024
"""Room for records at the start; it grows with the largest turn."""


Input: TypeAlias = tuple[int, int, int, int, int]
"""slot, generation, `size`, `end`, word: so many bytes of a client are to be consumed.

`end`: the position in the client's stream after that (TCP); -1 - peeked bytes (Unix socket). The
word is the session's from then on (see `progress`)."""

Write: TypeAlias = tuple[int, int, int, int, bytes]
"""slot, generation, `start`, word, data: to be written to a client.

`start` is the position of the first byte among all that were ever written to it."""

Delivery: TypeAlias = tuple[bytes, list[bytes], list[tuple[bytes, bytes]]]
"""Header of the origin, destinations of plain lines as typed, (tag, destination) of others.

What this turn's writes bring to clients, and so owe an answer."""


SharedWrite: TypeAlias = tuple[bytes, list[tuple[int, int, int]]]
"""Data to be written to several clients, and slot, generation, `start` of each, as for a Write.

Their words do not change by it."""

Words: TypeAlias = tuple[int, int, list[int]]
"""slot, generation, the words of the session's memberships from then on (see `registry.rooms`)."""

Pending: TypeAlias = tuple[int, bytes, bytes, list[bytes], int, int]
"""A batch for a room that is not answered yet: its number, its origin's header, the room, tags.

And how many loops have yet to say how many they have reached, and how many others have."""

Reached: TypeAlias = tuple[bytes, int, int, int]
"""Header of a batch's origin, number of the batch, place of its room, how many get it here.

What this turn's writes bring to members, and so owe an answer."""


class RoomsRecord(msgspec.Struct, array_like=True, gc=False):
    """What a turn does to rooms. `pending` are all that there are, also of earlier turns.

    `heard` are (loop's index, number) of the last batches that came in this turn.
    """

    memberships: list[Words]
    pending: list[Pending]
    reached: list[Reached]
    heard: list[tuple[int, int]] = []


Filing: TypeAlias = tuple[bytes, bytes, bytes]
"""Header of the origin; lines between accounts, to be stored once they are written; their receipts.

Lines and receipts are joined by LF, as they go to the historian; no receipts: nobody wants any."""


class Record(msgspec.Struct, array_like=True, gc=False):
    """All that a turn does to the world outside of its process.

    `taken` are (loop's index, number) of the datagrams of others that the turn dealt with.
    `datagrams` are (p_id, bytes) that have not been sent yet, oldest first. `confirmed` are (slot,
    generation, position) of slow readers: what ends there has been answered for. `is_handover`: the
    worker ended in order, and by slot `unread` is what it had read of lines without an end, and
    `departing` the last words of those who wait for their last answers.
    """

    turn: int
    taken: list[tuple[int, int]] = []
    inputs: list[Input] = []
    writes: list[Write] = []
    datagrams: list[tuple[int, bytes]] = []
    deliveries: list[Delivery] = []
    confirmed: list[tuple[int, int, int]] = []
    is_handover: bool = False
    unread: dict[int, bytes] = {}
    departing: dict[int, list[bytes]] = {}
    shared: list[SharedWrite] = []
    rooms: RoomsRecord | None = None
    filings: list[Filing] = []

    def all_writes(self) -> list[Write]:
        """Return the writes, those of `shared` last and without words, in the order they go out."""
        return self.writes + [
            (slot, generation, start, 0, data)
            for data, receivers in self.shared
            for slot, generation, start in receivers
        ]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Journal:
    """The journal in the memory `fd`, for a daemon of so many loops. Owner: one loop."""

    __slots__ = ("_area", "_end", "_fd", "_first_page", "_loops", "_size", "_start", "_words")

    def __init__(self, fd: int, loops: int) -> None:
        """Attach; memory of size 0 is made an empty journal."""
        needed = (_TAKEN + 2 * loops) * _WORD_BYTES
        self._first_page = -(-needed // mmap.PAGESIZE) * mmap.PAGESIZE
        self._fd = fd
        self._loops = loops
        self._size = max(os.fstat(fd).st_size - self._first_page, INITIAL_BYTES)
        os.ftruncate(fd, self._first_page + self._size)
        self._words = memoryview(mmap.mmap(fd, self._first_page)).cast("q")
        self._area = mmap.mmap(fd, self._size, offset=self._first_page)
        commit = self._words[_COMMIT]
        self._start = commit >> 32
        self._end = self._start + (commit & 0xFFFFFFFF)
        self.note_written(*self.written())

    def load(self) -> Record | None:
        """Return the valid record, None if there was none."""
        if self._end == self._start:
            return None
        return _decode(self._area[self._start : self._end])

    def commit(self, record: Record) -> None:
        """Make `record` the valid one. The one before it is no longer needed."""
        data = _encode(record)
        start = 0 if len(data) <= self._start else -(-self._end // _ALIGN) * _ALIGN
        end = start + len(data)
        if end > self._size:
            self._grow(end)
        self._area[start:end] = data
        self._words[_COMMIT] = start << 32 | len(data)
        self._start, self._end = start, end
        self.note_written(0, 0)  # else a note on the record before the last may seem to be of this
        self.note_taken(record.taken)

    def clear(self) -> None:
        """Leave no record, and nothing of what it said: it may be half a line with a password."""
        self._words[_COMMIT] = 0
        self._area[self._start : self._end] = bytes(self._end - self._start)
        self._start = self._end = 0

    @property
    def settled(self) -> int:
        """Number of the last turn of which everything has been done."""
        return self._words[_SETTLED]

    def settle(self, turn: int) -> None:
        """Note that everything in the record of `turn` has been done."""
        self._words[_SETTLED] = turn

    def note_reading(self, slot: int) -> None:
        """Note that this client's input is being looked at, until `note_read`."""
        self._words[_READING] = slot + 1

    def note_read(self) -> None:
        """Note that what was looked at did no harm."""
        self._words[_READING] = 0
        self._words[_DEATHS] = 0

    def suspect(self) -> int:
        """Return the slot whose input has ended MOST_DEATHS workers in a row, -1 if none has.

        To be asked once, by a successor, before it reads anything.
        """
        reading = self._words[_READING]
        blamed, deaths = self._words[_DEATHS] >> 8, self._words[_DEATHS] & 0xFF
        self._words[_READING] = 0
        if not reading:
            self._words[_DEATHS] = 0
            return -1
        deaths = deaths + 1 if reading == blamed else 1
        self._words[_DEATHS] = reading << 8 | deaths
        return reading - 1 if deaths >= MOST_DEATHS else -1

    @property
    def has_suspect(self) -> bool:
        """True if a predecessor has died while it read somebody; asked after `suspect`."""
        return bool(self._words[_DEATHS])

    def note_written(self, writes: int, taken: int) -> None:
        """Note that `writes` of the valid record are done, of the last of them `taken` bytes."""
        self._words[_WRITTEN] = _progress(self._start, writes, taken)

    def note_writing(self, write: int) -> None:
        """Note that those before `write` of the valid record are done, and this one is next."""
        self.note_written(write, UNDER_WAY)

    def written(self) -> tuple[int, int]:
        """How many writes of the valid record were noted as done, and bytes taken of the last.

        UNDER_WAY: nobody knows of the last.
        """
        word = self._words[_WRITTEN]
        writes, taken = word >> 32 & 0xFFFF, word & 0xFFFFFFFF
        is_of_this = word == _progress(self._start, writes, taken)
        return (writes, taken) if is_of_this else (0, 0)

    def note_taken(self, taken: list[tuple[int, int]]) -> None:
        """Note the numbers of the last datagrams taken from some loops, by index."""
        for loop, number in taken:
            self._words[_TAKEN + loop] = number

    def taken(self) -> list[int]:
        """Return the number of the last datagram taken from each loop."""
        return self._words[_TAKEN : _TAKEN + self._loops].tolist()

    def note_heard(self, heard: list[tuple[int, int]]) -> None:
        """Note the numbers of the last batches for rooms that came from some loops, by index."""
        start = _TAKEN + self._loops
        for loop, batch in heard:
            self._words[start + loop] = batch

    def heard(self) -> list[int]:
        """Return the number of the last batch for a room that came from each loop."""
        start = _TAKEN + self._loops
        return self._words[start : start + self._loops].tolist()

    def _grow(self, size: int) -> None:
        self._size = max(2 * self._size, size)
        os.ftruncate(self._fd, self._first_page + self._size)
        self._area.close()
        self._area = mmap.mmap(self._fd, self._size, offset=self._first_page)


def _progress(start: int, writes: int, taken: int) -> int:
    """Pack into a word how far a record is; two records in a row differ in where they start."""
    return (start // _ALIGN & 0x7FFF) << 48 | writes << 32 | taken
