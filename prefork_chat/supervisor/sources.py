"""Where the parts of an estate come from: newly made, or handed on by a supervisor before us.

`Estate.put_up` decides what there is and in which order; it asks a source for each part. Called by
the supervisor's only thread at its start. `Making` makes what is not there yet and writes down what
has a name outside before it exists. `Resuming` takes everything over as it is, by the names of
descriptors that go with a `Deed`, and neither removes nor announces anything.
"""

from __future__ import annotations

import mmap
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from prefork_chat.config import resolve_runtime_dir
from prefork_chat.control import SOCKET_NAME
from prefork_chat.errors import StartError
from prefork_chat.inheritance import DOOR
from prefork_chat.pairs import Pair
from prefork_chat.registry.ipc import Semaphore, SharedMemory
from prefork_chat.registry.layout import Layout
from prefork_chat.registry.registry import Registry
from prefork_chat.supervisor.ledger import Ledger
from prefork_chat.supervisor.listeners import ListenerOpener, Listeners, SocketFile
from prefork_chat.supervisor.runtime import RuntimeDirectory
from prefork_chat.supervisor.runtimesocket import RuntimeSocket
from prefork_chat.supervisor.socketfile import SocketIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prefork_chat.config import Config
    from prefork_chat.supervisor.deed import Deed
    from prefork_chat.supervisor.notify import PassedFd

ADMIN: Final = "admin"
DIRECTORY: Final = "directory"
ATTENDANTS_TABLE: Final = "attendants"
NEWS: Final = "news"
PIDFILE: Final = "pidfile"
REGISTRY: Final = "registry"
_JOURNAL_NAME: Final = "prefork-chat-journal"
_TABLE_NAME: Final = "prefork-chat-attendants"
SPILLS: Final = "spill"


def listener_name(number: int) -> str:
    """Return the name of a listener's descriptor."""
    return f"listener.{number}"


def client_name(slot: int, generation: int) -> str:
    """Return the name of a kept client's descriptor."""
    return f"client.{slot}.{generation}"


def peer_name(number: int) -> str:
    """Return the name of the descriptor of somebody at the admin socket."""
    return f"peer.{number}"


def inlet_name(pair: str) -> str:
    """Return the name of a pair's inlet."""
    return f"{pair}.inlet"


def outlet_name(pair: str) -> str:
    """Return the name of a pair's outlet."""
    return f"{pair}.outlet"


class Source(Protocol):
    """Gives the parts of an estate, in the order of its methods; each raises StartError."""

    places: int
    threads: int

    def runtime(self) -> RuntimeDirectory:
        """Return the runtime directory, locked."""

    def admin(self, runtime: RuntimeDirectory) -> RuntimeSocket:
        """Return the admin socket, listening."""

    def door(self, runtime: RuntimeDirectory) -> RuntimeSocket:
        """Return the socket at which the porter is a client, listening."""

    def spills(self, runtime: RuntimeDirectory) -> Path:
        """Return the directory where workers keep what slow readers have not read."""

    def ledger(self, runtime: RuntimeDirectory) -> Ledger:
        """Return the ledger, which lists nothing that does not belong to this estate."""

    def semaphore(self, purpose: str) -> Semaphore:
        """Return a semaphore that one may hold."""

    def memory(self) -> SharedMemory:
        """Return the registry's memory."""

    def registry(self, memory: SharedMemory, write_semaphore: Semaphore) -> Registry:
        """Return the registry in this memory."""

    def pair(self, name: str, /) -> Pair:
        """Return a socketpair."""

    def journal(self, name: str, /) -> int:
        """Return the memfd of a loop's journal."""

    def attendants(self) -> int:
        """Return the memfd of the attendants' table, of its full size."""

    def news(self) -> int:
        """Return the eventfd by which workers say that their state has changed."""

    def listeners(self) -> Listeners:
        """Return the listening sockets; raises ListenError."""

    def kept(self) -> Mapping[int, tuple[int, int]]:
        """Return the kept sockets, as the keeper has them."""

    def undelivered(self) -> Sequence[tuple[int, int, int]]:
        """Return what the keeper has still to deliver."""


class Making:
    """Makes an estate for `config`.

    `passed` are systemd's sockets, `wait` is `ListenerOpener`'s.
    """

    def __init__(
        self, config: Config, passed: Sequence[PassedFd], wait: Callable[[float], bool]
    ) -> None:
        self.places = config.server.worker_places
        self.threads = config.server.threads
        self._config: Final = config
        self._passed: Final = passed
        self._wait: Final = wait
        self._layout: Final = Layout(
            config.server.max_clients,
            self.places,
            self.threads,
            config.limits.max_rooms,
        )

    def runtime(self) -> RuntimeDirectory:
        """Claim the directory; raises AlreadyRunning, too."""
        return RuntimeDirectory.claim(resolve_runtime_dir(self._config))

    def admin(self, runtime: RuntimeDirectory) -> RuntimeSocket:
        """Bind it."""
        return RuntimeSocket.open(runtime, SOCKET_NAME)

    def door(self, runtime: RuntimeDirectory) -> RuntimeSocket:
        """Bind it."""
        return RuntimeSocket.open(runtime, DOOR)

    def spills(self, runtime: RuntimeDirectory) -> Path:
        """Make the directory; what a killed daemon left in it goes."""
        spills = runtime.path / SPILLS
        shutil.rmtree(spills, ignore_errors=True)
        try:
            spills.mkdir(mode=0o700)
        except OSError as error:
            raise StartError(f"{spills}: {error.strerror}") from error
        return spills

    def ledger(self, runtime: RuntimeDirectory) -> Ledger:
        """Remove what a killed daemon left."""
        return self._clear_ledger(runtime, ())

    def semaphore(self, purpose: str) -> Semaphore:
        """Make it."""
        return self._ledger.make_semaphore(purpose, 1)

    def memory(self) -> SharedMemory:
        """Make it."""
        return self._ledger.make_memory("registry", self._layout.total_bytes)

    def registry(self, memory: SharedMemory, write_semaphore: Semaphore) -> Registry:
        """Initialise it."""
        return Registry.create(memory, write_semaphore, self._layout)

    def pair(self, _name: str, /) -> Pair:
        """Open it."""
        try:
            return Pair.create(self._config.limits.pair_buffer_bytes)
        except OSError as error:
            reason = f"{error.strerror} (see `ulimit -n`)"
            raise StartError(f"socketpairs of the workers: {reason}") from error

    def journal(self, name: str, /) -> int:
        """Open it, empty."""
        try:
            return os.memfd_create(_JOURNAL_NAME, os.MFD_CLOEXEC)
        except OSError as error:
            raise StartError(f"{name}: {error.strerror} (see `ulimit -n`)") from error

    def attendants(self) -> int:
        """Open it, all zeros."""
        try:
            fd = os.memfd_create(_TABLE_NAME, os.MFD_CLOEXEC)
        except OSError as error:
            raise StartError(f"the attendants' table: {error.strerror}") from error
        os.ftruncate(fd, mmap.PAGESIZE)
        return fd

    def news(self) -> int:
        """Open it."""
        return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def listeners(self) -> Listeners:
        """Open the configured ones, or take over systemd's."""
        opener = ListenerOpener(self._config.server, self._ledger, self._wait)
        return opener.open(self._passed)

    def _clear_ledger(self, runtime: RuntimeDirectory, files: Sequence[SocketFile]) -> Ledger:
        """Remove what a killed daemon left, but for `files`: those are ours now, and listed."""
        self._ledger = Ledger(runtime)
        self._ledger.remove_leftovers({file.path for file in files})
        for file in files:
            self._ledger.confirm_socket(file.path, file.identity)
        return self._ledger

    def kept(self) -> Mapping[int, tuple[int, int]]:
        """Nobody has come yet."""
        return {}

    def undelivered(self) -> Sequence[tuple[int, int, int]]:
        """Nothing has been given yet."""
        return ()


class Resuming:
    """Takes the estate of `deed` over; `descriptors` has a descriptor for each name."""

    def __init__(self, deed: Deed, descriptors: Mapping[str, int]) -> None:
        self.places = deed.places
        self.threads = deed.threads
        self._deed: Final = deed
        self._descriptors: Final = descriptors

    def runtime(self) -> RuntimeDirectory:
        """Go on with its lock."""
        path = Path(self._deed.runtime_dir)
        return RuntimeDirectory(path, self._take(DIRECTORY), self._take(PIDFILE))

    def admin(self, runtime: RuntimeDirectory) -> RuntimeSocket:
        """Go on listening."""
        return RuntimeSocket(runtime, SOCKET_NAME, _socket(self._take(ADMIN)))

    def door(self, runtime: RuntimeDirectory) -> RuntimeSocket:
        """Go on listening."""
        return RuntimeSocket(runtime, DOOR, _socket(self._take(DOOR)))

    def spills(self, runtime: RuntimeDirectory) -> Path:
        """Leave all that is there: it is in use."""
        return runtime.path / SPILLS

    def ledger(self, runtime: RuntimeDirectory) -> Ledger:
        """Leave all that is listed: it is in use."""
        return Ledger(runtime)

    def semaphore(self, purpose: str) -> Semaphore:
        """Open it."""
        return Semaphore(self._deed.semaphores[purpose])

    def memory(self) -> SharedMemory:
        """Map it."""
        fd = self._take(REGISTRY)
        return SharedMemory(fd, os.fstat(fd).st_size)

    def registry(self, memory: SharedMemory, write_semaphore: Semaphore) -> Registry:
        """Attach to it."""
        return Registry(memory, write_semaphore)

    def pair(self, name: str, /) -> Pair:
        """Go on with both ends."""
        return Pair.resume(self._take(inlet_name(name)), self._take(outlet_name(name)))

    def journal(self, name: str, /) -> int:
        """Leave it as it is."""
        return self._take(name)

    def attendants(self) -> int:
        """Leave it as it is."""
        return self._take(ATTENDANTS_TABLE)

    def news(self) -> int:
        """Go on with it."""
        return self._take(NEWS)

    def listeners(self) -> Listeners:
        """Go on listening; the socket files are ours as they were."""
        return Listeners(
            [_socket(self._take(listener_name(n))) for n in range(self._deed.listeners)],
            self.socket_files(),
        )

    def socket_files(self) -> list[SocketFile]:
        """Return the files of our own Unix sockets."""
        return [
            SocketFile(file.path, SocketIdentity(file.device, file.inode, file.change_ns))
            for file in self._deed.files
        ]

    def kept(self) -> Mapping[int, tuple[int, int]]:
        """Return those whose descriptors have come along."""
        return {
            slot: (generation, self._descriptors[client_name(slot, generation)])
            for slot, generation in self._deed.kept
            if client_name(slot, generation) in self._descriptors
        }

    def undelivered(self) -> Sequence[tuple[int, int, int]]:
        """Return what the deed says."""
        return self._deed.undelivered

    def _take(self, name: str) -> int:
        if name not in self._descriptors:
            raise StartError(f"descriptor {name} has not been handed on")
        return self._descriptors[name]


def _socket(fd: int) -> socket.socket:
    found = socket.socket(fileno=fd)
    found.setblocking(False)
    return found
