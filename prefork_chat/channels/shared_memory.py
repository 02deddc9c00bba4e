"""System V shared memory with semaphores: a ring of slots in the segment ftok(PATH, 'P').

Nobody polls: a side waits in a semaphore, and the kernel wakes it also when the other one dies.
The segment, in the machine's byte order, at the offsets given; C programs can take either end:

      0  4s I   magic "PCSM", version 1
      8  I I    slots, bytes in a slot          (16 and 65,536)
     16  I I    pid of the server, of the client; 0: not come yet
     32  Q Q    messages sent (only the server writes it), taken (only the client)
     64         slots: each I length, 60 unused bytes, the message; length 0xFFFFFFFF is the end

Two semaphores: `filled` (ftok with 'F') counts slots with messages, `free` (ftok with 'R') empty
ones. Both are made with the value 1, and each side takes 1 of what the *other* one waits for, with
SEM_UNDO. When it dies, however it dies, the kernel gives that 1 back: the waiter wakes up, finds no
message (or no free slot) by the counters, and knows.

    server  make segment and semaphores; P(filled, UNDO); magic last. Wait until free is 0 (semop
            with sem_op 0: a client has come); V(free, 16). For each message: P(free);
            if sent - taken == 16 the client is dead; fill slot sent % 16; sent++; V(filled).
            At the end a slot with the end; P(free, 16): all is taken; remove everything.
    client  if its pid is there another one reads; P(free, UNDO, IPC_NOWAIT); write the pid.
            For each: P(filled); if sent == taken the server is dead; copy slot taken % 16;
            taken++; V(free).

semop(2) orders the memory accesses of the two sides.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

from prefork_chat.channels.channel import MAX_MESSAGE_BYTES, Mark, Receiver, Sender
from prefork_chat.channels.errors import (
    ChannelError,
    ChannelTaken,
    NoServer,
    ObjectRemoved,
    PeerGone,
    StaleObject,
)
from prefork_chat.channels.key import PROJECT
from prefork_chat.channels.sysv import SysvMemory, SysvSemaphore, remove_sysv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_chat.channels.key import Key
    from prefork_chat.channels.ledger import Entry

SLOTS: Final = 16
_MAGIC: Final = b"PCSM"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("=4sIII")
_SERVER_PID_AT: Final = 16
_CLIENT_PID_AT: Final = 20
_SENT: Final = 4  # as eight-byte words: at 32
_TAKEN: Final = 5
_SLOTS_AT: Final = 64
_BODY_AT: Final = 64
_SLOT_BYTES: Final = _BODY_AT + MAX_MESSAGE_BYTES
_LENGTH: Final = struct.Struct("=I")
_END: Final = 0xFFFFFFFF
_FILLED: Final = ord("F")
_FREE: Final = ord("R")


class Ring:
    """The segment and its semaphores, seen from one side; closed by that side."""

    def __init__(self, memory: SysvMemory, filled: SysvSemaphore, free: SysvSemaphore) -> None:
        self.memory = memory
        self.view = memory.view
        self.filled = filled
        self.free = free
        self._words = memory.view[:_SLOTS_AT].cast("Q")

    @property
    def sent(self) -> int:
        """How many messages the server has sent, the end included."""
        return self._words[_SENT]

    @sent.setter
    def sent(self, count: int) -> None:
        self._words[_SENT] = count

    @property
    def taken(self) -> int:
        """How many of them the client has taken."""
        return self._words[_TAKEN]

    @taken.setter
    def taken(self, count: int) -> None:
        self._words[_TAKEN] = count

    def pid(self, at: int) -> int:
        """Return the pid of a side."""
        return int(_LENGTH.unpack_from(self.view, at)[0])

    def detach(self) -> None:
        """Detach the segment from this process."""
        self._words.release()
        self.memory.close()


class SharedMemorySender(Sender):
    """Owns the ring."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self._entry = entry
        made: list[SysvMemory | SysvSemaphore] = []
        try:
            memory = SysvMemory.create(entry.number, _SLOTS_AT + SLOTS * _SLOT_BYTES)
            made.append(memory)
            entry.note(memory=memory.id)
            filled = SysvSemaphore.create(sibling(entry.number, _FILLED), 1)
            made.append(filled)
            entry.note(filled=filled.id)
            free = SysvSemaphore.create(sibling(entry.number, _FREE), 1)
            made.append(free)
            entry.note(free=free.id)
            filled.acquire_for_life()
        except BaseException:
            for thing in made:
                thing.remove()
            raise
        self._ring = Ring(memory, filled, free)
        _LENGTH.pack_into(memory.view, _SERVER_PID_AT, os.getpid())
        _HEADER.pack_into(memory.view, 0, _MAGIC, _VERSION, SLOTS, MAX_MESSAGE_BYTES)
        self._has_come = False
        self._is_open = True

    def is_peer_alive(self) -> bool:
        """See whether the kernel has given back what the client took for life."""
        if not self._has_come:
            return not self._entry.has_reader_gone()
        # The semaphore first: a message taken in between then makes the sum smaller, not larger.
        try:
            free = self._ring.free.value
        except ObjectRemoved:
            return False
        return free + self._ring.sent - self._ring.taken <= SLOTS

    def close(self) -> None:
        """Remove the ring."""
        if self._is_open:
            self._is_open = False
            for thing in (self._ring.filled, self._ring.free, self._ring.memory):
                thing.remove()
            self._ring.detach()
            self._entry.remove()

    def _parts(self, message: bytes) -> Sequence[bytes]:
        return _LENGTH.pack(len(message)), message

    def _end(self) -> Sequence[bytes]:
        return (_LENGTH.pack(_END),)

    def _put(self, seconds: float) -> int:
        ring = self._ring
        if not self._has_client(seconds) or not ring.free.acquire(seconds):
            return 0
        sent = ring.sent
        if sent - ring.taken >= SLOTS:
            ring.free.release()  # it stays to be seen by whoever asks again
            raise PeerGone("the reader has gone")
        at = _SLOTS_AT + sent % SLOTS * _SLOT_BYTES
        taken_bytes = 0
        for part, start in zip(self._rest, (at, at + _BODY_AT), strict=False):
            ring.view[start : start + len(part)] = part
            taken_bytes += len(part)
        ring.sent = sent + 1
        ring.filled.release()
        return taken_bytes

    def _has_client(self, seconds: float) -> bool:
        if not self._has_come and self._ring.free.wait_for_zero(seconds):
            self._ring.free.release(SLOTS)
            self._has_come = True
        return self._has_come

    def _is_drained(self, seconds: float) -> bool:
        ring = self._ring
        if not ring.free.acquire(seconds, SLOTS):
            return False
        ring.free.release(SLOTS)
        if ring.taken != ring.sent:
            raise PeerGone("the reader has gone before the end")
        return True


class SharedMemoryReceiver(Receiver):
    """Reads somebody's ring; `entry` is None if the ledger does not know its server."""

    def __init__(self, ring: Ring, entry: Entry | None) -> None:
        super().__init__()
        self._entry = entry
        self._ring = ring
        self._is_open = True

    def is_peer_alive(self) -> bool:
        """See whether the kernel has given back what the server took for life."""
        # The semaphore first: as in the sender.
        try:
            filled = self._ring.filled.value
        except ObjectRemoved:
            return False
        return filled + self._ring.taken <= self._ring.sent

    def close(self) -> None:
        """Let go of the ring."""
        if self._is_open:
            self._is_open = False
            try:
                self._ring.free.release_for_life()
            except ObjectRemoved:
                pass  # the server has ended
            self._ring.detach()
            if self._entry is not None:
                self._entry.close()

    def _take(self, seconds: float) -> bytes | Mark:
        ring = self._ring
        try:
            if not ring.filled.acquire(seconds):
                return Mark.NOTHING
            taken = ring.taken
            if taken == ring.sent:
                ring.filled.release()  # it stays to be seen by whoever asks again
                raise PeerGone("the server has gone before the end of the stream")
            at = _SLOTS_AT + taken % SLOTS * _SLOT_BYTES
            (length,) = _LENGTH.unpack_from(ring.view, at)
            if length == _END:
                message: bytes | Mark = Mark.END
            elif length > MAX_MESSAGE_BYTES:
                raise ChannelError(f"a slot says that it has {length:,} bytes")
            else:
                message = bytes(ring.view[at + _BODY_AT : at + _BODY_AT + length])
            ring.taken = taken + 1
            ring.free.release()
        except ObjectRemoved as error:
            raise PeerGone("the server has gone before the end of the stream") from error
        return message


def serve(_: Key, entry: Entry) -> SharedMemorySender:
    """Make the ring."""
    return SharedMemorySender(entry)


def connect(key: Key, entry: Entry | None) -> SharedMemoryReceiver:
    """Attach the ring and become its only reader."""
    try:
        memory = SysvMemory.open(key.number)
    except NoServer as error:
        raise NoServer("its server is not ready" if entry else str(error)) from error
    try:
        _check(memory, key)
        ring = Ring(
            memory,
            SysvSemaphore(sibling(key.number, _FILLED)),
            SysvSemaphore(sibling(key.number, _FREE)),
        )
    except BaseException:
        memory.close()
        raise
    try:
        _become_reader(ring, key)
    except BaseException:
        ring.detach()
        raise
    return SharedMemoryReceiver(ring, entry)


def _become_reader(ring: Ring, key: Key) -> None:
    if ring.filled.value > ring.sent - ring.taken:
        raise StaleObject(f"the server of shared memory 0x{key.name} is dead")
    if ring.pid(_CLIENT_PID_AT) or not ring.free.acquire_for_life():
        raise ChannelTaken(f"it is being read already, by pid {ring.pid(_CLIENT_PID_AT)}")
    _LENGTH.pack_into(ring.view, _CLIENT_PID_AT, os.getpid())


def remove_objects(entry: Entry) -> None:
    """Remove the ring of a dead server."""
    if entry.is_of_this_boot():
        remove_sysv("semaphore", sibling(entry.number, _FILLED), entry.made_id("filled"))
        remove_sysv("semaphore", sibling(entry.number, _FREE), entry.made_id("free"))
        remove_sysv("memory", entry.number, entry.made_id("memory"))


def sibling(number: int, project: int) -> int:
    """Return ftok of the same file for another project letter (it is the topmost byte)."""
    return number ^ (PROJECT ^ project) << 24


def _check(memory: SysvMemory, key: Key) -> None:
    wanted = (_MAGIC, _VERSION, SLOTS, MAX_MESSAGE_BYTES)
    size = _SLOTS_AT + SLOTS * _SLOT_BYTES
    if len(memory.view) < size or _HEADER.unpack_from(memory.view) != wanted:
        raise NoServer(f"shared memory 0x{key.name} is no channel of this version, or not ready")
