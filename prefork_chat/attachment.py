"""How another program of the operator's gets at a running daemon: admin socket and descriptors.

Called by commands, in processes of their own. `attach` gets descriptors handed over (see
`supervisor.handing` for which there are) and maps the registry so that it can only be read: looking
on costs the daemon nothing, and goes on while its workers are replaced and when it becomes another
program.
"""

from __future__ import annotations

import os
import select
import socket
from array import array
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from prefork_chat import control
from prefork_chat.control import Attach, Attached, Done, Failed, Handed
from prefork_chat.errors import OperationError, StartError
from prefork_chat.registry.ipc import SharedMemory
from prefork_chat.registry.table import WorkerTable
from prefork_chat.registry.view import RegistryView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

REGISTRY: Final = "registry"
SUPERVISOR: Final = "supervisor"
ATTENDANTS: Final = "attendants"
PAIRS: Final = "pairs"
CONSOLES: Final = "consoles"

_READ_BYTES: Final = 65_536
_MOST_DESCRIPTORS: Final = 253  # SCM_MAX_FD


class Attachment:
    """A daemon that we look at. Owner: the thread that attached.

    `daemon` says who it is, `registry` is a view of its registry, `attendants` of their table if
    that was handed over, and `descriptors` are all that were, by name; they are closed by `close`.
    """

    def __init__(self, daemon: Attached, descriptors: Mapping[str, int]) -> None:
        """Take over what was handed; raises OperationError for a registry of another version."""
        self.daemon: Final = daemon
        self.descriptors: Final = descriptors
        self._undo = ExitStack()
        with ExitStack() as undo:
            for name, fd in descriptors.items():
                if name not in {REGISTRY, ATTENDANTS}:
                    undo.callback(os.close, fd)
            self.attendants: Final = _look_at_attendants(daemon, descriptors, undo)
            memory = SharedMemory.look_at(descriptors[REGISTRY])
            undo.callback(memory.close)
            try:
                self.registry: Final = RegistryView(memory)
            except StartError as error:
                raise OperationError(
                    f"the daemon is of version {daemon.version} and another registry than ours"
                ) from error
            undo.callback(self.registry.close)
            self._undo = undo.pop_all()

    def has_ended(self) -> bool:
        """Say whether the supervisor has ended; SUPERVISOR has to be attached."""
        poll = select.poll()
        poll.register(self.descriptors[SUPERVISOR], select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Let go of everything that was handed over."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _look_at_attendants(
    daemon: Attached, descriptors: Mapping[str, int], undo: ExitStack
) -> WorkerTable | None:
    if ATTENDANTS not in descriptors:
        return None
    memory = SharedMemory.look_at(descriptors[ATTENDANTS])
    undo.callback(memory.close)
    words = memoryview(memory.map).cast("q")
    undo.callback(words.release)
    table = WorkerTable.of_attendants(words, len(daemon.attendants))
    undo.callback(table.close)
    return table


def attach(directory: Path, *parts: str) -> Attachment:
    """Have the registry, the supervisor's pidfd and `parts` of a daemon handed over.

    Raises NotRunning if there is no daemon, OperationError if it cannot be asked or refuses.
    """
    with ExitStack() as undo:
        daemon, descriptors = receive(directory, (REGISTRY, SUPERVISOR, *parts), undo)
        undo.pop_all()
    return Attachment(daemon, descriptors)


def receive(
    directory: Path, parts: Sequence[str], undo: ExitStack
) -> tuple[Attached, dict[str, int]]:
    """Have descriptors handed over; `undo` closes all that have come."""
    daemon: Attached | None = None
    names: list[str] = []
    received: list[int] = []
    data = b""
    with control.connect(directory) as connection:
        try:
            connection.sendall(control.encode(Attach(tuple(parts))))
            while True:
                some, fds = _receive(connection)
                received += fds
                for fd in fds:
                    undo.callback(os.close, fd)
                if not some:
                    raise OperationError("the daemon has hung up")
                *lines, data = (data + some).split(b"\n")
                for line in lines:
                    match control.decode_answer(line):
                        case Attached() as daemon:
                            pass
                        case Handed(more):
                            names += more
                        case Done() if daemon is not None and len(names) == len(received):
                            return daemon, dict(zip(names, received, strict=True))
                        case Failed(text):
                            raise OperationError(text)
                        case strange:
                            raise OperationError(f"not understood: {strange}")
        except OSError as error:
            raise OperationError(f"the daemon has hung up: {error.strerror}") from error


def _receive(connection: socket.socket) -> tuple[bytes, array[int]]:
    """Return bytes and descriptors; socket.recv_fds would let our children inherit these."""
    fds = array("i")
    space = socket.CMSG_SPACE(_MOST_DESCRIPTORS * fds.itemsize)
    data, ancillary, _, _ = connection.recvmsg(_READ_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, fds
