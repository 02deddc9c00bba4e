"""The name index: from the tag of a name to the slot that claims it, by open addressing.

Decides how tags are made and where they stand. Used by `registry` only. Readers probe it without a
lock and believe nothing before they have checked the slot; writers change it only with the write
semaphore held and the sequence odd. It holds nothing that the slots do not say, so a torn index is
rebuilt from them.

A tag is the keyed BLAKE2b hash of a folded name, 8 bytes (never 0: that is an empty place). The key
is random and lives in the shared memory, so nobody can choose names that collide. Linear probing
from `tag & mask`; a removed entry leaves no tombstone: the entries behind it move up (backward
shift), so the index stays as fast as it was on its first day.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from prefork_chat.registry.layout import TAG_BYTES

NOWHERE: Final = -1


class NameIndex:
    """Views of the two arrays of the index. Owner of their contents: whoever holds the write
    semaphore."""

    __slots__ = ("_keyed", "_mask", "_slots", "_tags")

    def __init__(self, tags: memoryview[int], slots: memoryview[int], hash_key: bytes) -> None:
        """`tags` of format "q" and `slots` of format "i" are of equal length, a power of two."""
        self._tags = tags
        self._slots = slots
        self._mask = len(tags) - 1
        # Copying a hash object that has taken its key is a third cheaper than keying a new one (0.27 and 0.45 us, 2026-11).
        self._keyed = blake2b(digest_size=TAG_BYTES, key=hash_key)

    def tag(self, key: bytes) -> int:
        """The tag of a folded name: a signed 64-bit number other than 0."""
        keyed = self._keyed.copy()
        keyed.update(key)
        return int.from_bytes(keyed.digest(), "little", signed=True) or 1

    def home(self, tag: int) -> int:
        """The place from which `tag` is looked for."""
        return tag & self._mask

    def find(self, tag: int, place: int) -> int:
        """The first place from `place` on that holds `tag`, or NOWHERE; to go on, call with the
        place behind it."""
        tags = self._tags
        mask = self._mask
        place &= mask
        while found := tags[place]:
            if found == tag:
                return place
            place = (place + 1) & mask
        return NOWHERE

    def slot_at(self, place: int) -> int:
        """The slot that `place` points to; during a change it may belong to another tag."""
        return self._slots[place]

    def put(self, tag: int, slot: int) -> None:
        """Add an entry (writer). The tag goes last: a reader that sees it sees its slot."""
        tags = self._tags
        mask = self._mask
        place = tag & mask
        while tags[place]:
            place = (place + 1) & mask
        self._slots[place] = slot
        tags[place] = tag

    def remove(self, tag: int, slot: int) -> None:
        """Take the entry of `slot` out and close the gap (writer)."""
        tags = self._tags
        slots = self._slots
        mask = self._mask
        hole = self.find(tag, tag)
        while slots[hole] != slot:
            hole = self.find(tag, hole + 1)
        place = (hole + 1) & mask
        while moving := tags[place]:
            # An entry may move up to the hole only if its home is not behind the hole.
            if (place - moving) & mask >= (place - hole) & mask:
                slots[hole] = slots[place]
                tags[hole] = moving
                hole = place
            place = (place + 1) & mask
        tags[hole] = 0

    def clear(self) -> None:
        """Empty every place (writer)."""
        tags = self._tags
        tags[:] = memoryview(bytes(tags.nbytes)).cast("q")

    def entries(self) -> dict[int, int]:
        """All (place, slot) pairs that hold a tag: for checks of the whole index by tests and
        tools, with no writer about."""
        return {place: self._slots[place] for place, tag in enumerate(self._tags.tolist()) if tag}

    def release(self) -> None:
        """Give the views back."""
        self._tags.release()
        self._slots.release()
