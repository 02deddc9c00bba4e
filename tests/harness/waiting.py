"""Deadlines, and waiting for what cannot announce itself (states of processes, of the kernel)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS: Final = 30.0
"""For what takes milliseconds on an idle machine: long enough to fail for a reason only."""

_POLL_SECONDS: Final = 0.005

_Truth = TypeVar("_Truth")


def until(condition: Callable[[], _Truth], what: str, seconds: float = PATIENCE_SECONDS) -> _Truth:
    """Ask `condition` again and again until it is true, and return what it said.

    Fails with `what` was waited for when it still is not true after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(_POLL_SECONDS)
    return answer
