"""Processes seen from outside, through /proc: who lives, and what a process uses.

A process that ends while it is looked at is an outcome: it is not there. Only `strike`,
`stop_process` and their like change anything, and they take a pid that the caller got from its own
daemon.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Status(NamedTuple):
    """The part of proc_pid_stat(5) that tests ask for. `cpu_seconds` is user and system time."""

    pid: int
    state: str
    parent: int
    group: int
    cpu_seconds: float
    threads: int
    rss_bytes: int


def read_status(pid: int) -> Status | None:
    """Read the status of `pid`; None if there is no such process, not even a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may contain anything; field 3 comes behind the last one.
    words = text.rpartition(")")[2].split()
    return Status(
        pid=pid,
        state=words[0],
        parent=int(words[1]),
        group=int(words[2]),
        cpu_seconds=(int(words[11]) + int(words[12])) / _TICKS,
        threads=int(words[17]),
        rss_bytes=int(words[21]) * _PAGE_BYTES,
    )


def status(pid: int) -> Status:
    """Read the status of a process that must be there."""
    found = read_status(pid)
    assert found is not None, f"there is no process {pid}"
    return found


def everybody() -> Iterator[Status]:
    """Look at all processes of the machine, one after the other."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := read_status(int(entry))) is not None:
            yield found


def children_of(pid: int) -> list[Status]:
    """Return the children of `pid`; zombies count."""
    return [found for found in everybody() if found.parent == pid]


def living_group(group: int) -> list[int]:
    """Return the pids of a process group; zombies do not count."""
    return [found.pid for found in everybody() if found.group == group and found.state not in "ZX"]


def is_alive(pid: int) -> bool:
    """Say whether `pid` is there and more than a zombie."""
    found = read_status(pid)
    return found is not None and found.state not in "ZX"


def thread_ids(pid: int) -> list[int]:
    """Return the ids of the threads of `pid`, in the order of their start."""
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")))


def fd_count(pid: int) -> int:
    """Return how many file descriptors `pid` has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU time that these processes have used so far, all together."""
    return sum(status(pid).cpu_seconds for pid in pids)


def strike(pid: int, parent: int, number: signal.Signals) -> bool:
    """Send a signal to `pid` if it is still the child of `parent` that it was; say whether.

    For those who hurt many processes that come and go: a number that the kernel has given to
    somebody else meanwhile is left alone.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        found = read_status(pid)
        if found is None or found.parent != parent or found.state in "ZX":
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def stop_process(pid: int) -> None:
    """SIGSTOP `pid`, and wait until it is stopped."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: status(pid).state == "T", f"{pid} to be stopped")


def continue_process(pid: int) -> None:
    """SIGCONT `pid`, if it is still there."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass  # killed while it was stopped


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep `pid` stopped while the block runs."""
    stop_process(pid)
    try:
        yield
    finally:
        continue_process(pid)


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program while the block runs, its stdin and stdout in pipes; then kill it."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
