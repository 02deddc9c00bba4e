"""What a worker gets from the supervisor by fork: the one object that both sides know.

The supervisor builds an `Inheritance` right before each fork; the child hands it to the worker's
entry function. It exists so that the supervisor needs to import nothing of workers, chat or
protocol, and so that a worker needs no global variable to find what was made before it was born.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prefork_chat.registry.layout import CONSOLES

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

    from prefork_chat.config import Config
    from prefork_chat.pairs import Pairs
    from prefork_chat.registry.ipc import Semaphore
    from prefork_chat.registry.registry import Registry
    from prefork_chat.registry.table import WorkerTable

ATTENDANTS: Final = ("historian", "porter")
"""The processes beside the workers for which there is room in every daemon, by their places.

Each has a parent-level pair, behind those of the workers (`pairs`), and a number of
its own as a sender of datagrams (`senders`)."""

DOOR: Final = "door"
"""The socket in the runtime directory at which the porter comes in, as clients do elsewhere."""

COMPATIBILITY: Final = 5
"""One more whenever workers of this version and the last one could not live side by side.

During an upgrade they do: they send each other datagrams, adopt each other's sessions and journals
and speak to the same keeper. So it grows with every change of what any of these looks like or
means. (The registry's layout has a number of its own.)
"""


def senders(workers: int, threads: int) -> int:
    """Return how many number their datagrams: loop (p_id, t_id) is p_id * threads + t_id.

    Behind the loops come the attendants, by place, and then the operator's consoles.
    """
    return workers * threads + len(ATTENDANTS) + CONSOLES


def sender_of_console(workers: int, threads: int, place: int) -> int:
    """The index under which the datagrams of the console at a place are numbered."""
    return senders(workers, threads) - CONSOLES + place


@dataclass(frozen=True, slots=True)
class Inheritance:
    """Everything worker `p_id` starts from.

    `generation` is the incarnation number of this `p_id`: 1 for the first worker, one more for
    each successor. `listeners` are open, non-blocking, listening sockets. `news` is an eventfd
    that the supervisor polls: a worker adds 1 after it changed its state in the table.
    `supervisor_pidfd` turns readable when the supervisor is gone.

    What makes a successor of it: `kept` has the sockets of all clients of all workers, slot →
    (generation, descriptor); the descriptors belong to the worker, which adopts those whose slot
    says `p_id` and closes the rest. A claimed slot of its own that is not there cannot be adopted.
    `journals[t_id]` is the memfd of loop (p_id, t_id): empty in the beginning, as the predecessor
    left it ever after. `spills` is the directory for what slow readers have not read. `keeper` is
    where `keeping.keep`, `let_go` and `give` go, `nursery` where `keeping.take` finds sessions that
    other workers have given to this one.
    """

    config: Config
    p_id: int
    generation: int
    registry: Registry
    table: WorkerTable
    accept_semaphore: Semaphore
    pairs: Pairs
    keeper: socket.socket
    nursery: socket.socket
    kept: Mapping[int, tuple[int, int]]
    journals: tuple[int, ...]
    spills: Path
    listeners: tuple[socket.socket, ...]
    news: int
    supervisor_pidfd: int


@dataclass(frozen=True, slots=True)
class Attendance:
    """Everything an attendant starts from.

    `place` is its index among ATTENDANTS, `generation` counts its incarnations as a worker's does.
    `p_id` is where others send to: `pairs.processes[p_id]` is its own pair, which it alone reads;
    `sender` numbers its datagrams (see `senders`). `row` is its row in the attendants' table, of
    one loop: it is to become READY, to beat (ROUTER_HEARTBEAT and the loop's HEARTBEAT), and to
    look at ORDER when it gets SIGTERM. `journal` is a memfd, empty in the beginning, as its
    predecessor left it ever after. `news` and `supervisor_pidfd` are as in `Inheritance`.
    """

    config: Config
    place: int
    generation: int
    p_id: int
    sender: int
    registry: Registry
    pairs: Pairs
    row: memoryview[int]
    journal: int
    runtime_dir: Path
    news: int
    supervisor_pidfd: int
