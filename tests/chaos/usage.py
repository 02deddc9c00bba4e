"""What a daemon without clients uses: descriptors and threads, before a storm and after it.

A worker has a thread more from when somebody came to it by a Unix socket and it asked for his login
name, until it is replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Self

from tests.harness.processes import fd_count, status
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon


_GONE: Final = (0, 0)


class Usage(NamedTuple):
    """Descriptors and threads of the supervisor, and of its workers: all use as many."""

    supervisor: tuple[int, int]
    workers: frozenset[tuple[int, int]]

    @classmethod
    def of(cls, daemon: Daemon) -> Self:
        """Look at a daemon as it is now."""
        workers = [_used(pid) for pid in daemon.worker_pids()]
        return cls(_used(daemon.pid), frozenset(workers) - {_GONE})

    def compare(self, daemon: Daemon, *, is_local: bool) -> list[str]:
        """Wait until `daemon`, whose clients have gone, uses as much; say what it leaks if not.

        `is_local`: they came by a Unix socket.
        """
        allowed = set(self.workers)
        if is_local:
            allowed |= {(descriptors, threads + 1) for descriptors, threads in self.workers}

        def is_as_before() -> bool:
            supervisor, workers = self.of(daemon)
            return supervisor == self.supervisor and set() < workers <= allowed

        try:
            until(is_as_before, "the daemon to use no more than before")
        except AssertionError:
            return [f"(descriptors, threads) were {self} and are {self.of(daemon)}"]
        return []


def _used(pid: int) -> tuple[int, int]:
    try:
        return fd_count(pid), status(pid).threads
    except (FileNotFoundError, ProcessLookupError, AssertionError):
        return _GONE
