"""The arrays of datagram socketpairs that carry everything between processes and loops.

Decides how a datagram gets into a process (its parent-level pair) and from there into a loop (its
thread-level pair). The supervisor creates the arrays once, before the first fork, and keeps both
ends of every pair open for as long as it lives: what is queued for a worker that died waits for
its successor. Workers inherit them and use file descriptors only: anybody writes to an inlet, only
the router of `p_id` reads the parent-level outlet of `p_id`, only loop (p_id, t_id) reads its
thread-level outlet. A third array brings events from loops to the operator's consoles: programs of
their own, to which the supervisor hands an outlet, and the inlets of the parent-level pairs.

Every end is non-blocking: two routers that block on each other would deadlock. A full pair is an
outcome (BlockingIOError) that each writer handles beside the system call.

SOCK_DGRAM, not SOCK_SEQPACKET: an empty datagram there cannot be told from end of file.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Pair:
    """One socketpair: datagrams written to `inlet` come out of `outlet`, in order, whole."""

    inlet: socket.socket
    outlet: socket.socket

    @classmethod
    def create(cls, buffer_bytes: int) -> Pair:
        """Open a non-blocking pair whose inlet may hold `buffer_bytes` of queued datagrams.

        The kernel caps the size at net.core.wmem_max; a smaller buffer means earlier back-pressure
        and nothing else.
        """
        inlet, outlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        inlet.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        for end in (inlet, outlet):
            end.setblocking(False)
        return cls(inlet, outlet)

    @classmethod
    def resume(cls, inlet_fd: int, outlet_fd: int) -> Pair:
        """Take over a pair that was created before, by its descriptors."""
        inlet, outlet = socket.socket(fileno=inlet_fd), socket.socket(fileno=outlet_fd)
        for end in (inlet, outlet):
            end.setblocking(False)
        return cls(inlet, outlet)

    def close(self) -> None:
        """Close both ends in this process."""
        self.inlet.close()
        self.outlet.close()


@dataclass(frozen=True, slots=True)
class Pairs:
    """`processes[p_id]` are the parent-level pairs, `loops[p_id][t_id]` the thread-level ones.

    Behind the workers' parent-level pairs are those of the attendants, one for each.
    `consoles[place]` are those to the operator's consoles.
    """

    processes: tuple[Pair, ...]
    loops: tuple[tuple[Pair, ...], ...]
    consoles: tuple[Pair, ...] = ()

    @classmethod
    def arrange(
        cls,
        workers: int,
        threads: int,
        attendants: Sequence[str],
        consoles: int,
        pair: Callable[[str], Pair],
    ) -> Pairs:
        """Put up the arrays from what `pair` returns for a name.

        The names are `process.P`, `loop.P.T` and `console.K`; the pair of an attendant has its.
        """
        processes = [f"process.{p_id}" for p_id in range(workers)]
        return cls(
            tuple(map(pair, (*processes, *attendants))),
            tuple(
                tuple(pair(f"loop.{p_id}.{t_id}") for t_id in range(threads))
                for p_id in range(workers)
            ),
            tuple(pair(f"console.{place}") for place in range(consoles)),
        )
