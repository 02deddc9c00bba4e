"""A worker killed at each point where it can be: at each system call, or at each line.

A census, which plays the scene a few times and kills nobody, tells to which places the worker comes
(see `traps`); then each place has its turn, at the first, second, … visit, until the scene comes to
its end without so many. One daemon serves for all points, so that its clients are adopted hundreds
of times; after a point where something was wrong a new one goes on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from prefork_chat import log
from tests.chaos.outcome import adoption_ms, percentile
from tests.chaos.scene import Scene
from tests.chaos.traps import VICTIM, Place, Point, Trap, Victim
from tests.harness.processes import is_alive
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.daemon import StartDaemon

SHAPES: Final = ((1, 1), (1, 2), (2, 1))
"""Workers, and threads of each: messages stay in a loop, in a process, or cross processes."""

_CENSUS_PLAYS: Final = 5
_MISSES: Final = 2
"""Plays in a row that must not get to a point before it counts as beyond the scene's end."""

_MOST_LISTED: Final = 20

_OPTIONS: Final[dict[str, object]] = {
    "respawn_quick_death_seconds": 0.001,
    "respawn_backoff_min_seconds": 0.001,
    "respawn_backoff_max_seconds": 0.01,
    "respawn_max_crashes": 1_000_000,
    "watchdog_seconds": 60,
}


@dataclass(slots=True)
class Visits:
    """What came of a round of points. `wrong`: what was not as it must be, by point."""

    shape: tuple[int, int]
    killed: Counter[Place] = field(default_factory=Counter)
    missed: int = 0
    cut_short: int = 0
    adoption_ms: list[float] = field(default_factory=list)
    wrong: list[tuple[Point, str]] = field(default_factory=list)

    def __str__(self) -> str:
        """The figures, for people."""
        by_where: dict[str, list[str]] = {}
        for (where, what), count in sorted(self.killed.items()):
            by_where.setdefault(where, []).append(f"{what} {count}")
        workers, threads = self.shape
        lines = [
            f"{workers} x {threads} loops: killed at {self.killed.total()} points",
            f"  plays that ended before their point: {self.missed}",
            *(f"  {where}: {_several(what)}" for where, what in by_where.items()),
            f"  connections that ended before their greeting: {self.cut_short}",
        ]
        if self.adoption_ms:
            p50, p99 = (percentile(self.adoption_ms, share) for share in (50, 99))
            lines.append(f"  end to ready: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
        lines += [f"  WRONG at {point}: {what}" for point, what in self.wrong]
        return "\n".join(lines if self.wrong else [*lines, "  nothing wrong"])


def _several(what: list[str]) -> str:
    """List system calls; of lines, which are too many, say how many."""
    return ", ".join(what) if len(what) <= _MOST_LISTED else f"{len(what)} lines"


class Round:
    """A round of visits to a daemon of a certain shape. A context manager: hangs up at its end."""

    def __init__(self, start_daemon: StartDaemon, shape: tuple[int, int], trap: Trap) -> None:
        """`shape`: workers, and threads of each."""
        self.visits: Final = Visits(shape)
        self._start_daemon: Final = start_daemon
        self._trap: Final = trap
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def sample(self, size: int) -> Visits:
        """Visit at most `size` points, spread over all that the census has found."""
        points = [
            Point(*place, number)
            for place, most in sorted(self._census().items())
            for number in range(1, most + 1)
        ]
        for n in range(min(size, len(points))):
            self._visit(points[n * len(points) // size if size < len(points) else n])
        return self.visits

    def exhaust(self, most: int) -> Visits:
        """Visit all places, each up to `most` times or until the scene's end."""
        for place in sorted(self._census()):
            misses = 0
            for number in range(1, most + 1):
                while misses < _MISSES and not self._visit(Point(*place, number)):
                    misses += 1
                if misses == _MISSES:
                    break
                misses = 0
        return self.visits

    def _begin(self) -> None:
        workers, threads = self.visits.shape
        self._daemon = self._start_daemon(
            workers=workers, threads=threads, **_OPTIONS, **self._trap.options
        )
        self._daemon.log.expect(log.WORKER_EXITED, log.WORKER_THROTTLED)
        self._scene = Scene(self._daemon)

    def _end(self) -> None:
        self._scene.close()
        self.visits.adoption_ms += adoption_ms(self._daemon.log)
        self.visits.cut_short += self._scene.crowd.cut_short

    def _census(self) -> Counter[Place]:
        """Play the scene a few times; return the most visits that one play had, by place."""
        most: Counter[Place] = Counter()
        for _ in range(_CENSUS_PLAYS):
            self._scene.prepare()
            with self._trap.census(self._victim(), most):
                unfinished = self._scene.play()
            unfinished = unfinished or self._calm_down()
            assert not unfinished, f"{unfinished} in the census:\n{self._daemon.log}"
        return most

    def _visit(self, point: Point) -> bool:
        """Play the scene with a kill at `point`; return whether the play got there."""
        self._scene.prepare()
        before = self._victim()
        with self._trap.set_for(before, point):
            unfinished = self._scene.play()
        unfinished = unfinished or self._calm_down()
        generations = range(before.generation, self._victim().generation)
        is_hit = len(generations) == self._trap.deaths
        if is_hit:
            self.visits.killed[point.where, point.what] += 1
        else:
            self.visits.missed += 1
        if not unfinished and self._endings(generations) - {"SIGKILL"}:
            unfinished = "a worker did not end by the kill"
        if unfinished or self._scene.account.troubles:
            self._complain(point, unfinished)
        return is_hit

    def _victim(self) -> Victim:
        return Victim(self._daemon.worker_pid(VICTIM), self._daemon.generation(VICTIM))

    def _calm_down(self) -> str:
        """Wait until a worker serves and see that all goes on; return what is wrong, if anything.

        A trap may spring as late as now: while it is taken away.
        """
        try:
            until(self._is_served, "a worker that serves")
        except AssertionError as error:
            return str(error)
        return self._scene.go_on()

    def _is_served(self) -> bool:
        pid, generation = self._victim()
        ready = self._daemon.log.events(log.WORKER_READY, p_id=VICTIM, generation=generation)
        return bool(ready) and is_alive(pid)

    def _endings(self, generations: range) -> set[str]:
        ended = self._daemon.log.events(log.WORKER_EXITED, p_id=VICTIM)
        return {event["how"] for event in ended if event["generation"] in generations}

    def _complain(self, point: Point, unfinished: str) -> None:
        """Note what is wrong, and go on with a new daemon."""
        self._end()
        self._scene.account.close()
        what = [unfinished, *self._scene.account.examples, *self._daemon.log.complaints()]
        self.visits.wrong.append((point, "\n    ".join(filter(None, what))))
        self._daemon.abandon()
        self._begin()
