"""What there is to see of the daemon at one moment: read from shared memory, pairs and /proc.

Called by whoever looks on, once a second or so, in a thread of its own process; it keeps nothing
but the descriptors and views that it was given. Takes no lock and asks nobody: a snapshot of two
workers takes 0.3 ms, and costs the daemon nothing. Fields of a snapshot may be a turn apart. A
process that ends while it is looked at, or that is in another pid namespace, has no `usage`.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import termios
import time
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prefork_chat.attachment import Attachment
    from prefork_chat.registry.endings import End
    from prefork_chat.registry.registry import Registry
    from prefork_chat.registry.table import WorkerReport, WorkerTable

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_UTIME: Final = 11  # proc_pid_stat(5), counted from the field behind the name
_STIME: Final = 12
_RSS: Final = 21


class Usage(Struct, frozen=True):
    """What a process has used: CPU time so far, memory (RSS) now."""

    cpu_seconds: float
    memory_bytes: int


class Fill(Struct, frozen=True):
    """What waits in a pair, and how much could: bytes as the kernel counts them, with overhead."""

    queued_bytes: int
    limit_bytes: int


class WorkerSnapshot(Struct, frozen=True):
    """One worker; `queue` is its own pair, `loop_queues` its loops', as far as known."""

    row: WorkerReport
    usage: Usage | None
    queue: Fill | None
    loop_queues: tuple[Fill | None, ...]


class AttendantSnapshot(Struct, frozen=True):
    """One child of the supervisor that is no worker."""

    name: str
    row: WorkerReport
    usage: Usage | None


class RoomSnapshot(Struct, frozen=True):
    """One room; `key` tells it from all others, `said` counts the messages at its place so far."""

    key: tuple[int, int]
    name: str
    members: int
    said: int


class IngressCounts(Struct, frozen=True, kw_only=True):
    """Lines of one way in for other programs, so far: `read` is all of them.

    `rejected` broke its rules, `refused` the chat did not take, `dropped` nobody could say in time.
    """

    name: str
    read: int
    rejected: int
    dropped: int
    delivered: int
    refused: int


class Snapshot(Struct, frozen=True):
    """The daemon at `taken_ns` (time.monotonic_ns). Workers that were never forked are left out."""

    taken_ns: int
    workers: tuple[WorkerSnapshot, ...]
    supervisor: Usage | None
    clients: int
    names: int
    capacity: int
    endings: tuple[End, ...]
    rooms: tuple[RoomSnapshot, ...] = ()
    attendants: tuple[AttendantSnapshot, ...] = ()


class Observer:
    """Takes snapshots of one daemon. Owner: the thread that uses it."""

    def __init__(
        self,
        registry: Registry,
        supervisor_pid: int,
        inlets: Mapping[str, int],
        attendants: WorkerTable | None = None,
        names: Sequence[str] = (),
    ) -> None:
        """`inlets`: descriptors of the pairs' inlets by name, `process.P` and `loop.P.T`.

        `attendants`: their table, if it is to be looked at, and their names.
        """
        self._attendants: Final = attendants
        self._names: Final = names
        self._registry: Final = registry
        self._supervisor_pid: Final = supervisor_pid
        self._inlets: Final = inlets

    @classmethod
    def at(cls, attachment: Attachment) -> Observer:
        """Look at a daemon of which ATTENDANTS and PAIRS are attached, too."""
        daemon = attachment.daemon
        return cls(
            attachment.registry,
            daemon.pid,
            attachment.descriptors,
            attachment.attendants,
            daemon.attendants,
        )

    def take(self) -> Snapshot:
        """Look at everything now."""
        registry = self._registry
        rows = (row for row in registry.table.snapshot() if row.incarnation)
        return Snapshot(
            taken_ns=time.monotonic_ns(),
            workers=tuple(map(self._worker, rows)),
            supervisor=read_usage(self._supervisor_pid),
            clients=registry.claimed,
            names=registry.count,
            capacity=registry.capacity,
            endings=tuple(registry.endings.recent()),
            rooms=tuple(
                RoomSnapshot(
                    (room.place, room.generation),
                    room.name.decode("ascii", "replace"),
                    sum(counts),
                    registry.rooms.said(room.place),
                )
                for room, counts in registry.rooms.all()
            ),
            attendants=self._look_at_attendants(),
        )

    def _look_at_attendants(self) -> tuple[AttendantSnapshot, ...]:
        if self._attendants is None:
            return ()
        return tuple(
            AttendantSnapshot(name, row, read_usage(row.pid))
            for name, row in zip(self._names, self._attendants.snapshot(), strict=True)
            if row.incarnation
        )

    def _worker(self, row: WorkerReport) -> WorkerSnapshot:
        return WorkerSnapshot(
            row=row,
            usage=read_usage(row.pid),
            queue=self._fill(f"process.{row.p_id}"),
            loop_queues=tuple(
                self._fill(f"loop.{row.p_id}.{t_id}") for t_id in range(len(row.loops))
            ),
        )

    def _fill(self, name: str) -> Fill | None:
        fd = self._inlets.get(name)
        return None if fd is None else read_fill(fd)


def read_usage(pid: int) -> Usage | None:
    """Return what a process has used; None if there is none, or none that we see."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name in parentheses may contain anything.
    words = text.rpartition(b")")[2].split()
    ticks = int(words[_UTIME]) + int(words[_STIME])
    return Usage(ticks / _TICKS, int(words[_RSS]) * _PAGE_BYTES)


def read_fill(inlet: int) -> Fill:
    """Return how full a pair is, by a descriptor of its inlet."""
    queued = array.array("i", [0])
    fcntl.ioctl(inlet, termios.TIOCOUTQ, queued)  # SIOCOUTQ, unix(7): not taken by the reader yet
    with socket.socket(fileno=os.dup(inlet)) as pair:
        limit = pair.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return Fill(queued[0], limit)
