"""Where the console's lines appear and where the operator types: a terminal, or two streams.

On a terminal (`Terminal`) the line that is being typed stays at the bottom, whole, whatever comes:
each batch of lines takes its place, and it is drawn anew below. Without one (`Streams`) lines go to
standard output, failures to standard error, and lines come from standard input. Both block when
nobody takes what they write: then the console falls behind, and says later how much it has lost.

Owner: the console's only thread.
"""

from __future__ import annotations

import os
import sys
import termios
from typing import TYPE_CHECKING, Final, Protocol

from prefork_chat.console.editor import PROMPT, Editor, Special

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

_READ_BYTES: Final = 65_536
_CLEAR: Final = "\r\x1b[K"
_LOCAL_FLAGS: Final = 3
_CHARACTERS: Final = 6
_DISABLED: Final = b"\0"  # _POSIX_VDISABLE on Linux
_USUAL_COLUMNS: Final = 80


class Screen(Protocol):
    """What the console shows and hears."""

    @property
    def keys(self) -> int:
        """A descriptor: readable when there is input."""

    def show(self, lines: Sequence[str]) -> None:
        """Show lines."""

    def complain(self, line: str) -> None:
        """Show what has gone wrong."""

    def read(self) -> list[str | Special]:
        """Return what has been entered; `Special.END` when there will be no more."""


class Streams:
    """Standard input, output and error."""

    def __init__(self) -> None:
        """Use those of the process."""
        self.keys: Final = sys.stdin.fileno()
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave them open."""

    def show(self, lines: Sequence[str]) -> None:
        """Print lines, at once."""
        if lines:
            sys.stdout.write("\n".join([*lines, ""]))
            sys.stdout.flush()

    def complain(self, line: str) -> None:
        """Print a line on standard error."""
        sys.stderr.write(f"prefork-chat: {line}\n")
        sys.stderr.flush()

    def read(self) -> list[str | Special]:
        """Return the lines that have come; a last one may have no end."""
        data = os.read(self.keys, _READ_BYTES)
        *lines, self._unread = (self._unread + data).split(b"\n")
        if not data and self._unread:
            lines, self._unread = [self._unread], b""
        read: list[str | Special] = [line.decode(errors="replace") for line in lines]
        return read if data else [*read, Special.END]


class Terminal:
    """A terminal, for as long as the block lasts; it is given back as it was."""

    def __init__(self, complete: Callable[[str], Iterable[str]]) -> None:
        """Use the terminal of standard input and output."""
        self.keys: Final = sys.stdin.fileno()
        self._out: Final = sys.stdout.fileno()
        self._editor: Final = Editor(complete)
        self._before: Final = termios.tcgetattr(self.keys)

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._write(_CLEAR)
        termios.tcsetattr(self.keys, termios.TCSADRAIN, self._before)

    def take(self) -> None:
        """Have keys as they are pressed; to be called again when others have had the terminal.

        Ctrl-Z stops us as it would any program; Ctrl-C is a key.
        """
        wanted = termios.tcgetattr(self.keys)
        wanted[_LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO)
        characters = list(wanted[_CHARACTERS])
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        for key in (termios.VINTR, termios.VQUIT, termios.VLNEXT, termios.VDISCARD):
            characters[key] = _DISABLED
        wanted[_CHARACTERS] = characters
        termios.tcsetattr(self.keys, termios.TCSADRAIN, wanted)
        self.show(())

    def show(self, lines: Sequence[str]) -> None:
        """Put lines above the one that is being typed."""
        shown, column = self._editor.draw(self._columns())
        text = "".join(f"{line}\n" for line in lines)
        self._write(f"{_CLEAR}{text}{shown}\r\x1b[{column}C")

    def complain(self, line: str) -> None:
        """Show it as any line."""
        self.show([f"!! {line}"])

    def read(self) -> list[str | Special]:
        """Return what was entered, which stays above, and show the rest."""
        data = os.read(self.keys, _READ_BYTES)
        if not data:
            return [Special.END]
        entered = self._editor.feed(data)
        self.show([f"{PROMPT}{line}" for line in entered if isinstance(line, str)])
        return entered

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._out).columns or _USUAL_COLUMNS
        except OSError:
            return _USUAL_COLUMNS

    def _write(self, text: str) -> None:
        data = text.encode(errors="replace")
        while data:
            data = data[os.write(self._out, data) :]


def is_terminal() -> bool:
    """Say whether there is a terminal that can do what `Terminal` needs."""
    return (
        sys.stdin.isatty()
        and sys.stdout.isatty()
        and os.environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}
    )
