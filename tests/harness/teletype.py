"""A terminal of ours: what a program draws on it, row by row, and keys to press.

Understands as much as the console draws: CR, LF, "erase to the end of the row", "cursor right".
Anything else that would command a terminal fails the test.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Any, Final, Self

from tests.harness.program import ROOT
from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_piece: Final = re.compile(r"\r|\n|\x1b\[K|\x1b\[(\d+)C|[^\x00-\x1f\x7f-\x9f]+|(.)", re.DOTALL)


class Teletype:
    """A program at a terminal of its own. A context manager: ended at its end.

    `rows` are all that were ever drawn, the last one is where the cursor is, in `column`.
    """

    def __init__(self, command: Sequence[str], columns: int = 80, term: str = "xterm") -> None:
        """Start the program."""
        self._ours, self._theirs = os.openpty()
        self.resize(columns)
        self.process: Final = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"TERM": term},
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
        )
        self.rows: Final = [""]
        self.column = 0
        self._undrawn = ""

    def resize(self, columns: int) -> None:
        """Make it so many columns wide."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def mode(self) -> list[Any]:
        """Return how the terminal is set."""
        return termios.tcgetattr(self._theirs)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Draw what comes until it is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            remaining = deadline - time.monotonic()
            assert remaining > 0, f"waited in vain; column {self.column} of {self.rows[-30:]}"
            if select.select([self._ours], [], [], min(remaining, 0.05))[0]:
                self._draw(os.read(self._ours, 65_536).decode())

    def wait_for_row(self, pattern: str) -> None:
        """Draw what comes until a row matches wholly."""
        matches = re.compile(pattern).fullmatch
        self.wait_until(lambda: any(matches(row.rstrip()) for row in self.rows))

    def wait(self) -> int:
        """Draw what comes until the program ends; return its exit code."""
        self.wait_until(lambda: self.process.poll() is not None)
        return self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()  # not SIGKILL: what has been run of it is to be counted
        self.process.wait(PATIENCE_SECONDS)
        os.close(self._ours)
        os.close(self._theirs)

    def _draw(self, text: str) -> None:
        text = self._undrawn + text
        end = text.rfind("\x1b")
        if end >= 0 and re.fullmatch(r"\x1b(\[\d*)?", text[end:]):  # the rest of it comes
            text, self._undrawn = text[:end], text[end:]
        else:
            self._undrawn = ""
        for piece in _piece.finditer(text):
            assert piece[2] is None, f"{piece[2]!r} in {text!r}"
            row = self.rows[-1].ljust(self.column)
            match piece[0][0], piece[1]:
                case "\r", _:
                    self.column = 0
                case "\n", _:
                    self.rows.append("")
                case "\x1b", None:
                    self.rows[-1] = row[: self.column]
                case "\x1b", steps:
                    self.column += int(steps)
                case _:
                    end = self.column + len(piece[0])
                    self.rows[-1] = row[: self.column] + piece[0] + row[end:]
                    self.column = end
