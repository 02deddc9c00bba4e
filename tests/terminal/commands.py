"""Commands of scripts, run to their end or while a test talks to them."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

    from tests.harness.daemon import Daemon

COMMAND = (sys.executable, "-m", "prefork_chat")


def at(daemon: Daemon, name: str) -> tuple[str, ...]:
    return ("--server", str(daemon.addresses[0]), "--name", name)


def run(*words: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env=os.environ | environ,
    )


class Running:
    """A command that goes on; `out` and `err` give its next lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.stdin: IO[str] = process.stdin
        self._out: IO[str] = process.stdout
        self._err: IO[str] = process.stderr

    def out(self) -> str:
        return self._out.readline().rstrip("\n")

    def err(self) -> str:
        return self._err.readline().rstrip("\n")

    def type(self, line: str) -> None:
        self.stdin.write(line + "\n")
        self.stdin.flush()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def running(*words: str) -> Iterator[Running]:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*COMMAND, *words], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()
