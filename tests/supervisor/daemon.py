"""A supervisor process under test: start it, read its log, send it signals, see what it leaves.

Each daemon runs in a session of its own, so that whatever it forks can be found and, at the end of
a test that failed, killed. All waiting is for lines of its log or for the end of processes.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PATIENCE_SECONDS: Final = 30.0
# The log drops lines that its reader leaves in the pipe for long, and the tests' machine is busy.
_PIPE_BYTES: Final = 1 << 20
_ROOT: Final = Path(__file__).parents[2]

Line = dict[str, Any]
Settings = Mapping[str, Mapping[str, object]]


class Daemon:
    """One run of `program`. Its log lines are parsed as they come; other output is kept as text."""

    def __init__(
        self,
        worker: str,
        settings: Settings,
        path: Path,
        *,
        prefix: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        """Write the configuration to `path` and start."""
        self._settings: Final = settings
        self._path: Final = path
        self.configure()
        command = [sys.executable, "-m", "tests.supervisor.program", worker, str(path)]
        self._process = subprocess.Popen(
            [*prefix, *command],
            cwd=_ROOT,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        fcntl.fcntl(self._process.stderr, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.pid: Final = self._process.pid
        self.lines: Final[list[Line]] = []
        self.text: Final[list[str]] = []
        self._news: Final = threading.Condition()
        self._is_open = True
        self._reader: Final = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def configure(self, **tables: Mapping[str, object]) -> None:
        """Change these options in the daemon's configuration file."""
        changed = {name: {**self._settings.get(name, {}), **tables[name]} for name in tables}
        self._path.write_text(json.dumps({**self._settings, **changed}))

    def events(self, event: str, **fields: object) -> list[Line]:
        """Return the lines of `event` so far that have all of `fields`."""
        with self._news:
            return [line for line in self.lines if _matches(line, event, fields)]

    def wait_for(self, event: str, count: int = 1, **fields: object) -> list[Line]:
        """Wait until `event` has been logged `count` times; return these lines."""
        self._wait_until(
            lambda: len(self.events(event, **fields)) >= count or not self._is_open,
            f"{count} x {event} {fields}",
        )
        found = self.events(event, **fields)
        if len(found) < count:
            raise AssertionError(f"log ended without {count} x {event} {fields}:\n{self.tell()}")
        return found

    def wait_for_text(self, part: str) -> None:
        """Wait until a line that is no log line contains `part`."""
        self._wait_until(lambda: any(part in line for line in self.text), f"text {part!r}")

    def follow(self, event: str) -> Iterator[Line]:
        """Yield the lines of `event`, those to come included, until the log ends."""
        seen = 0
        while True:
            with self._news:
                while len(self.lines) == seen and self._is_open:
                    assert self._news.wait(PATIENCE_SECONDS), f"log is silent:\n{self.tell()}"
                fresh, seen = self.lines[seen:], len(self.lines)
            if not fresh:
                return
            yield from (line for line in fresh if line["event"] == event)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for the end; return the exit code, negative for a signal."""
        code = self._process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return code

    def stop(self) -> int:
        """Stop it in order."""
        self.send(signal.SIGTERM)
        return self.wait()

    def connect(self) -> socket.socket:
        """Connect to the daemon's first address."""
        host, _, port = self.wait_for("listener.opened")[0]["address"].rpartition(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS)

    def kill(self) -> None:
        """SIGKILL the supervisor alone."""
        self.send(signal.SIGKILL)
        self._process.wait(PATIENCE_SECONDS)

    def worker_pids(self) -> list[int]:
        """Return the children of the supervisor that live or wait to be reaped."""
        return [p.pid for p in processes() if p.parent == self.pid]

    def survivors(self) -> list[int]:
        """Return all processes of the daemon's session that have not ended."""
        return [p.pid for p in processes() if p.session == self.pid and p.state not in "ZX"]

    def wait_until_nobody_survives(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while survivors := self.survivors():
            assert time.monotonic() < deadline, f"{survivors} still live:\n{self.tell()}"
            time.sleep(0.01)

    def destroy(self) -> list[int]:
        """Kill whatever is left of it; return what was."""
        if not self._is_open:
            self.wait()  # it has said its last and is about to exit
        survivors = self.survivors()
        for pid in survivors:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        assert self._process.stderr is not None
        self._process.stderr.close()
        return survivors

    def tell(self) -> str:
        """Return the last of its output, for the message of a failure."""
        return "\n".join([*map(json.dumps, self.lines[-40:]), *self.text[-40:]])

    def _read(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            text = raw.decode("utf-8", "replace").rstrip("\n")
            with self._news:
                if text.startswith("{"):
                    self.lines.append(json.loads(text))
                else:
                    self.text.append(text)
                self._news.notify_all()
        with self._news:
            self._is_open = False
            self._news.notify_all()

    def _wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        with self._news:
            if not self._news.wait_for(is_so, PATIENCE_SECONDS):
                raise AssertionError(f"waited in vain for {what}:\n{self.tell()}")


@dataclass(frozen=True)
class ProcessStatus:
    pid: int
    state: str
    parent: int
    session: int


def processes() -> Iterator[ProcessStatus]:
    """Look at all processes of the machine."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (status := read_status(int(entry))) is not None:
            yield status


def read_status(pid: int) -> ProcessStatus | None:
    """Read proc(5)'s stat of one process; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent, _, session = text.rpartition(")")[2].split()[:4]
    return ProcessStatus(pid, state, int(parent), int(session))


def _matches(line: Line, event: str, fields: Mapping[str, object]) -> bool:
    return line["event"] == event and all(line.get(key) == fields[key] for key in fields)
