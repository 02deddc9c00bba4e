"""What a tree of processes costs, read from the kernel: CPU time and memory. Linux only.

Reads, but for `raise_fd_limit`; nothing is kept between calls. Processes that end while they are
looked at are outcomes, not errors: they are left out, and their CPU time is found with their parent
once it has reaped them.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Final

_CPUCLOCK_SCHED: Final = 2  # linux/posix-timers: the scheduler's own count, in nanoseconds
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def tree(root: int) -> tuple[int, ...]:
    """Return the process ids of `root` and all its descendants, sorted."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = []
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, ())
    return tuple(sorted(found))


def cpu_ns(root: int) -> int:
    """Return the CPU time, user and system, that the tree has used so far, in nanoseconds.

    Live processes exactly; those that have been reaped within 10 ms each.
    """
    return sum(_own_cpu_ns(pid) + _reaped_cpu_ns(pid) for pid in tree(root))


def pss_bytes(root: int) -> int:
    """Return the tree's memory: PSS, so that a page shared by n processes counts once in all."""
    return sum(_pss_bytes(pid) for pid in tree(root))


def machine_cpu_ns() -> int:
    """Return the CPU time that the machine has spent on anything, within 10 ms a CPU.

    Time that a hypervisor gave to other guests counts as spent.
    """
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK_NS


def state(pid: int) -> str:
    """Return the state letter of a process (proc_pid_stat(5)); empty if it is gone."""
    return "".join(_stat(pid)[:1])


def raise_fd_limit() -> None:
    """Raise our soft limit of descriptors to the hard one, for us and those that we start.

    10,000 clients need 10,000 descriptors on either side.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _stat(pid: int) -> list[str]:
    """Return /proc/PID/stat from its third field (state) on; empty if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def _own_cpu_ns(pid: int) -> int:
    # The clock of another process: clock_getcpuclockid(3), which Python does not offer.
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0


def _reaped_cpu_ns(pid: int) -> int:
    fields = _stat(pid)  # proc_pid_stat(5): cutime is field 16, cstime 17; the list begins at 3
    return (int(fields[13]) + int(fields[14])) * _TICK_NS if fields else 0


def _pss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0  # a process that has ended and is not reaped yet has no memory
