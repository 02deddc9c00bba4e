"""A supervisor under test, with one of the small workers of `workers`: `program` in a process.

What the tests ask of any program is the harness's (`Program`, `EventLog`). Here is what is special
to a supervisor: how it is configured, and short words for what its tests do all the time. All
waiting is for lines of its log or for the end of processes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from tests.harness import processes
from tests.harness.program import ROOT, Program
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.events import Event

Settings = Mapping[str, Mapping[str, object]]


class Daemon(Program):
    """One run of `program`. What it says and what of it lives are for the test to judge."""

    def __init__(
        self,
        worker: str,
        settings: Settings,
        path: Path,
        *,
        prefix: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        root: Path = ROOT,
    ) -> None:
        """Write the configuration to `path` and start, with `environ` besides our environment.

        `root` has the packages to run.
        """
        self._settings: Final = settings
        self._path: Final = path
        self.configure()
        super().__init__(
            [*prefix, sys.executable, "-m", "tests.supervisor.program", worker, str(path)],
            path.with_suffix(".log"),
            environ={**os.environ, **(environ or {})},
            pass_fds=pass_fds,
            root=root,
        )

    def configure(self, **tables: Mapping[str, object]) -> None:
        """Change these options in the daemon's configuration file."""
        changed = {name: {**self._settings.get(name, {}), **tables[name]} for name in tables}
        self._path.write_text(json.dumps({**self._settings, **changed}))

    # What it says

    @property
    def lines(self) -> list[Event]:
        """All its log lines so far."""
        return self.log.all_events

    @property
    def text(self) -> list[str]:
        """All its other output so far."""
        return self.log.text

    def events(self, event: str, **fields: object) -> list[Event]:
        """Return the lines of `event` so far that have all of `fields`."""
        return self.log.events(event, **fields)

    def wait_for(self, event: str, count: int = 1, **fields: object) -> list[Event]:
        """Wait until `event` has been logged `count` times; return these lines."""
        self.log.wait_for(event, count, PATIENCE_SECONDS, **fields)
        return self.log.events(event, **fields)

    def wait_for_text(self, pattern: str) -> None:
        """Wait until a line that is no log line contains `pattern`."""
        self.log.wait_for_text(pattern)

    def follow(self, event: str) -> Iterator[Event]:
        """Yield the lines of `event`, those to come included, until the log ends."""
        return self.log.follow(event)

    def tell(self) -> str:
        """Return the last of its output, for the message of a failure."""
        return str(self.log)

    # What is done to it

    def send(self, number: int) -> None:
        """Send a signal to the supervisor."""
        self.signal(number)

    def connect(self) -> socket.socket:
        """Connect to the daemon's first address."""
        host, _, port = self.wait_for("listener.opened")[0]["address"].rpartition(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS)

    def kill(self) -> None:
        """SIGKILL the supervisor alone."""
        self.send(signal.SIGKILL)
        self._process.wait(PATIENCE_SECONDS)

    # What lives of it

    def worker_pids(self) -> list[int]:
        """Return the children of the supervisor that live or wait to be reaped."""
        return [child.pid for child in processes.children_of(self.pid)]

    def wait_until_nobody_survives(self, seconds: float) -> None:
        """Wait until all its processes have ended."""
        until(lambda: not self.survivors(), f"{self.pid}'s processes to end", seconds)

    def destroy(self) -> list[int]:
        """Kill whatever is left of it; return what was."""
        if self.log.has_ended:
            self.wait()  # it has said its last and is about to exit
        survivors = self.survivors()
        self.abandon()
        return survivors
