"""The worker table: who lives, whose heart beats, and what each loop has done; in shared memory,
without a lock.

Decides the fields of a row and who writes each. Every field has one writer at a time, so a plain
store of one aligned word is all it takes, and everybody may read.

- INCARNATION belongs to the supervisor. `n` while incarnation n of the p_id lives or starts, `-n`
  after it has died, 0 if there
  never was one. The registry takes this word for the truth about which slots are alive: the one
  store of `end` takes every name of a dead worker out of the registry at once.
- The other words of a row belong to the supervisor while no worker of that p_id lives (`begin`
  before the fork, `end`
  after the wait), and in between to the worker: PID, STATE, ACCEPTED and ROUTER_HEARTBEAT to its
  main and acceptor threads as told below, each loop's block to that loop.

Times are time.monotonic_ns(), the same clock in all processes of a machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from prefork_chat.registry.layout import LINE_WORDS

PID: Final = 0
"""Written by the worker's main thread as its first deed."""
INCARNATION: Final = 1
"""Written by the supervisor only."""
STATE: Final = 2
"""A WorkerState. Written by the worker's main thread."""
STARTED_NS: Final = 3
"""When `begin` was called. Written by the supervisor."""
ACCEPTED: Final = 4
"""Connections accepted so far. Written by the acceptor thread."""
ROUTER_HEARTBEAT: Final = 5
"""When the router was last seen awake. Written by the worker's main thread."""

HEARTBEAT: Final = 0
"""In a loop's block, written by that loop, as all below: when it was last seen awake."""
CLIENTS: Final = 1
"""Connections that it serves now."""
LINES: Final = 2
"""Lines read from clients so far."""
DELIVERED: Final = 3
"""Messages handed to clients so far."""
REFUSED: Final = 4
"""Messages refused so far, because their receiver reads too slowly."""
BOUNCED: Final = 5
"""Messages sent back so far, because their receiver was gone."""


class WorkerState(IntEnum):
    """What a worker is about. GONE is what fresh memory says."""

    GONE = 0
    STARTING = 1
    READY = 2
    RETIRING = 3
    STOPPING = 4


@dataclass(frozen=True, slots=True)
class LoopReport:
    """One loop's block at the time of a snapshot; times in ns, the rest are counts."""

    heartbeat_ns: int
    clients: int
    lines: int
    delivered: int
    refused: int
    bounced: int


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """One worker's row at the time of a snapshot. Fields of a row are read one by one: they may
    differ by a turn."""

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
    """Rows of one worker each. The object holds views only and may be used in any process and
    thread."""

    __slots__ = ("_words", "row_words", "threads", "workers")

    def __init__(self, words: memoryview[int], workers: int, threads: int) -> None:
        """`words` is a view of format "q" on exactly the table."""
        self._words = words
        self.workers = workers
        self.threads = threads
        self.row_words = loop_offset(threads)

    def row(self, p_id: int) -> memoryview[int]:
        """The words of worker `p_id`: index it by the fields of this module, loops' fields plus
        `loop_offset(t_id)`."""
        if not 0 <= p_id < self.workers:
            raise IndexError(f"p_id {p_id} of {self.workers} workers")
        start = p_id * self.row_words
        return self._words[start : start + self.row_words]

    def incarnation(self, p_id: int) -> int:
        """The incarnation word of `p_id`: n alive, -n dead, 0 never was."""
        return self._words[p_id * self.row_words + INCARNATION]

    def begin(self, p_id: int, incarnation: int, now_ns: int) -> None:
        """Reset the row for a new worker (supervisor, before its fork).

        All heartbeats are set to `now_ns`, so that the watchdog gives a start its whole period.
        Raises ValueError when `incarnation` is not greater than the one before: slots of a dead
        worker would come to life again.
        """
        row = self.row(p_id)
        if incarnation <= abs(row[INCARNATION]):
            raise ValueError(f"worker {p_id}: incarnation {incarnation} after {row[INCARNATION]}")
        for word in range(self.row_words):
            if word != INCARNATION:
                row[word] = 0
        row[STARTED_NS] = now_ns
        row[ROUTER_HEARTBEAT] = now_ns
        for t_id in range(self.threads):
            row[loop_offset(t_id) + HEARTBEAT] = now_ns
        row[STATE] = WorkerState.STARTING
        row[INCARNATION] = incarnation

    def end(self, p_id: int) -> None:
        """Say that the worker is dead (supervisor, after it has been waited for): its names are
        free from here on."""
        row = self.row(p_id)
        row[INCARNATION] = -abs(row[INCARNATION])
        row[STATE] = WorkerState.GONE
        row[PID] = 0

    def stalest_heartbeat_ns(self, p_id: int) -> int:
        """The oldest heartbeat of the worker's router and loops."""
        row = self.row(p_id)
        beats = [row[loop_offset(t_id) + HEARTBEAT] for t_id in range(self.threads)]
        return min(row[ROUTER_HEARTBEAT], *beats)

    def snapshot(self) -> list[WorkerReport]:
        """All rows, in the order of p_id."""
        return [self._report(p_id) for p_id in range(self.workers)]

    def _report(self, p_id: int) -> WorkerReport:
        words = self.row(p_id).tolist()
        blocks = (words[loop_offset(t_id) :] for t_id in range(self.threads))
        return WorkerReport(
            p_id=p_id,
            pid=words[PID],
            incarnation=words[INCARNATION],
            state=WorkerState(words[STATE]),
            started_ns=words[STARTED_NS],
            accepted=words[ACCEPTED],
            router_heartbeat_ns=words[ROUTER_HEARTBEAT],
            loops=tuple(LoopReport(*block[: BOUNCED + 1]) for block in blocks),
        )
