"""The only door of `channels` to sysv_ipc: queues, shared memory, semaphores, ftok.

Decides how a wait is limited. System V calls have no descriptor to poll, and sysv_ipc no timeout: a
wait is ended by SIGALRM from a repeating timer (`_limit`), so it can never be missed; hence in the
main thread only. The signal's handler and a timer of somebody else's are put back afterwards.

All objects are made with mode 0600 and must not exist before; who makes one may permit more to
others. Raises ObjectTaken, NoServer, NotPermitted, ObjectRemoved, ChannelError.
"""

from __future__ import annotations

import errno
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import sysv_ipc

from prefork_chat.channels.errors import NotPermitted, ObjectRemoved
from prefork_chat.channels.process import has_lived_since
from prefork_chat.channels.refusals import making, opening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MODE: Final = 0o600
_READ_MODE: Final = 0o400
# A first alarm between our last look and the system call ends nothing; the next one does.
_REPEAT_SECONDS: Final = 0.01


def system_v_key(path: Path, project: int) -> int:
    """Return the System V key of an existing file, as ftok(3) makes it. Raises OSError."""
    return int(sysv_ipc.ftok(str(path), project, silence_warning=True))


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Interrupt the system call in the block after `seconds`, again and again."""
    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, _do_nothing)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            # Its time may be over meanwhile: as soon as possible then.
            passed = time.monotonic() - started
            signal.setitimer(signal.ITIMER_REAL, max(left - passed, 1e-6), interval)


def _do_nothing(*_: object) -> None:
    pass


class SysvQueue:
    """A System V message queue; `part_bytes` is the longest message it takes."""

    def __init__(self, queue: sysv_ipc.MessageQueue, part_bytes: int) -> None:
        self._queue = queue
        self.id = int(queue.id)
        self.part_bytes = part_bytes

    @classmethod
    def create(cls, key: int, part_bytes: int) -> SysvQueue:
        """Make a queue."""
        with making(f"System V queue {key:#010x}"):
            made = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX, _MODE, part_bytes)
        return cls(made, part_bytes)

    @classmethod
    def open(cls, key: int, part_bytes: int) -> SysvQueue:
        """Open an existing one."""
        with opening(f"System V queue {key:#010x}"):
            return cls(sysv_ipc.MessageQueue(key, max_message_size=part_bytes), part_bytes)

    def put(self, body: memoryview, kind: int, seconds: float) -> bool:
        """Put a message in, waiting up to `seconds` for room; False if there was none."""
        try:
            try:
                self._queue.send(body, False, kind)
            except sysv_ipc.BusyError:
                if not seconds:
                    return False
                with _limit(seconds):
                    self._queue.send(body, True, kind)
        except sysv_ipc.Error as error:
            self._tell(error)
            return False
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # What is too long is refused by sysv_ipc itself: so there is no such queue any more.
            raise ObjectRemoved("the queue has been removed") from error
        return True

    def take(self, seconds: float) -> tuple[bytes, int] | None:
        """Take the oldest message and its type, waiting up to `seconds`; None if there was none."""
        try:
            try:
                body, kind = self._queue.receive(False)
            except sysv_ipc.BusyError:
                if not seconds:
                    return None
                with _limit(seconds):
                    body, kind = self._queue.receive(True)
        except sysv_ipc.Error as error:
            self._tell(error)
            return None
        return body, kind

    @property
    def count(self) -> int:
        """How many messages are in it."""
        return int(self._attribute("current_messages"))

    @property
    def last_put(self) -> tuple[int, int]:
        """The pid that put a message in last, and when (seconds since 1970); zeros: nobody."""
        return int(self._attribute("last_send_pid")), int(self._attribute("last_send_time"))

    @property
    def last_take(self) -> tuple[int, int]:
        """The pid that took one out last, and when; zeros: nobody."""
        return int(self._attribute("last_receive_pid")), int(self._attribute("last_receive_time"))

    def permit(self, mode: int, uid: int, gid: int) -> None:
        """Give it this mode and owner; -1: as it is. Raises NotPermitted."""
        _permit(self._queue, mode, uid, gid)

    def remove(self) -> None:
        """Remove it from the system; whoever waits gets ObjectRemoved."""
        _remove(self._queue)

    def _attribute(self, name: str) -> int:
        try:
            return int(getattr(self._queue, name))
        except sysv_ipc.ExistentialError as error:
            raise ObjectRemoved("the queue has been removed") from error

    @staticmethod
    def _tell(error: sysv_ipc.Error) -> None:
        """Raise what it means, unless it was a signal, which has no class of its own."""
        if isinstance(error, sysv_ipc.ExistentialError):
            raise ObjectRemoved("the queue has been removed") from error
        if type(error) is not sysv_ipc.Error:
            raise error


class SysvMemory:
    """An attached System V shared memory; `view` is its bytes."""

    def __init__(self, memory: sysv_ipc.SharedMemory) -> None:
        self._memory = memory
        self.id = int(memory.id)
        self.view = memoryview(memory)

    @classmethod
    def open_to_read(cls, key: int) -> SysvMemory:
        """Attach an existing one that we may only read: a store would be a fault."""
        with opening(f"shared memory {key:#010x}"):
            return cls(sysv_ipc.SharedMemory(key, 0, _READ_MODE))

    def permit(self, mode: int, uid: int, gid: int) -> None:
        """Give it this mode and owner; -1: as it is. Raises NotPermitted."""
        _permit(self._memory, mode, uid, gid)

    @classmethod
    def create(cls, key: int, size_bytes: int) -> SysvMemory:
        """Make `size_bytes` of zeros."""
        with making(f"shared memory {key:#010x}"):
            made = sysv_ipc.SharedMemory(key, sysv_ipc.IPC_CREX, _MODE, size_bytes, b"\0")
        return cls(made)

    @classmethod
    def open(cls, key: int) -> SysvMemory:
        """Attach an existing one."""
        with opening(f"shared memory {key:#010x}"):
            return cls(sysv_ipc.SharedMemory(key))

    def has_other_maker(self, pid: int) -> bool:
        """Say whether a process that is not `pid` made it, and lives."""
        maker = int(self._memory.creator_pid)
        return maker != pid and has_lived_since(maker, int(self._memory.last_change_time))

    def close(self) -> None:
        """Detach; views of `view` must be gone."""
        self.view.release()
        self._memory.detach()

    def remove(self) -> None:
        """Remove it from the system as soon as nobody has it attached."""
        _remove(self._memory)


class SysvSemaphore:
    """A System V semaphore with two handles: one whose operations are undone at death, one not."""

    def __init__(self, key: int) -> None:
        """Open an existing one."""
        with opening(f"semaphore {key:#010x}"):
            self._plain = sysv_ipc.Semaphore(key)
            self._trying = sysv_ipc.Semaphore(key)
            self._undone = sysv_ipc.Semaphore(key)
        self._trying.block = False
        self._undone.block = False
        self._undone.undo = True
        self.id = int(self._plain.id)

    @classmethod
    def create(cls, key: int, value: int) -> SysvSemaphore:
        """Make one."""
        with making(f"semaphore {key:#010x}"):
            sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, _MODE, value)
        return cls(key)

    def acquire(self, seconds: float, amount: int = 1) -> bool:
        """Take `amount`, waiting up to `seconds` for it; False if it was not to be had."""
        try:
            try:
                self._trying.acquire(None, amount)
            except sysv_ipc.BusyError:
                if not seconds:
                    return False
                with _limit(seconds):
                    self._plain.acquire(None, amount)
        except sysv_ipc.Error as error:
            self._tell(error)
            return False
        return True

    def release(self, amount: int = 1) -> None:
        """Give back `amount`."""
        try:
            self._plain.release(amount)
        except sysv_ipc.ExistentialError as error:
            self._tell(error)

    def wait_for_zero(self, seconds: float) -> bool:
        """Wait up to `seconds` until it is 0; False if it was not."""
        try:
            if not seconds:
                return self.value == 0
            with _limit(seconds):
                self._plain.Z()
        except sysv_ipc.Error as error:
            self._tell(error)
            return False
        return True

    def acquire_for_life(self) -> bool:
        """Take one until `release_for_life` or this process's death; False if there is none."""
        try:
            self._undone.acquire()
        except sysv_ipc.BusyError:
            return False
        except sysv_ipc.ExistentialError as error:
            self._tell(error)
        return True

    def release_for_life(self) -> None:
        """Give back what `acquire_for_life` took."""
        try:
            self._undone.release()
        except sysv_ipc.ExistentialError as error:
            self._tell(error)

    @property
    def value(self) -> int:
        """How many can be taken now."""
        try:
            return int(self._plain.value)
        except sysv_ipc.ExistentialError as error:
            raise ObjectRemoved("the semaphore has been removed") from error

    def remove(self) -> None:
        """Remove it from the system; whoever waits gets ObjectRemoved."""
        _remove(self._plain)

    @staticmethod
    def _tell(error: sysv_ipc.Error) -> None:
        if isinstance(error, sysv_ipc.ExistentialError):
            raise ObjectRemoved("the semaphore has been removed") from error
        if type(error) is not sysv_ipc.Error:
            raise error


_KINDS: Final = {
    "queue": sysv_ipc.MessageQueue,
    "memory": sysv_ipc.SharedMemory,
    "semaphore": sysv_ipc.Semaphore,
}


def remove_sysv(kind: str, key: int, made_id: int | None) -> bool:
    """Remove what a dead server left under `key`; True if there was any.

    `made_id` is the object's id if it was noted: an object with another one is somebody else's.
    """
    try:
        there = _KINDS[kind](key)
        is_ours = made_id in {None, there.id}
        if is_ours:
            there.remove()
        if kind == "memory":
            there.detach()  # to open it was to attach it
    except sysv_ipc.ExistentialError:
        return False
    except sysv_ipc.PermissionsError as error:
        raise NotPermitted(f"{kind} {key:#010x} belongs to another user") from error
    return is_ours


def _remove(thing: sysv_ipc.MessageQueue | sysv_ipc.SharedMemory | sysv_ipc.Semaphore) -> None:
    try:
        thing.remove()
    except sysv_ipc.ExistentialError:
        return


def _permit(
    thing: sysv_ipc.MessageQueue | sysv_ipc.SharedMemory, mode: int, uid: int, gid: int
) -> None:
    try:
        thing.mode = mode
        if uid != -1:
            thing.uid = uid
        if gid != -1:
            thing.gid = gid
    except (sysv_ipc.Error, OSError) as error:
        raise NotPermitted(f"System V object {thing.key:#010x}: {error}") from error
