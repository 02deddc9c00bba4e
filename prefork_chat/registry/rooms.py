"""The rooms: which there are, under which names, and how many members each loop has in them.

Decides when a room begins and ends. It begins when somebody enters it under a name that no room
has, and it ends when the last member of the last loop has gone: then its place may be had by
another. Called in every process and any thread; keeps nothing but views of the shared memory.

A room has a *place*, and there a generation (state), a name, and one count for each loop: the
members among that loop's sessions. A count has one writer, its loop, and is never below the truth:
it is raised before an entry takes effect, and set to the truth after an entry or a departure has.
So a room with a member anywhere is in use, and who sends to all loops with a count reaches all
members.

Truth and kills
    `enter` holds the write semaphore, and so does nobody else who changes states, tags and names;
    a reader takes no lock. A new room is written from the inside out: state negative, tag and name,
    the count of the loop that enters, state positive. Killed in between there is no such room, and
    what was raised is set right by the successor (`reset`); killed after it there is an empty one,
    as soon as that has happened. Places do not move, so a reader cannot miss a room that stays;
    whether what it read is of one room, the state tells, which is another one for each.

A session's *memberships* are words of its slot, of the loop that has it: place + 1 | missed << 32,
or 0 for none. `missed` counts messages of that room that the session did not get.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from prefork_chat.registry.layout import (
    LONGEST_ROOM_NAME,
    MEMBERSHIPS,
    ROOM_NAME_BYTES,
    Layout,
)

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prefork_chat.registry.ipc import Semaphore

MISSED_SHIFT: Final = 32
MOST_MISSED: Final = (1 << 31) - 1
_PLACE_MASK: Final = (1 << MISSED_SHIFT) - 1


class RoomsFull(Exception):  # noqa: N818 - an outcome, not an error
    """Every place has a room with members."""


class Room(NamedTuple):
    """A room; `generation` tells it from earlier and later ones at the same place."""

    place: int
    generation: int
    name: bytes


class RoomTable:
    """All rooms, in `capacity` places, of `loops` loops: (p_id, t_id) is p_id * threads + t_id.

    A key is a room's name folded (lower-case), a name is as typed by who opened it; both begin with
    `#` and have 2-33 ASCII bytes. Counts belong to their loops, all else to whoever holds the write
    semaphore.
    """

    __slots__ = (
        "_counts",
        "_map",
        "_names_at",
        "_said",
        "_states",
        "_tag",
        "_tags",
        "_write_semaphore",
        "capacity",
        "loops",
    )

    def __init__(
        self,
        memory: mmap.mmap,
        layout: Layout,
        write_semaphore: Semaphore,
        tag: Callable[[bytes], int],
    ) -> None:
        """`tag` gives the keyed hash of a key."""
        view = memoryview(memory)
        self.capacity = layout.rooms
        self.loops = layout.workers * layout.threads
        self._map = memory
        self._names_at = layout.room_names.start
        self._states = view[layout.room_states].cast("q")
        self._tags = view[layout.room_tags].cast("q")
        self._counts = view[layout.room_counts].cast("q")
        self._said = view[layout.room_said].cast("q")
        self._write_semaphore = write_semaphore
        self._tag = tag

    def close(self) -> None:
        """Let go of the shared memory in this process."""
        for view in (self._states, self._tags, self._counts, self._said):
            view.release()

    # Changing

    def enter(self, key: bytes, name: bytes, loop: int) -> Room:
        """Raise the count of `loop` in the room of `key`, which begins now, as `name`, if need be.

        Raises RoomsFull when it would have to begin and there is no place; ValueError when `key` is
        not `name` folded.
        """
        if name.lower() != key or not 2 <= len(name) <= LONGEST_ROOM_NAME:
            raise ValueError("a key is its name in lower case, 2-33 bytes")
        tag = self._tag(key)
        with self._write_semaphore:
            room = self._look_up(tag, key)
            if room is not None:
                self._counts[room.place * self.loops + loop] += 1
                return room
            return self._open(self._vacancy(tag), tag, name, loop)

    def set_count(self, place: int, loop: int, members: int) -> None:
        """Say how many members `loop` has in a room in which it had some (that loop only)."""
        self._counts[place * self.loops + loop] = members

    def count_said(self, place: int, loop: int, messages: int) -> None:
        """Count messages that sessions of `loop` have said in a room (that loop only).

        For whoever looks on: what is said again by a successor counts again, and a place goes on
        counting from room to room.
        """
        self._said[place * self.loops + loop] += messages

    def reset(self, loop: int, members: Mapping[int, int]) -> None:
        """Set all counts of `loop`, by place, whatever a predecessor has left (that loop only)."""
        counts = self._counts[loop :: self.loops]
        for place, count in enumerate(counts.tolist()):
            wanted = members.get(place, 0)
            if wanted != count:
                counts[place] = wanted

    # Reading, without a lock

    def find(self, key: bytes) -> Room | None:
        """Return the room of `key`, None if there is none: nobody is in it."""
        return self._look_up(self._tag(key), key)

    def at(self, place: int) -> Room | None:
        """Return the room at `place`, None if it is not in use."""
        while True:
            generation = self._states[place]
            start = self._names_at + place * ROOM_NAME_BYTES
            written = self._map[start : start + ROOM_NAME_BYTES]
            if self._states[place] == generation:
                return (
                    Room(place, generation, written[1 : 1 + written[0]]) if generation > 0 else None
                )

    def counts(self, place: int) -> list[int]:
        """Return how many members each loop has in the room at `place`, or a little more.

        Read from the last loop to the first: members move that way, and are counted at the new loop
        before they are not at the old one. So whoever moves meanwhile is counted, perhaps twice.
        """
        counts = self._counts[place * self.loops : (place + 1) * self.loops]
        return counts[::-1].tolist()[::-1]

    def said(self, place: int) -> int:
        """Return how many messages have been said at `place` so far, in all its rooms."""
        return sum(self._said[place * self.loops : (place + 1) * self.loops].tolist())

    def all(self) -> Iterator[tuple[Room, list[int]]]:
        """Yield every room that has members, with its counts."""
        for place, state in enumerate(self._states.tolist()):
            if state > 0:
                counts = self.counts(place)
                room = self.at(place)
                if room is not None and any(counts):
                    yield room, counts

    def _look_up(self, tag: int, key: bytes) -> Room | None:
        for place in _places(self._tags.tolist(), tag):
            room = self.at(place)
            if room is not None and room.name.lower() == key and any(self.counts(place)):
                return room
        return None

    # The caller holds the write semaphore.

    def _vacancy(self, tag: int) -> int:
        """Return a place without members: one that has this tag already, if there is one."""
        for place in _places(self._tags.tolist(), tag):
            if not any(self.counts(place)):
                return place
        for place, state in enumerate(self._states.tolist()):
            if state <= 0 and not any(self.counts(place)):
                return place
        for place in range(self.capacity):
            if not any(self.counts(place)):
                return place
        raise RoomsFull(f"{self.capacity} rooms")

    def _open(self, place: int, tag: int, name: bytes, loop: int) -> Room:
        generation = abs(self._states[place])
        self._states[place] = -generation
        start = self._names_at + place * ROOM_NAME_BYTES
        written = bytes((len(name),)) + name
        self._map[start : start + ROOM_NAME_BYTES] = written.ljust(ROOM_NAME_BYTES, b"\0")
        self._tags[place] = tag
        self._counts[place * self.loops + loop] = 1
        self._states[place] = generation + 1
        return Room(place, generation + 1, name)


def _places(tags: list[int], tag: int) -> Iterator[int]:
    """The places that have `tag`."""
    place = -1
    try:
        while True:
            place = tags.index(tag, place + 1)
            yield place
    except ValueError:
        return


def pack_memberships(memberships: Iterable[tuple[int, int, int]]) -> list[int]:
    """Return the words of a slot that is in rooms: (position among them, place, missed) of each."""
    words = [0] * MEMBERSHIPS
    for position, place, missed in memberships:
        words[position] = place + 1 | min(missed, MOST_MISSED) << MISSED_SHIFT
    return words


def parse_memberships(words: list[int]) -> list[tuple[int, int, int]]:
    """Return (position, place, missed) of each room in the words of a slot."""
    return [
        (position, (word & _PLACE_MASK) - 1, word >> MISSED_SHIFT)
        for position, word in enumerate(words)
        if word
    ]


def is_in(memberships: memoryview[int], slot: int, place: int) -> bool:
    """Say whether the session of `slot`, whose words have been set, is in the room at `place`."""
    words = memberships[slot * MEMBERSHIPS : (slot + 1) * MEMBERSHIPS].tolist()
    return any(word & _PLACE_MASK == place + 1 for word in words)
