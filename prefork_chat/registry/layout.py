"""Where everything is in the registry's shared memory: the one place that knows offsets.

Decides the layout, its version and its size. Pure arithmetic; called when the memory is made and
when a process attaches its views. All words are 8-byte aligned and little-endian signed 64-bit,
read and written through `memoryview.cast("q")`, whose access to one aligned word is one machine
load or store: a lock-free reader never sees half of one. Each part begins on a cache line of 64
bytes, and so does each slot, worker row and loop block: what one thread writes often shares no line
with what another does.

    header        <q q q q q q 16s>    magic, version, capacity, workers, threads, unused, hash key
                  <q q q q 32x>        sequence, count, high, free
    swept         <q> per worker       the incarnation word up to which the worker's stale slots
    have been freed worker table  per worker: <q*8> the worker, then <q*8> per loop (fields:
    `table`) tags          <q> per index place  0 = empty, else the tag of a name index slots   <i>
    per index place  the slot of that name slots         <q q q q 32s> per slot
                  state        g > 0: claimed, of generation g; -g: free, was of generation g; 0:
                  never used owner        claimed: p_id << 16 | t_id << 8 | length of the name;
                  free: next free slot + 1, 0 = none incarnation  of the worker that claimed it tag
                  of the name, as in the index name         as typed, ASCII, padded with zeros

The name index has a power of two of places, at least twice the capacity, so it is never more than
half full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAGIC: Final = int.from_bytes(b"preforkR", "little")
VERSION: Final = 1
"""One more at every change of this layout: a process that attaches refuses another version."""

WORD_BYTES: Final = 8
LINE_BYTES: Final = 64
"""Cache line of x86-64 and most arm64 machines."""
LINE_WORDS: Final = LINE_BYTES // WORD_BYTES

# Header, in words.
HEADER_BYTES: Final = 2 * LINE_BYTES
MAGIC_WORD: Final = 0
VERSION_WORD: Final = 1
CAPACITY_WORD: Final = 2
WORKERS_WORD: Final = 3
THREADS_WORD: Final = 4
HASH_KEY_OFFSET: Final = 6 * WORD_BYTES
HASH_KEY_BYTES: Final = 16
SEQUENCE: Final = 8
COUNT: Final = 9
HIGH: Final = 10
FREE: Final = 11

# Slot, in words.
SLOT_BYTES: Final = LINE_BYTES
SLOT_WORDS: Final = SLOT_BYTES // WORD_BYTES
STATE: Final = 0
OWNER: Final = 1
INCARNATION: Final = 2
TAG: Final = 3
NAME_OFFSET: Final = 4 * WORD_BYTES
NAME_BYTES: Final = 32
"""Longest name (the line protocol: 1-32 characters)."""

MAX_WORKERS: Final = 256
MAX_THREADS: Final = 256
"""p_id and t_id have a byte each in the owner word."""

TAG_BYTES: Final = 8
INDEX_SLOT_BYTES: Final = 4


def _whole_lines(size: int) -> int:
    return -(-size // LINE_BYTES) * LINE_BYTES


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets in bytes for one registry of `capacity` slots, `workers` processes and `threads`
    loops each."""

    capacity: int
    workers: int
    threads: int

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError("a registry needs at least one slot")
        if not (1 <= self.workers <= MAX_WORKERS and 1 <= self.threads <= MAX_THREADS):
            raise ValueError("p_id and t_id have one byte each")

    @property
    def swept_offset(self) -> int:
        return HEADER_BYTES

    @property
    def table_offset(self) -> int:
        return self.swept_offset + _whole_lines(self.workers * WORD_BYTES)

    @property
    def table_bytes(self) -> int:
        return self.workers * (1 + self.threads) * LINE_BYTES

    @property
    def places(self) -> int:
        """Places of the name index: a power of two, at least twice the capacity."""
        return int(1 << (2 * self.capacity - 1).bit_length())

    @property
    def tags_offset(self) -> int:
        return self.table_offset + self.table_bytes

    @property
    def index_slots_offset(self) -> int:
        return self.tags_offset + _whole_lines(self.places * TAG_BYTES)

    @property
    def slots_offset(self) -> int:
        return self.index_slots_offset + _whole_lines(self.places * INDEX_SLOT_BYTES)

    @property
    def total_bytes(self) -> int:
        return self.slots_offset + self.capacity * SLOT_BYTES


def total_bytes(max_clients: int, max_workers: int, max_threads: int) -> int:
    """Size in bytes of the shared memory that a registry for so many clients, workers and loops per
    worker needs."""
    return Layout(max_clients, max_workers, max_threads).total_bytes
