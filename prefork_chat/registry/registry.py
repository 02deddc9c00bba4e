"""The registry: all that processes share of who is here, in one piece of shared memory.

Decides what that memory consists of and how one gets at it: the sessions, with their slots and
names (`sessions` says what writers and readers may rely on, and what a kill leaves), the worker
table, rooms, and more. Called in every process and any thread; it is inherited by fork and keeps
nothing between two calls but views of the shared memory.

A session claims a slot when it is accepted, enters under its name when it joins, withdraws when it
gives the name up, and frees the slot at its end. None of that depends on the life of a worker: a
dead worker's slots and names stay as they are until its successor adopts them.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING

from prefork_chat.errors import StartError
from prefork_chat.registry.consoles import Consoles
from prefork_chat.registry.endings import Endings
from prefork_chat.registry.index import NameIndex
from prefork_chat.registry.layout import (
    CAPACITY,
    CLAIMED,
    COUNT,
    HASH_KEY_BYTES,
    HASH_KEY_OFFSET,
    HEADER_BYTES,
    HIGH,
    MAGIC,
    MAGIC_NUMBER,
    ROOMS,
    THREADS,
    VERSION,
    VERSION_NUMBER,
    WORKERS,
    Layout,
)
from prefork_chat.registry.names import NameFilter
from prefork_chat.registry.penalties import Penalties
from prefork_chat.registry.rooms import RoomTable, is_in
from prefork_chat.registry.sessions import Sessions
from prefork_chat.registry.slots import Slots
from prefork_chat.registry.table import WorkerTable

if TYPE_CHECKING:
    from prefork_chat.registry.ipc import Semaphore, SharedMemory
    from prefork_chat.registry.slots import Held


class Registry(Sessions):
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
        hash_key = bytes(view[HASH_KEY_OFFSET:][:HASH_KEY_BYTES])
        index = NameIndex(view[layout.tags].cast("q"), view[layout.index_slots].cast("i"), hash_key)
        super().__init__(header, index, Slots(memory.map, layout.slots), write_semaphore)
        self.table = WorkerTable(view[layout.table].cast("q"), layout.workers, layout.threads)
        self.identity = blake2b(hash_key, digest_size=16).digest()
        self.progress = self._slots.progress
        self.positions = view[layout.positions].cast("q")
        self.consoles = Consoles(view[layout.consoles].cast("q"))
        self.endings = Endings(view[layout.endings].cast("q"))
        self.memberships = view[layout.memberships].cast("q")
        self.rooms = RoomTable(memory.map, layout, write_semaphore, index.tag)
        self.registered = NameFilter(view[layout.registered], index.tag)
        self.penalties = Penalties(view[layout.penalties].cast("q"), index.tag)

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

    # Readers in numbers, or in a hurry: none waits.

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
