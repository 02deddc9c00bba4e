"""Who is to run: the table of workers, and when a worker that ended is forked again.

Pure bookkeeping of the supervisor's only thread: no fork, signal, clock, log or chance of its own.
Times are monotonic nanoseconds and are passed in, and so is the source of chance. The supervisor
says what happened (`forked`, `became_ready`, `ended`); the table answers what is due (`due`,
`next_due_ns`) and whether it makes sense to go on (`exhausted`).

A worker that exits 0 after it had been ready has retired: it has handed over, by its own decision
or because it was told to, and its successor is due at once. Any other end is a failure. It counts
as a crash if the worker had not been ready, however long it had tried, or had lived less than
`quick_death_seconds`; then the successor waits, twice as long after each crash in a row, and
`max_crashes` of them mean that the fault is not the worker's alone. A failure after a longer life
has a successor at once: the life proves that starting works.

The table has a place for every worker that there may be. Those from `wanted` up are surplus: they
are to leave, and have left when they exit 0 and no session is theirs. However else a surplus worker
ends, it has a successor like all others: somebody must adopt what it had.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prefork_chat.registry.endings import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prefork_chat.config import RespawnConfig
    from prefork_chat.registry.table import Order

NANOSECONDS: Final = 1_000_000_000


class Phase(enum.Enum):
    """Where a p_id stands. ABSENT and WAITING have no process; WAITING will have one."""

    ABSENT = "absent"
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one worker: what `Children.ended` found out about it."""

    p_id: int
    generation: int
    pid: int
    ending: Ending
    lived_seconds: float
    crashes: int
    delay_seconds: float


@dataclass(slots=True)
class Child:
    """One p_id and its present worker. Changed by `Children` only.

    `generation` is 0 before the first fork; `pid` is 0 without a process; `due_ns` counts while
    WAITING; `crashes` are those in a row; `told` is how this worker has been told to end.
    """

    p_id: int
    phase: Phase = Phase.ABSENT
    generation: int = 0
    pid: int = 0
    forked_ns: int = 0
    due_ns: int = 0
    crashes: int = 0
    told: Order | None = None


class Children:
    """The table: one `Child` for each p_id that there may be. Owner: the supervisor's thread.

    `policy` may be replaced at any time; `wanted` is changed by `resize`.
    """

    def __init__(
        self, workers: int, places: int, policy: RespawnConfig, chance: Callable[[], float]
    ) -> None:
        """Make a table of `places`; the first `workers` are due at once.

        `chance` returns floats from 0 up to 1.
        """
        self._children: Final = [Child(p_id) for p_id in range(places)]
        self._by_pid: Final[dict[int, Child]] = {}
        self.policy = policy
        self._chance: Final = chance
        self._is_stopping = False
        self.wanted = 0
        self.resize(workers, 0)

    def __getitem__(self, p_id: int) -> Child:
        return self._children[p_id]

    def __iter__(self) -> Iterator[Child]:
        """Go through all that are not absent, by p_id."""
        return (child for child in self._children if child.phase is not Phase.ABSENT)

    def everyone(self) -> Sequence[Child]:
        """Return all, absent ones included: they go on counting their generations."""
        return self._children

    @property
    def places(self) -> int:
        """The most workers that there may be."""
        return len(self._children)

    def resize(self, wanted: int, now_ns: int) -> None:
        """Want so many workers, 0 to `places`; absent ones are due at once, others are surplus."""
        self.wanted = wanted
        for child in self._children[:wanted]:
            if child.phase is Phase.ABSENT:
                child.phase = Phase.WAITING
                child.due_ns = now_ns

    def recall(self, p_id: int, now_ns: int) -> bool:
        """Have a worker of an absent p_id forked all the same; False if it is not absent.

        It is surplus, and so will be told to leave again.
        """
        child = self._children[p_id]
        if child.phase is not Phase.ABSENT or self._is_stopping:
            return False
        child.phase = Phase.WAITING
        child.due_ns = now_ns
        return True

    def resume(self, child: Child) -> None:
        """Put a child in its place that another table of this daemon has had."""
        self._children[child.p_id] = child
        if child.pid:
            self._by_pid[child.pid] = child

    def count_on(self, p_id: int, generation: int) -> None:
        """Go on counting where the workers of a dead supervisor have got to."""
        self._children[p_id].generation = generation

    def is_surplus(self, child: Child) -> bool:
        """Say whether the child is to leave."""
        return child.p_id >= self.wanted

    def to_be_told(self, order: Order) -> list[Child]:
        """Return the surplus workers that are ready and have not got this order yet."""
        return [
            child
            for child in self
            if self.is_surplus(child) and child.phase is Phase.READY and child.told is not order
        ]

    def living(self) -> list[Child]:
        """Return those that have a process."""
        return [child for child in self if child.pid]

    def ready_count(self) -> int:
        """Return how many of those that are wanted have said that they are ready."""
        return sum(child.phase is Phase.READY for child in self._children[: self.wanted])

    def find(self, pid: int) -> Child | None:
        """Return whose process `pid` is, None for a stranger's."""
        return self._by_pid.get(pid)

    def due(self, now_ns: int) -> list[Child]:
        """Return those to be forked now; nobody once the table is stopping."""
        return [child for child in self._waiting() if child.due_ns <= now_ns]

    def next_due_ns(self) -> int | None:
        """Return when the next is to be forked; None if nobody waits."""
        return min((child.due_ns for child in self._waiting()), default=None)

    def settle(self, now_ns: int) -> None:
        """Forget the crashes of those whose worker serves and has outlived a quick death."""
        for child in self._unsettled():
            if self._settles_ns(child) <= now_ns:
                child.crashes = 0

    def next_settle_ns(self) -> int | None:
        """Return when `settle` has something to do; None if nobody has crashed of late."""
        return min((self._settles_ns(child) for child in self._unsettled()), default=None)

    def forgive(self) -> None:
        """Forget all crashes: what caused them is not there any more."""
        for child in self._children:
            child.crashes = 0

    def _unsettled(self) -> list[Child]:
        return [child for child in self if child.crashes and child.phase is Phase.READY]

    def _settles_ns(self, child: Child) -> int:
        return child.forked_ns + int(self.policy.quick_death_seconds * NANOSECONDS)

    def exhausted(self) -> Child | None:
        """Return a child that has crashed `max_crashes` times in a row, if there is one."""
        for child in self:
            if child.crashes >= self.policy.max_crashes:
                return child
        return None

    def next_generation(self, p_id: int) -> int:
        """Return the number of the worker that is about to be forked; each is given once."""
        child = self._children[p_id]
        child.generation += 1
        return child.generation

    def forked(self, p_id: int, pid: int, now_ns: int) -> None:
        """Enter the worker `pid` that was forked for `p_id`."""
        child = self._children[p_id]
        child.phase = Phase.STARTING
        child.pid = pid
        child.forked_ns = now_ns
        child.told = None
        self._by_pid[pid] = child

    def fork_failed(self, p_id: int, now_ns: int) -> float:
        """Count a fork that the kernel refused as a crash; return the delay in seconds."""
        child = self._children[p_id]
        return self._delay(child, self._count_crash(child), now_ns)

    def became_ready(self, p_id: int) -> bool:
        """Enter that the worker of `p_id` serves; return False if that is no news."""
        child = self._children[p_id]
        if child.phase is not Phase.STARTING:
            return False
        child.phase = Phase.READY
        return True

    def ended(self, pid: int, status: int, now_ns: int, *, is_vacant: bool = False) -> Ended | None:
        """Take the process `pid` out and say what its end means; None for a stranger's process.

        `status` is waitpid's; `is_vacant` says that no session is of its p_id any more. The
        successor, if there is to be one, is due `delay_seconds` from `now_ns`.
        """
        child = self._by_pid.pop(pid, None)
        if child is None:
            return None
        lived = (now_ns - child.forked_ns) / NANOSECONDS
        ending = self._judge(child, status, lived, is_vacant)
        delay = 0.0
        match ending:
            case Ending.CRASHED:
                delay = self._count_crash(child)
            case Ending.RETIRED | Ending.FAILED | Ending.LEFT:
                child.crashes = 0
            case Ending.STOPPED:
                pass
        child.phase = Phase.ABSENT if ending is Ending.LEFT else Phase.WAITING
        child.pid = 0
        self._delay(child, delay, now_ns)
        return Ended(child.p_id, child.generation, pid, ending, lived, child.crashes, delay)

    def stop(self) -> None:
        """Fork nobody any more; whoever ends from now on was asked to."""
        self._is_stopping = True

    def _waiting(self) -> list[Child]:
        if self._is_stopping:
            return []
        return [child for child in self if child.phase is Phase.WAITING]

    def _judge(self, child: Child, status: int, lived_seconds: float, is_vacant: bool) -> Ending:
        if self._is_stopping:
            return Ending.STOPPED
        if child.phase is not Phase.READY:
            return Ending.CRASHED
        if status == 0:
            has_left = is_vacant and self.is_surplus(child)
            return Ending.LEFT if has_left else Ending.RETIRED
        if lived_seconds < self.policy.quick_death_seconds:
            return Ending.CRASHED
        return Ending.FAILED

    def _count_crash(self, child: Child) -> float:
        """Count a crash and draw the delay: between half and all of min * 2^crashes, within bounds.

        Jitter lest workers that died of one cause come back, and die, all together.
        """
        child.crashes += 1
        lowest, highest = self.policy.backoff_min_seconds, self.policy.backoff_max_seconds
        longest = min(highest, lowest * 2.0 ** min(child.crashes, 64))
        shortest = max(lowest, longest / 2)
        return shortest + (longest - shortest) * self._chance()

    @staticmethod
    def _delay(child: Child, delay_seconds: float, now_ns: int) -> float:
        child.due_ns = now_ns + int(delay_seconds * NANOSECONDS)
        return delay_seconds
