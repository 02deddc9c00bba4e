"""The only door to posix_ipc and sysv_ipc: shared memory without a name, and semaphores that
survive `kill -9`.

Called by the supervisor, which makes and removes the objects before the first fork and after the
last child, and by every thread that takes a semaphore. The objects are inherited by fork and hold
nothing that a fork would make wrong.

Shared memory is POSIX: allocated whole when it is made, so that a full tmpfs is an error now and
not a SIGBUS later, and unlinked at once: it goes when the last process that has it mapped goes.

Semaphores are System V with SEM_UNDO (semop(2)): the kernel counts, per process, what was taken and
not given back, and gives it back when the last thread of the process is gone, however it died. A
POSIX semaphore stays locked for ever then (measured). What follows from the kernel's accounting:
- Threads of one process exclude each other like processes do: each `semop` counts.
- The account belongs to the process, not to the thread. A thread that ends while it holds a
  semaphore keeps it held, so
  hold one in a `with` block only.
- The undo comes after the last thread has left user space: nobody writes under a semaphore that has
  been given back.
- Take and give back in the same process. fork does not inherit the account.
- Waiters are served in the order of their arrival.
A blocking `acquire` gives up the GIL (sysv_ipc wraps semop in Py_BEGIN_ALLOW_THREADS).
"""

from __future__ import annotations

import mmap
import os
from types import TracebackType

import posix_ipc
import sysv_ipc

from prefork_chat.errors import LeftoverError, PreforkChatError, StartError


class NameTaken(StartError):
    """The shared memory's name or the semaphore's key is in use by an object that we did not
    make."""


class SemaphoreGone(PreforkChatError):
    """Somebody removed the semaphore under us (`ipcrm`, or the supervisor at its end)."""


class SharedMemory:
    """A mapped, nameless piece of shared memory.

    Owner: the process that created it; children have it by fork. `map` is the mapping, `size` its
    length in bytes, `fd` a descriptor for handing it on.
    """

    __slots__ = ("fd", "map", "size")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self.map = mmap.mmap(fd, size)

    @classmethod
    def create(cls, name: str, size: int) -> SharedMemory:
        """Make `size` bytes of zeros; `name` (`/word`) is taken for the blink between making and
        unlinking only.

        Raises NameTaken when the name exists, StartError when the memory is not to be had.
        """
        try:
            made = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600)
        except posix_ipc.ExistentialError as error:
            raise NameTaken(f"shared memory {name} exists already") from error
        except OSError as error:
            raise StartError(f"shared memory {name}: {error.strerror}") from error
        made.unlink()
        try:
            os.posix_fallocate(made.fd, 0, size)
            return cls(made.fd, size)
        except OSError as error:
            made.close_fd()
            raise StartError(
                f"shared memory of {size} bytes: {error.strerror} (is /dev/shm full?)"
            ) from error

    def close(self) -> None:
        """Unmap and close in this process; raises BufferError while a view of the map is in use."""
        self.map.close()
        os.close(self.fd)


def remove_leftover_memory(name: str) -> bool:
    """Remove shared memory that a start killed between making and unlinking left; True if there was
    one.

    Raises LeftoverError when it belongs to somebody else.
    """
    try:
        posix_ipc.unlink_shared_memory(name)
    except posix_ipc.ExistentialError:
        return False
    except posix_ipc.PermissionsError as error:
        raise LeftoverError(f"shared memory {name} belongs to another user") from error
    return True


class Semaphore:
    """A System V semaphore with undo. Any thread of any process that has it by fork may use it."""

    # Two handles, because sysv_ipc keeps "do not block" in the handle: a thread that switched it for one call would
    # switch it for the thread that is about to block as well.
    __slots__ = ("_blocking", "_trying", "key")

    def __init__(self, key: int) -> None:
        """Open the semaphore that exists under `key`."""
        self.key = key
        self._blocking = sysv_ipc.Semaphore(key)
        self._blocking.undo = True
        self._trying = sysv_ipc.Semaphore(key)
        self._trying.undo = True
        self._trying.block = False

    @classmethod
    def create(cls, key: int, value: int) -> Semaphore:
        """Make a semaphore under `key` (not 0) that `value` holders may have at once.

        Raises NameTaken when the key is in use, StartError when the system has no semaphore left.
        """
        if key == sysv_ipc.IPC_PRIVATE:
            raise ValueError("key 0 would make a semaphore that cannot be found again")
        try:
            sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, mode=0o600, initial_value=value)
        except sysv_ipc.ExistentialError as error:
            raise NameTaken(f"semaphore key {key:#x} is in use") from error
        except OSError as error:
            raise StartError(
                f"semaphore: {error.strerror} (see `ipcs -s` and kernel.sem)"
            ) from error
        return cls(key)

    def acquire(self) -> None:
        """Take it; blocks, without the GIL, until it is free. Raises SemaphoreGone.

        Not for a main thread that must answer signals at once: an interrupted wait goes on at the
        end of the line.
        """
        while True:
            try:
                self._blocking.acquire()
                return
            except sysv_ipc.ExistentialError as error:
                raise SemaphoreGone(f"semaphore {self.key:#x} has been removed") from error
            except sysv_ipc.Error as error:
                # EINTR has no class of its own. It comes without any handler, too: after SIGSTOP and SIGCONT.
                if type(error) is not sysv_ipc.Error:
                    raise

    def try_acquire(self) -> bool:
        """Take it if that can be done at once; False if not. Raises SemaphoreGone."""
        try:
            self._trying.acquire()
        except sysv_ipc.BusyError:
            return False
        except sysv_ipc.ExistentialError as error:
            raise SemaphoreGone(f"semaphore {self.key:#x} has been removed") from error
        return True

    def release(self) -> None:
        """Give it back, in the process that took it. Raises SemaphoreGone."""
        try:
            self._blocking.release()
        except sysv_ipc.ExistentialError as error:
            raise SemaphoreGone(f"semaphore {self.key:#x} has been removed") from error

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def value(self) -> int:
        """How many may still take it now."""
        return int(self._blocking.value)

    @property
    def last_pid(self) -> int:
        """Who took it or gave it back last; waiting does not count."""
        return int(self._blocking.last_pid)

    def holder_pid(self) -> int:
        """The pid that has a semaphore of value 1 now, 0 if nobody has it. Takes nothing and never
        blocks."""
        pid = self.last_pid
        if self.value == 0 and self.last_pid == pid:
            return pid
        return 0

    def remove(self) -> None:
        """Remove it from the system; waiters get SemaphoreGone. Removing twice does nothing."""
        try:
            self._blocking.remove()
        except sysv_ipc.ExistentialError:
            return


def remove_leftover_semaphore(key: int) -> bool:
    """Remove the semaphore that a dead daemon left under `key`; True if there was one.

    The caller knows that the key was ours and its daemon is dead. Raises LeftoverError when it
    belongs to somebody else.
    """
    try:
        sysv_ipc.Semaphore(key).remove()
    except sysv_ipc.ExistentialError:
        return False
    except sysv_ipc.PermissionsError as error:
        raise LeftoverError(f"semaphore {key:#x} belongs to another user") from error
    return True
