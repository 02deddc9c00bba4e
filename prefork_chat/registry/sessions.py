"""The sessions: who has which slot, at which loop, under which name; claim to free, find.

Decides when a slot and when a name is taken, and when they are free again. The half of `registry`
that writers need; called through it only, in any process and thread.

Truth
    The state words and owner words of the slots, whose stores are the commit points of all that a
    writer does: see `slots`. Name index, free list, and the counts of names and of claimed slots
    only repeat what they say, in a form that is quick to use.

Writers
    hold the write semaphore, so there is one at a time. They make the sequence word odd before
    their first change and even after the last. Whoever finds it odd on arrival comes after a
    writer who was killed: he rebuilds index, free list and counts from the slots, and only then
    does what he came for. A move is one store, and a take-over two, that concern none of
    these: they leave the sequence alone.

Readers
    take no lock. What they read of a slot is of one moment (`Slots.look_at`). A hit is believed if
    the slot that the index names is claimed and has that name, whatever the sequence. A miss is
    believed if the sequence was even, and the same before and after: whatever takes a name from a
    reader's way, or hides it, happens while the sequence is odd. `check`, in doubt about a miss,
    tries again, and after a few times takes the write semaphore once: that waits for a live writer
    and repairs after a dead one. All other readers look at the slots alone and never wait. What a
    reader learnt may be untrue the moment after; the destination checks again, end to end.

Killed between any two statements
    What a kill leaves is a prefix of the writer's stores. The kernel gives the semaphore back when
    the writer's last thread is gone, so the next writer sees all of that prefix. By prefix:

    claim
        sequence odd, slot off the free list, owner word and progress written: the state is not
            positive, so the rebuild puts the slot back on the free list. (`high` is raised before
            the slot behind it is claimed: it never lies too low.)
        state positive: claimed, without a name, for the loop that the owner word says; the rebuild
            counts it. The caller never learnt of it, and its successor frees it: a session for
            which nobody keeps a socket.
    enter
        sequence odd, tag or name bytes written: the length is 0, so there is no name, and what was
            written means nothing.
        length stored: the session has the name; the rebuild puts it into index and count.
    withdraw
        sequence odd: nothing has changed.
        length 0 stored: the name is free; the rebuild leaves it out of index and count.
    free
        sequence odd: nothing has changed; the successor finds the session and adopts it.
        state negative: slot and name are free. The owner word still has a length, and the index
            perhaps an entry, but nobody believes them of a free slot; the rebuild leaves the name
            out and lists the slot as free, in the tag word, which the name needs no more.
    move
        before its one store the session is at the old loop, after it at the new one.
    take_over
        owner word stored: the session is at the new loop, which was killed, and still released. Its
            successor finds it among its own and takes it over again; so may any other to whom it
            was given, for nobody serves it. The old loop sees that it has gone and forgets it.
        flag cleared: the new loop has it, and nobody can take it from there.
    repair, also by a reader
        the sequence is still odd and no state or owner word has changed: the next one repairs anew.

    What is done to several sessions at once is done to one after the other, in one hold of the
    semaphore and one step of the sequence: a kill leaves it done to the first of them.

    A generation grows by one with every claim, so no session of a slot has that of another: a late
    `withdraw`, `free`, `move` or receipt finds a different one and does nothing.

Memory order: x86-64 keeps one process's stores in order for all others, and its loads too, which
readers rely on. On weaker machines a reader may for a moment miss a name that is there, or read one
that is half another; the destination loop finds out.

What fails: SemaphoreGone if somebody removed the write semaphore. An exception between the two
steps of the sequence leaves it odd, and so is repaired like a kill. A writer that is stopped
(SIGSTOP) keeps writers, and misses in doubt, waiting: `writer_pid` tells the watchdog whom to kill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from prefork_chat.registry.index import NOWHERE, NameIndex
from prefork_chat.registry.layout import (
    BYTE_MASK,
    CAPACITY,
    CLAIMED,
    COUNT,
    FREE,
    HIGH,
    NAME_BYTES,
    P_ID_SHIFT,
    SEQUENCE,
    T_ID_SHIFT,
    THREADS,
    WORKERS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prefork_chat.registry.ipc import Semaphore
    from prefork_chat.registry.slots import Held, Slots

ATTEMPTS: Final = 4
"""How often a reader in doubt looks before it waits at the semaphore. Few: the writer may be a
thread of the same process, which cannot go on while the reader has the GIL. Waiting gives it up."""


class NameInUse(Exception):  # noqa: N818 - an outcome, not an error
    """Another session has the name."""


class RegistryFull(Exception):  # noqa: N818 - an outcome, not an error
    """Every slot is claimed."""


class Location(NamedTuple):
    """Where a session lives; `generation` tells it from earlier and later sessions of the slot."""

    p_id: int
    t_id: int
    slot: int
    generation: int


class Sessions:
    """What is done to slots and names, in one piece of shared memory.

    There are `capacity` slots, for `workers` of `threads` loops each. A key is a name folded
    (lower-case), a name is as typed; both are 1-32 ASCII bytes. Any method may be called in any
    thread.
    """

    __slots__ = (
        "_header",
        "_index",
        "_slots",
        "_write_semaphore",
        "capacity",
        "threads",
        "workers",
    )

    def __init__(
        self,
        header: memoryview[int],
        index: NameIndex,
        slots: Slots,
        write_semaphore: Semaphore,
    ) -> None:
        self._header = header
        self._index = index
        self._slots = slots
        self._write_semaphore = write_semaphore
        self.capacity = header[CAPACITY]
        self.workers = header[WORKERS]
        self.threads = header[THREADS]

    # Writers: each takes the write semaphore once, which is 0.6 us of its time. All times here:
    # among 20,000 sessions, nobody waiting, CPython 3.11, 2026-11.

    def claim(self, p_id: int, t_id: int) -> tuple[int, int]:
        """Claim a slot for a new, nameless session at that loop; returns (slot, generation).

        Raises RegistryFull when none is free, ValueError when there is no such loop. Takes 1.8 us.
        """
        claimed = self.claim_all(p_id, [t_id])
        if not claimed:
            raise RegistryFull(f"{self.capacity} sessions")
        return claimed[0]

    def claim_all(self, p_id: int, t_ids: Sequence[int]) -> list[tuple[int, int]]:
        """Claim a slot for a new, nameless session at each of these loops, while there are any.

        Returns (slot, generation) of each, in their order, fewer when the registry is full. Raises
        ValueError when there is no such loop. Killed, it has claimed the first of them or none.
        """
        for t_id in t_ids:
            self._require_loop(p_id, t_id)
        header = self._header
        claimed = []
        with self._write_semaphore:
            self._repair_if_torn()
            header[SEQUENCE] += 1
            for t_id in t_ids:
                slot = self._take_free()
                if slot == NOWHERE:
                    break
                claimed.append((slot, self._slots.claim(slot, p_id, t_id)))
                header[CLAIMED] += 1
            header[SEQUENCE] += 1
        return claimed

    def enter(self, slot: int, generation: int, key: bytes, name: bytes) -> None:
        """Give a session its name: `key`, shown as `name`.

        Raises NameInUse; ValueError when `key` is not `name` folded, or the slot is not that
        session's or has a name already. Takes 2.6 us.
        """
        if name.lower() != key or not 1 <= len(name) <= NAME_BYTES:
            raise ValueError("a key is its name in lower case, 1-32 bytes")
        tag = self._index.tag(key)
        header = self._header
        with self._write_semaphore:
            self._repair_if_torn()
            if not self._slots.has(slot, generation):
                raise ValueError(f"slot {slot} is not that of session {generation}")
            if self._slots.has_name(slot):
                raise ValueError(f"slot {slot} has a name already")
            if self._look_up(tag, key) is not None:
                raise NameInUse(name)
            header[SEQUENCE] += 1
            self._slots.enter(slot, tag, name)
            self._index.put(tag, slot)
            header[COUNT] += 1
            header[SEQUENCE] += 1

    def withdraw(self, slot: int, generation: int) -> bool:
        """Take a session's name away: others may have it at once. The slot stays claimed.

        False, and nothing happens, if it has none or the slot is not that session's any more. Takes
        2 us.
        """
        return self.withdraw_all([(slot, generation)]) == 1

    def withdraw_all(self, sessions: Iterable[tuple[int, int]]) -> int:
        """Do it for each of these (slot, generation); returns how many had a name.

        Killed, it has done it for the first of them or none.
        """
        header = self._header
        slots = self._slots
        with self._write_semaphore:
            self._repair_if_torn()
            count = header[COUNT]
            header[SEQUENCE] += 1
            for slot, generation in sessions:
                if slots.has(slot, generation) and slots.has_name(slot):
                    slots.withdraw(slot)
                    self._index.remove(slots.tags[slot], slot)
                    header[COUNT] -= 1
            header[SEQUENCE] += 1
            return count - header[COUNT]

    def free(self, slot: int, generation: int) -> bool:
        """Free a session's slot, and its name if it has one.

        False, and nothing happens, if the slot is not that session's any more. Takes 2 us, 1.6
        without a name.
        """
        return self.free_all([(slot, generation)]) == 1

    def free_all(self, sessions: Iterable[tuple[int, int]]) -> int:
        """Do it for each of these (slot, generation); returns how many there were.

        Killed, it has freed the first of them or none.
        """
        header = self._header
        slots = self._slots
        with self._write_semaphore:
            self._repair_if_torn()
            claimed = header[CLAIMED]
            header[SEQUENCE] += 1
            for slot, generation in sessions:
                if not slots.has(slot, generation):
                    continue
                slots.free(slot)
                if slots.has_name(slot):
                    self._index.remove(slots.tags[slot], slot)
                    header[COUNT] -= 1
                slots.tags[slot] = header[FREE]
                header[FREE] = slot + 1
                header[CLAIMED] -= 1
            header[SEQUENCE] += 1
            return claimed - header[CLAIMED]

    def move(self, slot: int, generation: int, p_id: int, t_id: int) -> bool:
        """Give a session, with its name, to another loop; its generation stays.

        False, and nothing happens, if the slot is not that session's any more. Raises ValueError
        when there is no such loop. Takes 1.0 us.
        """
        self._require_loop(p_id, t_id)
        with self._write_semaphore:
            self._repair_if_torn()
            if not self._slots.has(slot, generation):
                return False
            self._slots.move(slot, p_id, t_id)
            return True

    def take_over(self, slot: int, generation: int, p_id: int, t_id: int, flag: int) -> Held | None:
        """Give a session that its loop has released, by `flag` in its progress word, to another.

        The flag is cleared: of all who try, one gets it. Returns what the slot says then; None, and
        nothing happens, if the session is over or not (any longer) released. Raises ValueError when
        there is no such loop. Takes 1.8 us.
        """
        self._require_loop(p_id, t_id)
        slots = self._slots
        with self._write_semaphore:
            self._repair_if_torn()
            if not slots.has(slot, generation) or not slots.progress[slot] & flag:
                return None
            slots.move(slot, p_id, t_id)
            slots.progress[slot] &= ~flag
            return slots.read(slot)

    # Readers: none waits, but for a `check` in doubt about a miss.

    def check(self, key: bytes) -> Location | None:
        """Where the session of `key` is, or None. Lock-free, but for a miss in doubt.

        A hit takes 1.5 us and a miss 0.8.
        """
        header = self._header
        tag = self._index.tag(key)
        for _ in range(ATTEMPTS):
            sequence = header[SEQUENCE]
            location = self._look_up(tag, key)
            if location is not None or (sequence == header[SEQUENCE] and not sequence & 1):
                return location
        with self._write_semaphore:
            self._repair_if_torn()
            return self._look_up(tag, key)

    def owner(self, slot: int) -> tuple[int, int, int] | None:
        """(generation, p_id, t_id) of the session that has the slot, None if it is free."""
        held = self._slots.read(slot)
        return None if held is None else (held.generation, held.p_id, held.t_id)

    def loop_of(self, slot: int, generation: int) -> tuple[int, int] | None:
        """(p_id, t_id) of the loop that has this session, None if the session is over."""
        owner = self._slots.owners[slot]  # before the state: a later session may have it by now
        if self._slots.states[slot] != generation:
            return None
        return owner >> P_ID_SHIFT & BYTE_MASK, owner >> T_ID_SHIFT & BYTE_MASK

    def _look_up(self, tag: int, key: bytes) -> Location | None:
        index = self._index
        place = index.find(tag, tag)
        while place != NOWHERE:
            slot = index.slots[place]
            owner, state, name, _ = self._slots.look_at(slot)
            if state > 0 and name.lower() == key:
                p_id, t_id = owner >> P_ID_SHIFT & BYTE_MASK, owner >> T_ID_SHIFT & BYTE_MASK
                return Location(p_id, t_id, slot, state)
            place = index.find(tag, place + 1)
        return None

    def _take_free(self) -> int:
        """Take a slot off the free list, or one that was never used; NOWHERE if there is none."""
        header = self._header
        slot = header[FREE] - 1
        if slot >= 0:
            header[FREE] = self._slots.tags[slot]
            return slot
        slot = header[HIGH]
        if slot == self.capacity:
            return NOWHERE
        header[HIGH] = slot + 1
        return slot

    def _require_loop(self, p_id: int, t_id: int) -> None:
        if not (0 <= p_id < self.workers and 0 <= t_id < self.threads):
            raise ValueError(f"no loop ({p_id}, {t_id})")

    # Repair. The caller holds the write semaphore.

    def _repair_if_torn(self) -> None:
        if self._header[SEQUENCE] & 1:
            self._rebuild()
            self._header[SEQUENCE] += 1

    def _rebuild(self) -> None:
        """Make index, free list and counts anew from the slots; the sequence is odd.

        Takes 4.6 ms for 20,000.
        """
        header = self._header
        high = header[HIGH]
        index, slots = self._index, self._slots
        index.clear()
        states, owners = slots.states[:high].tolist(), slots.owners[:high].tolist()
        tags = slots.tags[:high].tolist()
        free = names = claimed = 0
        # From the last slot down, so that the free list begins with the lowest.
        for slot in range(high - 1, -1, -1):
            if states[slot] < 1:
                slots.tags[slot] = free
                free = slot + 1
                continue
            claimed += 1
            if owners[slot] & BYTE_MASK:
                index.put(tags[slot], slot)
                names += 1
        header[FREE] = free
        header[COUNT] = names
        header[CLAIMED] = claimed
