"""The command as people run it: processes with their output, ended by their test."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE_SECONDS: Final = 30.0


class Command:
    """`prefork-chat ipc` with one ledger and one key."""

    def __init__(self, key: Path, ledger: Path) -> None:
        self.key, self.ledger = key, ledger

    def words(self, verb: str, *arguments: str) -> list[str]:
        """Return the command line of a subcommand without a channel."""
        ledger = ("--ledger", str(self.ledger))
        return [sys.executable, "-m", "prefork_chat", "ipc", verb, *ledger, *arguments]

    def channel(self, verb: str, mechanism: str, *arguments: str) -> list[str]:
        """Return the command line of `serve` or `read`."""
        return self.words(verb, "--via", mechanism, "--key", str(self.key), *arguments)

    def run(
        self, words: list[str], data: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end."""
        return subprocess.run(
            words,
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )


@contextmanager
def started(
    words: list[str], stdin: int | None = subprocess.DEVNULL, **options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command; it is killed after the block if it still runs."""
    process = subprocess.Popen(
        words,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **options},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Wait for its end; return exit code, stdout, stderr."""
    out, errors = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, out, errors
