"""Act between two statements of the registry: before any line that it executes."""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from typing import TYPE_CHECKING, Any

from prefork_chat.registry import index, ipc, registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

TRACED = frozenset({registry.__file__, index.__file__, ipc.__file__})


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
