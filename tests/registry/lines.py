"""Act between two statements of the registry: kill before any line, or let another thread run."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

from prefork_chat.registry import index, ipc, registry, rooms, sessions, slots

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

TRACED = frozenset(module.__file__ for module in (registry, sessions, rooms, slots, index, ipc))


def before_each_line(act: Callable[[int], object], operation: Callable[[], object]) -> None:
    """Run `operation` in this thread; call `act(k)` before its k-th line in TRACED, k from 1."""
    lines = count(1)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            act(next(lines))
        return trace

    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        operation()
    finally:
        sys.settrace(outer)


def die_before_line(line: int, operation: Callable[[], object]) -> None:
    """Run `operation`, but be killed by SIGKILL before its `line`-th line, if it has so many."""

    def act(now: int) -> None:
        if now == line:
            os.kill(os.getpid(), signal.SIGKILL)

    before_each_line(act, operation)


class SteppedThread:
    """Runs `operation` in a thread that stops before each line until it is told to go on.

    One of the two threads runs at a time. The stepped one counts its own lines down, so that a
    stretch of many costs two hand-overs, and not two for each line.
    """

    def __init__(self, operation: Callable[[], object]) -> None:
        self._operation = operation
        self._may_go = threading.Lock()
        self._has_stopped = threading.Lock()
        self._may_go.acquire()
        self._has_stopped.acquire()
        self._lines_left: float = 0
        self.thread = threading.Thread(target=self._run)
        self.is_over = False
        self.error: BaseException | None = None
        self.thread.start()
        self._has_stopped.acquire()

    def _run(self) -> None:
        try:
            before_each_line(self._stop, self._operation)
        except BaseException as error:  # noqa: BLE001 - told by `finish`
            self.error = error
        self.is_over = True
        self._has_stopped.release()

    def _stop(self, _: int) -> None:
        if self._lines_left == 0:
            self._has_stopped.release()
            self._may_go.acquire()
        self._lines_left -= 1

    def advance(self, lines: float) -> None:
        """Let it run so many lines, or to its end."""
        if self.is_over or not lines:
            return
        self._lines_left = lines
        self._may_go.release()
        self._has_stopped.acquire()

    def finish(self) -> None:
        """Let it run to its end; raises what `operation` raised."""
        self.advance(math.inf)
        self.thread.join()
        if self.error:
            raise self.error
