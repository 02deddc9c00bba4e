"""The installed service, as an operator sees it, and a person who connects to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKOUT: Final = Path(__file__).parents[2]
PREFIX: Final = Path("/opt/prefork-chat")
CONFIG: Final = Path("/etc/prefork-chat.toml")
UNITS: Final = Path("/etc/systemd/system")
DROP_IN: Final = Path("/run/systemd/system/prefork-chat.service.d/test.conf")
ADDRESS: Final = ("127.0.0.1", 7000)
PATIENCE_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02


def run(*command: str | Path) -> str:
    """Run a command that must succeed; return what it printed."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Look again and again until `is_so`; fail when it takes too long."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{journal_text()}"
        time.sleep(_POLL_SECONDS)


def journal_text() -> str:
    """Return the end of the service's journal, for a failure's message."""
    command = ["journalctl", "--unit=prefork-chat", "--lines=40", "--output=cat", "--no-pager"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@dataclass(frozen=True, slots=True)
class Service:
    """The installed units; all answers are systemd's own."""

    def show(self, name: str) -> str:
        """Return a property of the service."""
        return run("systemctl", "show", "--property", name, "--value", "prefork-chat").strip()

    def main_pid(self) -> int:
        """Return the supervisor's pid, 0 if there is none."""
        return int(self.show("MainPID"))

    def worker_pids(self) -> list[int]:
        """Return the pids of all workers, none while there is no daemon to ask."""
        command = f"{PREFIX}/bin/prefork-chat ctl --runtime-dir /run/prefork-chat --json workers"
        asked = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        workers = json.loads(asked.stdout) if asked.returncode == 0 else []
        return sorted(worker["pid"] for worker in workers if worker["pid"])

    def journal(self, since_cursor: str) -> list[dict[str, Any]]:
        """Return the journal's entries of the service after a cursor."""
        output = run(
            "journalctl",
            "--unit=prefork-chat",
            f"--after-cursor={since_cursor}",
            "--output=json",
            "--no-pager",
        )
        return [json.loads(line) for line in output.splitlines()]

    def cursor(self) -> str:
        """Return where the journal ends now."""
        run("journalctl", "--sync")
        entry = run("journalctl", "--lines=1", "--output=json", "--no-pager")
        cursor: str = json.loads(entry)["__CURSOR"]
        return cursor

    @contextmanager
    def changed(self, *settings: str) -> Iterator[None]:
        """Lay some lines of [Service] over the unit while the block runs."""
        DROP_IN.parent.mkdir(parents=True, exist_ok=True)
        DROP_IN.write_text("\n".join(["[Service]", *settings, ""]))
        run("systemctl", "daemon-reload")
        try:
            yield
        finally:
            run("systemctl", "stop", "prefork-chat.service")
            DROP_IN.unlink()
            run("systemctl", "daemon-reload")


def open_sockets(pid: int) -> int:
    """Return how many sockets a process has open."""
    entries = Path(f"/proc/{pid}/fd").iterdir()
    return sum(os.readlink(entry).startswith("socket:") for entry in entries)


class Person:
    """Somebody with netcat."""

    def __init__(self, name: str) -> None:
        """Connect and join."""
        self.name = name
        self._socket = socket.create_connection(ADDRESS, timeout=PATIENCE_SECONDS)
        self._lines = self._socket.makefile("rb")
        try:
            self.hear("OK HELO prefork-chat/")
            self.say(f"JOIN {name}")
            self.hear(f"OK JOIN {name}")
        except BaseException:
            self.close()
            raise

    def say(self, line: str) -> None:
        """Send one line."""
        self._socket.sendall(line.encode() + b"\n")

    def type(self, text: str) -> None:
        """Send what is not a line yet."""
        self._socket.sendall(text.encode())

    def hear(self, start: str) -> str:
        """Return the next line, which must begin so."""
        line = self._lines.readline().decode().rstrip("\n")
        assert line.startswith(start), f"{self.name} heard {line!r}, not {start!r}"
        return line

    def hears_the_end(self) -> bool:
        """Say whether the connection ends, after whatever lines."""
        try:
            while self._lines.readline():
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()
