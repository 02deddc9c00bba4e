"""A daemon whose workers count the lines that they execute, and one can be killed at any of them.

`python -m tests.chaos.stepping serve …` is `prefork-chat serve …` with a trace function in every
thread of the worker of p_id 0. $CHAOS_STEPS names memory that the test has made (`Steps.create`)
and has mapped, too:

    <q q q q>  generation of the worker of p_id 0 that counts, 0: none; whether only its main
               thread does; the cell at which it is to be killed, or -1; at which visit
    <q q>      cell and visit for its successor
    <q> each   visits, a cell for each line of each module that is traced

Killed means: SIGKILL, sent by the worker to itself before the line is executed. From then on its
successor counts, from zero, in its main thread, which adopts: so that one can be killed, too.
Threads of a worker count without a lock: one may be killed a visit late, or not at all.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import prefork_chat
from prefork_chat.worker import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from prefork_chat.inheritance import Inheritance

STEPS_VARIABLE: Final = "CHAOS_STEPS"

_ROOT: Final = Path(prefork_chat.__file__).parent
_MODULES: Final = tuple(
    sorted(
        str(path.relative_to(_ROOT))
        for pattern in ("worker/*.py", "registry/*.py", "keeping.py")
        for path in _ROOT.glob(pattern)
    )
)
"""Where state is that outlives a worker."""

_VICTIM: Final = 0
_LINES: Final = 1024
_COUNTING, _IN_MAIN, _CELL, _VISIT, _NEXT_CELL, _NEXT_VISIT, _CELLS = range(7)
_NOWHERE: Final = -1

_Tracer: TypeAlias = "Callable[[FrameType, str, Any], _Tracer | None]"


class Steps:
    """The shared memory: what is counted, and where somebody is to be killed."""

    def __init__(self, path: Path) -> None:
        """Map the file, which `create` has made."""
        with path.open("r+b") as file:
            self.words: Final = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    @classmethod
    def create(cls, path: Path) -> Steps:
        """Make the file, with nobody counting."""
        path.write_bytes(bytes(8 * (_CELLS + _LINES * len(_MODULES))))
        return cls(path)

    @contextmanager
    def counted(self, generation: int, *targets: tuple[str, str, int]) -> Iterator[None]:
        """Let that worker count from zero while the block runs.

        `targets`: (module, line, visit) at which it, and then its successor, is to be killed.
        """
        words = self.words
        words[_COUNTING] = 0
        words[_CELL] = words[_NEXT_CELL] = _NOWHERE
        for place, (module, line, visit) in zip((_CELL, _NEXT_CELL), targets, strict=False):
            words[place] = _CELLS + _MODULES.index(module) * _LINES + int(line)
            words[place + 1] = visit
        self._begin(generation, in_main=False)
        try:
            yield
        finally:
            words[_COUNTING] = 0

    def spring(self) -> None:
        """Kill this process, and let its successor count."""
        words = self.words
        words[_CELL], words[_VISIT] = words[_NEXT_CELL], words[_NEXT_VISIT]
        words[_NEXT_CELL] = _NOWHERE
        self._begin(words[_COUNTING] + 1, in_main=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def _begin(self, generation: int, *, in_main: bool) -> None:
        words = self.words
        words[_CELLS:] = memoryview(bytes(8 * (len(words) - _CELLS))).cast("q")
        words[_IN_MAIN] = in_main
        words[_COUNTING] = generation

    @property
    def has_sprung(self) -> bool:
        """True when somebody was killed, and his successor counts."""
        return bool(self.words[_IN_MAIN])

    def counts(self) -> dict[tuple[str, str], int]:
        """Return the visits by (module, line), of lines that had any."""
        return {
            (_MODULES[cell // _LINES], str(cell % _LINES)): count
            for cell, count in enumerate(self.words[_CELLS:])
            if count
        }


def trace(steps: Steps, generation: int, *, is_main: bool) -> _Tracer:
    """Return a function for sys.settrace that counts for worker `generation`, and may kill it."""
    words = steps.words
    tracers: dict[str, _Tracer | None] = {}

    def tracer_of(path: str) -> _Tracer | None:
        module = path.removeprefix(f"{_ROOT}/")
        if module not in _MODULES:
            return None
        base = _CELLS + _MODULES.index(module) * _LINES

        def step(frame: FrameType, event: str, _arg: object) -> _Tracer:
            counts = words[_COUNTING] == generation and (is_main or not words[_IN_MAIN])
            if event == "line" and counts:
                cell = base + frame.f_lineno
                words[cell] += 1
                if cell == words[_CELL] and words[cell] == words[_VISIT]:
                    steps.spring()
            return step

        return step

    def enter(frame: FrameType, _event: str, _arg: object) -> _Tracer | None:
        path = frame.f_code.co_filename
        if path not in tracers:
            tracers[path] = tracer_of(path)
        return tracers[path]

    return enter


def main() -> int:
    """Be the command, with workers that count."""
    from prefork_chat.cli.main import main as command  # noqa: PLC0415 - not for the test's own use

    steps = Steps(Path(os.environ[STEPS_VARIABLE]))
    run_worker = worker.run_worker

    def run_counting(inheritance: Inheritance) -> int:
        if inheritance.p_id == _VICTIM:
            threading.settrace(trace(steps, inheritance.generation, is_main=False))
            sys.settrace(trace(steps, inheritance.generation, is_main=True))
        return run_worker(inheritance)

    worker.run_worker = run_counting
    return command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
