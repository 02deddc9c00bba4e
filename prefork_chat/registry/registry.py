"""The registry: who is connected, at which worker and loop, under which name; claim to free, find.

Decides when a slot and when a name is taken, and when they are free again. A session claims a slot
when it is accepted, enters under its name when it joins, withdraws when it gives the name up, and
frees the slot at its end. None of that depends on the life of a worker: a dead worker's slots and
names stay as they are until its successor adopts them. Called in every process and any thread; it
is inherited by fork and keeps nothing between two calls but views of the shared memory.

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

import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork_chat.errors import StartError
from prefork_chat.registry.consoles import Consoles
from prefork_chat.registry.endings import Endings
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
    P_ID_SHIFT,
    ROOMS,
    SEQUENCE,
    T_ID_SHIFT,
    THREADS,
    VERSION,
    VERSION_NUMBER,
    WORKERS,
    Layout,
)
from prefork_chat.registry.names import NameFilter
from prefork_chat.registry.penalties import Penalties
from prefork_chat.registry.rooms import RoomTable, is_in
from prefork_chat.registry.slots import Held, Slots
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


class Registry:
    """All slots, the name index and the worker table, in one piece of shared memory.

    `identity` tells it from every other one, for as long as its memory lasts.
    `table` is its WorkerTable of `workers` rows, `endings` tells of workers that have ended,
    `capacity` is its number of slots, `threads` the loops of each worker. `progress[slot]` is a
    word of 64 bits for the loop that owns the session:
    only that loop writes it, without a lock, and only while it does; a claim sets it to 0, and a
    take-over clears a flag in it. `positions[slot]` is another, which the claimer has to set.
    `rooms` are the rooms, and `memberships` has MEMBERSHIPS words of each slot, like `progress` the
    loop's: meaningless until it has set them. `registered` says which names may be accounts,
    `penalties` who may not try passwords now, `consoles` who looks on. A key
    is a name folded (lower-case), a name is as typed; both are 1-32 ASCII bytes. Any method may be
    called in any thread.
    """

    __slots__ = (
        "_header",
        "_index",
        "_slots",
        "_write_semaphore",
        "capacity",
        "consoles",
        "endings",
        "identity",
        "memberships",
        "penalties",
        "positions",
        "progress",
        "registered",
        "rooms",
        "table",
        "threads",
        "workers",
    )

    def __init__(self, memory: SharedMemory, write_semaphore: Semaphore) -> None:
        """Attach to memory that `create` initialised; StartError if it is of another version."""
        view = memoryview(memory.map)
        header = view[:HEADER_BYTES].cast("q")
        if (header[MAGIC], header[VERSION]) != (MAGIC_NUMBER, VERSION_NUMBER):
            header.release()
            view.release()  # the traceback would keep it, and so the memory, from being closed
            raise StartError("the shared memory is not a registry of this version")
        layout = Layout(header[CAPACITY], header[WORKERS], header[THREADS], header[ROOMS])
        self.capacity = layout.capacity
        self.workers = layout.workers
        self.threads = layout.threads
        self.table = WorkerTable(view[layout.table].cast("q"), layout.workers, layout.threads)
        self._write_semaphore = write_semaphore
        self._header = header
        hash_key = bytes(view[HASH_KEY_OFFSET:][:HASH_KEY_BYTES])
        self.identity = blake2b(hash_key, digest_size=16).digest()
        self._index = NameIndex(
            view[layout.tags].cast("q"), view[layout.index_slots].cast("i"), hash_key
        )
        self._slots = Slots(memory.map, layout.slots)
        self.progress = self._slots.progress
        self.positions = view[layout.positions].cast("q")
        self.consoles = Consoles(view[layout.consoles].cast("q"))
        self.endings = Endings(view[layout.endings].cast("q"))
        self.memberships = view[layout.memberships].cast("q")
        self.rooms = RoomTable(memory.map, layout, write_semaphore, self._index.tag)
        self.registered = NameFilter(view[layout.registered], self._index.tag)
        self.penalties = Penalties(view[layout.penalties].cast("q"), self._index.tag)

    @classmethod
    def create(
        cls,
        memory: SharedMemory,
        write_semaphore: Semaphore,
        layout: Layout,
    ) -> Registry:
        """Initialise fresh (zeroed) memory of `layout.total_bytes` and attach to it.

        `write_semaphore` has the value 1 and serves nothing else. Called once, by the supervisor,
        before the first fork. Raises ValueError when the memory is too small.
        """
        if memory.size < layout.total_bytes:
            raise ValueError(f"{memory.size} bytes of memory, {layout.total_bytes} needed")
        hash_key_end = HASH_KEY_OFFSET + HASH_KEY_BYTES
        memory.map[HASH_KEY_OFFSET:hash_key_end] = os.urandom(HASH_KEY_BYTES)
        with memoryview(memory.map)[:HEADER_BYTES].cast("q") as header:
            header[VERSION] = VERSION_NUMBER
            header[CAPACITY] = layout.capacity
            header[WORKERS] = layout.workers
            header[THREADS] = layout.threads
            header[ROOMS] = layout.rooms
            header[MAGIC] = MAGIC_NUMBER
        return cls(memory, write_semaphore)

    def close(self) -> None:
        """Let go of the shared memory in this process, so that its owner can close it."""
        self._index.close()
        self.table.close()
        self._slots.close()
        self.positions.release()
        self.consoles.close()
        self.endings.close()
        self.memberships.release()
        self.rooms.close()
        self.registered.close()
        self.penalties.close()
        self._header.release()

    # Writers: each takes the write semaphore, which is 0.6 us of its time. All times here: among
    # 20,000 sessions, nobody waiting, CPython 3.11, 2026-11.

    def claim(self, p_id: int, t_id: int) -> tuple[int, int]:
        """Claim a slot for a new, nameless session at that loop; returns (slot, generation).

        Raises RegistryFull when none is free, ValueError when there is no such loop. Takes 1.4 us.
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
                header[FREE] = self._slots.tags[slot]
            else:
                slot = header[HIGH]
                header[HIGH] = slot + 1
            generation = self._slots.claim(slot, p_id, t_id)
            header[CLAIMED] += 1
            header[SEQUENCE] += 1
            return slot, generation

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
        1.6 us.
        """
        header = self._header
        with self._write_semaphore:
            self._repair_if_torn()
            if not (self._slots.has(slot, generation) and self._slots.has_name(slot)):
                return False
            header[SEQUENCE] += 1
            self._slots.withdraw(slot)
            self._index.remove(self._slots.tags[slot], slot)
            header[COUNT] -= 1
            header[SEQUENCE] += 1
            return True

    def free(self, slot: int, generation: int) -> bool:
        """Free a session's slot, and its name if it has one.

        False, and nothing happens, if the slot is not that session's any more. Takes 1.6 us, 1.2
        without a name.
        """
        header = self._header
        slots = self._slots
        with self._write_semaphore:
            self._repair_if_torn()
            if not slots.has(slot, generation):
                return False
            header[SEQUENCE] += 1
            slots.free(slot)
            if slots.has_name(slot):
                self._index.remove(slots.tags[slot], slot)
                header[COUNT] -= 1
            slots.tags[slot] = header[FREE]
            header[FREE] = slot + 1
            header[CLAIMED] -= 1
            header[SEQUENCE] += 1
            return True

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

    def names(self) -> list[bytes]:
        """The names of all sessions as typed, in no order and none twice.

        A name that comes or goes meanwhile may be there or not, all others are. Takes 2.8 ms for
        20,000.
        """
        return self._slots.names(self._header[HIGH])

    def sessions(self) -> list[Held]:
        """All claimed slots, by number: whose they are, where, their names and progress.

        A session that comes or goes meanwhile may be there or not, all others are. What is said of
        each was true at a moment of its own: a name that changes hands may be listed twice. Takes
        3.6 ms for 20,000.
        """
        return self._slots.sessions(self._header[HIGH])

    def members(self, place: int, flag: int) -> list[Held]:
        """The sessions in the room at `place`, among those with `flag` in their progress words.

        Who comes or goes meanwhile may be there or not, all others are. Takes 1 ms for 20,000
        sessions, and 1.5 us for each with the flag.
        """
        words = self.progress[: self._header[HIGH]].tolist()
        read = self._slots.read
        slots = [slot for slot, word in enumerate(words) if word & flag]
        found = (read(slot) for slot in slots if is_in(self.memberships, slot, place))
        return [held for held in found if held is not None and held.progress & flag]

    @property
    def count(self) -> int:
        """How many sessions have a name."""
        return self._header[COUNT]

    @property
    def claimed(self) -> int:
        """How many slots are claimed, by sessions with a name and without."""
        return self._header[CLAIMED]

    @property
    def generations(self) -> memoryview[int]:
        """For readers in a hurry: `generations[slot]` is g while the slot's g-th session has it.

        To be read only. It says nothing of that session's loop and name: see `owners`.
        """
        return self._slots.states

    @property
    def owners(self) -> memoryview[int]:
        """For readers in a hurry: `owners[slot]` changes whenever a session moves or is renamed.

        To be read only, and to be compared only: as long as it and the generation are what they
        were, the session is at the same loop under the same name, or none.
        """
        return self._slots.owners

    def writer_pid(self) -> int:
        """The pid that has the write semaphore now, 0 if nobody has it. Never waits."""
        return self._write_semaphore.holder_pid()

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
