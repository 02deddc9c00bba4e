"""A program under test: one process in a session of its own, what it forks, and the log of all.

The base of both daemons of the tests: the whole one (`daemon`) and the supervisor with small
workers (`tests.supervisor.daemon`). The session makes a process group, by which its processes are
found and, if a test has failed, killed.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.harness import processes
from tests.harness.events import EventLog
from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT: Final = Path(__file__).parents[2]
"""The checkout."""

_PIPE_BYTES: Final = 1 << 20
"""The log drops lines that its reader leaves in the pipe for long, and the machine may be busy."""


class Program:
    """One run of a program. `pid` is its first process, `log` what it and its children log."""

    def __init__(
        self,
        command: Sequence[str],
        log_copy: Path,
        *,
        environ: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        root: Path = ROOT,
    ) -> None:
        """Start it in `root` and return at once.

        `log_copy`: the file to which its log is added; `environ`: its environment, None for ours.
        """
        self._process: Final = subprocess.Popen(
            command,
            cwd=root,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        fcntl.fcntl(self._process.stderr, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.pid: Final = self._process.pid
        self.log: Final = EventLog(self._process.stderr, log_copy.open("ab"))

    def signal(self, number: int) -> None:
        """Send a signal to its first process."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait until the first process has ended and nobody writes to the log any more.

        Returns its exit code, negative for a signal.
        """
        self.log.wait_for_end(seconds)  # of which we are told; the other is asked for now and then
        return self._process.wait(seconds)

    def stop(self) -> int:
        """Stop it in order with SIGTERM; return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def survivors(self) -> list[int]:
        """Return the pids of its processes that have not ended."""
        return processes.living_group(self.pid)

    def abandon(self) -> None:
        """Kill what is left of it, whatever that is, and let go of the log."""
        if self.survivors():
            # The group is there, so its number still means our program.
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_SECONDS)
        self.log.close()
