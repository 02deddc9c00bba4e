"""Children of a test: forked, waited for, and killed by pid."""

from __future__ import annotations

import os
import signal
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_SECONDS = 20.0
"""For what takes milliseconds on an idle machine."""


def fork(body: Callable[[], object]) -> int:
    """Run `body` in a child; it exits with 0, or with 70 and a traceback if `body` raised."""
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            body()
            status = 0
        except BaseException:  # noqa: BLE001 - the child must not unwind into the test
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def wait(pid: int) -> int:
    """Wait for a child; its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill(pid: int) -> None:
    """Kill a child with SIGKILL and wait for it."""
    os.kill(pid, signal.SIGKILL)
    assert wait(pid) == -signal.SIGKILL


@contextmanager
def child(body: Callable[[], object]) -> Iterator[int]:
    """A child that is killed at the end of the block, should it still live."""
    pid = fork(body)
    try:
        yield pid
    finally:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                kill(pid)
        except ChildProcessError:
            pass


def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` is true; fails after the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)
