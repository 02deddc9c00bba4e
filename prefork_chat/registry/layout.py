"""Where everything is in the registry's shared memory: the one module that knows offsets.

Decides the layout, its version and its size. Pure arithmetic; used when the memory is made and when
views are attached to it. Words are signed, 64 bits, 8-byte aligned, in the machine's byte order,
and read and written through `memoryview.cast("q")`, where an aligned word is one machine load or
store: a reader without a lock never sees half of one. Each part begins on a cache line, and so do
each slot, worker row and loop block: what one thread writes often shares no line with what another
does.

    header        <q q q q q q 16s>  magic, version, capacity, workers, threads, rooms, hash key
                  <q q q q q 24x>    sequence, count (names), high (slots ever used), free (a slot
                                     + 1; 0), claimed (slots)
    worker table  <8q> per worker    then <8q> for each of its loops; fields: see `table`
    tags          <q> per place      0: empty, else the tag of a name
    index slots   <i> per place      the slot of that name
    slots         <q q q q 32s> each
        state        g > 0: claimed, by its g-th session; -g: free after g sessions; 0: never used
        owner        naming << 24 | p_id << 16 | t_id << 8 | length of the name, 0: it has none
                     naming: 39 bits, another one after each claim, enter and withdraw of this slot
        tag          has a name: its tag, as in the index; free: the next free slot + 1, 0 behind
                     the last; else meaningless
        progress     claimed: the owner loop's word, 0 at first
        name         as typed, padded with zeros
    positions    <q> per slot     of the owner loop: how much of the client's stream is dealt with
    memberships  <16q> per slot   of the owner loop: the rooms that the session is in; see `rooms`
    room states  <q> per room     g > 0: in use, for the g-th time; -g: not, after g times; 0: never
    room tags    <q> per room     the tag of its name
    room names   <B 39s> per room length, name as typed, padded with zeros
    room counts  <q> per room and loop, room by room: that loop's, how many of its sessions are in
    room said    <q> per room and loop, likewise: messages that its sessions have said there
    endings      <8q> for each of the last ENDINGS ends of workers; fields: see `endings`
    registered   <B> per cell     see `names`: 2**20 of them
    penalties    <q> per cell     see `penalties`: 4096 of them
    consoles     one line, then one for each loop; words: see `consoles`

The name index has a power of two of places, at least twice the capacity: never over half full.
A client costs 72 bytes of slot and, at 10,000 or 20,000 clients, 39 bytes of index: 1 and 2 MB; the
128 bytes of its memberships are touched once it is in a room, not before. All is allocated at the
start, but resident in a process only as far as it has touched it: 4 kB in the supervisor, slots
from the lowest up (measured 2026-11; a full registry's PSS is its size).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

MAGIC_NUMBER: Final = int.from_bytes(b"preforkR", "little")
VERSION_NUMBER: Final = 4
"""One more with every change of this layout; a process refuses memory of another version."""

WORD_BYTES: Final = 8
LINE_BYTES: Final = 64
"""Cache line of x86-64 and of most arm64 machines."""
LINE_WORDS: Final = LINE_BYTES // WORD_BYTES

# Words of the header.
HEADER_BYTES: Final = 2 * LINE_BYTES
MAGIC: Final = 0
VERSION: Final = 1
CAPACITY: Final = 2
WORKERS: Final = 3
THREADS: Final = 4
ROOMS: Final = 5
HASH_KEY_OFFSET: Final = 6 * WORD_BYTES
HASH_KEY_BYTES: Final = 16
SEQUENCE: Final = 8
COUNT: Final = 9
HIGH: Final = 10
FREE: Final = 11
CLAIMED: Final = 12

# Words of a slot, and its name.
SLOT_BYTES: Final = LINE_BYTES
SLOT_WORDS: Final = SLOT_BYTES // WORD_BYTES
STATE: Final = 0
OWNER: Final = 1
TAG: Final = 2
PROGRESS: Final = 3
NAME_OFFSET: Final = 4 * WORD_BYTES
NAME_BYTES: Final = 32
"""The longest name of the line protocol."""

# Parts of an owner word.
NAMING_SHIFT: Final = 24
NAMING_STEP: Final = 1 << NAMING_SHIFT
NAMING_MASK: Final = (1 << 63) - NAMING_STEP
"""The naming alone; a sum masked by it begins anew after 2**39 namings and is never negative."""
P_ID_SHIFT: Final = 16
T_ID_SHIFT: Final = 8
BYTE_MASK: Final = 0xFF
"""Of the p_id, the t_id, and the length."""
LENGTH_BYTE: Final = 0 if sys.byteorder == "little" else 7
T_ID_BYTE: Final = 1 if sys.byteorder == "little" else 6
P_ID_BYTE: Final = 2 if sys.byteorder == "little" else 5
"""Where they are among the bytes of the word."""

# The rooms of a session, and a room's name.
MEMBERSHIPS: Final = 16
"""The most rooms that a session can be in."""
MEMBERSHIPS_BYTES: Final = MEMBERSHIPS * WORD_BYTES
ROOM_NAME_BYTES: Final = 40
LONGEST_ROOM_NAME: Final = 1 + NAME_BYTES

ENDINGS: Final = 16
"""Ends of workers that are remembered."""

TAG_BYTES: Final = 8
INDEX_SLOT_BYTES: Final = 4

REGISTERED_CELLS: Final = 1 << 20
"""One byte each, touched when it is set: 1 MB, and 4 kB of it for each of the first accounts."""
PENALTY_CELLS: Final = 4096

MAX_WORKERS: Final = 256
"""p_id has one byte in the owner word."""
MAX_THREADS: Final = 256
"""t_id has one byte in the owner word."""

CONSOLES: Final = 4
"""How many consoles the operator may have open at once; at most LINE_WORDS - 1."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts, as slices of bytes, for `capacity` slots and `workers` of `threads` loops each.

    `rooms`: for how many rooms there is a place.
    """

    capacity: int
    workers: int
    threads: int
    rooms: int = 0

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError("a registry has at least one slot")
        if not (1 <= self.workers <= MAX_WORKERS and 1 <= self.threads <= MAX_THREADS):
            raise ValueError("p_id and t_id have one byte each")
        if self.rooms < 0:
            raise ValueError("a registry has no fewer than 0 rooms")

    @property
    def table(self) -> slice:
        """The rows of the worker table."""
        return _part(HEADER_BYTES, self.workers * (1 + self.threads) * LINE_BYTES)

    @property
    def places(self) -> int:
        """Places of the name index: a power of two, at least twice the capacity."""
        return int(1 << (2 * self.capacity - 1).bit_length())

    @property
    def tags(self) -> slice:
        """The tags of the name index."""
        return _part(self.table.stop, self.places * TAG_BYTES)

    @property
    def index_slots(self) -> slice:
        """The slot numbers of the name index."""
        return _part(self.tags.stop, self.places * INDEX_SLOT_BYTES)

    @property
    def slots(self) -> slice:
        """The slots."""
        return _part(self.index_slots.stop, self.capacity * SLOT_BYTES)

    @property
    def positions(self) -> slice:
        """One word per slot."""
        return _part(self.slots.stop, self.capacity * WORD_BYTES)

    @property
    def memberships(self) -> slice:
        """MEMBERSHIPS words per slot."""
        return _part(self.positions.stop, self.capacity * MEMBERSHIPS_BYTES)

    @property
    def room_states(self) -> slice:
        """One word per room."""
        return _part(self.memberships.stop, self.rooms * WORD_BYTES)

    @property
    def room_tags(self) -> slice:
        """One word per room."""
        return _part(self.room_states.stop, self.rooms * TAG_BYTES)

    @property
    def room_names(self) -> slice:
        """A length and a name per room."""
        return _part(self.room_tags.stop, self.rooms * ROOM_NAME_BYTES)

    @property
    def room_counts(self) -> slice:
        """One word per room and loop."""
        loops = self.workers * self.threads
        return _part(self.room_names.stop, self.rooms * loops * WORD_BYTES)

    @property
    def room_said(self) -> slice:
        """One word per room and loop."""
        loops = self.workers * self.threads
        return _part(self.room_counts.stop, self.rooms * loops * WORD_BYTES)

    @property
    def endings(self) -> slice:
        """The last ends of workers."""
        return _part(self.room_said.stop, ENDINGS * LINE_BYTES)

    @property
    def registered(self) -> slice:
        """The cells of the filter of registered names."""
        return _part(self.endings.stop, REGISTERED_CELLS)

    @property
    def penalties(self) -> slice:
        """The cells of the penalties for wrong passwords."""
        return _part(self.registered.stop, PENALTY_CELLS * WORD_BYTES)

    @property
    def consoles(self) -> slice:
        """A line, and one for each loop."""
        return _part(self.penalties.stop, (1 + self.workers * self.threads) * LINE_BYTES)

    @property
    def total_bytes(self) -> int:
        """Size of the shared memory."""
        return int(self.consoles.stop)


def _part(previous_end: int, size: int) -> slice:
    """A part of `size` bytes on the next cache line."""
    start = -(-previous_end // LINE_BYTES) * LINE_BYTES
    return slice(start, start + size)
