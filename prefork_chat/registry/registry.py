"""The slots: who has joined under which name, at which worker and loop; claim, find and free them.

Decides when a name is taken and when it is free again. Every process calls it, in any thread; it is
inherited by fork and keeps nothing between two calls but views of the shared memory.

Truth
    The state words of the slots are the truth; index, free list and count only repeat what they
    say, in a form that is quick to use. A slot is *claimed* from the one aligned 8-byte store that
    makes its state positive to the one that makes it negative: these two stores are the commit
    points of `insert` and of `delete`. A claimed slot is *live* while its incarnation equals the
    incarnation word of its p_id in the worker table, and *stale* from the moment the supervisor
    changed that word: then its name is free, though the slot is not yet. `insert` of the same name
    takes a stale slot's place, `sweep` frees all of a p_id, and a full registry sweeps by itself
    before it says so.

Writers
    hold the write semaphore, one at a time. They make the sequence word odd before their first
    change and even after their last. One who finds it odd on arrival has succeeded a writer who was
    killed: he rebuilds index, free list and count from the slots, and only then does what he came
    for.

Readers
    take no lock. A hit is believed if the slot that the index points to is claimed, live and of
    that name, and if its state word, which changes with each claim and each free, was the same
    before and after all of it had been read: fields change only while the slot is free. A miss is
    believed if the sequence was even and the same before and after. Otherwise the reader tries
    again, and after a few times takes the write semaphore once, which waits for a live writer and
    repairs after a dead one. What a reader learnt may be untrue the moment after; the destination
    checks again, end to end.

Killed between any two statements
    Stores of one process are seen in program order (x86-64 is strongly ordered; on weaker machines
    a reader may for a moment see a miss that is none), so what a kill leaves is a prefix of the
    writer's stores, and the kernel gives the semaphore back once the writer's last thread is gone.
    Prefix by prefix:

    insert  before the sequence is odd       nothing has changed
            odd, slot taken off the free     state not positive: the rebuild puts the slot back on
            the free list. `high` is list, fields half written        raised before the slot behind
            it is claimed, so it never lies too low state positive (commit)          claimed by a
            dead incarnation: the rebuild lists it; it is stale as soon as the .. index, count half
            written     supervisor's wait returns, and swept like all the dead worker's slots
            sequence even                    the same, and nothing to repair
    insert over a stale slot: state negative, then as above. Between the two the name has no slot,
    which is right: it is free.
            Two slots never claim one name, because the old one is given up first.
    delete  before the state is negative     nothing has changed: the session dies with its worker,
    as stale
            state negative (commit)          free: the rebuild leaves it out of the index and puts
            it on the free list .. index, list, count torn       rebuilt
    sweep   some states negative             these are free, the others stale as before; rebuilt;
    the successor's sweep, or
                                             the next full registry's, frees the rest
    repair  anywhere                         the sequence is still odd, and no state word has been
    touched: the next repairs anew check   holding the semaphore            has changed nothing,
    unless he was repairing: see there

    A generation grows by one at every claim and is never used again in a slot, so a late `delete`
    or receipt of an earlier session finds another generation and does nothing.

What fails: SemaphoreGone when somebody removed the write semaphore; NameInUse and RegistryFull are
outcomes, not failures. A holder that is stopped (SIGSTOP) keeps writers, and readers in doubt,
waiting: `writer_pid` tells the watchdog whom to kill.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from prefork_chat.errors import StartError
from prefork_chat.registry.index import NOWHERE, NameIndex
from prefork_chat.registry.ipc import Semaphore, SharedMemory
from prefork_chat.registry.layout import (
    CAPACITY_WORD,
    COUNT,
    FREE,
    HASH_KEY_BYTES,
    HASH_KEY_OFFSET,
    HEADER_BYTES,
    HIGH,
    INCARNATION,
    MAGIC,
    MAGIC_WORD,
    NAME_BYTES,
    NAME_OFFSET,
    OWNER,
    SEQUENCE,
    SLOT_BYTES,
    SLOT_WORDS,
    STATE,
    TAG,
    THREADS_WORD,
    VERSION,
    VERSION_WORD,
    WORKERS_WORD,
    Layout,
)
from prefork_chat.registry.table import WorkerTable

ATTEMPTS: Final = 4
"""How often a reader in doubt tries again before it waits at the semaphore. Few, because the writer
it waits for may be a thread of the same process that cannot go on while the reader keeps the GIL;
the semaphore gives it up."""


class NameInUse(Exception):
    """A live session has the name."""


class RegistryFull(Exception):
    """Every slot is claimed by a live session."""


class Location(NamedTuple):
    """Where a session lives. `generation` tells it from those that had the slot before and will
    have it later."""

    p_id: int
    t_id: int
    slot: int
    generation: int


class Registry:
    """All slots, the name index and the worker table, in one shared memory.

    `table` is its WorkerTable, `capacity` the number of slots. No state of its own: fork and
    threads do it no harm. Keys are folded (lower-case) names, names are as typed; both bytes, 1-32
    ASCII characters.
    """

    __slots__ = (
        "_header",
        "_index",
        "_map",
        "_names_offset",
        "_slots",
        "_swept",
        "_write_semaphore",
        "capacity",
        "table",
    )

    def __init__(self, memory: SharedMemory, write_semaphore: Semaphore) -> None:
        """Attach to memory that `create` has initialised; raises StartError when it is not of this
        version."""
        view = memoryview(memory.map)
        self._header = view[:HEADER_BYTES].cast("q")
        if (self._header[MAGIC_WORD], self._header[VERSION_WORD]) != (MAGIC, VERSION):
            raise StartError("the shared memory is not a registry of this version")
        self.capacity = self._header[CAPACITY_WORD]
        layout = Layout(self.capacity, self._header[WORKERS_WORD], self._header[THREADS_WORD])
        self._map = memory.map
        self._write_semaphore = write_semaphore
        self._swept = view[layout.swept_offset :][: layout.workers * 8].cast("q")
        table_words = view[layout.table_offset :][: layout.table_bytes].cast("q")
        self.table = WorkerTable(table_words, layout.workers, layout.threads)
        self._index = NameIndex(
            view[layout.tags_offset :][: layout.places * 8].cast("q"),
            view[layout.index_slots_offset :][: layout.places * 4].cast("i"),
            bytes(view[HASH_KEY_OFFSET:][:HASH_KEY_BYTES]),
        )
        self._slots = view[layout.slots_offset : layout.total_bytes].cast("q")
        self._names_offset = layout.slots_offset + NAME_OFFSET

    @classmethod
    def create(
        cls,
        memory: SharedMemory,
        write_semaphore: Semaphore,
        max_clients: int,
        max_workers: int,
        max_threads: int,
    ) -> Registry:
        """Initialise fresh (zeroed) memory of at least `layout.total_bytes(max_clients,
        max_workers, max_threads)` bytes.

        `write_semaphore` has the value 1 and is used for nothing else. Raises ValueError when the
        memory is too small.
        """
        layout = Layout(max_clients, max_workers, max_threads)
        if memory.size < layout.total_bytes:
            raise ValueError(f"{memory.size} bytes of memory, {layout.total_bytes} needed")
        memory.map[HASH_KEY_OFFSET : HASH_KEY_OFFSET + HASH_KEY_BYTES] = os.urandom(HASH_KEY_BYTES)
        with memoryview(memory.map)[:HEADER_BYTES].cast("q") as header:
            header[VERSION_WORD] = VERSION
            header[CAPACITY_WORD] = max_clients
            header[WORKERS_WORD] = max_workers
            header[THREADS_WORD] = max_threads
            header[MAGIC_WORD] = MAGIC
        return cls(memory, write_semaphore)

    def check(self, key: bytes) -> Location | None:
        """Where the live session of `key` is, or None. Lock-free but for a reader in long doubt;
        see the module."""
        header = self._header
        tag = self._index.tag(key)
        for _ in range(ATTEMPTS):
            sequence = header[SEQUENCE]
            location = self._look_up(tag, key)
            if location is not None or (not sequence & 1 and header[SEQUENCE] == sequence):
                return location
        with self._write_semaphore:
            self._repair_if_torn()
            return self._look_up(tag, key)

    def insert(self, key: bytes, name: bytes, p_id: int, t_id: int, incarnation: int) -> Location:
        """Claim a slot for `key`, shown as `name`, at loop `t_id` of incarnation `incarnation` of
        worker `p_id`.

        Takes the write semaphore. Raises NameInUse, RegistryFull; ValueError when `key` is not
        `name` folded.
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
                return self._claim_free(tag, owner, incarnation, name)
            if self._is_live(slot):
                raise NameInUse(name)
            return self._claim_stale(slot, tag, owner, incarnation, name)

    def delete(self, slot: int, generation: int) -> bool:
        """Free the slot of a session; False, and nothing happens, if the slot is not that session's
        any more.

        Takes the write semaphore.
        """
        slots = self._slots
        header = self._header
        base = slot * SLOT_WORDS
        with self._write_semaphore:
            self._repair_if_torn()
            if generation < 1 or slots[base + STATE] != generation:
                return False
            header[SEQUENCE] += 1
            slots[base + STATE] = -generation
            self._index.remove(slots[base + TAG], slot)
            slots[base + OWNER] = header[FREE]
            header[FREE] = slot + 1
            header[COUNT] -= 1
            header[SEQUENCE] += 1
        return True

    def sweep(self, p_id: int, incarnation: int) -> int:
        """Free the slots of `p_id` that incarnations before `incarnation` left; returns how many.

        A successor calls it before it accepts. Takes the write semaphore once, for some
        milliseconds if there is anything to free.
        """
        with self._write_semaphore:
            self._repair_if_torn()
            stale = [
                slot
                for slot, (state, owner, of) in enumerate(self._slot_words())
                if state > 0 and owner >> 16 == p_id and of < incarnation
            ]
            self._free_all(stale)
            self._swept[p_id] = incarnation
        return len(stale)

    def names(self) -> list[bytes]:
        """The names of all live sessions, as typed, in no order. Lock-free; a name that comes or
        goes meanwhile may be missing."""
        high = self._header[HIGH]
        states = self._column(STATE, high)
        start = self._names_offset - NAME_OFFSET
        copy = self._map[start : start + high * SLOT_BYTES]
        words = memoryview(copy).cast("q")
        owners = words[OWNER::SLOT_WORDS].tolist()
        incarnations = words[INCARNATION::SLOT_WORDS].tolist()
        alive = [self.table.incarnation(p_id) for p_id in range(self.table.workers)]
        # A slot whose state is the same before and after the copy was claimed by one session all the time.
        rows = zip(
            range(NAME_OFFSET, len(copy), SLOT_BYTES),
            states,
            self._column(STATE, high),
            owners,
            incarnations,
            strict=True,
        )
        return [
            copy[at : at + (owner & 0xFF)]
            for at, before, after, owner, incarnation in rows
            if before == after > 0 and alive[owner >> 16] == incarnation
        ]

    @property
    def count(self) -> int:
        """Claimed slots, those of a dead worker included until they are swept."""
        return self._header[COUNT]

    def writer_pid(self) -> int:
        """The pid that holds the write semaphore now, 0 if nobody does. Takes nothing."""
        return self._write_semaphore.holder_pid()

    # Readers' parts: nothing they read is believed before the state word has been compared.

    def _look_up(self, tag: int, key: bytes) -> Location | None:
        index = self._index
        place = index.find(tag, tag)
        while place != NOWHERE:
            location = self._read_slot(index.slot_at(place), key)
            if location is not None:
                return location
            place = index.find(tag, place + 1)
        return None

    def _read_slot(self, slot: int, key: bytes) -> Location | None:
        slots = self._slots
        base = slot * SLOT_WORDS
        generation = slots[base]
        if generation < 1:
            return None
        owner = slots[base + OWNER]
        incarnation = slots[base + INCARNATION]
        at = self._names_offset + slot * SLOT_BYTES
        name = self._map[at : at + (owner & 0xFF)]
        if (
            slots[base] != generation
            or name.lower() != key
            or self.table.incarnation(owner >> 16) != incarnation
        ):
            return None
        return Location(owner >> 16, owner >> 8 & 0xFF, slot, generation)

    # Writers' parts: the caller holds the write semaphore.

    def _find_claimed(self, tag: int, key: bytes) -> int:
        """The slot that claims `key`, live or stale, or NOWHERE."""
        index = self._index
        place = index.find(tag, tag)
        while place != NOWHERE:
            slot = index.slot_at(place)
            at = self._names_offset + slot * SLOT_BYTES
            if self._map[at : at + NAME_BYTES].rstrip(b"\0").lower() == key:
                return slot
            place = index.find(tag, place + 1)
        return NOWHERE

    def _is_live(self, slot: int) -> bool:
        base = slot * SLOT_WORDS
        return (
            self.table.incarnation(self._slots[base + OWNER] >> 16)
            == self._slots[base + INCARNATION]
        )

    def _claim_free(self, tag: int, owner: int, incarnation: int, name: bytes) -> Location:
        header = self._header
        if not header[FREE] and header[HIGH] == self.capacity:
            self._reclaim()
            if not header[FREE]:
                raise RegistryFull(f"{self.capacity} sessions")
        header[SEQUENCE] += 1
        slot = header[FREE] - 1
        if slot >= 0:
            header[FREE] = self._slots[slot * SLOT_WORDS + OWNER]
        else:
            slot = header[HIGH]
            header[HIGH] = slot + 1
        location = self._fill(slot, tag, owner, incarnation, name)
        self._index.put(tag, slot)
        header[COUNT] += 1
        header[SEQUENCE] += 1
        return location

    def _claim_stale(
        self, slot: int, tag: int, owner: int, incarnation: int, name: bytes
    ) -> Location:
        """Take over a slot of the same name; its index entry stays as it is."""
        base = slot * SLOT_WORDS
        self._header[SEQUENCE] += 1
        self._slots[base + STATE] = -self._slots[base + STATE]
        location = self._fill(slot, tag, owner, incarnation, name)
        self._header[SEQUENCE] += 1
        return location

    def _fill(self, slot: int, tag: int, owner: int, incarnation: int, name: bytes) -> Location:
        slots = self._slots
        base = slot * SLOT_WORDS
        generation = 1 - slots[base + STATE]
        slots[base + OWNER] = owner
        slots[base + INCARNATION] = incarnation
        slots[base + TAG] = tag
        at = self._names_offset + slot * SLOT_BYTES
        self._map[at : at + NAME_BYTES] = name.ljust(NAME_BYTES, b"\0")
        slots[base + STATE] = generation
        return Location(owner >> 16, owner >> 8 & 0xFF, slot, generation)

    def _reclaim(self) -> None:
        """Free every stale slot, if any worker has died since its slots were last swept."""
        words = [self.table.incarnation(p_id) for p_id in range(self.table.workers)]
        if words == self._swept.tolist():
            return
        self._free_all(
            [
                slot
                for slot, (state, owner, incarnation) in enumerate(self._slot_words())
                if state > 0 and words[owner >> 16] != incarnation
            ]
        )
        for p_id, word in enumerate(words):
            self._swept[p_id] = word

    def _free_all(self, doomed: list[int]) -> None:
        if not doomed:
            return
        slots = self._slots
        self._header[SEQUENCE] += 1
        for slot in doomed:
            slots[slot * SLOT_WORDS + STATE] = -slots[slot * SLOT_WORDS + STATE]
        self._rebuild()
        self._header[SEQUENCE] += 1

    def _repair_if_torn(self) -> None:
        if self._header[SEQUENCE] & 1:
            self._rebuild()
            self._header[SEQUENCE] += 1

    def _rebuild(self) -> None:
        """Make index, free list and count anew from the slots; the sequence is odd."""
        header = self._header
        slots = self._slots
        high = header[HIGH]
        tags = self._column(TAG, high)
        states = self._column(STATE, high)
        index = self._index
        index.clear()
        free = count = 0
        for slot in range(high - 1, -1, -1):
            if states[slot] > 0:
                index.put(tags[slot], slot)
                count += 1
            else:
                slots[slot * SLOT_WORDS + OWNER] = free
                free = slot + 1
        header[FREE] = free
        header[COUNT] = count

    def _column(self, field: int, high: int) -> list[int]:
        """One field of the first `high` slots."""
        return self._slots[field : high * SLOT_WORDS : SLOT_WORDS].tolist()

    def _slot_words(self) -> list[tuple[int, int, int]]:
        """(state, owner, incarnation) of every slot that was ever used."""
        high = self._header[HIGH]
        columns = (self._column(field, high) for field in (STATE, OWNER, INCARNATION))
        return list(zip(*columns, strict=True))
