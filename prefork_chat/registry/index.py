"""The name index: from the tag of a name to the slot that has it, by open addressing.

Decides how tags are made and where they stand. Used by `registry` only. Readers probe it without a
lock and believe nothing before they have checked the slot; writers change it only while they hold
the write semaphore and the sequence is odd. It holds nothing that the slots do not say, so a torn
index is rebuilt from them.

A tag is the keyed BLAKE2b hash of a folded name, 8 bytes, and never 0, which marks an empty place.
The key is random and lives in the shared memory, so nobody can choose names that collide. Probing
is linear from `tag & mask`. A removed entry leaves no tombstone: the entries behind it move up
(backward shift), so lookups stay as fast as on the first day.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from prefork_chat.registry.layout import TAG_BYTES

NOWHERE: Final = -1
"""No place, or no slot."""


class NameIndex:
    """Views of the two arrays of the index; whoever holds the write semaphore owns their contents.

    `slots[place]` is the slot that a place points to; during a change it may be another tag's.
    """

    __slots__ = ("_keyed", "_mask", "_tags", "slots")

    def __init__(self, tags: memoryview[int], slots: memoryview[int], hash_key: bytes) -> None:
        """`tags` of format "q" and `slots` of format "i" are equally long, a power of two."""
        self.slots = slots
        self._tags = tags
        self._mask = len(tags) - 1
        # A copy of a hash object that has its key costs 0.27 us, keying a new one 0.45 (2026-11).
        self._keyed = blake2b(digest_size=TAG_BYTES, key=hash_key)

    def tag(self, key: bytes) -> int:
        """The tag of a folded name: a signed 64-bit number other than 0."""
        keyed = self._keyed.copy()
        keyed.update(key)
        return int.from_bytes(keyed.digest(), "little", signed=True) or 1

    def find(self, tag: int, place: int) -> int:
        """The first place from `place` on (modulo the length) that has `tag`, or NOWHERE."""
        tags = self._tags
        mask = self._mask
        place &= mask
        # It ends: at least half of the places are empty, also in the middle of any change.
        while found := tags[place]:
            if found == tag:
                return place
            place = (place + 1) & mask
        return NOWHERE

    def put(self, tag: int, slot: int) -> None:
        """Add an entry (writer). The tag goes last: a reader that sees it sees its slot."""
        tags = self._tags
        mask = self._mask
        place = tag & mask
        while tags[place]:
            place = (place + 1) & mask
        self.slots[place] = slot
        tags[place] = tag

    def remove(self, tag: int, slot: int) -> None:
        """Take the entry of `slot` out and close the gap (writer)."""
        tags = self._tags
        slots = self.slots
        mask = self._mask
        hole = self.find(tag, tag)
        while slots[hole] != slot:
            hole = self.find(tag, hole + 1)
        place = (hole + 1) & mask
        while moving := tags[place]:
            # An entry must not move to before its home, where nobody would look for it.
            if (place - moving) & mask >= (place - hole) & mask:
                slots[hole] = slots[place]
                tags[hole] = moving
                hole = place
            place = (place + 1) & mask
        tags[hole] = 0

    def clear(self) -> None:
        """Empty every place (writer)."""
        with memoryview(bytes(self._tags.nbytes)).cast("q") as zeros:
            self._tags[:] = zeros

    def close(self) -> None:
        """Let go of the shared memory in this process."""
        self._tags.release()
        self.slots.release()
