"""The slots: who is connected, at which worker and loop, under which name; claim to free, and find.

Decides when a slot and when a name is taken, and when they are free again. A session claims its
slot when it is accepted, enters under its name when it joins, withdraws when it leaves, and frees
the slot at its end. None of that depends on a worker's life: a dead worker's slots and names stay
as they are, for its successor to adopt. Called in every process and any thread; it is inherited by
fork and keeps nothing between two calls but views of the shared memory.

Truth
    Two words of each slot. The *state* says whether it is claimed and by which session
    (generation); it is stored once by a claim and once by a free. The *owner word* says at which
    loop the session is and, by a length other than 0, that it has a name; it is stored once by each
    of enter, withdraw and move. Each of these stores, one aligned word, is the commit point of what
    does it. Name index, free list, and the counts of names and of claimed slots only repeat what
    these words say, in a form that is quick to use.

Namings
    Part of the owner word counts the claims, enters and withdrawals of its slot. The bytes of a
    name change only between a store of the owner word that says length 0 and one that does not, and
    those are of different namings. So who has read the same naming before and after has, in
    between, read one name or none, of one session; and a state read in between, if it is positive,
    is the generation of that session, because a claim changes the naming first and the state last.
    A move changes the loop and not the naming: the name stays what it was, and each owner word
    tells one loop, where the session was at that moment.

Writers
    hold the write semaphore, so there is one at a time. They make the sequence word odd before
    their first change and even after the last. Whoever finds it odd on arrival comes after a
    writer who was killed: he rebuilds index, free list and counts from the slots, and only then
    does what he came for. A move is one store, which no rebuild can mend or spoil: it leaves the
    sequence alone.

Readers
    take no lock. A slot is read until its naming is the same before and after, which takes a second
    look only if a writer was at that very slot. A hit is believed if the slot that the index names
    is claimed and has that name. A miss is believed if the sequence was even, and the same before
    and after: `check` in doubt tries again, and after a few times takes the write semaphore once;
    that waits for a live writer and repairs after a dead one. Nobody else ever waits. What a reader
    learnt may be untrue the moment after; the destination checks again, end to end.

Killed between any two statements
    What a kill leaves is a prefix of the writer's stores. The kernel gives the semaphore back when
    the writer's last thread is gone, so the next writer sees all of that prefix. By prefix:

    claim
        sequence odd, slot off the free list, owner word and progress written: the state is not
            positive, so the rebuild puts the slot back on the free list. (`high` is raised before
            the slot behind it is claimed: it never lies too low.)
        state positive: claimed, for the loop that the owner word says. The rebuild counts it. The
            caller never learnt of it: the successor finds a session of its own that nobody kept a
            socket for, and frees it.
    enter
        sequence odd, tag or name bytes written: the length is 0, so the session has no name, and
            nobody looks at them.
        length stored: the session has the name. The rebuild puts it into index and count.
    withdraw
        sequence odd: nothing has changed.
        length 0 stored: the name is free. The rebuild leaves it out of index and count.
    free
        sequence odd: nothing has changed, the session is still there for the successor.
        state negative: slot and name are free. The owner word still has a length, and the index
            perhaps its entry: nobody believes either, for the state is negative. The rebuild leaves
            the name out and lists the slot as free.
    move
        before its only store the session is at the old loop, after it at the new one.
    repair, also by a reader
        the sequence is still odd and no state or owner word has changed: the next one repairs anew.

    A generation grows by one with every claim, so no session of a slot has that of another: a late
    `enter`, `withdraw`, `free` or `move`, or a receipt, finds a different one and does nothing.

Memory order: x86-64 keeps one process's stores in order for all others, which readers rely on. On
weaker machines a reader may for a moment miss a name that is there, or read a name half; the
destination loop finds out.

What fails: SemaphoreGone if somebody removed the write semaphore. An exception between the two
steps of the sequence leaves it odd, and so is repaired like a kill. A writer that is stopped
(SIGSTOP) keeps writers, and misses in doubt, waiting: `writer_pid` tells the watchdog whom to kill.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork_chat.errors import StartError
from prefork_chat.registry.index import NOWHERE, NameIndex
from prefork_chat.registry.layout import (
    BYTE_MASK,
    CAPACITY,
    CLAIMED,
    COUNT,
    FREE,
    HASH_KEY_BYTES,
    HASH_KEY_OFFSET,
    HEADER_BYTES,
    HIGH,
    MAGIC,
    MAGIC_NUMBER,
    NAME_BYTES,
    NAME_OFFSET,
    NAMING_MASK,
    NAMING_SHIFT,
    NAMING_STEP,
    OWNER,
    P_ID_SHIFT,
    PROGRESS,
    SEQUENCE,
    SLOT_BYTES,
    SLOT_WORDS,
    STATE,
    T_ID_SHIFT,
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
    """Another session has the name."""


class RegistryFull(Exception):  # noqa: N818 - an outcome, not an error
    """Every slot is claimed."""


class Location(NamedTuple):
    """Where a session lives; `generation` tells it from earlier and later sessions of the slot."""

    p_id: int
    t_id: int
    slot: int
    generation: int


class Held(NamedTuple):
    """A claimed slot: whose it is, where, its name (b"": none), and its loop's progress word."""

    slot: int
    generation: int
    p_id: int
    t_id: int
    name: bytes
    progress: int


class Registry:
    """All slots, the name index and the worker table, in one piece of shared memory.

    `table` is its WorkerTable of `workers` rows, `capacity` its number of slots, `threads` the
    loops of each worker. `progress[slot]` is a word of 64 bits for the loop that owns the session:
    only that loop writes it, without a lock, and only while it does; a claim sets it to 0. A key is
    a name folded (lower-case), a name is as typed; both are 1-32 ASCII bytes. Any method may be
    called in any thread.
    """

    __slots__ = (
        "_header",
        "_index",
        "_map",
        "_owners",
        "_slots_offset",
        "_states",
        "_tags",
        "_write_semaphore",
        "capacity",
        "progress",
        "table",
        "threads",
        "workers",
    )

    def __init__(self, memory: SharedMemory, write_semaphore: Semaphore) -> None:
        """Attach to memory that `create` initialised; StartError if it is of another version."""
        view = memoryview(memory.map)
        header = view[:HEADER_BYTES].cast("q")
        if (header[MAGIC], header[VERSION]) != (MAGIC_NUMBER, VERSION_NUMBER):
            raise StartError("the shared memory is not a registry of this version")
        layout = Layout(header[CAPACITY], header[WORKERS], header[THREADS])
        self.capacity = layout.capacity
        self.workers = layout.workers
        self.threads = layout.threads
        self.table = WorkerTable(view[layout.table].cast("q"), layout.workers, layout.threads)
        self._write_semaphore = write_semaphore
        self._map = memory.map
        self._header = header
        hash_key = bytes(view[HASH_KEY_OFFSET:][:HASH_KEY_BYTES])
        self._index = NameIndex(
            view[layout.tags].cast("q"), view[layout.index_slots].cast("i"), hash_key
        )
        self._slots_offset = layout.slots.start
        words = view[layout.slots].cast("q")
        # One view per field, strided over the slots: states[slot] is the state word of that slot.
        self._states = words[STATE::SLOT_WORDS]
        self._owners = words[OWNER::SLOT_WORDS]
        self._tags = words[TAG::SLOT_WORDS]
        self.progress = words[PROGRESS::SLOT_WORDS]

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
        for view in (self._header, self._states, self._owners, self._tags, self.progress):
            view.release()

    # Writers: each takes the write semaphore.

    def claim(self, p_id: int, t_id: int) -> tuple[int, int]:
        """Claim a slot for a new, nameless session at that loop; returns (slot, generation).

        Raises RegistryFull when none is free, ValueError when there is no such loop.
        """
        self._require_loop(p_id, t_id)
        header = self._header
        with self._write_semaphore:
            self._repair_if_torn()
            slot = header[FREE] - 1
            if slot < 0 and header[HIGH] == self.capacity:
                raise RegistryFull(f"{self.capacity} sessions")
            header[SEQUENCE] += 1
            if slot >= 0:
                header[FREE] = self._tags[slot]
            else:
                slot = header[HIGH]
                header[HIGH] = slot + 1
            naming = self._owners[slot] + NAMING_STEP & NAMING_MASK
            self._owners[slot] = naming | p_id << P_ID_SHIFT | t_id << T_ID_SHIFT
            self.progress[slot] = 0
            generation = 1 - self._states[slot]
            self._states[slot] = generation
            header[CLAIMED] += 1
            header[SEQUENCE] += 1
            return slot, generation

    def enter(self, slot: int, generation: int, key: bytes, name: bytes) -> None:
        """Give a session its name: `key`, shown as `name`.

        Raises NameInUse; ValueError when `key` is not `name` folded, or the slot is not that
        session's or has a name already.
        """
        if name.lower() != key or not 1 <= len(name) <= NAME_BYTES:
            raise ValueError("a key is its name in lower case, 1-32 bytes")
        tag = self._index.tag(key)
        header = self._header
        with self._write_semaphore:
            self._repair_if_torn()
            if not self._has(slot, generation):
                raise ValueError(f"slot {slot} is not that of session {generation}")
            owner = self._owners[slot]
            if owner & BYTE_MASK:
                raise ValueError(f"slot {slot} has a name already")
            if self._is_in_use(tag, key):
                raise NameInUse(name)
            header[SEQUENCE] += 1
            self._tags[slot] = tag
            start = self._slots_offset + slot * SLOT_BYTES + NAME_OFFSET
            self._map[start : start + NAME_BYTES] = name.ljust(NAME_BYTES, b"\0")
            self._owners[slot] = _renamed(owner, len(name))
            self._index.put(tag, slot)
            header[COUNT] += 1
            header[SEQUENCE] += 1

    def withdraw(self, slot: int, generation: int) -> bool:
        """Take a session's name away: others may have it at once. The slot stays claimed.

        False, and nothing happens, if it has none or the slot is not that session's any more.
        """
        header = self._header
        with self._write_semaphore:
            self._repair_if_torn()
            owner = self._owners[slot]
            if not (self._has(slot, generation) and owner & BYTE_MASK):
                return False
            header[SEQUENCE] += 1
            self._owners[slot] = _renamed(owner, 0)
            self._index.remove(self._tags[slot], slot)
            header[COUNT] -= 1
            header[SEQUENCE] += 1
            return True

    def free(self, slot: int, generation: int) -> bool:
        """Free a session's slot, and its name if it has one.

        False, and nothing happens, if the slot is not that session's any more.
        """
        header = self._header
        with self._write_semaphore:
            self._repair_if_torn()
            if not self._has(slot, generation):
                return False
            header[SEQUENCE] += 1
            self._states[slot] = -generation
            if self._owners[slot] & BYTE_MASK:
                self._index.remove(self._tags[slot], slot)
                header[COUNT] -= 1
            self._tags[slot] = header[FREE]
            header[FREE] = slot + 1
            header[CLAIMED] -= 1
            header[SEQUENCE] += 1
            return True

    def move(self, slot: int, generation: int, p_id: int, t_id: int) -> bool:
        """Give a session, with its name, to another loop; state and generation stay.

        False, and nothing happens, if the slot is not that session's any more. Raises ValueError
        when there is no such loop.
        """
        self._require_loop(p_id, t_id)
        with self._write_semaphore:
            self._repair_if_torn()
            if not self._has(slot, generation):
                return False
            owner = self._owners[slot]
            stays = owner & (NAMING_MASK | BYTE_MASK)
            self._owners[slot] = stays | p_id << P_ID_SHIFT | t_id << T_ID_SHIFT
            return True

    # Readers: lock-free, but for a `check` in doubt.

    def check(self, key: bytes) -> Location | None:
        """Where the session of `key` is, or None. Lock-free, but for a miss in doubt."""
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
        held = self._read(slot)
        return None if held is None else (held.generation, held.p_id, held.t_id)

    def names(self) -> list[bytes]:
        """The names of all sessions as typed, in no order.

        Lock-free: a name that comes or goes meanwhile may be there or not, all others are.
        """
        high = self._header[HIGH]
        before = self._owners[:high].tolist()
        states = self._states[:high].tolist()
        copy = self._map[self._slots_offset : self._slots_offset + high * SLOT_BYTES]
        after = self._owners[:high].tolist()
        starts = range(NAME_OFFSET, len(copy), SLOT_BYTES)
        # One naming before and after: one name, copied whole.
        return [
            copy[start : start + (owner & BYTE_MASK)]
            for start, state, owner, later in zip(starts, states, before, after, strict=True)
            if state > 0 and owner & BYTE_MASK and not (owner ^ later) >> NAMING_SHIFT
        ]

    def sessions(self) -> list[Held]:
        """All claimed slots, by slot: whose they are, where, their names and progress.

        Lock-free: a session that comes or goes meanwhile may be there or not, all others are. Each
        entry is of one moment, the list is not: a name may be seen at two sessions, the one that
        withdrew and the one that entered.
        """
        held = map(self._read, range(self._header[HIGH]))
        return [session for session in held if session is not None]

    @property
    def count(self) -> int:
        """How many sessions have a name."""
        return self._header[COUNT]

    @property
    def claimed(self) -> int:
        """How many slots are claimed: sessions with a name and without."""
        return self._header[CLAIMED]

    @property
    def generations(self) -> memoryview[int]:
        """For readers in a hurry: `generations[slot]` is g while the slot's g-th session has it.

        To be read only. It says nothing about that session's name or loop.
        """
        return self._states

    def writer_pid(self) -> int:
        """The pid that has the write semaphore now, 0 if nobody has it. Never waits."""
        return self._write_semaphore.holder_pid()

    # Reading.

    def _look_up(self, tag: int, key: bytes) -> Location | None:
        index = self._index
        place = index.find(tag, tag)
        while place != NOWHERE:
            held = self._read(index.slots[place])
            if held is not None and held.name.lower() == key:
                return Location(held.p_id, held.t_id, held.slot, held.generation)
            place = index.find(tag, place + 1)
        return None

    def _read(self, slot: int) -> Held | None:
        """What one claimed slot says, at one moment; None if it is free."""
        owners = self._owners
        name_start = self._slots_offset + slot * SLOT_BYTES + NAME_OFFSET
        while True:
            owner = owners[slot]
            generation = self._states[slot]
            progress = self.progress[slot]
            name = self._map[name_start : name_start + (owner & BYTE_MASK)]
            again = owners[slot]
            if not (owner ^ again) >> NAMING_SHIFT:
                break
        if generation < 1:
            return None
        p_id, t_id = again >> P_ID_SHIFT & BYTE_MASK, again >> T_ID_SHIFT & BYTE_MASK
        return Held(slot, generation, p_id, t_id, name, progress)

    # Writing. The caller holds the write semaphore, and the sequence is even unless said.

    def _require_loop(self, p_id: int, t_id: int) -> None:
        if not (0 <= p_id < self.workers and 0 <= t_id < self.threads):
            raise ValueError(f"no loop ({p_id}, {t_id})")

    def _has(self, slot: int, generation: int) -> bool:
        """Whether that session has the slot; IndexError if there is no such slot."""
        if slot < 0:
            raise IndexError(f"slot {slot}")
        return generation > 0 and self._states[slot] == generation

    def _is_in_use(self, tag: int, key: bytes) -> bool:
        index = self._index
        place = index.find(tag, tag)
        while place != NOWHERE:
            slot = index.slots[place]
            start = self._slots_offset + slot * SLOT_BYTES + NAME_OFFSET
            if self._map[start : start + (self._owners[slot] & BYTE_MASK)].lower() == key:
                return True
            place = index.find(tag, place + 1)
        return False

    def _repair_if_torn(self) -> None:
        if self._header[SEQUENCE] & 1:
            self._rebuild()
            self._header[SEQUENCE] += 1

    def _rebuild(self) -> None:
        """Make index, free list and counts anew from the slots; the sequence is odd."""
        header = self._header
        high = header[HIGH]
        index = self._index
        index.clear()
        tags = self._tags[:high].tolist()
        owners = self._owners[:high].tolist()
        free = names = claimed = 0
        # From the last slot down, so that the free list begins with the lowest.
        for slot, state in zip(
            range(high - 1, -1, -1), reversed(self._states[:high].tolist()), strict=True
        ):
            if state < 1:
                self._tags[slot] = free
                free = slot + 1
                continue
            claimed += 1
            if owners[slot] & BYTE_MASK:
                index.put(tags[slot], slot)
                names += 1
        header[FREE] = free
        header[COUNT] = names
        header[CLAIMED] = claimed


def _renamed(owner: int, length: int) -> int:
    """The owner word of the same loop with a name of `length` bytes, 0 for none."""
    loop = owner & (NAMING_STEP - 1) & ~BYTE_MASK
    return owner + NAMING_STEP & NAMING_MASK | loop | length
