"""The only door to posix_ipc and sysv_ipc: shared memory, and semaphores that survive `kill -9`.

Decides how the daemon's IPC objects are made, held and removed. The supervisor makes them before
the first fork and removes them after the last child; workers have them by fork and take the
semaphores in any thread. The objects hold nothing that a fork would make wrong.

Shared memory is POSIX: allocated whole when it is made, so that a full tmpfs is an error then and
not a SIGBUS later, and unlinked at once: it goes with the last process that has it.

Semaphores are System V with SEM_UNDO (semop(2)): the kernel keeps an account of what each process
took and did not give back, and gives it back when the process dies, however it dies. (A POSIX
semaphore stays locked for ever.) What follows from that account, each point tested:
- `semop` counts, so threads of one process exclude each other as processes do.
- The account is the process's, not the thread's: a thread may give back what another took, and one
  that ends while it holds leaves the semaphore held. So hold one in a `with` block.
- The undo comes when the last thread has left user space: nobody is still writing by then.
- fork inherits no account: what the parent holds, the child must not give back.
- Waiters are served in the order of their arrival.
- A waiting `acquire` has given up the GIL.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING

import posix_ipc
import sysv_ipc

from prefork_chat.errors import LeftoverError, PreforkChatError, StartError

if TYPE_CHECKING:
    from types import TracebackType


class NameTaken(StartError):  # noqa: N818 - says what is the case
    """The name or key belongs to an object that somebody else has made."""


class SemaphoreGone(PreforkChatError):  # noqa: N818 - says what is the case
    """The semaphore has been removed while it was in use, by `ipcrm` or at the daemon's end."""


class SharedMemory:
    """A mapped, nameless piece of shared memory; children have it by fork.

    `map` is the mapping, `size` its length in bytes, `fd` a descriptor to hand on (close-on-exec).
    """

    __slots__ = ("fd", "map", "size")

    def __init__(self, fd: int, size: int, access: int = mmap.ACCESS_WRITE) -> None:
        """Map `size` bytes of the open file `fd`, which belongs to this object from here on."""
        self.map = mmap.mmap(fd, size, access=access)
        self.fd = fd
        self.size = size

    @classmethod
    def create(cls, name: str, size: int) -> SharedMemory:
        """Make `size` bytes of zeros. `name` ("/word") is in use for a blink only.

        Raises NameTaken when there is such a name, StartError when memory is short.
        """
        try:
            made = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600)
        except posix_ipc.ExistentialError as error:
            # This is what comes without a /dev/shm, too.
            if not os.path.isdir("/dev/shm"):
                raise StartError("shared memory: there is no /dev/shm") from error
            raise NameTaken(f"shared memory {name} exists already") from error
        except (posix_ipc.PermissionsError, OSError) as error:
            raise StartError(f"shared memory {name}: {error}") from error
        made.unlink()
        try:
            os.posix_fallocate(made.fd, 0, size)
            return cls(made.fd, size)
        except OSError as error:
            made.close_fd()
            hint = " in /dev/shm" if error.errno == errno.ENOSPC else ""
            raise StartError(f"shared memory of {size} bytes: {error.strerror}{hint}") from error

    @classmethod
    def look_at(cls, fd: int) -> SharedMemory:
        """Map the whole of what another process has handed over, to be read only."""
        return cls(fd, os.fstat(fd).st_size, mmap.ACCESS_READ)

    def open_to_read(self) -> int:
        """Return a descriptor to hand to others: what they map of it they cannot write to.

        It keeps them from writing by mistake: our own user could open the file anew. Raises
        OSError.
        """
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Unmap and close in this process. Raises BufferError while a view of it is in use."""
        self.map.close()
        os.close(self.fd)


def remove_leftover_memory(name: str) -> bool:
    """Remove what a daemon killed between making and unlinking left; True if there was any.

    Raises LeftoverError when it belongs to another user.
    """
    try:
        posix_ipc.unlink_shared_memory(name)
    except posix_ipc.ExistentialError:
        return False
    except posix_ipc.PermissionsError as error:
        raise LeftoverError(f"shared memory {name} belongs to another user") from error
    return True


class Semaphore:
    """A System V semaphore with undo, for any thread of any process that has it by fork."""

    # Two handles, for "do not wait" is a property of the handle in sysv_ipc: switching it for one
    # call would switch it for another thread that is about to wait.
    __slots__ = ("_trying", "_waiting", "key")

    def __init__(self, key: int) -> None:
        """Open the semaphore `key`, which exists; raises SemaphoreGone if it does not."""
        self.key = key
        try:
            self._waiting = sysv_ipc.Semaphore(key)
            self._trying = sysv_ipc.Semaphore(key)
        except sysv_ipc.ExistentialError as error:
            raise self._gone() from error
        self._waiting.undo = True
        self._trying.undo = True
        self._trying.block = False

    @classmethod
    def create(cls, key: int, value: int) -> Semaphore:
        """Make a semaphore that `value` may hold at a time, under `key` (any C int but 0).

        Raises NameTaken when the key is in use, StartError when the system has none left.
        """
        if key == sysv_ipc.IPC_PRIVATE:
            raise ValueError("a semaphore of key 0 cannot be found again")
        try:
            sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, mode=0o600, initial_value=value)
        except sysv_ipc.ExistentialError as error:
            raise NameTaken(f"semaphore key {key:#x} is in use") from error
        except OSError as error:
            raise StartError(f"semaphore: {error.strerror} (see `ipcs -s`, `ipcs -l`)") from error
        return cls(key)

    def acquire(self) -> None:
        """Take it; waits, without the GIL, until it is to be had. Raises SemaphoreGone.

        Not for a thread that must answer signals: an interrupted wait goes on, at the end of the
        line.
        """
        while True:
            try:
                self._waiting.acquire()
            except sysv_ipc.ExistentialError as error:
                raise self._gone() from error
            except sysv_ipc.Error as error:
                # EINTR has no class of its own. SIGSTOP and SIGCONT give it without any handler.
                if type(error) is not sysv_ipc.Error:
                    raise
            else:
                return

    def try_acquire(self) -> bool:
        """Take it if it is to be had now; False if not. Raises SemaphoreGone."""
        try:
            self._trying.acquire()
        except sysv_ipc.BusyError:
            return False
        except sysv_ipc.ExistentialError as error:
            raise self._gone() from error
        return True

    def release(self) -> None:
        """Give it back, in the process that took it. Raises SemaphoreGone."""
        try:
            self._waiting.release()
        except sysv_ipc.ExistentialError as error:
            raise self._gone() from error

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
        """How many may take it now. Raises SemaphoreGone."""
        try:
            return int(self._waiting.value)
        except sysv_ipc.ExistentialError as error:
            raise self._gone() from error

    @property
    def last_pid(self) -> int:
        """The process that took it or gave it back last; waiting does not count."""
        try:
            return int(self._waiting.last_pid)
        except sysv_ipc.ExistentialError as error:
            raise self._gone() from error

    def holder_pid(self) -> int:
        """The process that has a semaphore made with value 1, 0 if none has it. Never waits."""
        pid = self.last_pid
        if self.value == 0 and self.last_pid == pid:
            return pid
        return 0

    def remove(self) -> None:
        """Remove it from the system; whoever waits gets SemaphoreGone. Twice does no harm."""
        try:
            self._waiting.remove()
        except sysv_ipc.ExistentialError:
            return

    def _gone(self) -> SemaphoreGone:
        return SemaphoreGone(f"semaphore {self.key:#x} is gone")


def remove_leftover_semaphore(key: int) -> bool:
    """Remove the semaphore that a dead daemon left; True if there was one.

    The caller knows that `key` was ours and that its daemon is dead. Raises LeftoverError when the
    semaphore belongs to another user.
    """
    try:
        sysv_ipc.Semaphore(key).remove()
    except sysv_ipc.ExistentialError:
        return False
    except sysv_ipc.PermissionsError as error:
        raise LeftoverError(f"semaphore {key:#x} belongs to another user") from error
    return True
