"""A real terminal: a tmux server of its own, whose windows are typed into and read.

`Tmux` starts one server on a socket in the test's directory; each `Screen` is a session with one
window of a chosen size. What is read is what a person would see.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.harness.program import ROOT
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


class Tmux:
    """One server; `open` makes terminals in it."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "tmux.sock"
        self._directory = directory
        self._count = 0

    def open(
        self,
        command: Sequence[str],
        *,
        columns: int = 80,
        lines: int = 24,
        environ: Mapping[str, str] | None = None,
    ) -> Screen:
        """Run a command in a new terminal; what it writes to standard error is kept apart."""
        self._count += 1
        name = f"screen{self._count}"
        errors = self._directory / f"{name}.err"
        words = ["env", *(f"{key}={value}" for key, value in (environ or {}).items()), *command]
        # The window stays when the command has ended, and says how.
        line = f'{shlex.join(words)} 2>{shlex.quote(str(errors))}; echo "ended: $?"; cat'
        self.run(
            *("-u", "-f", "/dev/null", "new-session", "-d", "-s", name),
            *("-x", str(columns), "-y", str(lines), "-c", str(ROOT), line),
        )
        return Screen(self, name, errors)

    def run(self, *arguments: str) -> str:
        """Run a command of tmux; return what it says."""
        result = subprocess.run(
            ["tmux", "-S", str(self._socket), *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=True,
        )
        return result.stdout

    def end(self) -> None:
        """End the server and all that runs in it; without windows it has ended by itself."""
        try:
            self.run("kill-server")
        except subprocess.CalledProcessError:
            pass


class Screen:
    """One terminal. `errors` is where the standard error of its command goes."""

    def __init__(self, tmux: Tmux, name: str, errors: Path) -> None:
        self._tmux = tmux
        self._name = name
        self._errors = errors

    def type(self, text: str, *keys: str) -> None:
        """Type text as it is, then keys by their names: `Enter`, `Tab`, `C-f`, `PageUp`."""
        if text:
            self._tmux.run("send-keys", "-t", self._name, "-l", "--", text)
        if keys:
            self._tmux.run("send-keys", "-t", self._name, *keys)

    def say(self, line: str) -> None:
        """Type a line and enter it."""
        self.type(line, "Enter")

    def paste(self, text: str) -> None:
        """Paste as a terminal does: in brackets, if the program has asked for that."""
        self._tmux.run("set-buffer", "-b", self._name, "--", text)
        self._tmux.run("paste-buffer", "-p", "-b", self._name, "-t", self._name)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the terminal."""
        self._tmux.run("resize-window", "-t", self._name, "-x", str(columns), "-y", str(lines))

    def text(self, *, scrollback: bool = False) -> str:
        """Return what is seen, without spaces at the ends of lines."""
        start = ("-S", "-") if scrollback else ()
        return self._tmux.run("capture-pane", "-p", "-t", self._name, *start)

    def coloured(self) -> str:
        """Return what is seen with the escape sequences that colour it."""
        return self._tmux.run("capture-pane", "-p", "-e", "-t", self._name)

    def close(self) -> None:
        """Close the terminal, as a person closes a window."""
        self._tmux.run("kill-session", "-t", self._name)

    def wait_for(self, text: str, *, scrollback: bool = False) -> str:
        """Wait until this is to be seen; return all that is."""
        seen = ""

        def is_there() -> bool:
            nonlocal seen
            seen = self.text(scrollback=scrollback)
            return text in seen

        try:
            until(is_there, repr(text))
        except AssertionError as error:
            complaints = self._errors.read_text() if self._errors.exists() else ""
            raise AssertionError(f"{error}; to be seen:\n{seen}\n{complaints}") from None
        return seen

    def wait_until_gone(self, text: str) -> None:
        """Wait until this is not to be seen."""
        until(lambda: text not in self.text(), f"{text!r} to go")

    def complaints(self) -> str:
        """Return what the command wrote to standard error."""
        return self._errors.read_text()


@contextmanager
def terminals(directory: Path) -> Iterator[Tmux]:
    """Give a tmux server, and end it; the test is skipped where there is no tmux."""
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux, for a real terminal")
    tmux = Tmux(directory)
    try:
        yield tmux
    finally:
        tmux.end()
