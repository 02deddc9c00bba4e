"""The worker table: who lives, whose heart beats, what each loop has done; in shared memory.

Decides the fields of a row and who writes each. Every field has one writer at a time and is one
aligned word, so plain stores are enough and everybody may read without a lock.

- INCARNATION and ORDER are the supervisor's. INCARNATION is n from the start of the n-th worker of
  that p_id, -n once it has died, 0 before the first: to be shown, and to go on counting from. The
  sessions of a dead worker do not care: their slots wait for its successor.
- The rest of a row is the supervisor's while no worker of that p_id lives (`begin` before the fork,
  `end` after the wait). In between each field is written by the thread that it names below.

There is a row for each p_id that there may be; where no worker ever was, all is 0.

Times are time.monotonic_ns(), one clock for all processes of a machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from prefork_chat.registry.layout import LINE_WORDS

PID: Final = 0
"""0 until the worker has written its own. Main thread."""
INCARNATION: Final = 1
"""Supervisor only."""
STATE: Final = 2
"""A WorkerState. Main thread; the acceptor for RETIRING, after READY and before STOPPING."""
STARTED_NS: Final = 3
"""Time of `begin`. Supervisor only."""
ACCEPTED: Final = 4
"""Connections accepted so far. Acceptor thread."""
ROUTER_HEARTBEAT: Final = 5
"""When router and main thread were last known to be alive. Main thread."""
ORDER: Final = 6
"""An Order: what SIGTERM means for this worker. Supervisor only, before it sends the signal."""

# In the block of a loop, from `loop_offset(t_id)` on; all written by that loop.
HEARTBEAT: Final = 0
"""When the loop last said that it is alive."""
CLIENTS: Final = 1
"""Connections now."""
LINES: Final = 2
"""Lines read from clients so far."""
DELIVERED: Final = 3
"""Messages handed to clients so far."""
REFUSED: Final = 4
"""Messages refused so far because their receiver reads too slowly."""
BOUNCED: Final = 5
"""Messages sent back so far because their receiver was gone."""


class WorkerState(IntEnum):
    """What a worker is about; GONE is what fresh memory says."""

    GONE = 0
    STARTING = 1
    READY = 2
    RETIRING = 3
    STOPPING = 4


class Order(IntEnum):
    """How a worker is to end; HAND_OVER is what a row says until the supervisor says otherwise."""

    HAND_OVER = 0
    """Finish the turn and exit; the clients stay, the successor adopts them."""
    STOP = 1
    """Tell the clients that the server is going down, hang up, exit."""
    DRAIN = 2
    """Accept nobody more, serve until the last client has left, exit."""
    LEAVE = 3
    """Accept nobody more, move every session to loops of other workers, exit."""


@dataclass(frozen=True, slots=True)
class LoopReport:
    """The block of one loop, copied. The heartbeat is a time in ns, all else are counts."""

    heartbeat_ns: int
    clients: int
    lines: int
    delivered: int
    refused: int
    bounced: int


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """The row of one worker, copied while its threads write: fields may be a turn apart."""

    p_id: int
    pid: int
    incarnation: int
    state: WorkerState
    started_ns: int
    accepted: int
    router_heartbeat_ns: int
    loops: tuple[LoopReport, ...]


def loop_offset(t_id: int) -> int:
    """Where in a row the block of loop `t_id` begins, in words."""
    return LINE_WORDS * (1 + t_id)


class WorkerTable:
    """One row per worker, views only: may be used in any process and thread.

    `incarnations[p_id]` is the incarnation word of that worker; only `begin` and `end` write it.
    """

    __slots__ = ("_row_words", "_words", "incarnations", "threads", "workers")

    def __init__(self, words: memoryview[int], workers: int, threads: int) -> None:
        """`words` is a view of format "q" of exactly the table."""
        self._words = words
        self._row_words = loop_offset(threads)
        self.workers = workers
        self.threads = threads
        self.incarnations = words[INCARNATION :: self._row_words]

    def row(self, p_id: int) -> memoryview[int]:
        """The words of worker `p_id`, indexed by the fields of this module.

        A loop's fields are at `loop_offset(t_id)` plus the field.
        """
        if not 0 <= p_id < self.workers:
            raise IndexError(f"p_id {p_id} of {self.workers} workers")
        start = p_id * self._row_words
        return self._words[start : start + self._row_words]

    def begin(self, p_id: int, incarnation: int, now_ns: int) -> None:
        """Reset the row for a new worker (supervisor, before the fork).

        All heartbeats become `now_ns`: the watchdog gives a start its whole period. The order is
        HAND_OVER again. Raises ValueError unless `incarnation` is greater than all before: two
        workers would go by the same number.
        """
        row = self.row(p_id)
        if incarnation <= abs(row[INCARNATION]):
            raise ValueError(f"worker {p_id}: incarnation {incarnation} after {row[INCARNATION]}")
        for field in range(self._row_words):
            if field != INCARNATION:
                row[field] = 0
        row[STARTED_NS] = now_ns
        row[ROUTER_HEARTBEAT] = now_ns
        for t_id in range(self.threads):
            row[loop_offset(t_id) + HEARTBEAT] = now_ns
        row[STATE] = WorkerState.STARTING
        row[INCARNATION] = incarnation

    def end(self, p_id: int) -> None:
        """Say that the worker is dead (supervisor, after the wait).

        It serves no connections now; what it counted stays until the next `begin`. Saying it twice
        does no harm.
        """
        row = self.row(p_id)
        row[INCARNATION] = -abs(row[INCARNATION])
        row[STATE] = WorkerState.GONE
        row[PID] = 0
        for t_id in range(self.threads):
            row[loop_offset(t_id) + CLIENTS] = 0

    def clients(self, p_id: int) -> int:
        """How many clients the worker has."""
        step = loop_offset(1) - loop_offset(0)
        return sum(self.row(p_id)[loop_offset(0) + CLIENTS :: step])

    def stalest_heartbeat_ns(self, p_id: int) -> int:
        """The oldest heartbeat among the worker's router and loops."""
        row = self.row(p_id)
        beats = [row[loop_offset(t_id) + HEARTBEAT] for t_id in range(self.threads)]
        return min(row[ROUTER_HEARTBEAT], *beats)

    def snapshot(self) -> list[WorkerReport]:
        """A copy of all rows, by p_id."""
        return [self._report(p_id) for p_id in range(self.workers)]

    def _report(self, p_id: int) -> WorkerReport:
        words = self.row(p_id).tolist()
        blocks = [words[loop_offset(t_id) :][: BOUNCED + 1] for t_id in range(self.threads)]
        return WorkerReport(
            p_id=p_id,
            pid=words[PID],
            incarnation=words[INCARNATION],
            state=WorkerState(words[STATE]),
            started_ns=words[STARTED_NS],
            accepted=words[ACCEPTED],
            router_heartbeat_ns=words[ROUTER_HEARTBEAT],
            loops=tuple(LoopReport(*block) for block in blocks),
        )

    @classmethod
    def of_attendants(cls, words: memoryview[int], count: int) -> WorkerTable:
        """Look at memory as at a table of attendants: each has a row as of a worker of one loop."""
        return cls(words[: count * loop_offset(1)], count, 1)

    def close(self) -> None:
        """Let go of the shared memory in this process; rows handed out must be gone by then."""
        self.incarnations.release()
        self._words.release()
