"""The operator's console as a test has it: a program of its own, its lines as they come.

A thread for each of its two outputs keeps what it prints; a test types lines and waits for others.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Final, Self

from tests.harness.program import ROOT
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from pathlib import Path


class Console:
    """One run of `prefork-chat console` without a terminal. A context manager: ended at its end.

    `lines` is all that it has printed so far, `complaints` what of it was on standard error.
    """

    def __init__(self, directory: Path, *flags: str) -> None:
        """Start it for the daemon in that runtime directory, and return at once."""
        command = [sys.executable, "-m", "prefork_chat", "console", "--runtime-dir", str(directory)]
        self.process: Final = subprocess.Popen(
            [*command, *flags],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: Final[list[str]] = []
        self.complaints: Final[list[str]] = []
        self._news: Final = threading.Condition()
        self._open = 2
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers: Final = [
            threading.Thread(target=self._read, args=(stream, kept), daemon=True)
            for stream, kept in (
                (self.process.stdout, [self.lines]),
                (self.process.stderr, [self.lines, self.complaints]),
            )
        ]
        for reader in self._readers:
            reader.start()

    @classmethod
    def follow(cls, directory: Path, *flags: str) -> Self:
        """Start one that looks on, and wait until it does."""
        console = cls(directory, "--follow", *flags)
        console.wait_for("-- prefork-chat .*")
        return console

    def type(self, *lines: str) -> None:
        """Type lines, all at once."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.process.stdin.flush()

    def ask(self, line: str, answer: str) -> str:
        """Type a line and wait for a new one that matches `answer` wholly; return that."""
        seen = len(self.lines)
        self.type(line)
        return self.wait_for(answer, since=seen)

    def wait_for(self, pattern: str, since: int = 0, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait for a line that matches `pattern` wholly, the first from that place on."""
        matches = re.compile(pattern).fullmatch
        with self._news:

            def has_come() -> bool:
                return any(map(matches, self.lines[since:])) or not self._open

            assert self._news.wait_for(has_come, seconds), f"no {pattern!r} in {self.lines[-50:]}"
            found = next(filter(matches, self.lines[since:]), None)
        assert found is not None, f"it ended without {pattern!r}: {self.lines[-50:]}"
        return found

    def count(self, pattern: str) -> int:
        """Return how many of its lines so far match `pattern` wholly."""
        with self._news:
            return sum(map(bool, map(re.compile(pattern).fullmatch, self.lines)))

    def wait_for_count(self, pattern: str, count: int) -> None:
        """Wait until so many lines match `pattern` wholly; fail if there are more."""
        until(lambda: self.count(pattern) >= count, f"{count} x {pattern!r}")
        assert self.count(pattern) == count

    def lost(self) -> int:
        """Return how many lines it has said it has lost."""
        with self._news:
            found = map(re.compile(r"\.\.\. ([\d,]+) lines? lost").fullmatch, self.lines)
            return sum(int(each[1].replace(",", "")) for each in found if each)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def close_input(self) -> None:
        """Say that nothing more will be typed."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self) -> int:
        """Wait until it has ended and all is read; return its exit code."""
        code = self.process.wait(PATIENCE_SECONDS)
        for reader in self._readers:
            reader.join(PATIENCE_SECONDS)
        return code

    def finish(self) -> int:
        """Type no more, wait for its end, and return its exit code."""
        self.close_input()
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            # Not SIGKILL: what has been run of it is to be counted.
            self.process.terminate()
            self.process.send_signal(signal.SIGCONT)
        self.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _read(self, stream: IO[bytes], kept: list[list[str]]) -> None:
        for raw in stream:
            line = raw.decode("utf-8", "backslashreplace").rstrip("\n")
            with self._news:
                for lines in kept:
                    lines.append(line)
                self._news.notify_all()
        with self._news:
            self._open -= 1
            self._news.notify_all()
