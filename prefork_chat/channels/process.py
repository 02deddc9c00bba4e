"""Whether a process that the kernel names by pid and time still lives; pids are used again.

For System V queues, which remember who used them last, and when, to the second: so a peer that is
no program of ours is known, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SLACK_SECONDS: Final = 2  # both times are cut to seconds, and the clock may have been set since
_STATE = 0  # of the fields behind the name in proc_pid_stat(5)
_START = 19


def has_lived_since(pid: int, moment: int) -> bool:
    """Say whether `pid` is alive and was there at `moment`, in seconds since 1970."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    fields = text.rpartition(b")")[2].split()
    if fields[_STATE] in {b"Z", b"X"}:
        return False
    return _boot_seconds() + int(fields[_START]) // _TICKS <= moment + _SLACK_SECONDS


def _boot_seconds() -> int:
    for line in Path("/proc/stat").read_bytes().splitlines():
        if line.startswith(b"btime "):
            return int(line.split()[1])
    raise AssertionError("/proc/stat has no btime")
