"""What would outlive a killed daemon: written down before it is made, removed by the next start.

Three kinds of object have a name outside the process: System V semaphores (a key), POSIX shared
memory (a name, for the blink before it is unlinked) and Unix sockets (a path). Each has a line in
the file `objects` of the runtime directory before it exists; so at whatever statement the daemon is
killed, what it left has a line. Called by the supervisor's only thread while it holds the
directory's lock: what the file of a locked directory lists belongs to the dead.

Whose is it? Nothing that is not ours may be removed:
- Keys and names are not written down but derived from the directory's device and inode, the purpose
  and an attempt number. A copied or restored file therefore leads to nobody else's object.
- An attempt whose object exists beforehand is a stranger's and is passed over. If one appears in
  between, the next attempt's line supersedes this one's: of each purpose only the last line counts.
- A socket file is ours if device, inode and change time are those noted after the bind (inodes of
  removed files are used again), or if nobody listens there: then it is nobody's.

One line is one JSON array and one `write`; a line cut short by a full disk never had its object
made and is passed over. `["semaphore" | "memory", purpose, attempt]`, `["socket", path]` before the
bind, `["socket", path, device, inode, change_ns]` after it.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from prefork_chat.errors import LeftoverError, StartError
from prefork_chat.log import LEFTOVER_KEPT, LEFTOVER_REMOVED, get_logger
from prefork_chat.registry.ipc import (
    NameTaken,
    Semaphore,
    SharedMemory,
    remove_leftover_memory,
    remove_leftover_semaphore,
)
from prefork_chat.supervisor.socketfile import SocketIdentity, is_listened_to, read_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from prefork_chat.supervisor.runtime import RuntimeDirectory

OBJECTS_FILE: Final = "objects"
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
# Strangers in the way of one purpose before we suspect that something else is wrong.
_ATTEMPTS: Final = 16
_KEY_BITS: Final = 31  # key_t is a signed int, and sysv_ipc wants it positive

_Made = TypeVar("_Made")


class Ledger:
    """The objects of one runtime directory. Owner: the supervisor's thread.

    Makes semaphores and memory itself; whoever binds a Unix socket announces and confirms it.
    """

    def __init__(self, runtime: RuntimeDirectory) -> None:
        self._runtime: Final = runtime
        self._log: Final = get_logger()

    def make_semaphore(self, purpose: str, value: int) -> Semaphore:
        """Make a semaphore that `value` holders may have at once. Raises StartError."""

        def make(attempt: int) -> Semaphore:
            return Semaphore.create(self.semaphore_key(purpose, attempt), value)

        return self._make("semaphore", purpose, make)

    def make_memory(self, purpose: str, size: int) -> SharedMemory:
        """Make `size` bytes of shared memory, already without a name. Raises StartError."""

        def make(attempt: int) -> SharedMemory:
            return SharedMemory.create(self.memory_name(purpose, attempt), size)

        return self._make("memory", purpose, make)

    def announce_socket(self, path: str) -> None:
        """Write down that a socket is about to be bound at the absolute `path`."""
        self._append("socket", path)

    def confirm_socket(self, path: str, identity: SocketIdentity) -> None:
        """Write down which file the announced bind has made."""
        self._append("socket", path, *identity)

    def remove_leftovers(self, kept: Collection[str] = ()) -> None:
        """Remove all that is listed and still there, then the list; say what there was.

        Sockets at the paths `kept` stay.

        Can be killed anywhere and repeated. What another user owns is not ours, and is kept.
        """
        # In this order: workers that a killed daemon left fail at their next semaphore.
        semaphores, memories, sockets = self._read()
        for purpose, attempt in semaphores.items():
            key = self.semaphore_key(purpose, attempt)
            self._remove("semaphore", f"{key:#x}", partial(remove_leftover_semaphore, key))
        for purpose, attempt in memories.items():
            name = self.memory_name(purpose, attempt)
            self._remove("memory", name, partial(remove_leftover_memory, name))
        for path, identity in sockets.items():
            if path in kept:
                continue
            self._remove("socket", path, partial(_remove_leftover_socket, path, identity))
        self.forget()

    def forget(self) -> None:
        """Remove the list: everything on it is gone."""
        try:
            os.unlink(OBJECTS_FILE, dir_fd=self._runtime.fd)
        except FileNotFoundError:
            pass  # nothing was ever made

    def semaphore_key(self, purpose: str, attempt: int) -> int:
        """Return the key, 1 to 2^31 - 1, of an attempt at a semaphore for `purpose`."""
        digest = self._digest("semaphore", purpose, attempt)
        return int.from_bytes(digest, "big") % ((1 << _KEY_BITS) - 1) + 1

    def memory_name(self, purpose: str, attempt: int) -> str:
        """Return the name of an attempt at shared memory for `purpose`."""
        return f"/prefork-chat-{self._digest('memory', purpose, attempt).hex()}"

    def _make(self, kind: str, purpose: str, make: Callable[[int], _Made]) -> _Made:
        for attempt in range(_ATTEMPTS):
            if self._exists(kind, purpose, attempt):
                continue
            self._append(kind, purpose, attempt)
            try:
                return make(attempt)
            except NameTaken:
                continue
        raise StartError(f"{kind} for {purpose}: {_ATTEMPTS} keys are all taken by others")

    def _exists(self, kind: str, purpose: str, attempt: int) -> bool:
        """Say whether the attempt's object is there already.

        Reads what the kernel lists; where that is hidden (ProcSubset=pid) the answer is no, and
        making the object will tell.
        """
        if kind == "memory":
            return os.path.lexists(f"/dev/shm{self.memory_name(purpose, attempt)}")
        try:
            lines = Path("/proc/sysvipc/sem").read_bytes().splitlines()
        except OSError:
            return False
        key = b"%d" % self.semaphore_key(purpose, attempt)
        return any(line.split(None, 1)[:1] == [key] for line in lines)

    def _digest(self, kind: str, purpose: str, attempt: int) -> bytes:
        device, inode = self._runtime.identity()
        text = f"{device}:{inode}:{kind}:{purpose}:{attempt}"
        return hashlib.blake2b(text.encode(), digest_size=8, person=b"prefork_chat").digest()

    def _append(self, *entry: str | int) -> None:
        line = json.dumps(entry).encode() + b"\n"
        try:
            fd = os.open(OBJECTS_FILE, _APPEND, 0o600, dir_fd=self._runtime.fd)
            try:
                written = os.write(fd, line)
            finally:
                os.close(fd)
        except OSError as error:
            raise StartError(f"{self._path()}: {error.strerror}") from error
        if written != len(line):
            raise StartError(f"{self._path()}: disk full")

    def _read(self) -> tuple[dict[str, int], dict[str, int], dict[str, SocketIdentity | None]]:
        """Return the last attempt of each semaphore and memory, and the identity of each socket."""
        semaphores: dict[str, int] = {}
        memories: dict[str, int] = {}
        sockets: dict[str, SocketIdentity | None] = {}
        for entry in self._entries():
            match entry:
                case ["semaphore", str(purpose), int(attempt)]:
                    semaphores[purpose] = attempt
                case ["memory", str(purpose), int(attempt)]:
                    memories[purpose] = attempt
                case ["socket", str(path)]:
                    sockets[path] = None
                case ["socket", str(path), int(device), int(inode), int(change_ns)]:
                    sockets[path] = SocketIdentity(device, inode, change_ns)
        return semaphores, memories, sockets

    def _entries(self) -> Iterator[object]:
        try:
            fd = os.open(
                OBJECTS_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._runtime.fd
            )
        except FileNotFoundError:
            return
        except OSError as error:
            raise StartError(f"{self._path()}: {error.strerror}") from error
        with open(fd, encoding="ascii", errors="replace") as lines:
            for line in lines:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # cut short: see the module

    def _remove(self, kind: str, name: str, remove: Callable[[], bool]) -> None:
        try:
            if remove():
                self._log.info(LEFTOVER_REMOVED, kind=kind, name=name)
        except LeftoverError as error:
            self._log.warning(LEFTOVER_KEPT, kind=kind, name=name, reason=str(error))

    def _path(self) -> Path:
        return self._runtime.path / OBJECTS_FILE


def _remove_leftover_socket(path: str, ours: SocketIdentity | None) -> bool:
    """Remove a dead daemon's socket file if it is still its own; True if there was one."""
    there = read_identity(path)
    if there is None:
        return False
    if there != ours and is_listened_to(path):
        raise LeftoverError("somebody else listens there now")
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LeftoverError(f"{error.strerror}") from error
    return True
