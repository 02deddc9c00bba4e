"""A real terminal for a program: tmux draws it, and tests press keys and look at it.

Each terminal is a tmux server of its own, with its socket in the test's directory; it ends with the
block. What a program that has ended leaves on it is still to be seen.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from tests.harness import processes
from tests.harness.program import ROOT
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

_ENDED: Final = re.compile(r"\[ended: (\d+)\]")


def is_there() -> bool:
    """Say whether this machine has a tmux."""
    return shutil.which("tmux") is not None


class Terminal:
    """One program in a terminal of `columns` by `lines`."""

    def __init__(
        self,
        directory: Path,
        command: Sequence[str],
        *,
        term: str = "screen-256color",
        columns: int = 120,
        lines: int = 30,
    ) -> None:
        """Start `command` in the checkout."""
        self._socket: Final = directory / "tmux"
        environ = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        environ.pop("TMUX", None)
        self._environ: Final = environ
        size = ("-x", str(columns), "-y", str(lines))
        # The shell tells the exit code: tmux itself forgets it at times.
        program = f"TERM={term} {shlex.join(command)}; echo [ended: $?]; read _"
        self._tmux("-f", os.devnull, "new-session", "-d", *size, "-c", str(ROOT), program)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server", check=False)

    def screen(self) -> str:
        """Return what is to be seen."""
        return self._tmux("capture-pane", "-p")

    def history(self) -> str:
        """Return what is to be seen, and what has scrolled away above it."""
        return self._tmux("capture-pane", "-p", "-S", "-")

    def wait_for(self, text: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait until `text` is to be seen; return the picture."""
        try:
            until(lambda: text in self.screen(), f"{text!r} in the terminal", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}, which shows:\n{self.screen()}") from error
        return self.screen()

    def press(self, *keys: str) -> None:
        """Press keys, by the names that tmux has for them."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def pid(self) -> int:
        """Return the pid of the program."""
        shell = int(self._tmux("display-message", "-p", "#{pane_pid}"))
        return until(lambda: processes.children_of(shell), "the program to start")[0].pid

    def wait_for_end(self) -> int:
        """Wait until the program has ended; return its exit code."""
        until(lambda: _ENDED.search(self.screen()), "the program to end")
        found = _ENDED.search(self.screen())
        assert found is not None
        return int(found[1])

    def _tmux(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *words],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0 or not check, done
        return done.stdout
