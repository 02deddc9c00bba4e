"""Where a worker can be killed: at each of its system calls, or at each of its lines of Python.

A trap is set for one worker and one `Point`, and springs at most once. Three kinds:

`SyscallTrap` uses strace(1), which attaches to one thread of the worker and sends SIGKILL on
entering a call; the call is then not carried out. So its points are all states in which anything
outside of the worker can see it, thread by thread. futex(2) is left out: it changes nothing that
outlives a process, and how often it is called is chance.

`LineTrap` runs the daemon under a trace function (see `stepping`), which kills before a line is
executed. So its points lie closer: also between two stores into shared memory. `AdoptionTrap` kills
the worker at such a point, of chance, and then its successor at one while it adopts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from tests.chaos.stepping import STEPS_VARIABLE, Steps
from tests.harness.processes import thread_ids
from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

VICTIM: Final = 0
"""The p_id of the worker that is killed."""

_IGNORED: Final = frozenset({"futex", "restart_syscall"})
_CALL: Final = re.compile(r"^(\d+) +([a-z0-9_]+)\(", re.MULTILINE)
_EARLY: Final = 3
"""So many visits of a place the scene has in every play, or as many as in the census."""

_ATTACHED: Final = "attached"

Place: TypeAlias = tuple[str, str]
"""(thread, system call), or (module, line)."""


class NoTrapError(Exception):
    """Traps cannot be set here; the text says why."""


class Point(NamedTuple):
    """The `number`th time that the worker comes to a place, from when the scene begins."""

    where: str
    what: str
    number: int

    def __str__(self) -> str:
        """Name it as people do."""
        return f"{self.where}: {self.what} #{self.number}"


class Victim(NamedTuple):
    """The worker for which a trap is set."""

    pid: int
    generation: int


class Trap(Protocol):
    """A way to kill a worker at a point. `deaths`: of how many workers, when it springs."""

    deaths: int

    @property
    def options(self) -> Mapping[str, object]:
        """What the daemon is to be started with."""

    @contextmanager
    def census(self, victim: Victim, places: Counter[Place]) -> Iterator[None]:
        """Count how often the worker comes to each place while the block runs, into `places`."""

    @contextmanager
    def set_for(self, victim: Victim, point: Point) -> Iterator[None]:
        """Kill the worker if it comes to `point` while the block runs."""


class SyscallTrap:
    """Kills on entering a system call. Raises NoTrapError where strace may not be used."""

    deaths = 1

    def __init__(self, threads: int, folder: Path, _rng: random.Random) -> None:
        """`threads`: loops of a worker; `folder`: for what strace writes."""
        if shutil.which("strace") is None:
            raise NoTrapError("needs strace")
        self.options: Final[Mapping[str, object]] = {}
        self._threads: Final = ["router", *(f"loop {n}" for n in range(threads)), "acceptor"]
        self._trace: Final = folder / "trace"

    @contextmanager
    def census(self, victim: Victim, places: Counter[Place]) -> Iterator[None]:
        """See Trap."""
        names = dict(zip(thread_ids(victim.pid), self._threads, strict=True))
        with self._strace("-f", "-p", str(victim.pid)):
            yield
        calls = _CALL.findall(self._trace.read_text(encoding="utf-8", errors="replace"))
        places |= Counter((names[int(tid)], call) for tid, call in calls if call not in _IGNORED)

    @contextmanager
    def set_for(self, victim: Victim, point: Point) -> Iterator[None]:
        """See Trap."""
        tid = thread_ids(victim.pid)[self._threads.index(point.where)]
        inject = f"inject={point.what}:signal=KILL:when={point.number}"
        with self._strace("-p", str(tid), "-e", f"trace={point.what}", "-e", inject):
            yield

    @contextmanager
    def _strace(self, *options: str) -> Iterator[None]:
        command = ["strace", "-o", str(self._trace), *options]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            first = tracer.stderr.readline()
            if _ATTACHED not in first:
                tracer.wait(PATIENCE_SECONDS)
                raise NoTrapError(f"strace cannot attach: {first.strip()}")
            try:
                yield
            finally:
                tracer.terminate()
                tracer.wait(PATIENCE_SECONDS)


class LineTrap:
    """Kills before a line of the worker's code."""

    deaths = 1

    def __init__(self, _threads: int, folder: Path, _rng: random.Random) -> None:
        """`folder`: for the memory that the traced worker and we share."""
        self._steps: Final = Steps.create(folder / "steps")
        environ = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
        self.options: Final[Mapping[str, object]] = {
            "program": "tests.chaos.stepping",
            "environ": environ
            | {STEPS_VARIABLE: str(folder / "steps")},  # two trace functions in a thread cannot be
        }

    @contextmanager
    def census(self, victim: Victim, places: Counter[Place]) -> Iterator[None]:
        """See Trap."""
        with self._steps.counted(victim.generation):
            yield
        places |= Counter(self._steps.counts())

    @contextmanager
    def set_for(self, victim: Victim, point: Point) -> Iterator[None]:
        """See Trap."""
        with self._steps.counted(victim.generation, point):
            yield


class AdoptionTrap(LineTrap):
    """Kills a worker anywhere, and its successor before a line while it adopts."""

    deaths = 2

    def __init__(self, threads: int, folder: Path, rng: random.Random) -> None:
        """`rng` chooses where the first one dies."""
        super().__init__(threads, folder, rng)
        self._rng: Final = rng
        self._first: Final[Counter[Place]] = Counter()

    @contextmanager
    def census(self, victim: Victim, places: Counter[Place]) -> Iterator[None]:
        """See Trap. The first time nobody is killed, for it is not known yet where one can be."""
        if not self._first:
            with super().census(victim, self._first):
                yield
            return
        with self._steps.counted(victim.generation, self._somewhere()):
            yield
        if self._steps.has_sprung:
            places |= Counter(self._steps.counts())

    @contextmanager
    def set_for(self, victim: Victim, point: Point) -> Iterator[None]:
        """See Trap."""
        with self._steps.counted(victim.generation, self._somewhere(), point):
            yield

    def _somewhere(self) -> Point:
        place = self._rng.choice(sorted(self._first))
        return Point(*place, self._rng.randint(1, min(self._first[place], _EARLY)))


TRAPS: Final[Mapping[str, Callable[[int, Path, random.Random], Trap]]] = {
    "calls": SyscallTrap,
    "lines": LineTrap,
    "adoption": AdoptionTrap,
}
"""By name; made of how many loops a worker has, a folder for their files, and chance."""
