"""The slots: who has joined under which name, at which worker and loop; claim, find, free.

Decides when a name is taken and when it is free again. Called in every process and any thread; it
is inherited by fork and keeps nothing between two calls but views of the shared memory.

Truth
    The state words of the slots. Name index, free list and count only repeat what they say, in a
    form that is quick to use. A slot is *claimed* from the one aligned 8-byte store that makes its
    state positive to the one that makes it negative: the commit points of `insert` and `delete`. A
    claimed slot is *live* while its incarnation equals the incarnation word of its p_id in the
    worker table, and *stale* from the moment that the supervisor changes that word: then its name
    is free, though the slot is not yet. `insert` of the same name takes a stale slot's place,
    `sweep` frees those of one p_id, and a full registry frees them all before it says that it is
    full.

Writers
    hold the write semaphore, so there is one at a time. They make the sequence word odd before
    their first change and even after the last. Whoever finds it odd on arrival comes after a
    writer who was killed: he rebuilds index, free list and count from the slots, and only then
    does what he came for.

Readers
    take no lock. A hit is believed if the slot is claimed, live and of that name, and its state
    word was the same before and after the rest was read: the state changes with every claim and
    every free, and the other fields change only while the slot is free. A miss is believed if the
    sequence was even, and the same before and after. A reader in doubt tries again, and after a few
    times takes the write semaphore once: that waits for a live writer and repairs after a dead
    one. What he learnt may be untrue the moment after; the destination checks again, end to end.

Killed between any two statements
    What a kill leaves is a prefix of the writer's stores. The kernel gives the semaphore back when
    the writer's last thread is gone, so the next writer sees all of that prefix. By prefix:

    insert, into a free slot
        sequence odd, slot off the free list, fields half written: the state is not positive, so
            the rebuild puts the slot back on the free list. (`high` is raised before the slot
            behind it is claimed: it never lies too low.)
        state positive: claimed by a dead incarnation. The rebuild finishes index and count; the
            slot turns stale when the supervisor has waited for the worker, like all its others.
    insert, over a stale slot of the same name
        state negative: the slot is free and the name has none, which is right. It never has two.
        state positive: as above.
    delete
        sequence odd: nothing is lost, the session goes stale with its worker.
        state negative: free; the rebuild leaves it out of the index and lists it as free.
    sweep, or freeing when full
        some states negative: these are free, the others stale as before. `swept` is written last,
            so the next sweep, by the next incarnation or a full registry, finishes the work.
    repair, also by a reader
        the sequence is still odd and no state word has changed: the next one repairs anew.

    A generation grows by one with every claim, so no session of a slot has that of another: a late
    `delete` or receipt finds a different one and does nothing.

Memory order: x86-64 keeps one process's stores in order for all others, which a believed miss
relies on. On weaker machines a reader may for a moment miss a name that is there; a hit is always
checked.

What fails: SemaphoreGone if somebody removed the write semaphore. An exception between the two
steps of the sequence leaves it odd, and so is repaired like a kill. A writer that is stopped
(SIGSTOP) keeps writers, and readers in doubt, waiting: `writer_pid` tells the watchdog whom to
kill.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork_chat.errors import StartError
from prefork_chat.registry.index import NOWHERE, NameIndex
from prefork_chat.registry.layout import (
    CAPACITY,
    COUNT,
    FREE,
    HASH_KEY_BYTES,
    HASH_KEY_OFFSET,
    HEADER_BYTES,
    HIGH,
    INCARNATION,
    MAGIC,
    MAGIC_NUMBER,
    NAME_BYTES,
    NAME_OFFSET,
    OWNER,
    SEQUENCE,
    SLOT_BYTES,
    SLOT_WORDS,
    STATE,
    TAG,
    THREADS,
    VERSION,
    VERSION_NUMBER,
    WORKERS,
    Layout,
)
from prefork_chat.registry.table import WorkerTable

if TYPE_CHECKING:
    from prefork_chat.registry.ipc import Semaphore, SharedMemory

ATTEMPTS: Final = 4
"""How often a reader in doubt looks before it waits at the semaphore. Few: the writer may be a
thread of the same process, which cannot go on while the reader has the GIL. Waiting gives it up."""


class NameInUse(Exception):  # noqa: N818 - an outcome, not an error
    """A live session has the name."""


class RegistryFull(Exception):  # noqa: N818 - an outcome, not an error
    """Every slot is claimed by a live session."""


class Location(NamedTuple):
    """Where a session lives; `generation` tells it from earlier and later sessions of the slot."""

    p_id: int
    t_id: int
    slot: int
    generation: int


class Registry:
    """All slots, the name index and the worker table, in one piece of shared memory.

    `table` is its WorkerTable, `capacity` its number of slots. A key is a name folded (lower-case),
    a name is as typed; both are 1-32 ASCII bytes. Any method may be called in any thread.
    """

    __slots__ = (
        "_header",
        "_incarnations",
        "_index",
        "_map",
        "_owners",
        "_slots_offset",
        "_states",
        "_swept",
        "_tags",
        "_write_semaphore",
        "capacity",
        "table",
    )

    def __init__(self, memory: SharedMemory, write_semaphore: Semaphore) -> None:
        """Attach to memory that `create` initialised; StartError if it is of another version."""
        view = memoryview(memory.map)
        header = view[:HEADER_BYTES].cast("q")
        if (header[MAGIC], header[VERSION]) != (MAGIC_NUMBER, VERSION_NUMBER):
            raise StartError("the shared memory is not a registry of this version")
        layout = Layout(header[CAPACITY], header[WORKERS], header[THREADS])
        self.capacity = layout.capacity
        self.table = WorkerTable(view[layout.table].cast("q"), layout.workers, layout.threads)
        self._write_semaphore = write_semaphore
        self._map = memory.map
        self._header = header
        self._swept = view[layout.swept].cast("q")
        hash_key = bytes(view[HASH_KEY_OFFSET:][:HASH_KEY_BYTES])
        self._index = NameIndex(
            view[layout.tags].cast("q"), view[layout.index_slots].cast("i"), hash_key
        )
        self._slots_offset = layout.slots.start
        words = view[layout.slots].cast("q")
        # One view per field, strided over the slots: states[slot] is the state word of that slot.
        self._states = words[STATE::SLOT_WORDS]
        self._owners = words[OWNER::SLOT_WORDS]
        self._incarnations = words[INCARNATION::SLOT_WORDS]
        self._tags = words[TAG::SLOT_WORDS]

    @classmethod
    def create(
        cls,
        memory: SharedMemory,
        write_semaphore: Semaphore,
        max_clients: int,
        max_workers: int,
        max_threads: int,
    ) -> Registry:
        """Initialise fresh (zeroed) memory of `layout.total_bytes(...)` bytes and attach to it.

        `write_semaphore` has the value 1 and serves nothing else. Called once, by the supervisor,
        before the first fork. Raises ValueError when the memory is too small.
        """
        layout = Layout(max_clients, max_workers, max_threads)
        if memory.size < layout.total_bytes:
            raise ValueError(f"{memory.size} bytes of memory, {layout.total_bytes} needed")
        hash_key_end = HASH_KEY_OFFSET + HASH_KEY_BYTES
        memory.map[HASH_KEY_OFFSET:hash_key_end] = os.urandom(HASH_KEY_BYTES)
        with memoryview(memory.map)[:HEADER_BYTES].cast("q") as header:
            header[VERSION] = VERSION_NUMBER
            header[CAPACITY] = max_clients
            header[WORKERS] = max_workers
            header[THREADS] = max_threads
            header[MAGIC] = MAGIC_NUMBER
        return cls(memory, write_semaphore)

    def close(self) -> None:
        """Let go of the shared memory in this process, so that its owner can close it."""
        self._index.close()
        self.table.close()
        for view in (self._header, self._swept, self._states, self._owners):
            view.release()
        self._incarnations.release()
        self._tags.release()

    def check(self, key: bytes) -> Location | None:
        """Where the live session of `key` is, or None. Lock-free, but for a reader in doubt.

        Among 20,000 a hit takes 1.4 us and a miss 0.9; `insert` and `delete` together 5.5.
        """
        header = self._header
        tag = self._index.tag(key)
        for _ in range(ATTEMPTS):
            sequence = header[SEQUENCE]
            location = self._look_up(tag, key)
            if location is not None:
                return location
            if header[SEQUENCE] == sequence and not sequence & 1:
                return None
        with self._write_semaphore:
            self._repair_if_torn()
            return self._look_up(tag, key)

    def insert(self, key: bytes, name: bytes, p_id: int, t_id: int, incarnation: int) -> Location:
        """Claim a slot for `key`, shown as `name`, at loop `t_id` of that incarnation of `p_id`.

        Takes the write semaphore. Raises NameInUse or RegistryFull; ValueError when `key` is not
        `name` folded, or there is no such loop.
        """
        if name.lower() != key or not 1 <= len(name) <= NAME_BYTES:
            raise ValueError("a key is its name in lower case, 1-32 bytes")
        if not (0 <= p_id < self.table.workers and 0 <= t_id < self.table.threads):
            raise ValueError(f"no loop ({p_id}, {t_id})")
        tag = self._index.tag(key)
        owner = p_id << 16 | t_id << 8 | len(name)
        with self._write_semaphore:
            self._repair_if_torn()
            slot = self._find_claimed(tag, key)
            if slot == NOWHERE:
                slot = self._claim_free(tag, owner, incarnation, name)
            elif self._is_live(slot):
                raise NameInUse(name)
            else:
                self._claim_stale(slot, tag, owner, incarnation, name)
            return Location(p_id, t_id, slot, self._states[slot])

    def delete(self, slot: int, generation: int) -> bool:
        """Free a session's slot; False, and nothing happens, if it is not that session's any more.

        Takes the write semaphore.
        """
        with self._write_semaphore:
            self._repair_if_torn()
            if generation < 1 or self._states[slot] != generation:
                return False
            header = self._header
            header[SEQUENCE] += 1
            self._states[slot] = -generation
            self._index.remove(self._tags[slot], slot)
            self._owners[slot] = header[FREE]
            header[FREE] = slot + 1
            header[COUNT] -= 1
            header[SEQUENCE] += 1
            return True

    def sweep(self, p_id: int, incarnation: int) -> int:
        """Free what incarnations of `p_id` before `incarnation` left; returns how many slots.

        A successor calls it before it accepts. Takes the write semaphore once: at 20,000 slots for
        4 ms if it frees them all, for 2.3 ms if none (measured 2026-11, as all times here).
        """
        with self._write_semaphore:
            self._repair_if_torn()
            left = [
                slot
                for slot, (state, owner, of) in enumerate(self._claims())
                if state > 0 and owner >> 16 == p_id and of < incarnation
            ]
            self._free_all(left)
            self._swept[p_id] = incarnation
            return len(left)

    def names(self) -> list[bytes]:
        """The names of all live sessions as typed, in no order.

        Lock-free: a session that comes or goes meanwhile may be there or not, all others are. Takes
        3 ms for 20,000.
        """
        high = self._header[HIGH]
        before = self._states[:high].tolist()
        copy = self._map[self._slots_offset : self._slots_offset + high * SLOT_BYTES]
        after = self._states[:high].tolist()
        words = memoryview(copy).cast("q")
        owners = words[OWNER::SLOT_WORDS].tolist()
        incarnations = words[INCARNATION::SLOT_WORDS].tolist()
        current = self.table.incarnations.tolist()
        starts = range(NAME_OFFSET, len(copy), SLOT_BYTES)
        # A state that did not change while the copy was made: one session, copied whole.
        return [
            copy[start : start + (owner & 0xFF)]
            for start, state, later, owner, incarnation in zip(
                starts, before, after, owners, incarnations, strict=True
            )
            if state == later > 0 and current[owner >> 16] == incarnation
        ]

    @property
    def count(self) -> int:
        """Claimed slots; a dead worker's are among them until they are swept."""
        return self._header[COUNT]

    @property
    def generations(self) -> memoryview[int]:
        """For readers in a hurry: `generations[slot]` is g while the slot's g-th session has it.

        To be read only. It says nothing about whether that session's worker lives.
        """
        return self._states

    def writer_pid(self) -> int:
        """The pid that has the write semaphore now, 0 if nobody has it. Never waits."""
        return self._write_semaphore.holder_pid()

    # Reading. Nothing is believed before the state word has been compared.

    def _look_up(self, tag: int, key: bytes) -> Location | None:
        index = self._index
        place = index.find(tag, tag)
        while place != NOWHERE:
            location = self._read_slot(index.slots[place], key)
            if location is not None:
                return location
            place = index.find(tag, place + 1)
        return None

    def _read_slot(self, slot: int, key: bytes) -> Location | None:
        generation = self._states[slot]
        owner = self._owners[slot]
        incarnation = self._incarnations[slot]
        start = self._slots_offset + slot * SLOT_BYTES + NAME_OFFSET
        name = self._map[start : start + (owner & 0xFF)]
        if generation < 1 or self._states[slot] != generation:
            return None
        p_id = owner >> 16
        if name.lower() != key or self.table.incarnations[p_id] != incarnation:
            return None
        return Location(p_id, owner >> 8 & 0xFF, slot, generation)

    # Writing. The caller holds the write semaphore, and the sequence is even unless said.

    def _find_claimed(self, tag: int, key: bytes) -> int:
        """The slot that claims `key`, live or stale, or NOWHERE."""
        index = self._index
        place = index.find(tag, tag)
        while place != NOWHERE:
            slot = index.slots[place]
            start = self._slots_offset + slot * SLOT_BYTES + NAME_OFFSET
            if self._map[start : start + (self._owners[slot] & 0xFF)].lower() == key:
                return slot
            place = index.find(tag, place + 1)
        return NOWHERE

    def _is_live(self, slot: int) -> bool:
        return self.table.incarnations[self._owners[slot] >> 16] == self._incarnations[slot]

    def _claim_free(self, tag: int, owner: int, incarnation: int, name: bytes) -> int:
        header = self._header
        if not header[FREE] and header[HIGH] == self.capacity:
            self._free_stale()
            if not header[FREE]:
                raise RegistryFull(f"{self.capacity} sessions")
        header[SEQUENCE] += 1
        slot = header[FREE] - 1
        if slot >= 0:
            header[FREE] = self._owners[slot]
        else:
            slot = header[HIGH]
            header[HIGH] = slot + 1
        self._fill(slot, tag, owner, incarnation, name)
        self._index.put(tag, slot)
        header[COUNT] += 1
        header[SEQUENCE] += 1
        return slot

    def _claim_stale(self, slot: int, tag: int, owner: int, incarnation: int, name: bytes) -> None:
        """Take over a stale slot of the same name; its index entry is right as it is."""
        self._header[SEQUENCE] += 1
        self._states[slot] = -self._states[slot]
        self._fill(slot, tag, owner, incarnation, name)
        self._header[SEQUENCE] += 1

    def _fill(self, slot: int, tag: int, owner: int, incarnation: int, name: bytes) -> None:
        """Write the fields of a free slot and claim it; the sequence is odd."""
        self._owners[slot] = owner
        self._incarnations[slot] = incarnation
        self._tags[slot] = tag
        start = self._slots_offset + slot * SLOT_BYTES + NAME_OFFSET
        self._map[start : start + NAME_BYTES] = name.ljust(NAME_BYTES, b"\0")
        self._states[slot] = 1 - self._states[slot]

    def _free_stale(self) -> None:
        """Free every stale slot, if a worker has died since its slots were last swept."""
        current = self.table.incarnations.tolist()
        if current == self._swept.tolist():
            return
        self._free_all(
            [
                slot
                for slot, (state, owner, incarnation) in enumerate(self._claims())
                if state > 0 and current[owner >> 16] != incarnation
            ]
        )
        for p_id, incarnation in enumerate(current):
            self._swept[p_id] = incarnation

    def _free_all(self, slots: list[int]) -> None:
        if not slots:
            return
        self._header[SEQUENCE] += 1
        for slot in slots:
            self._states[slot] = -self._states[slot]
        self._rebuild()
        self._header[SEQUENCE] += 1

    def _repair_if_torn(self) -> None:
        if self._header[SEQUENCE] & 1:
            self._rebuild()
            self._header[SEQUENCE] += 1

    def _rebuild(self) -> None:
        """Make index, free list and count anew from the slots; the sequence is odd.

        Takes 3.5 ms for 20,000.
        """
        header = self._header
        high = header[HIGH]
        index = self._index
        index.clear()
        tags = self._tags[:high].tolist()
        free = count = 0
        # From the last slot down, so that the free list begins with the lowest.
        for slot, state in zip(
            range(high - 1, -1, -1), reversed(self._states[:high].tolist()), strict=True
        ):
            if state > 0:
                index.put(tags[slot], slot)
                count += 1
            else:
                self._owners[slot] = free
                free = slot + 1
        header[FREE] = free
        header[COUNT] = count

    def _claims(self) -> zip[tuple[int, int, int]]:
        """(state, owner, incarnation) of every slot that was ever used."""
        high = self._header[HIGH]
        columns = (self._states, self._owners, self._incarnations)
        return zip(*(column[:high].tolist() for column in columns), strict=True)
